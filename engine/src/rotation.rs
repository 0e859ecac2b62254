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
//! - An unknown `kid` causes one fetch, and then no further one for a cool-down. Nothing else in a
//!   token causes a fetch; a bad signature is not an event.
//! - After a failure the fetch is repeated at increasing intervals. Keys that cannot be confirmed
//!   stay in use for a bounded time and are then withdrawn.

use core::time::Duration;

/// The intervals for one key source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time for which confirmed keys are used before they are due: the longest that a key withdrawn
    /// by its provider stays in use if fetches succeed. At least twice the cool-down.
    pub interval: Duration,
    /// Time for which an unknown `kid` causes no further fetch.
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
    /// The current fetch returned nothing usable.
    Failed,
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
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Start, Self::Schedule, Self::Retry, Self::UnknownKid];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Retry => "retry",
            Self::UnknownKid => "unknown_kid",
        }
    }
}

/// The actions to perform now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Stop using the keys: they have not been confirmed for too long.
    pub withdraw: bool,
    /// Fetch the keys, and report the result with [`Event::Confirmed`] or [`Event::Failed`].
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
    /// Time of the last fetch that an unknown `kid` caused.
    last_refetch: Option<Duration>,
}

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
            last_refetch: None,
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
                self.last_refetch = Some(now);
                self.fetching = true;
                actions.fetch = Some(Cause::UnknownKid);
            }
            Event::UnknownKid => {}
            Event::Confirmed { max_age } => self.confirm(now, max_age),
            Event::Failed => self.fail(now),
        }
        if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            self.expires_at = None;
            // Without keys, a long interval is not acceptable any more.
            self.next = self.next.min(now.saturating_add(MAX_RETRY_INTERVAL));
            actions.withdraw = true;
        }
        if !self.fetching && self.next <= now {
            self.fetching = true;
            actions.fetch = Some(self.next_cause);
        }
        (self, actions)
    }

    /// Returns the time to call [`step`](Self::step) with [`Event::Wake`] if no other event comes
    /// first; `None` while only the end of the current fetch can change the state.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let next = (!self.fetching).then_some(self.next);
        next.into_iter().chain(self.expires_at).min()
    }

    /// The time from which an unknown `kid` causes a fetch; `None` while there are no keys, because
    /// fetches then follow their own schedule.
    #[must_use]
    pub fn refetch_from(&self) -> Option<Duration> {
        self.expires_at?;
        Some(
            self.last_refetch.map_or(Duration::ZERO, |at| at.saturating_add(self.timing.cool_down)),
        )
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
        // From 80 down to 70 percent, which leaves time for retries before the keys are due.
        self.next = now
            .saturating_add(part(lifetime, 80))
            .saturating_sub(self.jitter_of(part(lifetime, 10)));
        self.next_cause = Cause::Schedule;
        self.expires_at = Some(now.saturating_add(lifetime).saturating_add(stale));
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
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        interval: Duration::from_secs(300),
        cool_down: Duration::from_secs(30),
        stale: Duration::from_secs(600),
    };
    const CONFIRMED: Event = Event::Confirmed { max_age: None };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Returns a source whose keys were confirmed at `seconds`.
    fn confirmed(timing: Timing, seconds: u64) -> Rotation {
        let (rotation, actions) = Rotation::new(timing, 0).step(at(seconds), Event::Wake);
        assert_eq!(actions, Actions { withdraw: false, fetch: Some(Cause::Start) });
        rotation.step(at(seconds), CONFIRMED).0
    }

    fn fetches(rotation: Rotation, now: Duration, event: Event) -> Option<Cause> {
        rotation.step(now, event).1.fetch
    }

    #[test]
    fn keys_are_fetched_before_they_are_due() {
        let rotation = confirmed(TIMING, 1000);
        assert_eq!(rotation.wake_at(), Some(at(1240)));
        assert_eq!(fetches(rotation, at(1239), Event::Wake), None);
        assert_eq!(fetches(rotation, at(1240), Event::Wake), Some(Cause::Schedule));
        let (asked, _) = rotation.step(at(1240), Event::Wake);
        assert_eq!(fetches(asked, at(1250), Event::Wake), None, "one at a time");
    }

    #[test]
    fn jitter_spreads_fetches_over_a_tenth() {
        let next =
            |jitter| Rotation::new(TIMING, jitter).step(at(0), CONFIRMED).0.wake_at().unwrap();
        assert_eq!(next(0), at(240));
        assert_eq!(next(1 << 15), at(225));
        assert!(next(u16::MAX) > at(210) && next(u16::MAX) < at(211));
    }

    #[test]
    fn max_age_shortens_the_interval_within_bounds() {
        let next = |max_age| {
            let event = Event::Confirmed { max_age: Some(at(max_age)) };
            Rotation::new(TIMING, 0).step(at(0), event).0.wake_at().unwrap()
        };
        assert_eq!(next(100), at(80));
        assert_eq!(next(0), at(48), "twice the cool-down is the minimum");
        assert_eq!(next(1_000_000), at(240), "a provider cannot lengthen the interval");
        assert_eq!(next(u64::MAX), at(240));
    }

    #[test]
    fn unknown_kid_fetches_once_per_cool_down() {
        let rotation = confirmed(TIMING, 0);
        let (rotation, actions) = rotation.step(at(5), Event::UnknownKid);
        assert_eq!(actions.fetch, Some(Cause::UnknownKid), "the first fetch starts no cool-down");
        assert_eq!(fetches(rotation, at(6), Event::UnknownKid), None, "a fetch is running");
        let (rotation, _) = rotation.step(at(7), CONFIRMED);
        assert_eq!(rotation.refetch_from(), Some(at(35)));
        assert_eq!(fetches(rotation, at(34), Event::UnknownKid), None);
        assert_eq!(fetches(rotation, at(35), Event::UnknownKid), Some(Cause::UnknownKid));
    }

    #[test]
    fn unknown_kid_does_not_speed_up_retries() {
        let (rotation, _) = Rotation::new(TIMING, 0).step(at(0), Event::Wake);
        let (rotation, _) = rotation.step(at(0), Event::Failed);
        assert_eq!(rotation.refetch_from(), None);
        assert_eq!(fetches(rotation, Duration::from_millis(999), Event::UnknownKid), None);
    }

    #[test]
    fn failed_fetch_is_retried_with_backoff() {
        let pauses = |mut rotation: Rotation, start: u64| {
            let mut now = at(start);
            let mut pauses = Vec::new();
            for _ in 0..9 {
                rotation = rotation.step(now, Event::Failed).0;
                let next = rotation.next;
                pauses.push((next - now).as_secs());
                now = next;
                let (asked, actions) = rotation.step(now, Event::Wake);
                assert_eq!(actions.fetch, Some(Cause::Retry));
                rotation = asked;
            }
            pauses
        };
        assert_eq!(pauses(Rotation::new(TIMING, 0), 0), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let lasting = Timing { stale: at(100_000), ..TIMING };
        assert_eq!(pauses(confirmed(lasting, 0), 240), [30, 30, 30, 30, 30, 32, 64, 128, 256]);
    }

    #[test]
    fn stale_keys_are_withdrawn_once_after_a_bound() {
        for stale in [0, 600] {
            let rotation = confirmed(Timing { stale: at(stale), ..TIMING }, 0);
            let (rotation, _) = rotation.step(at(240), Event::Wake);
            let (rotation, before) =
                rotation.step(at(300 + stale) - Duration::from_nanos(1), Event::Wake);
            assert!(!before.withdraw);
            assert_eq!(rotation.wake_at(), Some(at(300 + stale)), "even while a fetch hangs");
            let (rotation, then) = rotation.step(at(300 + stale), Event::Wake);
            assert!(then.withdraw);
            assert!(!rotation.step(at(5000), Event::Wake).1.withdraw);
            // Keys are used again as soon as a fetch succeeds.
            let (rotation, _) = rotation.step(at(6000), CONFIRMED);
            assert_eq!(rotation.refetch_from(), Some(at(0)));
        }
    }

    #[test]
    fn inherited_keys_keep_their_age() {
        let rotation = Rotation::with_keys(TIMING, 0, at(100));
        assert_eq!(fetches(rotation, at(500), Event::Wake), Some(Cause::Start));
        let (rotation, _) = rotation.step(at(500), Event::Wake);
        let (rotation, failed) = rotation.step(at(500), Event::Failed);
        assert!(!failed.withdraw);
        assert!(
            rotation.step(at(1000), Event::Wake).1.withdraw,
            "confirmed at 100, due after 300, stale for 600 more"
        );
        assert!(Rotation::with_keys(TIMING, 0, at(100)).step(at(1000), Event::Wake).1.withdraw);
    }

    /// Every sequence of five events at every pace, compared with a model of the rules.
    #[test]
    fn rotation_matches_its_model_for_every_sequence() {
        const EVENTS: [Event; 5] = [
            Event::Wake,
            Event::UnknownKid,
            CONFIRMED,
            Event::Confirmed { max_age: Some(Duration::ZERO) },
            Event::Failed,
        ];
        const PAUSES: [u64; 4] = [0, 29, 31, 700];
        fn explore(rotation: Rotation, model: &RotationModel, now: u64, depth: u32) {
            for pause in PAUSES {
                for event in EVENTS {
                    // Only a running fetch can end.
                    if !model.fetching && matches!(event, Event::Confirmed { .. } | Event::Failed) {
                        continue;
                    }
                    let now = now + pause;
                    let (next, actions) = rotation.step(at(now), event);
                    let model = model.after(now, event, actions);
                    assert_eq!(next.is_fetching(), model.fetching);
                    assert_eq!(next.refetch_from().is_some(), model.usable);
                    assert!(
                        next.wake_at().is_some_and(|wake| wake > at(now))
                            || (model.fetching && !model.usable)
                    );
                    if depth > 0 {
                        explore(next, &model, now, depth - 1);
                    }
                }
            }
        }
        explore(Rotation::new(TIMING, 12_345), &RotationModel::default(), 0, 4);
    }

    #[derive(Clone, Default)]
    struct RotationModel {
        fetching: bool,
        usable: bool,
        /// Until when the last confirmed keys may be used.
        expires_at: u64,
        last_refetch: Option<u64>,
        ended: Option<u64>,
    }

    impl RotationModel {
        fn after(&self, now: u64, event: Event, actions: Actions) -> Self {
            let mut next = self.clone();
            match event {
                Event::Confirmed { max_age } => {
                    let lifetime = if max_age.is_some() { 60 } else { 300 };
                    (next.fetching, next.usable, next.expires_at) =
                        (false, true, now + lifetime + 600);
                    next.ended = Some(now);
                }
                Event::Failed => (next.fetching, next.ended) = (false, Some(now)),
                Event::Wake | Event::UnknownKid => {}
            }
            assert_eq!(actions.withdraw, next.usable && next.expires_at <= now);
            next.usable &= next.expires_at > now;
            match actions.fetch {
                Some(Cause::UnknownKid) => {
                    assert!(
                        event == Event::UnknownKid && self.usable,
                        "only an unknown kid causes it"
                    );
                    assert!(
                        self.last_refetch.is_none_or(|before| now - before >= 30),
                        "the cool-down holds"
                    );
                    next.last_refetch = Some(now);
                }
                Some(_) if self.usable => {
                    assert!(self.ended.is_none_or(|ended| now > ended), "no immediate refetch")
                }
                _ => {}
            }
            assert!(actions.fetch.is_none() || !next.fetching, "one at a time");
            next.fetching |= actions.fetch.is_some();
            next
        }
    }

    /// The guarantee to providers holds whatever they do: respond at once or slowly, fail or not,
    /// or forbid caching.
    #[test]
    fn d9_unknown_kid_flood_fetches_once_per_cool_down() {
        for (delay, fails, max_age) in [
            (0, false, None),
            (0, true, None),
            (7, false, Some(0)),
            (29, true, None),
            (45, true, None),
            (3, false, Some(1)),
        ] {
            for start in [0, 10, 200, 239, 240, 250, 299] {
                let mut rotation = confirmed(TIMING, 0);
                let mut done_at = None;
                let mut count = 0u64;
                for now in 0..start + 500 {
                    let mut events = vec![Event::Wake];
                    if done_at == Some(now) {
                        done_at = None;
                        events.push(if fails {
                            Event::Failed
                        } else {
                            Event::Confirmed { max_age: max_age.map(at) }
                        });
                    }
                    if now >= start {
                        events.push(Event::UnknownKid);
                    }
                    for event in events {
                        let (next, actions) = rotation.step(at(now), event);
                        rotation = next;
                        if actions.fetch.is_some() {
                            done_at = Some(now + delay + 1);
                            count += u64::from(now >= start);
                        }
                    }
                    let bound = 1 + (now + 1).saturating_sub(start).div_ceil(30);
                    assert!(
                        count <= bound,
                        "{count} fetches in {} s: {delay} {fails} {max_age:?} {start}",
                        now + 1 - start
                    );
                }
            }
        }
    }
}
