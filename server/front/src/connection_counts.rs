//! Counters of open connections, for load balancing between workers and for metrics.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// The number of open connections of each worker, and the number of refused connections.
///
/// # Synchronization
/// All counters are relaxed: a count orders no other access. A stale count only makes the spread
/// over the workers slightly less even.
pub struct ConnectionCounts {
    workers: Box<[WorkerCount]>,
    refused: AtomicU64,
}

/// One worker's counter, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct WorkerCount(AtomicUsize);

impl ConnectionCounts {
    /// Creates counters for this many workers, at least one.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let workers = (0..workers.max(1)).map(|_| WorkerCount::default()).collect();
        Self { workers, refused: AtomicU64::new(0) }
    }

    /// Counts a connection of a worker as open until the returned guard is dropped.
    #[must_use]
    pub fn open(self: &Arc<Self>, worker: usize) -> OpenConnection {
        self.worker(worker).fetch_add(1, Ordering::Relaxed);
        OpenConnection { counts: Arc::clone(self), worker }
    }

    /// Returns the number of open connections of each worker.
    #[must_use]
    pub fn per_worker(&self) -> Vec<usize> {
        self.workers.iter().map(|count| count.0.load(Ordering::Relaxed)).collect()
    }

    /// Returns the number of open connections of all workers.
    #[must_use]
    pub fn total(&self) -> usize {
        self.workers.iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number of connections that were refused because too many were open.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn of_worker(&self, worker: usize) -> usize {
        self.worker(worker).load(Ordering::Relaxed)
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn worker(&self, worker: usize) -> &AtomicUsize {
        &self.workers[worker % self.workers.len()].0
    }
}

/// Guard that counts a connection as open until it is dropped.
pub struct OpenConnection {
    counts: Arc<ConnectionCounts>,
    worker: usize,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.counts.worker(self.worker).fetch_sub(1, Ordering::Relaxed);
    }
}
