//! Counters, kept per thread and summed when somebody looks.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use countersign_engine::Reject;

use crate::admission::Budget;

/// What a request to a verifying route ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token was verified.
    Verified,
    /// A token was refused.
    Rejected(Reject),
    /// No token came.
    NoToken,
    /// The credential header came twice.
    Conflict,
}

/// What else happens on the way of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A token was verified before, and nothing has changed since.
    Remembered,
    /// A signature was checked.
    Cold,
    /// One was not, since a budget is spent.
    NotAdmitted(Budget),
    /// A source that had spent some of its budget was forgotten for another.
    SourceForgotten,
}

const REJECTS: usize = Reject::ALL.len();
const OUTCOMES: usize = REJECTS + 3;
const SLOTS: usize = OUTCOMES + 6;

impl Outcome {
    fn slot(self) -> usize {
        match self {
            Self::Rejected(reject) => reject.index(),
            Self::Verified => REJECTS,
            Self::NoToken => REJECTS + 1,
            Self::Conflict => REJECTS + 2,
        }
    }
}

impl Event {
    fn slot(self) -> usize {
        match self {
            Self::Cold => OUTCOMES,
            Self::NotAdmitted(Budget::Core) => OUTCOMES + 1,
            Self::NotAdmitted(Budget::Issuer) => OUTCOMES + 2,
            Self::NotAdmitted(Budget::Source) => OUTCOMES + 3,
            Self::SourceForgotten => OUTCOMES + 4,
            Self::Remembered => OUTCOMES + 5,
        }
    }
}

/// One thread's counters, on cache lines of their own.
#[repr(align(128))]
struct Shard([AtomicU64; SLOTS]);

/// The counters of all threads.
///
/// # Synchronization
/// Every thread adds to its own shard, relaxed: a count orders nothing else, and
/// a scrape may see one thread's latest request and not yet another's.
pub struct Metrics(Vec<Shard>);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

impl Metrics {
    pub(crate) fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| Shard([const { AtomicU64::new(0) }; SLOTS])).collect())
    }

    /// Makes the calling thread count in shard `index`.
    pub fn use_shard(index: usize) {
        SHARD.set(index);
    }

    /// Counts one request to a verifying route.
    pub fn count(&self, outcome: Outcome) {
        self.add(outcome.slot());
    }

    /// Counts something that happened on the way of a token.
    pub fn note(&self, event: Event) {
        self.add(event.slot());
    }

    /// How many requests have ended like this, on all threads.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.sum(outcome.slot())
    }

    /// How often this has happened, on all threads.
    #[must_use]
    pub fn noted(&self, event: Event) -> u64 {
        self.sum(event.slot())
    }

    fn add(&self, slot: usize) {
        let shard = &self.0[SHARD.get() % self.0.len()];
        shard.0[slot].fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, slot: usize) -> u64 {
        self.0.iter().map(|shard| shard.0[slot].load(Ordering::Relaxed)).sum()
    }
}
