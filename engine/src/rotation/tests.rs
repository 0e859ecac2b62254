use proptest::prelude::*;

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
    assert_eq!(actions, Actions { withdraw: None, fetch: Some(Cause::Start) });
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
    let next = |jitter| Rotation::new(TIMING, jitter).step(at(0), CONFIRMED).0.wake_at().unwrap();
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

/// Returns the rotation after a fetch that an unknown `kid` causes and that succeeds at once.
fn refetched(rotation: Rotation, now: Duration) -> Rotation {
    let (rotation, actions) = rotation.step(now, Event::UnknownKid);
    assert_eq!(actions.fetch, Some(Cause::UnknownKid), "{now:?}");
    assert_eq!(fetches(rotation, now, Event::UnknownKid), None, "a fetch is running");
    rotation.step(now, CONFIRMED).0
}

#[test]
fn c1_stray_kid_does_not_hide_a_rotation() {
    let mut rotation = confirmed(TIMING, 1000);
    for now in [1005, 1006, 1007] {
        assert!(rotation.refetch_from().unwrap() <= at(now));
        rotation = refetched(rotation, at(now));
    }
    assert_eq!(rotation.refetch_from(), Some(at(1035)), "the burst is used up");
    assert_eq!(fetches(rotation, at(1034), Event::UnknownKid), None);
    let rotation = refetched(rotation, at(1035));
    assert_eq!(rotation.refetch_from(), Some(at(1065)), "one in each cool-down");
    let mut rotation = refetched(rotation, at(1200));
    for now in [1200, 1200] {
        rotation = refetched(rotation, at(now));
    }
    assert_eq!(fetches(rotation, at(1200), Event::UnknownKid), None, "no more than the burst");
}

#[test]
fn requested_fetch_begins_after_its_request() {
    let rotation = confirmed(TIMING, 100);
    let (rotation, actions) = rotation.step(at(110), Event::Requested);
    assert_eq!(actions.fetch, Some(Cause::Request));
    let (rotation, actions) = rotation.step(at(110), Event::Requested);
    assert_eq!(actions.fetch, None, "one at a time");
    let (rotation, actions) = rotation.step(at(110), CONFIRMED);
    assert_eq!((actions.fetch, rotation.wake_at()), (None, Some(at(111))), "one a second");
    let (rotation, actions) = rotation.step(at(111), Event::Wake);
    assert_eq!(actions.fetch, Some(Cause::Request));
    let (rotation, actions) = rotation.step(at(111), Event::Failed);
    assert_eq!((actions.fetch, rotation.fetch_at()), (None, Some(at(141))));
}

#[test]
fn fetch_for_another_cause_serves_a_request() {
    let (rotation, _) = Rotation::new(TIMING, 0).step(at(0), Event::Requested);
    let (rotation, actions) = rotation.step(at(5), Event::Requested);
    assert_eq!(actions.fetch, None);
    let (rotation, actions) = rotation.step(at(5), Event::Failed);
    assert_eq!(actions.fetch, Some(Cause::Request), "not the one that was running");
    let (rotation, _) = rotation.step(at(5), Event::Requested);
    let (rotation, _) = rotation.step(at(5), CONFIRMED);
    let (rotation, actions) = rotation.step(at(5), Event::UnknownKid);
    assert_eq!(actions.fetch, Some(Cause::UnknownKid));
    assert_eq!(rotation.step(at(6), CONFIRMED).1.fetch, None);
}

#[test]
fn empty_set_withdraws_keys_after_a_second_fetch() {
    let (rotation, actions) = confirmed(TIMING, 100).step(at(110), Event::Emptied);
    assert_eq!((actions, rotation.fetch_at()), (Actions::default(), Some(at(140))));
    let (rotation, _) = rotation.step(at(140), Event::Wake);
    let (rotation, actions) = rotation.step(at(141), Event::Emptied);
    assert_eq!((actions.withdraw, rotation.fetch_at()), (None, Some(at(170))));
    let (rotation, _) = rotation.step(at(170), Event::Wake);
    let (withdrawn, actions) = rotation.step(at(170), Event::Emptied);
    assert_eq!(actions, Actions { withdraw: Some(WithdrawalReason::Emptied), fetch: None });
    assert_eq!((withdrawn.refetch_from(), withdrawn.fetch_at()), (None, Some(at(171))));
    assert_eq!(withdrawn.step(at(171), Event::Emptied).1.withdraw, None, "only once");
    assert!(withdrawn.step(at(171), CONFIRMED).0.refetch_from().is_some(), "keys are back");

    let (failing, _) = rotation.step(at(170), Event::Failed);
    assert_eq!(failing.fetch_at(), Some(at(171)), "a failure does not delay the decision");
    assert_eq!(failing.step(at(171), Event::Emptied).1.withdraw, Some(WithdrawalReason::Emptied));
    let (again, _) = rotation.step(at(170), CONFIRMED);
    assert_eq!(again.step(at(300), Event::Emptied).1.withdraw, None, "keys in between");
}

#[test]
fn empty_set_without_keys_is_a_failure() {
    let (rotation, _) = Rotation::new(TIMING, 0).step(at(0), Event::Wake);
    let (rotation, actions) = rotation.step(at(100), Event::Emptied);
    assert_eq!((actions, rotation.fetch_at()), (Actions::default(), Some(at(101))));
    assert_eq!(rotation.step(at(200), Event::Emptied).1.withdraw, None);
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
        assert_eq!(before.withdraw, None);
        assert_eq!(rotation.wake_at(), Some(at(300 + stale)), "even while a fetch hangs");
        let (rotation, then) = rotation.step(at(300 + stale), Event::Wake);
        assert_eq!(then.withdraw, Some(WithdrawalReason::Stale));
        assert_eq!(rotation.step(at(5000), Event::Wake).1.withdraw, None);
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
    assert_eq!(failed.withdraw, None);
    for rotation in [rotation, Rotation::with_keys(TIMING, 0, at(100))] {
        let withdraw = rotation.step(at(1000), Event::Wake).1.withdraw;
        let text = "confirmed at 100, due after 300, stale for 600 more";
        assert_eq!(withdraw, Some(WithdrawalReason::Stale), "{text}");
    }
}

