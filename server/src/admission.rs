//! Admission: how much time signatures that turn out bad may take from good tokens.
//!
//! Checking a signature costs between half a microsecond (HS256) and a third of a
//! millisecond (ES512), and anybody can send one that is worth nothing. So whatever
//! a bad one took is charged to three budgets, each a share of one core's time:
//! that of the core, of the issuer it named, and of the source it came from. While
//! one of them is spent, no signature that would be charged to it is checked.
//!
//! - *A good signature costs nothing*, whatever is wrong with its token otherwise.
//!   Honest load is never limited, however large, nor are the many clients behind
//!   one address. Which of the two a signature is shows only afterwards, so it is
//!   charged afterwards, and a budget may be overdrawn by one signature.
//! - *The cost is measured*, not looked up: key sizes and machines differ by more
//!   than any table of algorithms would get right, and a share of time that was
//!   measured is the same share on a slow machine.
//! - *All state is of one worker*. Nothing is shared, locked or waited for; a source
//!   whose connections are on several workers has its share of each.
//! - *Connections that were cut off*, since they had asked for too much in vain, are
//!   counted apart: the next ones of an address with many of them wait.
//! - *As long as no budget is spent, nobody is looked up*: one comparison admits, and
//!   a client's address is not even searched for in the headers.

mod bucket;
mod excess;
mod ledger;
mod source;

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    sync::Once,
    time::Duration,
};

use countersign_engine::{Reject, UnixTime, Verified, Verifier};
use rustls::pki_types::CertificateDer;

use crate::{
    clock::Stopwatch,
    config::SignatureLimits,
    http::Fields,
    listen::peer::TrustedProxies,
    metrics::{MetricEvent, Metrics},
};
use bucket::Nanos;
pub use bucket::Share;
use excess::ReconnectDelay;
use ledger::Budgets;
pub use source::Source;

/// Whose time it is that bad signatures take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Of the core: everybody's.
    Core,
    /// Of the issuer that a token names.
    Issuer,
    /// Of the address that a token comes from.
    Source,
}

impl Budget {
    /// Every budget.
    pub const ALL: [Self; 3] = [Self::Core, Self::Issuer, Self::Source];

    /// Its name, for metrics and machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Issuer => "issuer",
            Self::Source => "source",
        }
    }
}

/// A budget that is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExceeded {
    /// Which.
    pub budget: Budget,
    /// Whole seconds after which it will not be, one at least.
    pub retry_after: u64,
}

/// The budgets of one worker.
pub struct Admission {
    clock: Stopwatch,
    budgets: RefCell<Budgets>,
    reconnects: RefCell<ReconnectDelay>,
}

impl Admission {
    /// Budgets that nothing was taken from yet.
    #[must_use]
    pub fn new(limits: SignatureLimits) -> Self {
        Self {
            clock: Stopwatch::start(),
            budgets: RefCell::new(Budgets::new(limits)),
            reconnects: RefCell::new(ReconnectDelay::new()),
        }
    }

    /// A connection from this address was cut off, since it asked for too much in vain.
    pub fn record_abuse(&self, address: IpAddr) {
        self.reconnects.borrow_mut().charge(Source::of(address), self.now());
    }

    /// How long a new connection from this address is to wait.
    #[must_use]
    pub fn reconnect_delay(&self, address: IpAddr) -> Duration {
        self.reconnects.borrow().wait(Source::of(address), self.now())
    }

    fn now(&self) -> Nanos {
        Nanos::try_from(self.clock.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }
}

/// The other end of a connection, the listener it came to, and the worker it is on.
#[derive(Clone, Copy)]
pub struct Peer<'g> {
    /// The worker's budgets.
    pub admission: &'g Admission,
    /// The address that the connection comes from.
    pub address: IpAddr,
    /// Which of the listeners.
    pub listener: usize,
    /// The certificate that it has shown, if it has.
    pub certificate: Option<&'g CertificateDer<'static>>,
}

/// Who wants a token verified.
pub struct Caller<'g, 'r> {
    admission: &'g Admission,
    address: LazyAddress<'r>,
    exceeded: Cell<Option<BudgetExceeded>>,
}

/// Where to find the address of a client. Few requests need it.
enum LazyAddress<'r> {
    Deferred { peer: IpAddr, proxies: &'r TrustedProxies, fields: &'r dyn Fields },
    Known(IpAddr),
}

impl<'g, 'r> Caller<'g, 'r> {
    /// Whoever sent these header lines through `peer`.
    #[must_use]
    pub fn new(peer: Peer<'g>, proxies: &'r TrustedProxies, fields: &'r dyn Fields) -> Self {
        let address = LazyAddress::Deferred { peer: peer.address, proxies, fields };
        Self { admission: peer.admission, address, exceeded: Cell::new(None) }
    }

