//! Admission control: limits the CPU time spent on bad signatures.
//!
//! Checking a signature costs between half a microsecond (HS256) and a third of a millisecond
//! (ES512), and anyone can send a bad one. The time of each check that fails is therefore charged
//! to three budgets (token buckets), each a share of one core's time: that of the core, of the
//! issuer named by the token, and of its [`Source`]. While a budget is exceeded, no signature that
//! would be charged to it is checked.
//!
//! - **Good signatures are free**, even if the token is rejected for another reason. So authentic
//!   load is never limited, even from many clients behind one address. The cost is known only after
//!   the check, so a budget may be overdrawn by one signature.
//! - **Costs are measured.** A table of costs by algorithm would be wrong for most key sizes and
//!   machines; a share of measured time means the same on all of them.
//! - **Each worker has its own state.** Nothing is shared or locked. A source with connections
//!   on several workers has its share of each.
//! - **Connections closed for abuse** are counted apart: the next connections of their address
//!   are delayed.
//! - **Sources are limited in one way**, by `SourceLimiter`, here and at logins.
//! - **While no budget is exceeded**, admission is one comparison, and the client's address is
//!   not even read from the headers.

mod bucket;
mod budgets;
mod reconnect_delay;
pub mod settings;
mod source;

use std::{cell::RefCell, net::IpAddr, sync::Once, time::Duration};

use countersign_engine::{Presentation, Reject, UnixTime, Verified, Verifier};

pub use self::{bucket::Share, source::Source};
pub(crate) use self::{
    bucket::{Nanos, nanos},
    source::{RateLimiter, SourceLimiter},
};
use self::{budgets::Budgets, reconnect_delay::ReconnectDelay, settings::SignatureLimits};
use crate::{base::clock::Stopwatch, client::ClientAddress, observe::metrics::Budget};

/// Error of admission: a budget is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExceeded {
    /// The budget.
    pub budget: Budget,
    /// Whole seconds until it is no longer exceeded, at least one.
    pub retry_after: u64,
}

/// The admission state of one worker.
pub struct Admission {
    clock: Stopwatch,
    budgets: RefCell<Budgets>,
    reconnects: RefCell<ReconnectDelay>,
}

impl Admission {
    /// Creates the state with full budgets.
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

    /// Verifies a token within the budgets. The [`Attempt`] holds the result, and the events for
    /// the caller to count.
    ///
    /// # Errors
    /// In [`Attempt::result`]: [`Reject::NotAdmitted`] if a budget is exceeded.
    pub fn verify<'t>(
        &self,
        client: &ClientAddress<'_>,
        presentation: Presentation<'_>,
        verifier: &Verifier,
        token: &'t [u8],
        now: UnixTime,
    ) -> Attempt<'t> {
        let (mut started, mut exceeded) = (None, None);
        let source = || Source::of(client.get());
        let result = verifier.verify_if(token, now, presentation, |check| {
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
        nanos(self.clock.elapsed())
    }
}

/// Result of [`Admission::verify`].
pub struct Attempt<'t> {
    /// The result of the verification.
    pub result: Result<Verified<'t>, Reject>,
    /// Whether a signature was checked.
    pub checked_signature: bool,
    /// The exceeded budget, if it prevented the check.
    pub exceeded: Option<BudgetExceeded>,
    /// Whether another source in debt was evicted to charge this one.
    pub evicted_source: bool,
}

/// Warns once about a proxy that is not configured: all its clients are one source. A client
/// may have sent the header itself, so this is only a hint.
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
