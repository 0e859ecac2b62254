//! Limits of login attempts: per source address, per username and source, and per username.
//!
//! - A source may make a number of attempts per minute, over all usernames.
//! - A source that fails too often for a username is locked out for that username. It locks out no
//!   other source, so a lockout is not a weapon.
//! - A username alone is never locked. Attempts from sources that the user has never logged in from
//!   have to [wait for their turn](LoginAttempt::wait_for_turn): one at a time, after a delay that
//!   grows with the failed ones. The delay bounds the guesses of any number of sources.
//! - Sources that the user has logged in from do not wait.
//! - The clients of a proxy that is not configured share a source. It is not locked out for a
//!   username and never known, because any client behind the proxy could cause both.
//!
//! Unknown usernames are treated alike, so that no limit reveals which users exist. An attempt
//! counts as failed from its start until it succeeds, so parallel attempts gain nothing. All tables
//! have a fixed size.

mod failures;
mod turns;

#[expect(clippy::disallowed_types, reason = "see `LoginSources`")]
use std::sync::{Mutex, MutexGuard};
use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use failures::FailureTable;
use tokio::time::sleep;
use turns::{LoginTurn, LoginTurns, MAX_WAITERS, QueueFull};

use crate::admission::{Nanos, Source, SourceLimiter, nanos};

/// Configured limits of login attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Wrong passwords after which a source is locked out for a username; `None` for no lockout.
    pub per_user: Option<NonZeroU32>,
    /// Duration of the lockout, from the last wrong password.
    pub lockout: Duration,
    /// Attempts per minute of a source address; `None` for no limit.
    pub per_source: Option<NonZeroU32>,
}

/// Where a login comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginOrigin {
    /// The address of the client.
    pub source: Source,
    /// Whether it seems to be that of a proxy which is not configured, shared by all its clients.
    pub is_shared: bool,
}

impl fmt::Display for LoginOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// Login attempts by username and by source.
pub struct LoginAttempts {
    limits: AttemptLimits,
    /// Usernames are hashed with a key, because a client may send names of any length.
    hasher: RandomState,
    #[expect(clippy::disallowed_types, reason = "held for a look-up; a password takes far longer")]
    failures: Mutex<LoginFailures>,
    turns: LoginTurns,
    sources: Option<LoginSources>,
    /// The addresses of proxies that are not configured.
    proxies: Option<LoginSources>,
}

struct LoginFailures {
    /// By username and source.
    by_source: FailureTable,
    /// By username, from sources that the user has never logged in from.
    by_username: FailureTable,
}

/// Number of sets of each table of failures, with eight keys each.
const FAILURE_SETS: usize = 2048;
/// Factor of the limit per source for a proxy that is not configured.
const SHARED_FACTOR: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Failed attempts for a username before the first delay.
const FREE_FAILURES: u32 = 3;
/// The first delay. It doubles with every failed attempt.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// Number of times that the delay doubles, to two seconds.
const MAX_DOUBLINGS: u32 = 3;
/// Time for a turn: the longest delay, and the check of a password.
const TURN_TIME: Duration = Duration::from_millis(2500);

/// An attempt that has begun. Unless it is [checked](Self::check), dropping it takes it back.
pub struct LoginAttempt<'a> {
    attempts: &'a LoginAttempts,
    username: u64,
    by_source: u64,
    /// Earlier failed attempts of the source for the username.
    earlier: u32,
    is_checked: bool,
    turn: Option<LoginTurn>,
}

/// Error of [`LoginAttempts::begin`]: the time until the next attempt is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAttempts(pub Duration);