    /// Whoever is at `address`, as somebody has said whom we trust.
    #[must_use]
    pub fn at(peer: Peer<'g>, address: IpAddr) -> Self {
        Self {
            admission: peer.admission,
            address: LazyAddress::Known(address),
            exceeded: Cell::new(None),
        }
    }

    /// The same, to be kept when the request is gone.
    #[must_use]
    pub fn detached(&self) -> Caller<'g, 'static> {
        Caller {
            admission: self.admission,
            address: LazyAddress::Known(self.address()),
            exceeded: Cell::new(None),
        }
    }

    /// The budget that the last token was refused for.
    #[must_use]
    pub fn exceeded(&self) -> Option<BudgetExceeded> {
        self.exceeded.get()
    }

    /// Verifies a token within the budgets.
    ///
    /// # Errors
    /// Why it is refused; [`Reject::NotAdmitted`] says more in [`exceeded`](Self::exceeded).
    pub fn verify<'t>(
        &self,
        verifier: &Verifier,
        metrics: &Metrics,
        token: &'t [u8],
        now: UnixTime,
    ) -> Result<Verified<'t>, Reject> {
        let mut started = None;
        let verdict = verifier.verify_if(token, now, |cold| {
            let now = self.admission.now();
            let asked =
                self.admission.budgets.borrow_mut().admit(&cold.issuer.name, || self.source(), now);
            started = asked.is_ok().then_some(now);
            self.exceeded.set(asked.err());
            started.is_some()
        });
        match (started, &verdict) {
            (Some(started), Err(Reject::Signature)) => self.charge(started, metrics),
            (None, Err(Reject::NotAdmitted)) => self.count_refusal(metrics),
            (None, Ok(verified)) if verified.is_cached() => {
                metrics.count_event(MetricEvent::CacheHit)
            }
            _ => {}
        }
        if started.is_some() {
            metrics.count_event(MetricEvent::SignatureChecked);
        }
        verdict
    }

    fn charge(&self, started: Nanos, metrics: &Metrics) {
        let now = self.admission.now();
        let forgotten = self.admission.budgets.borrow_mut().charge(
            self.source(),
            now.saturating_sub(started),
            now,
        );
        if forgotten {
            metrics.count_event(MetricEvent::SourceEvicted);
        }
    }

    fn count_refusal(&self, metrics: &Metrics) {
        let Some(BudgetExceeded { budget, .. }) = self.exceeded.get() else { return };
        metrics.count_event(MetricEvent::NotAdmitted(budget));
        if budget == Budget::Source {
            self.warn_about_proxy();
        }
    }

    /// A proxy that nobody configured makes all its clients one source. That a header
    /// says so may be the client's own doing, so it is told once and changes nothing.
    fn warn_about_proxy(&self) {
        static WARNED: Once = Once::new();
        if let LazyAddress::Deferred { peer, proxies, fields } = self.address
            && proxies.suspects_unlisted_proxy(peer, fields)
        {
            WARNED.call_once(|| {
                let header = proxies.header();
                tracing::warn!(
                    "too many bad signatures come from {peer}, which sends {header}: if it is a proxy of yours, name it in \
                     trusted_proxies of [listen], or all its clients share one budget"
                );
            });
        }
    }

    /// Where the request comes from, as far as that can be believed.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        match self.address {
            LazyAddress::Deferred { peer, proxies, fields } => proxies.client(peer, fields),
            LazyAddress::Known(address) => address,
        }
    }

    /// The same, as one client.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::of(self.address())
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;
    use crate::listen::peer::Network;

    #[test]
    fn a_caller_is_the_same_when_its_request_is_gone() {
        let proxies = TrustedProxies::new(
            vec![Network::parse("10.0.0.1").unwrap()],
            false,
            HeaderName::from_static("x-real-ip"),
        );
        let admission =
            Admission::new(SignatureLimits { core: None, issuer: None, source: None, sources: 8 });
        let headers =
            HeaderMap::from_iter([(proxies.header().clone(), "198.51.100.7".parse().unwrap())]);
        let peer = Peer {
            admission: &admission,
            address: "10.0.0.1".parse().unwrap(),
            listener: 0,
            certificate: None,
        };
        let detached = Caller::new(peer, &proxies, &headers).detached();
        drop(headers);
        assert_eq!(detached.source(), Source::of("198.51.100.7".parse().unwrap()));
    }
}
