//! Counters for metrics, sharded per thread and summed on a scrape.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use countersign_engine::Reject;
use http::StatusCode;

use crate::{admission::Budget, routes::Route, users::LoginOutcome};

/// Outcome of a request to a verifying route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token was verified.
    Verified,
    /// A token was rejected.
    Rejected(Reject),
    /// The request had no token.
    NoToken,
    /// The request had the credential header twice.
    Conflict,
}

/// A counted event other than an [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricEvent {
    /// A token was verified from the cache.
    CacheHit,
    /// A signature was checked.
    SignatureChecked,
    /// A signature was not checked, because a budget is exceeded.
    NotAdmitted(Budget),
    /// A source in debt was evicted for another.
    SourceEvicted,
    /// A connection was closed for abuse.
    AbuseClose,
    /// A connection was delayed, because others from its address were closed for abuse.
    ReconnectDelayed,
    /// A login ended with this outcome.
    Login(LoginOutcome),
}

const REJECTS: usize = Reject::ALL.len();
const OUTCOMES: usize = REJECTS + 3;
const LOGINS: usize = OUTCOMES + 8;
const SLOTS: usize = LOGINS + LoginOutcome::ALL.len();

impl Outcome {
    /// Returns its name; for a rejected token, the reject code.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Rejected(reject) => reject.code(),
            Self::NoToken => "no_token",
            Self::Conflict => "conflict",
        }
    }

    fn slot(self) -> usize {
        match self {
            Self::Rejected(reject) => reject.index(),
            Self::Verified => REJECTS,
            Self::NoToken => REJECTS + 1,
            Self::Conflict => REJECTS + 2,
        }
    }
}

impl MetricEvent {
    fn slot(self) -> usize {
        match self {
            Self::SignatureChecked => OUTCOMES,
            Self::NotAdmitted(Budget::Core) => OUTCOMES + 1,
            Self::NotAdmitted(Budget::Issuer) => OUTCOMES + 2,
            Self::NotAdmitted(Budget::Source) => OUTCOMES + 3,
            Self::SourceEvicted => OUTCOMES + 4,
            Self::CacheHit => OUTCOMES + 5,
            Self::AbuseClose => OUTCOMES + 6,
            Self::ReconnectDelayed => OUTCOMES + 7,
            Self::Login(outcome) => LOGINS + outcome.index(),
        }
    }
}

/// HTTP statuses that are counted separately; all others are counted together.
pub const STATUSES: [u16; 17] =
    [200, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 429, 431, 500, 501, 503, 505];
/// Number of latency buckets. Their bounds double from 1.024 us to a second; the last bucket
/// has no bound.
pub const BUCKETS: usize = 22;
const FIRST_BUCKET: u64 = 1024;

const ROUTES: usize = Route::ALL.len();

/// Counters of one thread, aligned to cache lines of their own to avoid false sharing.
#[repr(align(128))]
struct Shard {
    events: [AtomicU64; SLOTS],
    answers: [[AtomicU64; STATUSES.len() + 1]; ROUTES],
    took: [LatencyCounters; ROUTES],
    connections: AtomicUsize,
    connections_refused: AtomicU64,
}

/// Latency histogram of one route.
struct LatencyCounters {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Shard {
    fn new() -> Self {
        Self {
            events: zeroed(),
            answers: std::array::from_fn(|_| zeroed()),
            took: std::array::from_fn(|_| LatencyCounters {
                buckets: zeroed(),
                nanos: AtomicU64::new(0),
            }),
            connections: AtomicUsize::new(0),
            connections_refused: AtomicU64::new(0),
        }
    }
}

fn zeroed<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// Latency of a route's answers, summed over all threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Number of answers per bucket: up to its bound, and over that of the previous bucket.
    pub buckets: [u64; BUCKETS],
    /// Sum of all latencies.
    pub total: Duration,
}

/// Returns the upper bound of a bucket in seconds; infinity for the last one.
#[must_use]
pub fn bucket_bound(bucket: usize) -> f64 {
    match bucket + 1 {
        BUCKETS => f64::INFINITY,
        _ => Duration::from_nanos(FIRST_BUCKET << bucket).as_secs_f64(),
    }
}

