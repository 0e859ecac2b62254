//! Budgets by any key, such as a username: for actions whose result is kept for a while.

#[expect(clippy::disallowed_types, reason = "see `KeyedBudget::limiter`")]
use std::sync::Mutex;
use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    sync::PoisonError,
    time::Duration,
};

use super::{bucket::nanos, source::RateLimiter};
use crate::base::clock::Stopwatch;

/// Budgets of one size by key: a number of actions at once, and then one in each interval. Keys
/// have any length, because only their keyed hashes are stored.
pub(crate) struct KeyedBudget {
    #[expect(clippy::disallowed_types, reason = "held for a look-up")]
    limiter: Mutex<RateLimiter<u64>>,
    hasher: RandomState,
    interval: Duration,
    clock: Stopwatch,
}

impl KeyedBudget {
    /// Creates the budgets of `capacity` keys, each of `burst` actions.
    pub(crate) fn new(capacity: usize, burst: u64, interval: Duration) -> Self {
        let limiter = RateLimiter::with_key(capacity, nanos(interval) * (burst - 1), 0);
        #[expect(clippy::disallowed_types, reason = "as above")]
        let limiter = Mutex::new(limiter);
        Self { limiter, hasher: RandomState::new(), interval, clock: Stopwatch::start() }
    }

    /// Counts an action.
    ///
    /// # Errors
    /// The budget of the key is used up: the time until the next action is possible.
    pub(crate) fn take(&self, key: impl Hash) -> Result<(), Duration> {
        let (key, now) = (self.hasher.hash_one(key), nanos(self.clock.elapsed()));
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        match limiter.wait(key, now) {
            0 => {
                limiter.charge(key, nanos(self.interval), now);
                Ok(())
            }
            wait => Err(Duration::from_nanos(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_separate_budgets() {
        const INTERVAL: Duration = Duration::from_secs(3600);
        let budget = KeyedBudget::new(64, 3, INTERVAL);
        let admitted = |key: &str| (0..10).filter(|_| budget.take(key).is_ok()).count();
        assert_eq!([admitted("a"), admitted("a"), admitted("b")], [3, 0, 3]);
        assert!(budget.take("a").is_err_and(|wait| wait <= INTERVAL));
    }
}
