//! How often somebody may try to log in.
//!
//! A user whose password was wrong too often is locked out for a while; names that
//! nobody has are treated alike, so that there is no telling. LoginAttempts that are under way
//! count as failed until they have not, so that trying many at once gains nothing. An
//! address may try only so often, whomever it names.

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

/// How often somebody may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    /// How many wrong passwords lock a user out; `None` if none do.
    pub per_user: Option<NonZeroU32>,
    /// For how long, since the last of them.
    pub lockout: Duration,
    /// How many attempts an address has in a minute; `None` for any number.
    pub per_source: Option<NonZeroU32>,
}

/// Who has tried.
pub struct LoginAttempts {
    limits: AttemptLimits,
    /// By a keyed hash of the name, which may be as long as somebody likes to type.
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

/// Somebody has to wait, for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAttempts(pub Duration);

/// More names or addresses than this are not kept in mind once they are of no account.
const PURGE_THRESHOLD: usize = 16 * 1024;
/// Beyond this, names that were tried only once are forgotten for others.
const PRESSURE_THRESHOLD: usize = 64 * PURGE_THRESHOLD;

impl LoginAttempts {
    /// Nobody has tried yet.
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

    /// Begins an attempt, which counts as failed until it has [succeeded](Self::succeeded).
    ///
    /// # Errors
    /// It may not be made now.
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
        let Some(most) = self.limits.per_user else { return Ok(()) };
        let mut failures =
            self.users.entry(self.key(username)).or_insert(FailedLogins { count: 0, last: now });
        let end = failures.last + self.limits.lockout;
        if now >= end {
            failures.count = 0;
        }
        if failures.count >= most.get() {
            return Err(TooManyAttempts(end.saturating_duration_since(now)));
        }
        (failures.count, failures.last) = (failures.count + 1, now);
        Ok(())
    }

    /// An attempt has succeeded: those before it are forgiven.
    pub fn succeeded(&self, username: &str) {
        self.users.remove(&self.key(username));
    }

    /// An attempt that was begun was not made after all.
    pub fn retract(&self, username: &str) {
        self.users.remove_if_mut(&self.key(username), |_, failures| {
            failures.count = failures.count.saturating_sub(1);
            failures.count == 0
        });
    }

    fn key(&self, username: &str) -> u64 {
        self.hasher.hash_one(username)
    }

    /// Forgets what is of no account any more, where that is much.
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

/// Says at most once a second that something is to be done that takes a while.
#[derive(Default)]
pub struct OncePerSecond(ArcSwapOption<Instant>);

impl OncePerSecond {
    /// Whether it is to be done now.
    pub fn is_due(&self, now: Instant) -> bool {
        let last = self.0.load();
        let is_due = last.as_ref().is_none_or(|last| now >= **last + Duration::from_secs(1));
        if is_due {
            // Two at the same time do it twice, and no harm is done.
            self.0.store(Some(Arc::new(now)));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

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
    fn the_attempt_after_the_last_wrong_one_waits_for_the_lockout_to_end() {
        let (attempts, start) = (LoginAttempts::new(limits(3, 0)), clock::instant());
        let at = |seconds| attempts.begin("bob", source(1), start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(10), at(20)], [Ok(()); 3]);
        assert_eq!(at(21), Err(TooManyAttempts(Duration::from_secs(299))));
        assert_eq!(attempts.begin("eve", source(1), start), Ok(()));
        assert_eq!(at(319), Err(TooManyAttempts(Duration::from_secs(1))));
        assert_eq!(at(320), Ok(()));
    }

    #[test]
    fn success_forgives_and_what_was_not_tried_does_not_count() {
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
    fn an_address_has_so_many_attempts_whomever_it_names() {
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
    fn names_that_nobody_has_do_not_fill_the_memory() {
        let (attempts, start) = (LoginAttempts::new(limits(3, 0)), clock::instant());
        for number in 0..=PURGE_THRESHOLD {
            attempts.begin(&number.to_string(), source(1), start).unwrap();
        }
        assert!(attempts.users.len() > PURGE_THRESHOLD, "while they may be of account");
        attempts.begin("late", source(1), start + Duration::from_secs(400)).unwrap();
        assert_eq!(attempts.users.len(), 1);
    }
}
