//! Admission control: limits the CPU time spent on bad signatures.
//!
//! Checking a signature costs between half a microsecond (HS256) and a third of a millisecond
//! (ES512), and anyone can send a bad one. The time of each check that fails is therefore charged
//! to three budgets (token buckets), each a share of one core's time: that of the core, of the
//! issuer named by the token, and of its [`Source`].
//!
//! - **Good signatures are free**, even if the token is rejected for another reason. So authentic
//!   load is never limited, even from many clients behind one address. The cost is known only after
//!   the check, so a budget may be overdrawn by one token, which is checked with four keys at most.
//! - **Shares divide what is scarce.** The share of an issuer or a source is enforced only while
//!   the core's budget is nearly spent.
//! - **Checks over budget wait** before they are refused, for at most 50 ms, in a bounded queue
//!   that is fair by source.
//! - **Costs are measured.** A table of costs by algorithm would be wrong for most key sizes and
//!   machines; a share of measured time means the same on all of them.
//! - **Each worker has its own state.** Nothing is shared or locked. A source with connections
//!   on several workers has its share of each.
//! - **Connections closed for abuse** are counted apart: the next connections of their address
//!   are delayed.
//! - **Sources are limited in one way**, by `SourceLimiter`, here and at logins.
//! - **While the core's budget lasts**, admission is one comparison, and the client's address is
//!   not even read from the headers.

mod batch;
mod bucket;
mod budgets;
mod keyed_budget;
mod queue;
mod reconnect_delay;
pub mod settings;
mod source;

use std::{cell::RefCell, net::IpAddr, sync::OnceLock, time::Duration};

use countersign_engine::{
    Presentation, Reject, SignatureCheck, UnixTime, UnknownKid, Verified, Verifier,
};
use tokio::time::{Instant, sleep_until};

pub use self::{batch::BatchCounts, bucket::Share, source::Source};
pub(crate) use self::{
    bucket::{Nanos, nanos},
    keyed_budget::KeyedBudget,
    source::SourceLimiter,
};
use self::{
    budgets::CheckOrigin,
    queue::{ChargedBuckets, CheckQueue, QueuePlace, QueueTurn},
    reconnect_delay::ReconnectDelay,
    settings::SignatureLimits,
};
use crate::{base::clock::Stopwatch, client::ClientAddress, observe::metrics::Budget};

/// Maximum time for which a signature check over budget waits.
const MAX_WAIT: Duration = Duration::from_millis(50);

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
    queue: RefCell<CheckQueue>,
    reconnects: RefCell<ReconnectDelay>,
}

impl Admission {
    /// Creates the state with full budgets.
    #[must_use]
    pub fn new(limits: SignatureLimits) -> Self {
        Self {
            clock: Stopwatch::start(),
            queue: RefCell::new(CheckQueue::new(limits)),
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

    /// Verifies a token within the budgets, or in a turn that was waited for. The [`Attempt`] holds
    /// the result, and the events for the caller to count.
    pub fn verify<'t>(
        &self,
        client: &ClientAddress<'_>,
        presentation: Presentation<'_>,
        verifier: &Verifier,
        (token, now): (&'t [u8], UnixTime),
        turn: Option<CheckTurn<'_>>,
    ) -> Attempt<'t, '_> {
        let (mut started, mut checks, mut delayed, mut unknown_kid) = (None, 0, None, None);
        let admit = |check: &SignatureCheck<'_>| {
            let (now, issuer) = (self.now(), &*check.issuer.name);
            let mut queue = self.queue.borrow_mut();
            let admitted = match &turn {
                Some(_) => {
                    queue.budgets.select(issuer);
                    Ok(())
                }
                None => queue.admit(issuer, || origin(client), now),
            };
            delayed = admitted.err();
            if delayed.is_none() {
                started = started.or(Some(now));
                checks += 1;
            }
            delayed.is_none()
        };
        let report = |unknown| unknown_kid = Some(Box::new(unknown));
        let result = verifier.verify_with(token, now, presentation, admit, report);
        let evicted_source = match started {
            // If the key is not named, those that did not make a good signature cost nothing.
            Some(started) if matches!(result, Err(Reject::Signature | Reject::NotAdmitted)) => {
                warn_about_unlisted_proxy(client);
                self.charge(origin(client), started, checks)
            }
            _ => false,
        };
        // Wakes the next check, after this one is charged.
        drop(turn);
        let delayed = delayed.map(|buckets| self.enter(buckets));
        Attempt { result, unknown_kid, signature_checks: checks, delayed, evicted_source }
    }

    /// Charges a bad signature, which was checked with this number of keys. Returns whether another
    /// source in debt was evicted for it.
    fn charge(&self, origin: CheckOrigin, started: Nanos, checks: u32) -> bool {
        let now = self.now();
        let cost = now.saturating_sub(started) / u64::from(checks.max(1));
        let budgets = &mut self.queue.borrow_mut().budgets;
        (0..checks).fold(false, |evicted, _| budgets.charge(origin, cost, now) || evicted)
    }

    /// Cold, and boxed, so that a cached token does not pay for its size.
    #[cold]
    fn enter(&self, buckets: ChargedBuckets) -> Result<Box<DelayedCheck<'_>>, BudgetExceeded> {
        let place = self.queue.borrow_mut().enter(buckets.clone(), self.now())?;
        let deadline = Instant::now() + MAX_WAIT;
        let turn = CheckTurn { admission: self, place };
        Ok(Box::new(DelayedCheck { turn, buckets, deadline }))
    }

