//! Admission: how much time bad signatures may take from good tokens.
//!
//! Checking a signature costs between half a microsecond (HS256) and a third of a millisecond
//! (ES512), and anyone can send a worthless one. So the time that a bad signature took is
//! charged to three budgets, each a share of one core's time: that of the core, of the issuer
//! that the token names, and of the source that it comes from. While one of them is exceeded,
//! no signature that would be charged to it is checked.
//!
//! - **Good signatures are free**, even if the token is rejected for another reason. Honest
//!   load is never limited, however large, nor are the many clients behind one address. Whether
//!   a signature is good shows only after the check, so it is charged afterwards, and a budget
//!   may be overdrawn by one signature.
//! - **Costs are measured**, as key sizes and machines differ by more than any table of
//!   algorithms would get right. A measured share of time is the same share on a slow machine.
//! - **Each worker has its own state.** Nothing is shared or locked. A source with connections
//!   on several workers has its share of each.
//! - **Connections closed for abuse** are counted apart: the next connections of their address
//!   are delayed.
//! - **While no budget is exceeded**, admission is one comparison, and the client's address is
//!   not even read from the headers.

mod bucket;
mod budgets;
mod reconnect_delay;
pub mod settings;
mod source;

use std::{cell::RefCell, net::IpAddr, sync::Once, time::Duration};

use countersign_engine::{Reject, UnixTime, Verified, Verifier};

use self::{
    bucket::Nanos, budgets::Budgets, reconnect_delay::ReconnectDelay, settings::SignatureLimits,
};
pub use self::{bucket::Share, source::Source};
use crate::{base::clock::Stopwatch, client::ClientAddress, observe::metrics::Budget};

/// A budget that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExceeded {
    /// The budget.
    pub budget: Budget,
    /// Whole seconds until it is not, one at least.
    pub retry_after: u64,
}

/// The admission state of one worker.
pub struct Admission {
    clock: Stopwatch,
    budgets: RefCell<Budgets>,
    reconnects: RefCell<ReconnectDelay>,
}

impl Admission {
    /// Full budgets.
    #[must_use]
    pub fn new(limits: SignatureLimits) -> Self {
        Self {
            clock: Stopwatch::start(),
            budgets: RefCell::new(Budgets::new(limits)),
            reconnects: RefCell::new(ReconnectDelay::new()),
        }
    }

    /// Records that a connection from this address was closed for abuse.
    pub fn record_abuse(&self, address: IpAddr) {
        self.reconnects.borrow_mut().charge(Source::of(address), self.now());
    }

    /// Returns the time that a new connection from this address has to wait.
    #[must_use]
    pub fn reconnect_delay(&self, address: IpAddr) -> Duration {
        self.reconnects.borrow().wait(Source::of(address), self.now())
    }

    /// Verifies a token within the budgets, and reports what happened for the caller to count.
    ///
    /// # Errors
    /// In [`Attempt::result`]: [`Reject::NotAdmitted`] if a budget is exceeded.
    pub fn verify<'t>(
        &self,
        client: &ClientAddress<'_>,
        verifier: &Verifier,
        token: &'t [u8],
        now: UnixTime,
    ) -> Attempt<'t> {
        let (mut started, mut exceeded) = (None, None);
        let source = || Source::of(client.get());
        let result = verifier.verify_if(token, now, |check| {
            let now = self.now();
            let admitted = self.budgets.borrow_mut().admit(&check.issuer.name, source, now);
            started = admitted.is_ok().then_some(now);
            exceeded = admitted.err();
            started.is_some()
        });
        let is_bad = matches!(result, Err(Reject::Signature));
        let evicted_source = match started {
            Some(started) if is_bad => self.charge(source(), started),
            _ => false,
        };
        if exceeded.is_some_and(|exceeded| exceeded.budget == Budget::Source) {
            warn_about_unlisted_proxy(client);
        }
        Attempt { result, checked_signature: started.is_some(), exceeded, evicted_source }
    }

    /// Charges a bad signature. Returns whether another source in debt was evicted for it.
    fn charge(&self, source: Source, started: Nanos) -> bool {
        let now = self.now();
        self.budgets.borrow_mut().charge(source, now.saturating_sub(started), now)
    }

    fn now(&self) -> Nanos {
        Nanos::try_from(self.clock.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }
}

/// A verification within the budgets.
pub struct Attempt<'t> {
    /// Its result.
    pub result: Result<Verified<'t>, Reject>,
    /// Whether a signature was checked.
    pub checked_signature: bool,
    /// The budget that kept the signature from being checked.
    pub exceeded: Option<BudgetExceeded>,
    /// Whether another source in debt was evicted to charge this one.
    pub evicted_source: bool,
}

/// Warns once about a proxy that is not configured: all its clients are one source. A client
/// may have sent the header itself, so nothing else follows from it.
fn warn_about_unlisted_proxy(client: &ClientAddress<'_>) {
    static WARNED: Once = Once::new();
    if let Some((peer, header)) = client.unlisted_proxy() {
        WARNED.call_once(|| {
            tracing::warn!(
                "too many bad signatures come from {peer}, which sends {header}: if it is a proxy of yours, name it in \
                 trusted_proxies of [listen], or all its clients share one budget"
            );
        });
    }
}
