//! Rate limits of logins, per username and per source address.
//!
//! A user is locked out after too many wrong passwords. Unknown usernames are treated alike, so
//! that a lockout does not reveal which users exist. An attempt counts as failed from its start
//! until it succeeds, so parallel attempts gain nothing. A source address has a limit of its
//! own, over all usernames, in a `SourceLimiter`.

#[expect(clippy::disallowed_types, reason = "see `LoginSources`")]
use std::sync::Mutex;
use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;

use crate::admission::{Nanos, Source, SourceLimiter, nanos};

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
    sources: Option<LoginSources>,
    last_purge: OncePerSecond,
}

#[derive(Clone, Copy)]
struct FailedLogins {
    count: u32,
    last: Nanos,
}

/// Error of [`LoginAttempts::begin`]: the time until the next attempt is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAttempts(pub Duration);

/// Number of usernames from which expired ones are purged.
const PURGE_THRESHOLD: usize = 16 * 1024;
/// Number of usernames from which those with a single failed attempt are purged too.
const PRESSURE_THRESHOLD: usize = 64 * PURGE_THRESHOLD;

impl LoginAttempts {
    /// Creates the state for these limits, without any attempts.
    #[must_use]
    pub fn new(limits: AttemptLimits) -> Self {
        let sources = limits.per_source.map(LoginSources::new);
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
    pub fn begin(&self, username: &str, source: Source, now: Nanos) -> Result<(), TooManyAttempts> {
        self.purge(now);
        if let Some(sources) = &self.sources {
            sources.begin(source, now)?;
        }
        let Some(limit) = self.limits.per_user else { return Ok(()) };
        let mut failures =
            self.users.entry(self.key(username)).or_insert(FailedLogins { count: 0, last: now });
        let end = self.lockout_end(*failures);
        if now >= end {
            failures.count = 0;
        }
        if failures.count >= limit.get() {
            return Err(TooManyAttempts(Duration::from_nanos(end - now)));
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

    fn lockout_end(&self, failures: FailedLogins) -> Nanos {
        failures.last.saturating_add(nanos(self.limits.lockout))
    }

    fn key(&self, username: &str) -> u64 {
        self.hasher.hash_one(username)
    }

    /// Purges expired entries if there are many.
    fn purge(&self, now: Nanos) {
        if self.users.len() <= PURGE_THRESHOLD || !self.last_purge.is_due(now) {
            return;
        }
        let has_too_many = self.users.len() > PRESSURE_THRESHOLD;
        self.users.retain(|_, failures| {
            now < self.lockout_end(*failures) && !(has_too_many && failures.count <= 1)
        });
    }
}

/// Login attempts by source, over all workers.
struct LoginSources {
    /// Charge for one attempt.
    cost: Nanos,
    #[expect(clippy::disallowed_types, reason = "held for a look-up; a password takes far longer")]
    limiter: Mutex<SourceLimiter>,
}

/// The time in which a source earns all its attempts again.
const PERIOD: Duration = Duration::from_secs(60);
/// Number of sources tracked separately.
const MAX_SOURCES: usize = 16 * 1024;

impl LoginSources {
    fn new(per_period: NonZeroU32) -> Self {
        let cost = nanos(PERIOD / per_period.get());
        // The attempt that overdraws the bucket is part of the number.
        let limiter = SourceLimiter::new(MAX_SOURCES, cost * u64::from(per_period.get() - 1));
        #[expect(clippy::disallowed_types, reason = "as above")]
        Self { cost, limiter: Mutex::new(limiter) }
    }

    fn begin(&self, source: Source, now: Nanos) -> Result<(), TooManyAttempts> {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = limiter.wait(source, now);
        if wait > 0 {
            return Err(TooManyAttempts(Duration::from_nanos(wait)));
        }
        limiter.charge(source, self.cost, now);
        Ok(())
    }
}

/// Rate limit of an expensive task to once a second.
///
/// Relaxed: if two threads run the task at the same time, that is harmless.
#[derive(Default)]
pub struct OncePerSecond(AtomicU64);

impl OncePerSecond {
    /// Returns whether the task is due. If so, it is due again a second later.
    pub fn is_due(&self, now: Nanos) -> bool {
        let is_due = now >= self.0.load(Ordering::Relaxed);
        if is_due {
            self.0.store(now.saturating_add(nanos(Duration::from_secs(1))), Ordering::Relaxed);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

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
        let attempts = LoginAttempts::new(limits(3, 0));
        let at = |seconds| attempts.begin("bob", source(1), seconds * SECOND);
        assert_eq!([at(0), at(10), at(20)], [Ok(()); 3]);
        assert_eq!(at(21), Err(TooManyAttempts(Duration::from_secs(299))));
        assert_eq!(attempts.begin("eve", source(1), 0), Ok(()));
        assert_eq!(at(319), Err(TooManyAttempts(Duration::from_secs(1))));
        assert_eq!(at(320), Ok(()));
    }

    #[test]
    fn success_and_retract_clear_failed_attempts() {
        let (attempts, now) = (LoginAttempts::new(limits(2, 0)), 0);
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
        let (attempts, now) = (LoginAttempts::new(limits(0, 3)), 0);
        for name in ["a", "b", "c"] {
            assert_eq!(attempts.begin(name, source(1), now), Ok(()));
        }
        assert!(
            matches!(attempts.begin("d", source(1), now), Err(TooManyAttempts(wait)) if wait <= Duration::from_secs(20))
        );
        assert_eq!(attempts.begin("d", source(2), now), Ok(()));
        assert_eq!(attempts.begin("d", source(1), 20 * SECOND), Ok(()));
        assert!(attempts.begin("e", source(1), 39 * SECOND).is_err(), "one attempt in 20 seconds");
    }

    #[test]
    fn unknown_usernames_are_purged_after_lockout() {
        let attempts = LoginAttempts::new(limits(3, 0));
        for number in 0..=PURGE_THRESHOLD {
            attempts.begin(&number.to_string(), source(1), 0).unwrap();
        }
        assert!(attempts.users.len() > PURGE_THRESHOLD, "kept during the lockout");
        attempts.begin("late", source(1), 400 * SECOND).unwrap();
        assert_eq!(attempts.users.len(), 1);
    }
}