impl LoginAttempts {
    /// Creates the state for these limits, without any attempts.
    #[must_use]
    pub fn new(limits: AttemptLimits) -> Self {
        let shared = |limit: NonZeroU32| limit.saturating_mul(SHARED_FACTOR);
        let table = || FailureTable::new(FAILURE_SETS, nanos(limits.lockout));
        let failures = LoginFailures { by_source: table(), by_username: table() };
        #[expect(clippy::disallowed_types, reason = "as above")]
        let failures = Mutex::new(failures);
        Self {
            limits,
            hasher: RandomState::new(),
            failures,
            turns: LoginTurns::default(),
            sources: limits.per_source.map(LoginSources::new),
            proxies: limits.per_source.map(shared).map(LoginSources::new),
        }
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// The source is locked out for the username, or has reached its limit.
    pub fn begin(
        &self,
        username: &str,
        origin: LoginOrigin,
        now: Nanos,
    ) -> Result<LoginAttempt<'_>, TooManyAttempts> {
        self.begin_from_source(origin, now)?;
        let by_source = self.hasher.hash_one((username, origin.source));
        let table = &mut self.failures().by_source;
        let earlier = table.get(by_source, now);
        let limit = self.limits.per_user.filter(|_| !origin.is_shared);
        if limit.is_some_and(|limit| earlier.count >= limit.get()) {
            return Err(TooManyAttempts(Duration::from_nanos(table.end(earlier) - now)));
        }
        table.add(by_source, now);
        Ok(LoginAttempt {
            attempts: self,
            username: self.hasher.hash_one(username),
            by_source,
            earlier: earlier.count,
            is_checked: false,
            turn: None,
        })
    }

    /// Counts an attempt without a username.
    ///
    /// # Errors
    /// The source has reached its limit.
    pub fn begin_from_source(
        &self,
        origin: LoginOrigin,
        now: Nanos,
    ) -> Result<(), TooManyAttempts> {
        let sources = if origin.is_shared { &self.proxies } else { &self.sources };
        sources.as_ref().map_or(Ok(()), |sources| sources.begin(origin.source, now))
    }

    /// Returns the time until the next attempt for a username may be checked, from sources that the
    /// user has never logged in from.
    fn delay(&self, username: u64, now: Nanos) -> Duration {
        let failed = self.failures().by_username.get(username, now);
        let Some(doublings) = failed.count.checked_sub(FREE_FAILURES) else {
            return Duration::ZERO;
        };
        let delay = FIRST_DELAY * (1 << doublings.min(MAX_DOUBLINGS));
        Duration::from_nanos(failed.last.saturating_add(nanos(delay)).saturating_sub(now))
    }

