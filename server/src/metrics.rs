//! Counters, kept per thread and summed when somebody looks.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use countersign_engine::Reject;

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

const REJECTS: usize = Reject::ALL.len();
const SLOTS: usize = REJECTS + 3;

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
        let shard = &self.0[SHARD.get() % self.0.len()];
        shard.0[outcome.slot()].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests have ended like this, on all threads.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.0.iter().map(|shard| shard.0[outcome.slot()].load(Ordering::Relaxed)).sum()
    }
}