fn bucket_of(nanos: u64) -> usize {
    let doublings = nanos.div_ceil(FIRST_BUCKET).max(1).next_power_of_two().trailing_zeros();
    usize::try_from(doublings).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The counters of all threads.
///
/// # Synchronization
/// Every thread adds to its own shard with relaxed ordering: a counter orders no other access.
/// A scrape may see the latest request of one thread and not yet that of another.
pub struct Metrics(Vec<Shard>);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

impl Metrics {
    pub(crate) fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| Shard::new()).collect())
    }

    /// Makes the calling thread count in shard `index`.
    pub fn use_shard(index: usize) {
        SHARD.set(index);
    }

    /// Counts one request to a verifying route.
    pub fn count(&self, outcome: Outcome) {
        add(&self.shard().events[outcome.slot()], 1);
    }

    /// Counts an event.
    pub fn count_event(&self, event: MetricEvent) {
        add(&self.shard().events[event.slot()], 1);
    }

    /// Counts an answer, and its latency from the end of the request's head.
    pub fn count_answer(&self, route: Route, status: StatusCode, took: Option<Duration>) {
        let (shard, route) = (self.shard(), route.index());
        let index =
            STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len());
        add(&shard.answers[route][index], 1);
        if let Some(took) = took {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            add(&shard.took[route].buckets[bucket_of(nanos)], 1);
            add(&shard.took[route].nanos, nanos);
        }
    }

    /// Counts an open connection of a worker, until the returned guard is dropped.
    #[must_use]
    pub fn connection(self: &Arc<Self>, worker: usize) -> OpenConnection {
        self.connection_count(worker).fetch_add(1, Ordering::Relaxed);
        OpenConnection { metrics: Arc::clone(self), worker }
    }

    /// Counts an open connection of the calling worker, until the returned guard is dropped.
    #[must_use]
    pub fn connection_on_this_worker(self: &Arc<Self>) -> OpenConnection {
        self.connection(SHARD.get())
    }

    /// Returns the number of open connections of each worker.
    #[must_use]
    pub fn connections(&self) -> Vec<usize> {
        self.0.iter().map(|shard| shard.connections.load(Ordering::Relaxed)).collect()
    }

    fn connection_count(&self, worker: usize) -> &AtomicUsize {
        &self.0[worker % self.0.len()].connections
    }

    /// Counts a connection that was refused at the connection limit.
    pub fn connection_refused(&self) {
        add(&self.shard().connections_refused, 1);
    }

    /// Returns the number of requests with this outcome, over all threads.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.sum(|shard| &shard.events[outcome.slot()])
    }

    /// Returns the count of an event, over all threads.
    #[must_use]
    pub fn event_count(&self, event: MetricEvent) -> u64 {
        self.sum(|shard| &shard.events[event.slot()])
    }

    /// Returns a route's answers by each of [`STATUSES`]; the last element counts all others.
    #[must_use]
    pub fn answers(&self, route: Route) -> [u64; STATUSES.len() + 1] {
        std::array::from_fn(|index| self.sum(|shard| &shard.answers[route.index()][index]))
    }

    /// Returns the latency of a route's answers.
    #[must_use]
    pub fn latency(&self, route: Route) -> Latency {
        let route = route.index();
        Latency {
            buckets: std::array::from_fn(|bucket| {
                self.sum(|shard| &shard.took[route].buckets[bucket])
            }),
            total: Duration::from_nanos(self.sum(|shard| &shard.took[route].nanos)),
        }
    }

    /// Returns the number of connections refused at the connection limit.
    #[must_use]
    pub fn connections_refused(&self) -> u64 {
        self.sum(|shard| &shard.connections_refused)
    }

    fn shard(&self) -> &Shard {
        &self.0[SHARD.get() % self.0.len()]
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.0.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
    }
}

/// Guard that counts one open connection until it is dropped.
///
/// Relaxed: the counts only balance connections over workers, and a stale count makes that
/// slightly less even.
pub struct OpenConnection {
    metrics: Arc<Metrics>,
    worker: usize,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.connection_count(self.worker).fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_bucket_includes_its_bound() {
        for (nanos, bucket) in [
            (0, 0),
            (1, 0),
            (1024, 0),
            (1025, 1),
            (2048, 1),
            (2049, 2),
            (1 << 30, 20),
            (u64::MAX, 21),
        ] {
            assert_eq!(bucket_of(nanos), bucket, "{nanos}");
            assert!(Duration::from_nanos(nanos).as_secs_f64() <= bucket_bound(bucket), "{nanos}");
        }
    }

    #[test]
    fn counters_are_summed_over_threads() {
        let metrics = Metrics::new(2);
        for shard in [0, 1, 1] {
            Metrics::use_shard(shard);
            metrics.count_answer(Route::Auth, StatusCode::OK, Some(Duration::from_nanos(1500)));
        }
        metrics.count_answer(Route::Auth, StatusCode::IM_A_TEAPOT, None);
        Metrics::use_shard(0);
        let answers = metrics.answers(Route::Auth);
        assert_eq!((answers[0], answers[STATUSES.len()]), (3, 1));
        let latency = metrics.latency(Route::Auth);
        assert_eq!((latency.buckets[1], latency.total), (3, Duration::from_nanos(4500)));
        assert_eq!(metrics.latency(Route::Verify), Latency::default());
    }
}
