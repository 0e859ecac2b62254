//! Key rotation: when an issuer's keys are fetched, and how long they remain usable.
//!
//! A pure state machine. [`Rotation::step`] takes the time and an [`Event`] and returns the
//! [`Actions`] to perform. The caller fetches and publishes the keys and owns the clock. Times are
//! durations since any fixed start, on a clock that never goes back.
//!
//! The rules:
//!
//! - Keys are fetched again before they are due, each source at its own point between 70 and 80
//!   percent of their lifetime, so that a fleet does not fetch in unison.
//! - An unknown `kid` causes a fetch, limited by a token bucket of [`REFETCH_BURST`] fetches that
//!   gains one in each cool-down. Nothing else in a token causes a fetch; a bad signature is not an
//!   event.
//! - A fetch on request follows the current one, at most one a second.
//! - After a failure the fetch is repeated at increasing intervals. Keys that cannot be confirmed
//!   stay in use for a bounded time and are then withdrawn.
//! - An empty key set withdraws the keys once a second fetch, at least [`EMPTY_SET_DELAY`] later,
//!   returns it again.

use core::time::Duration;

/// The intervals for one key source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time for which confirmed keys are used before they are due: the longest that a key withdrawn
    /// by its provider stays in use if fetches succeed. At least twice the cool-down.
    pub interval: Duration,
    /// Time in which unknown `kid`s may cause one more fetch, once [`REFETCH_BURST`] is used up.
    pub cool_down: Duration,
    /// Additional time for which keys are used while they cannot be confirmed; may be zero.
    pub stale: Duration,
}

impl Default for Timing {
    /// Five minutes, 30 seconds, one day.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(300),
            cool_down: Duration::from_secs(30),
            stale: Duration::from_secs(86_400),
        }
    }
}

/// An event at a key source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Wake,
    /// A token named a `kid` that no key of the issuer has.
    UnknownKid,
    /// The current fetch returned usable keys, or that they have not changed.
    Confirmed {
        /// Time for which the provider allows the response to be cached (RFC 9111 section 5.2.2.1).
        /// It can shorten the interval, down to twice the cool-down.
        max_age: Option<Duration>,
    },
    /// The current fetch returned a key set without members: its issuer withdraws all keys.
    Emptied,
    /// The current fetch returned nothing usable.
    Failed,
    /// An operator requests a fetch that begins from now on.
    Requested,
}

/// The reason for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// There are no keys, and none were requested before.
    Start,
    /// The keys are due soon.
    Schedule,
    /// The last fetch failed.
    Retry,
    /// A token named a `kid` that no key of the issuer has.
    UnknownKid,
    /// An operator requested it.
    Request,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 5] =
        [Self::Start, Self::Schedule, Self::Retry, Self::UnknownKid, Self::Request];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Retry => "retry",
            Self::UnknownKid => "unknown_kid",
            Self::Request => "request",
        }
    }
}

/// The reason to stop using the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithdrawalReason {
    /// They have not been confirmed for too long.
    Stale,
    /// The issuer publishes an empty key set.
    Emptied,
}

impl WithdrawalReason {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Emptied => "empty",
        }
    }
}

/// The actions to perform now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Stop using the keys.
    pub withdraw: Option<WithdrawalReason>,
    /// Fetch the keys, and report the result with [`Event::Confirmed`], [`Event::Emptied`] or
    /// [`Event::Failed`].
    pub fetch: Option<Cause>,
}

/// The state of one key source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    timing: Timing,
    /// The jitter of this source, as a fraction of 65,536.
    jitter: u16,
    fetching: bool,
    /// Time of the next fetch, unless one is running.
    next: Duration,
    next_cause: Cause,
    /// Time at which the keys in use are withdrawn; `None` while no keys are in use.
    expires_at: Option<Duration>,
    failures: u32,
    /// Time at which the token bucket of refetches is full again (generic cell rate algorithm).
    refetches_full_at: Duration,
    /// Whether a fetch was requested that has not begun.
    is_requested: bool,
    /// Time from which a requested fetch may begin.
    request_from: Duration,
    /// Time of the first of the fetches that returned an empty key set, none of them keys.
    emptied: Option<Duration>,
}

/// Number of fetches that unknown `kid`s may cause before the cool-down limits them. With only one,
/// a token with a made-up `kid` could hide a key rotation for a cool-down.
pub const REFETCH_BURST: u32 = 3;
/// Time between two fetches of an empty key set after which it withdraws the keys. A shorter
/// outage of a provider that publishes one keeps them.
pub const EMPTY_SET_DELAY: Duration = Duration::from_secs(60);
/// Time between two requested fetches.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);

/// The interval before the first retry while there are no keys; it doubles each time.
const MIN_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval between retries while there are no keys.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(60);

impl Rotation {
    /// Creates a source that was never fetched and fetches at once. Draw `jitter` at random, once
    /// per source and process.
    #[must_use]
    pub const fn new(timing: Timing, jitter: u16) -> Self {
        Self {
            timing,
            jitter,
            fetching: false,
            next: Duration::ZERO,
            next_cause: Cause::Start,
            expires_at: None,
            failures: 0,
            refetches_full_at: Duration::ZERO,
            is_requested: false,
            request_from: Duration::ZERO,
            emptied: None,
        }
    }

    /// Creates a source that replaces another one with the same keys, last confirmed at
    /// `confirmed`.
    ///
    /// It fetches at once. Until that succeeds, the keys keep their age.
    #[must_use]
    pub const fn with_keys(timing: Timing, jitter: u16, confirmed: Duration) -> Self {
        let expires_at = confirmed.saturating_add(timing.interval).saturating_add(timing.stale);
        Self { expires_at: Some(expires_at), ..Self::new(timing, jitter) }
    }