    fn failures(&self) -> MutexGuard<'_, LoginFailures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoginAttempt<'_> {
    /// Waits for the turn of an attempt from a source that the user has never logged in from, and
    /// for the delay.
    ///
    /// # Errors
    /// Too many attempts wait for this username.
    pub async fn wait_for_turn(&mut self, now: impl Fn() -> Nanos) -> Result<(), TooManyAttempts> {
        let full =
            |QueueFull| TooManyAttempts(TURN_TIME * u32::try_from(MAX_WAITERS).unwrap_or_default());
        let attempts = self.attempts;
        let turn = attempts.turns.acquire(self.username, self.earlier).await.map_err(full)?;
        sleep(attempts.delay(self.username, now())).await;
        attempts.failures().by_username.add(self.username, now());
        self.turn = Some(turn);
        Ok(())
    }

    /// Makes the attempt count, even if the client disconnects from now on.
    pub fn check(&mut self) {
        self.is_checked = true;
    }

    /// Clears the failed attempts of the source for this username, and takes back this one.
    pub fn succeed(mut self) {
        self.is_checked = false;
        self.attempts.failures().by_source.clear(self.by_source);
    }

    /// Takes back an attempt whose password could not be checked.
    pub fn retract(mut self) {
        self.is_checked = false;
    }
}

impl Drop for LoginAttempt<'_> {
    fn drop(&mut self) {
        if self.is_checked {
            return;
        }
        let mut failures = self.attempts.failures();
        failures.by_source.retract(self.by_source);
        if self.turn.is_some() {
            failures.by_username.retract(self.username);
        }
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
    use std::task::{Context, Waker};

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

    fn from(last: u8) -> LoginOrigin {
        LoginOrigin { source: Source::of([192, 0, 2, last].into()), is_shared: false }
    }

    /// Makes an attempt with a wrong password.
    fn fail(
        attempts: &LoginAttempts,
        username: &str,
        origin: LoginOrigin,
        now: Nanos,
    ) -> Result<(), TooManyAttempts> {
        attempts.begin(username, origin, now).map(|mut attempt| attempt.check())
    }

    #[test]
    fn source_is_locked_out_for_a_username_only() {
        let attempts = LoginAttempts::new(limits(3, 0));
        let at = |seconds| fail(&attempts, "bob", from(1), seconds * SECOND);
        assert_eq!([at(0), at(10), at(20)], [Ok(()); 3]);
        assert_eq!(at(21), Err(TooManyAttempts(Duration::from_secs(299))));
        assert_eq!(fail(&attempts, "eve", from(1), 21 * SECOND), Ok(()));
        assert_eq!(fail(&attempts, "bob", from(2), 21 * SECOND), Ok(()), "another source");
        assert_eq!(at(319), Err(TooManyAttempts(Duration::from_secs(1))));
        assert_eq!(at(320), Ok(()));
    }

    #[test]
    fn concurrent_attempts_count_from_their_start() {
        let attempts = LoginAttempts::new(limits(2, 0));
        let begin = || attempts.begin("bob", from(1), 0);
        let (one, mut other) = (begin().unwrap(), begin().unwrap());
        assert!(begin().is_err());
        one.retract();
        other.check();
        drop(other);
        let third = begin().unwrap();
        assert!(begin().is_err());
        third.succeed();
        assert!(begin().is_ok() && begin().is_ok(), "a success clears the failures");
    }

    #[test]
    fn source_limit_applies_over_all_usernames() {
        let attempts = LoginAttempts::new(limits(0, 3));
        for name in ["a", "b", "c"] {
            assert_eq!(fail(&attempts, name, from(1), 0), Ok(()));
        }
        assert!(
            matches!(fail(&attempts, "d", from(1), 0), Err(TooManyAttempts(wait)) if wait <= Duration::from_secs(20))
        );
        assert_eq!(fail(&attempts, "d", from(2), 0), Ok(()));
        assert_eq!(fail(&attempts, "d", from(1), 20 * SECOND), Ok(()));
        assert!(fail(&attempts, "e", from(1), 39 * SECOND).is_err(), "one attempt in 20 seconds");
    }

    #[test]
    fn unlisted_proxy_has_ten_times_the_limit() {
        let attempts = LoginAttempts::new(limits(1, 2));
        let proxy = LoginOrigin { is_shared: true, ..from(1) };
        for number in 0..20 {
            assert_eq!(fail(&attempts, "bob", proxy, 0), Ok(()), "{number}: not locked out");
        }
        assert!(fail(&attempts, "eve", proxy, 0).is_err());
        assert_eq!(fail(&attempts, "eve", from(1), 0), Ok(()), "a limit of its own");
    }

    #[tokio::test]
    async fn delay_grows_with_failures_of_unknown_sources() {
        let attempts = LoginAttempts::new(limits(10, 0));
        let username = attempts.hasher.hash_one("bob");
        let mut delays = Vec::new();
        for number in 0..9 {
            // Each from another source, long enough after the one before not to wait.
            let at = u64::from(number) * 10 * SECOND;
            let mut attempt = attempts.begin("bob", from(number), at).unwrap();
            attempt.wait_for_turn(|| at).await.unwrap();
            attempt.check();
            drop(attempt);
            delays.push(attempts.delay(username, at).as_millis());
        }
        assert_eq!(delays, [0, 0, 250, 500, 1000, 2000, 2000, 2000, 2000]);
        let last = 80 * SECOND;
        assert_eq!(attempts.delay(username, last + SECOND), Duration::from_secs(1));
        assert_eq!(attempts.delay(username, last + 300 * SECOND), Duration::ZERO);
        assert_eq!(attempts.delay(attempts.hasher.hash_one("eve"), last), Duration::ZERO);
    }

    #[tokio::test]
    async fn attempts_of_unknown_sources_take_turns() {
        let attempts = LoginAttempts::new(limits(10, 0));
        let mut first = attempts.begin("bob", from(1), 0).unwrap();
        first.wait_for_turn(|| 0).await.unwrap();
        let mut waiting = Vec::new();
        for number in 0..MAX_WAITERS {
            let mut attempt = attempts.begin("bob", from(2), 0).unwrap();
            waiting.push(Box::pin(async move {
                attempt.wait_for_turn(|| 0).await.map(|()| attempt.succeed())
            }));
            let polled = waiting[number].as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending(), "{number}");
        }
        let mut refused = attempts.begin("bob", from(2), 0).unwrap();
        assert!(refused.wait_for_turn(|| 0).await.is_err());
        drop(refused);
        drop(first);
        for attempt in waiting {
            assert_eq!(attempt.await, Ok(()));
        }
    }
}