/// Every sequence of five of these events at every pace, compared with a model of the rules.
#[test]
fn rotation_matches_its_model_for_every_sequence() {
    const EVENTS: [Event; 7] = [
        Event::Wake,
        Event::UnknownKid,
        Event::Requested,
        Event::Emptied,
        CONFIRMED,
        Event::Confirmed { max_age: Some(Duration::ZERO) },
        Event::Failed,
    ];
    const PAUSES: [u64; 4] = [0, 29, 31, 700];
    fn explore(rotation: Rotation, model: &RotationModel, now: u64, depth: u32) {
        for pause in PAUSES {
            for event in EVENTS {
                // Only a running fetch can end.
                if !model.fetching
                    && matches!(event, Event::Confirmed { .. } | Event::Emptied | Event::Failed)
                {
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
    /// Times of the fetches for an unknown `kid`.
    refetches: Vec<u64>,
    last_request: Option<u64>,
    is_requested: bool,
    /// Time of the first empty set since the last keys.
    emptied: Option<u64>,
    ended: Option<u64>,
}

impl RotationModel {
    fn after(&self, now: u64, event: Event, actions: Actions) -> Self {
        let mut next = self.clone();
        match event {
            Event::Confirmed { max_age } => {
                let lifetime = if max_age.is_some() { 60 } else { 300 };
                (next.fetching, next.usable, next.expires_at) = (false, true, now + lifetime + 600);
                (next.ended, next.emptied) = (Some(now), None);
            }
            Event::Emptied | Event::Failed => {
                (next.fetching, next.ended) = (false, Some(now));
                if event == Event::Emptied {
                    next.emptied = next.emptied.or(Some(now));
                }
            }
            Event::Requested => next.is_requested = true,
            Event::Wake | Event::UnknownKid => {}
        }
        let is_empty = event == Event::Emptied && next.emptied.is_some_and(|at| now - at >= 60);
        let withdrawal = match next.usable {
            true if is_empty => Some(WithdrawalReason::Emptied),
            true if next.expires_at <= now => Some(WithdrawalReason::Stale),
            _ => None,
        };
        assert_eq!(actions.withdraw, withdrawal);
        next.usable &= withdrawal.is_none();
        match actions.fetch {
            Some(Cause::UnknownKid) => {
                assert!(event == Event::UnknownKid && self.usable, "only an unknown kid causes it");
                next.refetches.push(now);
                assert_refetch_bound(&next.refetches, 30);
            }
            Some(Cause::Request) => {
                assert!(next.is_requested, "only a request causes it");
                assert!(self.last_request.is_none_or(|before| now > before), "one a second");
                next.last_request = Some(now);
            }
            Some(_) if self.usable => {
                assert!(self.ended.is_none_or(|ended| now > ended), "no immediate refetch")
            }
            _ => {}
        }
        assert!(actions.fetch.is_none() || !next.fetching, "one at a time");
        next.fetching |= actions.fetch.is_some();
        next.is_requested &= actions.fetch.is_none();
        next
    }
}

/// The bound of a flood: within any time T, at most 3 + ceil(T / cool-down) fetches.
fn assert_refetch_bound(times: &[u64], cool_down: u64) {
    for (index, first) in times.iter().enumerate() {
        for (count, last) in (1..).zip(&times[index..]) {
            let bound = 3 + (last - first).div_ceil(cool_down);
            assert!(count <= bound, "{count} fetches from {first} to {last}");
        }
    }
}

proptest! {
    /// For any pace of tokens, any answers of the provider, and any intervals.
    #[test]
    fn d9_unknown_kid_flood_keeps_its_bound(
        cool_down in 1u64..50,
        stale in 0u64..500,
        pauses in prop::collection::vec((0u64..40, 0u8..4, any::<bool>()), 1..200),
    ) {
        let timing = Timing { cool_down: at(cool_down), stale: at(stale), ..TIMING };
        let mut rotation = confirmed(timing, 1000);
        let (mut now, mut times) = (1000, Vec::new());
        for (pause, answer, ends) in pauses {
            now += pause;
            let answer = [CONFIRMED, Event::Failed, Event::Emptied, Event::Wake][usize::from(answer)];
            let answer = if rotation.is_fetching() && ends { answer } else { Event::Wake };
            for event in [answer, Event::UnknownKid] {
                let (next, actions) = rotation.step(at(now), event);
                rotation = next;
                if actions.fetch == Some(Cause::UnknownKid) {
                    times.push(now);
                }
            }
        }
        assert_refetch_bound(&times, cool_down);
    }
}

/// The guarantee to providers holds whatever they do: respond at once or slowly, fail or not,
/// or forbid caching.
#[test]
fn d9_unknown_kid_flood_does_not_add_to_the_schedule() {
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
                let bound = 3 + (now + 1).saturating_sub(start).div_ceil(30);
                assert!(
                    count <= bound,
                    "{count} fetches in {} s: {delay} {fails} {max_age:?} {start}",
                    now + 1 - start
                );
            }
        }
    }
}
