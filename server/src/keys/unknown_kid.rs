//! Tokens with an unknown `kid`: the wait for a fetch of their issuer's keys, and the answer.
//!
//! A fetch that succeeds without the key shows that the key does not exist only if it began after
//! the `kid` was first seen. The provider may have published the key since an earlier one. Without
//! such a fetch the token cannot be judged, except that it was issued before the last successful
//! fetch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_engine::{IssuerConfig, KidHash, Reject, UnixTime, UnknownKid};
use countersign_front::Step;
use tokio::{sync::watch, time::timeout};

use super::{FetchState, IssuerKeys, KeyClock, KeySources, Progress, SuccessfulFetch};
use crate::base::clock;

/// Longest wait of a request for a refetch of its issuer's keys.
pub(crate) const REFETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// Limit of requests that wait for one issuer, so that a flood of unknown `kid`s cannot use
/// up the memory.
const MAX_WAITING: usize = 1024;
/// Seconds after which a retry may succeed while a fetch is running.
const RETRY_DURING_FETCH: u64 = 5;

/// Answer to a token with an unknown `kid`.
#[derive(Clone, Debug)]
pub enum KidAnswer {
    /// The issuer has no such key.
    Unknown,
    /// The issuer may have such a key, and its keys cannot be fetched now.
    Undecided(UndecidedKid),
}

impl KidAnswer {
    /// Returns the reason to refuse the token.
    #[must_use]
    pub const fn reject(&self) -> Reject {
        match self {
            Self::Unknown => Reject::KidUnknown,
            Self::Undecided(_) => Reject::KidUndecided,
        }
    }
}

/// A token whose key may exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecidedKid {
    /// The configured issuer that the token names.
    pub issuer: Arc<IssuerConfig>,
    /// Seconds until the keys are fetched again, at least one.
    pub retry_after: u64,
}

impl KeySources {
    /// Counts a token with an unknown `kid`. Returns the answer, or the fetch to wait for if one is
    /// running or may begin now.
    #[must_use]
    pub fn answer(&self, unknown: &UnknownKid) -> Step<KidAnswer, KeyRefetch> {
        let table = self.table.load();
        let Some(source) = table.by_issuer.get(&unknown.issuer.name) else {
            return Step::Done(KidAnswer::Unknown);
        };
        source.unknown_kids.fetch_add(1, Ordering::Relaxed);
        decide(source, unknown, None)
    }
}

fn decide(
    source: &Arc<IssuerKeys>,
    unknown: &UnknownKid,
    waiting: Option<WaitingRequest>,
) -> Step<KidAnswer, KeyRefetch> {
    let Some(renewed) = source.renewed() else { return Step::Done(KidAnswer::Unknown) };
    let (state, now, first_seen) = see(source, unknown.kid);
    let success = state.success.filter(|_| !state.is_failing);
    let is_absent = success.is_some_and(|success| success.number > first_seen);
    let is_recent = |success: SuccessfulFetch| now < success.ended + renewed.timing.cool_down;
    if is_absent && success.is_some_and(is_recent) {
        return Step::Done(KidAnswer::Unknown);
    }
    // One token causes one failing fetch, and leaves the others to later ones.
    if waiting.is_some() && state.is_failing {
        return Step::Done(undecided(source, unknown, state, now));
    }
    if state.fetching || state.refetch_from.is_some_and(|from| from <= now) {
        if let Some(waiting) = waiting.or_else(|| WaitingRequest::enter(source)) {
            source.request_refetch();
            let (unknown, rounds) = (Box::new(unknown.clone()), state.rounds);
            let progress = source.progress.subscribe();
            return Step::Wait(KeyRefetch { waiting, unknown, progress, rounds });
        }
    } else if success.is_some_and(|success| is_absent || precedes(unknown, success, now)) {
        return Step::Done(KidAnswer::Unknown);
    }
    Step::Done(undecided(source, unknown, state, now))
}

/// Returns the state of the fetches, the time, and how many fetches had begun when this `kid` was
/// first seen.
pub(super) fn see(source: &IssuerKeys, kid: KidHash) -> (FetchState, Duration, u64) {
    // Held, so that this is either before or after the next change of the state.
    let progress = source.progress.borrow();
    let (state, now) = (progress.state, KeyClock::now());
    let first_seen = source.seen_kids.find(kid).unwrap_or_else(|| {
        source.seen_kids.insert(kid, state.begun());
        source.record_unknown(now);
        state.begun()
    });
    (state, now, first_seen)
}