    fn now(&self) -> Nanos {
        nanos(self.clock.elapsed())
    }
}

/// Result of [`Admission::verify`].
pub struct Attempt<'t, 'a> {
    /// The result of the verification: [`Reject::NotAdmitted`] if it was delayed.
    pub result: Result<Verified<'t>, Reject>,
    /// The facts about the token, if the result is [`Reject::KidUnknown`].
    pub unknown_kid: Option<Box<UnknownKid>>,
    /// Number of keys that the signature was checked with.
    pub signature_checks: u32,
    /// The delayed check, if a budget is exceeded; or the error if too many checks wait.
    pub delayed: Option<Result<Box<DelayedCheck<'a>>, BudgetExceeded>>,
    /// Whether another source in debt was evicted to charge this one.
    pub evicted_source: bool,
}

/// A signature check that waits for its budget.
#[must_use]
pub struct DelayedCheck<'a> {
    turn: CheckTurn<'a>,
    buckets: ChargedBuckets,
    deadline: Instant,
}

impl<'a> DelayedCheck<'a> {
    /// Waits until the check is admitted, for at most 50 ms.
    ///
    /// # Errors
    /// [`BudgetExceeded`] if it is not.
    pub async fn wait(self) -> Result<CheckTurn<'a>, BudgetExceeded> {
        let CheckTurn { admission, place } = &self.turn;
        loop {
            let (turn, now) =
                (admission.queue.borrow().turn(place.id, admission.now()), Instant::now());
            let again = match turn {
                QueueTurn::Now => return Ok(self.turn),
                QueueTurn::In(wait) => self.deadline.min(now + Duration::from_nanos(wait)),
                QueueTurn::Later => self.deadline,
                QueueTurn::Lost => now,
            };
            if now >= self.deadline || turn == QueueTurn::Lost {
                return Err(admission.queue.borrow().exceeded(&self.buckets, admission.now()));
            }
            tokio::select! {
                () = place.wakeup.notified() => {}
                () = sleep_until(again) => {}
            }
        }
    }
}

/// The turn of a signature check. When it is dropped, it is that of the next one.
pub struct CheckTurn<'a> {
    admission: &'a Admission,
    place: QueuePlace,
}

impl Drop for CheckTurn<'_> {
    fn drop(&mut self) {
        self.admission.queue.borrow_mut().leave(self.place.id, self.admission.now());
    }
}

fn origin(client: &ClientAddress<'_>) -> CheckOrigin {
    match client.is_unlisted_proxy() {
        true => CheckOrigin::UnlistedProxies,
        false => CheckOrigin::Source(Source::of(client.get())),
    }
}

/// Warns about a proxy that is not configured, once for each of the first few: all such proxies
/// share one budget. A client may have sent the header itself, so this is only a hint.
fn warn_about_unlisted_proxy(client: &ClientAddress<'_>) {
    static WARNED: [OnceLock<IpAddr>; 8] = [const { OnceLock::new() }; 8];
    if !client.is_unlisted_proxy() {
        return;
    }
    let peer = client.peer();
    for warned in &WARNED {
        if warned.set(peer).is_ok() {
            return tracing::warn!(
                "a bad signature came from {peer}, which sends the header of a proxy: if it is one \
                 of yours, name it in trusted_proxies of [listen], or its clients share one budget \
                 with those of all such proxies"
            );
        }
        if warned.get() == Some(&peer) {
            return;
        }
    }
}