    /// Returns the state after `event`, and the actions to perform.
    #[must_use]
    pub fn step(mut self, now: Duration, event: Event) -> (Self, Actions) {
        let mut actions = Actions::default();
        match event {
            Event::Wake => {}
            Event::UnknownKid
                if self.refetch_from().is_some_and(|from| from <= now) && !self.fetching =>
            {
                let full_at = self.refetches_full_at.max(now);
                self.refetches_full_at = full_at.saturating_add(self.timing.cool_down);
                actions.fetch = Some(self.begin(Cause::UnknownKid));
            }
            Event::UnknownKid => {}
            Event::Confirmed { max_age } => self.confirm(now, max_age),
            Event::Emptied => actions.withdraw = self.empty(now),
            Event::Failed => self.fail(now),
            Event::Requested => self.is_requested = true,
        }
        if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            self.expires_at = None;
            // Without keys, a long interval is not acceptable any more.
            self.next = self.next.min(now.saturating_add(MAX_RETRY_INTERVAL));
            actions.withdraw = Some(WithdrawalReason::Stale);
        }
        if !self.fetching && self.is_requested && self.request_from <= now {
            self.request_from = now.saturating_add(REQUEST_INTERVAL);
            actions.fetch = Some(self.begin(Cause::Request));
        } else if !self.fetching && self.next <= now {
            actions.fetch = Some(self.begin(self.next_cause));
        }
        (self, actions)
    }

    /// Begins a fetch, which also serves a request made before.
    fn begin(&mut self, cause: Cause) -> Cause {
        (self.fetching, self.is_requested) = (true, false);
        cause
    }

    /// Returns the time to call [`step`](Self::step) with [`Event::Wake`] if no other event comes
    /// first; `None` while only the end of the current fetch can change the state.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        self.fetch_at().into_iter().chain(self.expires_at).min()
    }

    /// The time at which the next fetch begins if no token causes one before; `None` during a
    /// fetch.
    #[must_use]
    pub fn fetch_at(&self) -> Option<Duration> {
        let requested = self.is_requested.then_some(self.request_from);
        (!self.fetching).then(|| requested.map_or(self.next, |from| from.min(self.next)))
    }

    /// The time from which an unknown `kid` causes a fetch; `None` while there are no keys, because
    /// fetches then follow their own schedule.
    #[must_use]
    pub fn refetch_from(&self) -> Option<Duration> {
        self.expires_at?;
        let burst = self.timing.cool_down.saturating_mul(REFETCH_BURST.saturating_sub(1));
        Some(self.refetches_full_at.saturating_sub(burst))
    }

    /// Whether a fetch is running.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }

    fn confirm(&mut self, now: Duration, max_age: Option<Duration>) {
        let Timing { interval, cool_down, stale } = self.timing;
        let shortest = cool_down.saturating_mul(2).min(interval);
        let lifetime = max_age.unwrap_or(interval).clamp(shortest, interval);
        self.fetching = false;
        self.failures = 0;
        self.emptied = None;
        // From 80 down to 70 percent, which leaves time for retries before the keys are due.
        self.next = now
            .saturating_add(part(lifetime, 80))
            .saturating_sub(self.jitter_of(part(lifetime, 10)));
        self.next_cause = Cause::Schedule;
        self.expires_at = Some(now.saturating_add(lifetime).saturating_add(stale));
    }

    /// Withdraws the keys if the key set has been empty for long enough, and otherwise plans the
    /// fetch that decides it.
    fn empty(&mut self, now: Duration) -> Option<WithdrawalReason> {
        let first = *self.emptied.get_or_insert(now);
        let decided_at = first.saturating_add(EMPTY_SET_DELAY);
        let withdrawal =
            (self.expires_at.is_some() && decided_at <= now).then_some(WithdrawalReason::Emptied);
        if withdrawal.is_some() {
            (self.expires_at, self.failures) = (None, 0);
        }
        self.fail(now);
        withdrawal
    }

    fn fail(&mut self, now: Duration) {
        let doubled = MIN_RETRY_INTERVAL.saturating_mul(2u32.saturating_pow(self.failures));
        let pause = match self.expires_at {
            // The keys are still usable, and frequent retries do not help a provider that has
            // failed.
            Some(_) => doubled.clamp(self.timing.cool_down, self.timing.interval),
            None => doubled.min(MAX_RETRY_INTERVAL).min(self.timing.interval),
        };
        self.fetching = false;
        self.failures = self.failures.saturating_add(1);
        self.next = now.saturating_add(pause).saturating_add(self.jitter_of(part(pause, 10)));
        if let (Some(first), Some(_)) = (self.emptied, self.expires_at) {
            let decided_at = first.saturating_add(EMPTY_SET_DELAY);
            self.next = self.next.min(decided_at.max(now.saturating_add(MIN_RETRY_INTERVAL)));
        }
        self.next_cause = Cause::Retry;
    }

    fn jitter_of(&self, range: Duration) -> Duration {
        let scaled = range.saturating_mul(u32::from(self.jitter));
        scaled.checked_div(u32::from(u16::MAX).saturating_add(1)).unwrap_or_default()
    }
}

fn part(whole: Duration, percent: u32) -> Duration {
    whole.saturating_mul(percent).checked_div(100).unwrap_or_default()
}

#[cfg(test)]
mod tests;