fn precedes(unknown: &UnknownKid, fetch: SuccessfulFetch, now: Duration) -> bool {
    let (age, leeway) = (now.saturating_sub(fetch.began), unknown.issuer.rules.leeway.into());
    was_issued_before(unknown.issued_at, leeway, age, clock::now())
}

/// Whether a token was issued before a fetch that began an `age` ago. The time of day of the fetch
/// is reckoned from the present one, so that a clock that was wrong then does not count.
fn was_issued_before(
    issued_at: Option<UnixTime>,
    leeway: u64,
    age: Duration,
    now: UnixTime,
) -> bool {
    let began = now.0.saturating_sub(age.as_secs().saturating_add(1));
    issued_at.is_some_and(|issued_at| issued_at.plus(leeway).0 < began)
}

/// Returns the answer without a fetch that decides. The keys in a file are those that the operator
/// wrote, so a `kid` that is not among them is unknown.
fn undecided(
    source: &IssuerKeys,
    unknown: &UnknownKid,
    state: FetchState,
    now: Duration,
) -> KidAnswer {
    if source.section.keys.is_file() {
        return KidAnswer::Unknown;
    }
    source.undecided_kids.fetch_add(1, Ordering::Relaxed);
    let next = state.refetch_from.into_iter().chain(state.fetch_at).min();
    let retry_after = match next {
        Some(next) if !state.fetching => next.saturating_sub(now).as_secs().saturating_add(1),
        _ => RETRY_DURING_FETCH,
    };
    KidAnswer::Undecided(UndecidedKid { issuer: Arc::clone(&unknown.issuer), retry_after })
}

/// Wait of one request for a refetch of an issuer's keys.
pub struct KeyRefetch {
    waiting: WaitingRequest,
    /// Boxed, since most requests that wait do so for something else.
    unknown: Box<UnknownKid>,
    progress: watch::Receiver<Progress>,
    /// Number of ended fetches when the wait began.
    rounds: u64,
}

impl KeyRefetch {
    /// Waits until the `kid` is known or there is an answer, for at most a second. Calls `verify`
    /// when `is_still_unknown` is false, so that the token is not read again without reason.
    ///
    /// A fetch that was already running may have been answered before the provider published
    /// the new key. Another fetch follows then.
    ///
    /// # Errors
    /// The answer to a token whose `kid` is still unknown.
    pub async fn wait<T>(
        self,
        is_still_unknown: impl Fn(&UnknownKid) -> bool,
        verify: impl Fn() -> Result<T, Box<UnknownKid>>,
    ) -> Result<T, KidAnswer> {
        let retry = |unknown: Box<UnknownKid>| {
            if is_still_unknown(&unknown) { Err(unknown) } else { verify() }
        };
        let (source, unknown) = (Arc::clone(&self.waiting.0), self.unknown.clone());
        let waited = async {
            let mut refetch = self;
            loop {
                // Never an error: the sender lives as long as the issuer's keys.
                drop(refetch.progress.wait_for(|now| now.state.rounds != refetch.rounds).await);
                let unknown = match retry(refetch.unknown) {
                    Ok(result) => return Ok(result),
                    Err(unknown) => unknown,
                };
                match decide(&source, &unknown, Some(refetch.waiting)) {
                    Step::Done(answer) => return Err(answer),
                    Step::Wait(again) => refetch = again,
                }
            }
        };
        timeout(REFETCH_TIMEOUT, waited).await.unwrap_or_else(|_elapsed| {
            let state = source.progress.borrow().state;
            retry(unknown).map_err(|unknown| undecided(&source, &unknown, state, KeyClock::now()))
        })
    }
}

/// Guard that counts one request waiting for an issuer.
struct WaitingRequest(Arc<IssuerKeys>);

