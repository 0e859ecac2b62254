//! Rate limits of logins, per username and per source address.
//!
//! A user is locked out after too many wrong passwords. Unknown usernames are treated alike, so
//! that a lockout does not reveal which users exist. An attempt counts as failed from its start
//! until it succeeds, so parallel attempts gain nothing. A source address has a limit of its
//! own, over all usernames.

use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock as _};

use crate::admission::Source;

/// Configured limits of login attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Wrong passwords after which a user is locked out; `None` for no lockout.
    pub per_user: Option<NonZeroU32>,
    /// Duration of the lockout, from the last wrong password.
    pub lockout: Duration,
    /// Attempts per minute of a source address; `None` for no limit.
    pub per_source: Option<NonZeroU32>,
}

/// Login attempts by username and by source.
pub struct LoginAttempts {
    limits: AttemptLimits,
    /// By a keyed hash of the username, because a client may send names of any length.
    users: DashMap<u64, FailedLogins>,
    hasher: RandomState,
    sources: Option<DefaultKeyedRateLimiter<Source>>,
    last_purge: OncePerSecond,
}

#[derive(Clone, Copy)]
struct FailedLogins {
    count: u32,
    last: Instant,
}

/// Error of [`LoginAttempts::begin`]: the time until the next attempt is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAttempts(pub Duration);

/// Number of usernames or sources from which expired ones are purged.
const PURGE_THRESHOLD: usize = 16 * 1024;
/// Number of usernames from which those with a single failed attempt are purged too.
const PRESSURE_THRESHOLD: usize = 64 * PURGE_THRESHOLD;

impl LoginAttempts {
    /// Creates the state for these limits, without any attempts.
    #[must_use]
    pub fn new(limits: AttemptLimits) -> Self {
        let sources = limits
            .per_source
            .map(|number| DefaultKeyedRateLimiter::keyed(Quota::per_minute(number)));
        Self {
            limits,
            users: DashMap::new(),
            hasher: RandomState::new(),
            sources,
            last_purge: OncePerSecond::default(),
        }
    }

    /// Begins an attempt. It counts as failed until it has [succeeded](Self::succeeded).
    ///
    /// # Errors
    /// The user is locked out, or the source has reached its limit.
    pub fn begin(
        &self,
        username: &str,
        source: Source,
        now: Instant,
    ) -> Result<(), TooManyAttempts> {
        self.purge(now);
        if let Some(sources) = &self.sources {
            let too_many = |until: governor::NotUntil<_>| {
                TooManyAttempts(until.wait_time_from(sources.clock().now()))
            };
            sources.check_key(&source).map_err(too_many)?;
        }
        let Some(limit) = self.limits.per_user else { return Ok(()) };
        let mut failures =
            self.users.entry(self.key(username)).or_insert(FailedLogins { count: 0, last: now });
        let end = failures.last + self.limits.lockout;
        if now >= end {
            failures.count = 0;
        }
        if failures.count >= limit.get() {
            return Err(TooManyAttempts(end.saturating_duration_since(now)));
        }
        (failures.count, failures.last) = (failures.count + 1, now);
        Ok(())
    }

    /// Clears the failed attempts of a user after a successful one.
    pub fn succeeded(&self, username: &str) {
        self.users.remove(&self.key(username));
    }

    /// Takes back an attempt that was begun, but whose password was not checked.
    pub fn retract(&self, username: &str) {
        self.users.remove_if_mut(&self.key(username), |_, failures| {
            failures.count = failures.count.saturating_sub(1);
            failures.count == 0
        });
    }

    fn key(&self, username: &str) -> u64 {
        self.hasher.hash_one(username)
    }

    /// Purges expired entries if there are many.
    fn purge(&self, now: Instant) {
        let has_many_sources =
            self.sources.as_ref().is_some_and(|sources| sources.len() > PURGE_THRESHOLD);
        if !(has_many_sources || self.users.len() > PURGE_THRESHOLD) || !self.last_purge.is_due(now)
        {
            return;
        }
        if let Some(sources) = &self.sources {
            sources.retain_recent();
        }
        let has_too_many = self.users.len() > PRESSURE_THRESHOLD;
        self.users.retain(|_, failures| {
            now < failures.last + self.limits.lockout && !(has_too_many && failures.count <= 1)
        });
    }
}

/// Rate limit of an expensive task to once a second.
#[derive(Default)]
pub struct OncePerSecond(ArcSwapOption<Instant>);

impl OncePerSecond {
    /// Returns whether the task is due. If so, it is due again a second later.
    pub fn is_due(&self, now: Instant) -> bool {
        let last = self.0.load();
        let is_due = last.as_ref().is_none_or(|last| now >= **last + Duration::from_secs(1));
        if is_due {
            // Two threads at the same time may both run the task, which is harmless.
            self.0.store(Some(Arc::new(now)));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    fn limits(per_user: u32, per_source: u32) -> AttemptLimits {
        let lockout = Duration::from_secs(300);
        AttemptLimits {
            per_user: NonZeroU32::new(per_user),
            lockout,
            per_source: NonZeroU32::new(per_source),
        }
    }

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    #[test]
    fn user_is_locked_out_after_too_many_failures() {
        let (attempts, start) = (LoginAttempts::new(limits(3, 0)), clock::instant());
        let at = |seconds| attempts.begin("bob", source(1), start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(10), at(20)], [Ok(()); 3]);
        assert_eq!(at(21), Err(TooManyAttempts(Duration::from_secs(299))));
        assert_eq!(attempts.begin("eve", source(1), start), Ok(()));
        assert_eq!(at(319), Err(TooManyAttempts(Duration::from_secs(1))));
        assert_eq!(at(320), Ok(()));
    }

    #[test]
    fn success_and_retract_clear_failed_attempts() {
        let (attempts, now) = (LoginAttempts::new(limits(2, 0)), clock::instant());
        let begin = || attempts.begin("bob", source(1), now);
        assert_eq!((begin(), begin()), (Ok(()), Ok(())));
        attempts.retract("bob");
        assert_eq!(begin(), Ok(()));
        assert!(begin().is_err());
        attempts.succeeded("bob");
        assert_eq!(begin(), Ok(()));
    }

    #[test]
    fn source_limit_applies_over_all_usernames() {
        let (attempts, now) = (LoginAttempts::new(limits(0, 3)), clock::instant());
        for name in ["a", "b", "c"] {
            assert_eq!(attempts.begin(name, source(1), now), Ok(()));
        }
        assert!(
            matches!(attempts.begin("d", source(1), now), Err(TooManyAttempts(wait)) if wait <= Duration::from_secs(20))
        );
        assert_eq!(attempts.begin("d", source(2), now), Ok(()));
    }

    #[test]
    fn unknown_usernames_are_purged_after_lockout() {
        let (attempts, start) = (LoginAttempts::new(limits(3, 0)), clock::instant());
        for number in 0..=PURGE_THRESHOLD {
            attempts.begin(&number.to_string(), source(1), start).unwrap();
        }
        assert!(attempts.users.len() > PURGE_THRESHOLD, "kept during the lockout");
        attempts.begin("late", source(1), start + Duration::from_secs(400)).unwrap();
        assert_eq!(attempts.users.len(), 1);
    }
}
