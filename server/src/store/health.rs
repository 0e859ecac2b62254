//! Results and times of queries, for metrics.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use super::StoreError;
use crate::base::clock;

/// Results and times of all queries of a [`Store`](super::Store).
///
/// # Synchronization
/// Relaxed ordering: a figure orders no other access. A scrape may see a part of the figures of a
/// query that has just ended.
#[derive(Debug, Default)]
pub(super) struct QueryResults {
    answered: AtomicU64,
    failed: AtomicU64,
    nanos: AtomicU64,
    is_failing: AtomicBool,
    last_failure: AtomicU64,
}

/// State of the database, as the queries have found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseHealth {
    /// Whether the last query was answered.
    pub is_reachable: bool,
    /// Number of queries that were answered.
    pub answered: u64,
    /// Number of queries that failed.
    pub failed: u64,
    /// Sum of the times of all queries.
    pub total: Duration,
    /// When a query failed last, in seconds since 1970.
    pub last_failure: Option<u64>,
}

impl QueryResults {
    /// Records a query and its time. A violated constraint is an answer of the database.
    pub(super) fn record<T>(&self, result: &Result<T, StoreError>, took: Duration) {
        let is_failure = match result {
            Ok(_) | Err(StoreError::AlreadyExists | StoreError::ForeignKeyViolation) => false,
            Err(
                StoreError::Unavailable(_)
                | StoreError::File(..)
                | StoreError::Schema(_)
                | StoreError::Pooler,
            ) => true,
        };
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.is_failing.store(is_failure, Ordering::Relaxed);
        if is_failure {
            self.last_failure.store(clock::now().0, Ordering::Relaxed);
            self.failed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the state.
    pub(super) fn health(&self) -> DatabaseHealth {
        let failed = self.failed.load(Ordering::Relaxed);
        DatabaseHealth {
            is_reachable: !self.is_failing.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
            failed,
            total: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
            last_failure: (failed > 0).then(|| self.last_failure.load(Ordering::Relaxed)),
        }
    }
}