impl WaitingRequest {
    fn enter(source: &Arc<IssuerKeys>) -> Option<Self> {
        // Counted before the comparison, so that concurrent requests cannot exceed the limit.
        let guard = Self(Arc::clone(source));
        (source.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(guard)
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The fetch after which each unknown `kid` was first seen, for a bounded number of them.
///
/// A table of fixed size, in sets: a `kid` replaces another one when its set is full. Clients can
/// fill it with `kid`s that they made up. One that was replaced is fetched for again, within the
/// limit of such fetches, and until then its token cannot be judged.
///
/// # Synchronization
/// Relaxed: a slot is one word and orders no other access. Of two concurrent writes to one slot,
/// either may be lost, as if it was replaced.
pub(super) struct SeenKids(Box<[KidSlots]>);

/// The slots of one set. The upper half of a slot is from the hash, the lower half the number plus
/// one; zero is vacant.
type KidSlots = [AtomicU64; SLOTS];

/// Number of sets; a power of two.
const SETS: u64 = 256;
/// Slots in a set. So many `kid`s never replace each other.
const SLOTS: usize = 4;

impl SeenKids {
    pub(super) fn new() -> Self {
        Self((0..SETS).map(|_| KidSlots::default()).collect())
    }

    /// Returns how many fetches had begun when this `kid` was first seen. `None` if it is not in the
    /// table.
    fn find(&self, kid: KidHash) -> Option<u64> {
        // Read once: another `kid` may replace it meanwhile.
        let mut found = self.slots(kid).iter().map(|slot| slot.load(Ordering::Relaxed));
        found.find(|found| is_of(*found, kid)).map(|found| (found & LOWER_HALF) - 1)
    }

    /// Inserts a `kid` that was seen before the fetch number `begun + 1`.
    pub(super) fn insert(&self, kid: KidHash, begun: u64) {
        let slots = self.slots(kid);
        let find = |matches: &dyn Fn(u64) -> bool| {
            slots.iter().find(|slot| matches(slot.load(Ordering::Relaxed)))
        };
        let slot = find(&|found| is_of(found, kid)).or_else(|| find(&|found| found == 0));
        let number = begun.saturating_add(1).min(LOWER_HALF);
        let entry = kid.bits() & !LOWER_HALF | number;
        slot.unwrap_or_else(|| &slots[replaced_slot(kid)]).store(entry, Ordering::Relaxed);
    }

    fn slots(&self, kid: KidHash) -> &KidSlots {
        let index = usize::try_from(kid.bits() % SETS).unwrap_or_default();
        &self.0[index]
    }
}

/// Whether this is the value of a slot with the `kid`.
fn is_of(found: u64, kid: KidHash) -> bool {
    found & LOWER_HALF != 0 && found >> 32 == kid.bits() >> 32
}

/// Index of the slot that a `kid` takes in a full set.
fn replaced_slot(kid: KidHash) -> usize {
    usize::try_from(kid.bits() / SETS).unwrap_or_default() % SLOTS
}

const LOWER_HALF: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seen_kid_keeps_its_first_fetch() {
        let (seen, kid) = (SeenKids::new(), KidHash::of("one"));
        assert_eq!(seen.find(kid), None);
        seen.insert(kid, 0);
        assert_eq!(seen.find(kid), Some(0));
        seen.insert(kid, 5);
        assert_eq!(seen.find(kid), Some(5));
        assert_eq!(seen.find(KidHash::of("other")), None);
    }

    #[test]
    fn as_many_kids_as_a_set_has_slots_are_all_kept() {
        for round in 0..1000 {
            let seen = SeenKids::new();
            let kids = ["a", "b", "c", "d"].map(|name| KidHash::of(&format!("{name}{round}")));
            for (number, kid) in (1..).zip(kids) {
                seen.insert(kid, number);
            }
            assert_eq!(kids.map(|kid| seen.find(kid)), [1, 2, 3, 4].map(Some));
        }
    }

    #[test]
    fn seen_kids_are_bounded_and_replaced() {
        let seen = SeenKids::new();
        let kids: Vec<_> = (0..20_000).map(|n| KidHash::of(&n.to_string())).collect();
        for kid in &kids {
            assert_eq!(seen.find(*kid), None);
            seen.insert(*kid, 1);
            assert_eq!(seen.find(*kid), Some(1));
        }
        let kept = kids.iter().filter(|kid| seen.find(**kid).is_some()).count();
        assert!(kept <= 1024, "{kept}");
    }

    #[test]
    fn token_issued_during_a_fetch_is_not_before_it() {
        let before = |issued_at, leeway| {
            let age = Duration::from_millis(2500);
            was_issued_before(issued_at, leeway, age, UnixTime(1000))
        };
        assert!(before(Some(UnixTime(996)), 0));
        assert!(!before(Some(UnixTime(997)), 0), "the fetch began at 997 or later");
        assert!(!before(Some(UnixTime(996)), 1));
        assert!(before(Some(UnixTime(966)), 30) && !before(Some(UnixTime(967)), 30));
        assert!(!before(None, 0), "a token without iat may be new");
        assert!(!before(Some(UnixTime(u64::MAX)), 30));
    }
}
