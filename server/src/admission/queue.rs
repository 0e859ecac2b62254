//! Queue of the signature checks that are over budget.
//!
//! Of those that the budgets have room for, the check whose source has had no bad signature for the
//! longest time is next. So a source without bad signatures is never behind one with many, even if
//! each of a thousand such is within its share; and sources with equally many take turns.

use std::{cell::Cell, rc::Rc};

use tokio::sync::Notify;

use super::{
    BudgetExceeded,
    bucket::{Bucket, Nanos},
    budgets::{Budgets, CheckOrigin, IssuerBucket},
    settings::SignatureLimits,
};

/// Maximum number of waiting checks of one worker.
const MAX_WAITING: usize = 128;

/// The budgets of one worker, and the checks that wait for them.
///
/// The caller passes the time; this type reads no clock. Only the next check needs a timer: each
/// wakes its successor when it leaves.
pub(super) struct CheckQueue {
    pub(super) budgets: Budgets,
    waiting: Vec<WaitingCheck>,
    last_id: u64,
}

/// A check that waits.
struct WaitingCheck {
    id: u64,
    buckets: ChargedBuckets,
    wakeup: Rc<Notify>,
    /// The time at which it asks for its turn again without being woken.
    timer: Cell<Nanos>,
}

/// The buckets that a bad signature is charged to, beside that of the core.
#[derive(Clone)]
pub(super) struct ChargedBuckets {
    origin: CheckOrigin,
    issuer: IssuerBucket,
}

/// A place among the waiting checks.
pub(super) struct QueuePlace {
    pub(super) id: u64,
    pub(super) wakeup: Rc<Notify>,
}

/// The state of a waiting check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueueTurn {
    /// It is admitted.
    Now,
    /// It is the next one, and its budget has room after this time.
    In(Nanos),
    /// Another one is before it.
    Later,
    /// It had to leave its place to another one.
    Lost,
}

impl CheckQueue {
    pub(super) fn new(limits: SignatureLimits) -> Self {
        Self { budgets: Budgets::new(limits), waiting: Vec::new(), last_id: 0 }
    }

    /// Admits the check of one signature whose token names `issuer`, or returns where it would be
    /// charged, with which it can [wait](Self::enter).
    ///
    /// `origin` is called only if a budget is nearly spent.
    pub(super) fn admit(
        &mut self,
        issuer: &str,
        origin: impl FnOnce() -> CheckOrigin,
        now: Nanos,
    ) -> Result<(), ChargedBuckets> {
        self.budgets.select(issuer);
        if self.waiting.is_empty() && self.budgets.time_to_plenty(now) == 0 {
            return Ok(());
        }
        let buckets = ChargedBuckets { origin: origin(), issuer: self.budgets.issuer() };
        let is_first =
            self.waiting.iter().all(|check| self.rank(&buckets) < self.rank(&check.buckets));
        if is_first && self.wait(&buckets, now) == 0 { Ok(()) } else { Err(buckets) }
    }

    /// Adds a check to the waiting ones. If they are too many, the last one in their order has
    /// to go.
    pub(super) fn enter(
        &mut self,
        buckets: ChargedBuckets,
        now: Nanos,
    ) -> Result<QueuePlace, BudgetExceeded> {
        if self.waiting.len() >= MAX_WAITING {
            let rank = |index: &usize| self.rank(&self.waiting[*index].buckets);
            match (0..self.waiting.len()).max_by_key(rank) {
                Some(last) if rank(&last) > self.rank(&buckets) => {
                    self.waiting.swap_remove(last).wakeup.notify_one();
                }
                _ => return Err(self.exceeded(&buckets, now)),
            }
        }
        self.last_id += 1;
        let (id, wakeup) = (self.last_id, Rc::new(Notify::new()));
        let timer = Cell::new(Nanos::MAX);
        self.waiting.push(WaitingCheck { id, buckets, wakeup: Rc::clone(&wakeup), timer });
        Ok(QueuePlace { id, wakeup })
    }

    /// Returns whether it is the turn of a waiting check. One that is admitted stays until it
    /// [leaves](Self::leave).
    pub(super) fn turn(&self, id: u64, now: Nanos) -> QueueTurn {
        let Some(check) = self.waiting.iter().find(|check| check.id == id) else {
            return QueueTurn::Lost;
        };
        match self.next(now) {
            Some((next, 0)) if next.id == id => QueueTurn::Now,
            Some((next, wait)) if next.id == id => {
                check.timer.set(now.saturating_add(wait));
                QueueTurn::In(wait)
            }
            next => {
                check.timer.set(Nanos::MAX);
                if let Some((next, wait)) = next
                    && next.timer.get() > now.saturating_add(wait)
                {
                    next.wakeup.notify_one();
                }
                QueueTurn::Later
            }
        }
    }

    /// Removes a check, and wakes the next one.
    pub(super) fn leave(&mut self, id: u64, now: Nanos) {
        self.waiting.retain(|check| check.id != id);
        if let Some((next, _)) = self.next(now) {
            next.wakeup.notify_one();
        }
    }

    /// Returns the error for a check that is not admitted.
    pub(super) fn exceeded(&self, buckets: &ChargedBuckets, now: Nanos) -> BudgetExceeded {
        self.budgets.exceeded(buckets.issuer.get(), buckets.origin, now)
    }

    /// Returns the check that is admitted next, and the time until then.
    fn next(&self, now: Nanos) -> Option<(&WaitingCheck, Nanos)> {
        let order = |check: &WaitingCheck| {
            (self.wait(&check.buckets, now), self.rank(&check.buckets), check.id)
        };
        let next =
            self.waiting.iter().map(|check| (order(check), check)).min_by_key(|(order, _)| *order);
        next.map(|((wait, ..), check)| (check, wait))
    }

    fn wait(&self, buckets: &ChargedBuckets, now: Nanos) -> Nanos {
        self.budgets.wait(buckets.issuer.get(), buckets.origin, now)
    }

    /// Returns the rank of a check: its source's bucket, which is greater the later the source had
    /// a bad signature, and the more it had.
    fn rank(&self, buckets: &ChargedBuckets) -> Bucket {
        self.budgets.origin(buckets.origin)
    }
}

#[cfg(test)]
mod tests;
