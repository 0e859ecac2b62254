//! Counters for metrics, sharded per thread and summed on a scrape.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_engine::Reject;
use http::{StatusCode, Version};

use super::{
    answer_judge::AnswerJudge, refused_requests::RefusedRequests, request_series::RequestSeries,
    settings::MetricsSettings,
};
use crate::base::{outcome::Outcome, route::Route};

/// A counted event other than an [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricEvent {
    /// The token of a check was verified from the cache.
    CacheHit,
    /// The signature of the token of a check was verified, or rejected.
    SignatureChecked,
    /// As [`CacheHit`](Self::CacheHit), for a call of an API or of the console.
    CallCacheHit,
    /// As [`SignatureChecked`](Self::SignatureChecked), for a call of an API or of the console.
    CallSignatureChecked,
    /// A signature check was delayed, because a budget is exceeded.
    CheckDelayed,
    /// A signature was not checked, because a budget is exceeded.
    NotAdmitted(Budget),
    /// A source in debt was evicted for another.
    SourceEvicted,
    /// A connection was closed for abuse.
    AbuseClose,
    /// A connection was delayed, because others from its address were closed for abuse.
    ReconnectDelayed,
    /// A login of a user ended with this outcome.
    Login(LoginOutcome),
    /// A login of a machine identity ended with this outcome.
    IdentityLogin(LoginOutcome),
    /// A refusal was left out of the audit log, because of too many.
    AuditOmitted,
    /// An audit event could not be stored.
    AuditLost,
}

/// The budgets of admission that a signature check is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// The time of the core.
    Core,
    /// The share of the issuer that the token names.
    Issuer,
    /// The share of the address that the token comes from.
    Source,
}

impl Budget {
    /// All budgets.
    pub const ALL: [Self; 3] = [Self::Core, Self::Issuer, Self::Source];

    /// Returns its name in metrics and problem documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Issuer => "issuer",
            Self::Source => "source",
        }
    }
}

/// Outcome of a login, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// A session or an access token was issued.
    Done,
    /// Unknown user or identity, wrong password or secret, or a refused certificate.
    Wrong,
    /// Refused before the check: too many attempts.
    TooMany,
    /// Refused before the check: its queue is full.
    Busy,
    /// The database was unavailable.
    Unavailable,
}

impl LoginOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Wrong, Self::TooMany, Self::Busy, Self::Unavailable];

    /// Returns its name, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Wrong => "wrong",
            Self::TooMany => "too_many",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    /// Returns its index in [`ALL`](Self::ALL).
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|outcome| *outcome == self).unwrap_or_default()
    }
}

const REJECTS: usize = Reject::ALL.len();
pub(super) const OUTCOMES: usize = REJECTS + 16;
const LOGINS: usize = OUTCOMES + 11;
const IDENTITY_LOGINS: usize = LOGINS + LoginOutcome::ALL.len();
/// The slots of calls, as those of [`Outcome`]s of checks.
const CALLS: usize = IDENTITY_LOGINS + LoginOutcome::ALL.len();
const SLOTS: usize = CALLS + OUTCOMES + 2;

/// Returns the slot of an [`Outcome`].
pub(super) fn outcome_slot(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Rejected(reject) => reject.index(),
        Outcome::Verified => REJECTS,
        Outcome::NoToken => REJECTS + 1,
        Outcome::Conflict => REJECTS + 2,
        Outcome::CrossSite => REJECTS + 3,
        Outcome::Preflight => REJECTS + 4,
        Outcome::Public => REJECTS + 5,
        Outcome::Anonymous => REJECTS + 6,
        Outcome::Denied => REJECTS + 7,
        Outcome::Undescribed => REJECTS + 8,
        Outcome::ApiKey => REJECTS + 9,
        Outcome::WrongKey => REJECTS + 10,
        Outcome::Tenant => REJECTS + 11,
        Outcome::UntrustedAddress => REJECTS + 12,
        Outcome::UsesExhausted => REJECTS + 13,
        Outcome::MethodDeleted => REJECTS + 14,
        Outcome::UsesUnavailable => REJECTS + 15,
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
            Self::AuditOmitted => OUTCOMES + 8,
            Self::AuditLost => OUTCOMES + 9,
            Self::CheckDelayed => OUTCOMES + 10,
            Self::Login(outcome) => LOGINS + outcome.index(),
            Self::IdentityLogin(outcome) => IDENTITY_LOGINS + outcome.index(),
            Self::CallCacheHit => CALLS + OUTCOMES,
            Self::CallSignatureChecked => CALLS + OUTCOMES + 1,
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

/// The protocol of a request, as metrics count it. HTTP/1.0 counts as 1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
    /// SPOP of HAProxy.
    Spop,
}

impl RequestProtocol {
    /// All protocols.
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Http3, Self::Spop];

    /// Returns its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "1.1",
            Self::Http2 => "2",
            Self::Http3 => "3",
            Self::Spop => "spop",
        }
    }

    /// Returns its index in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Http1 => 0,
            Self::Http2 => 1,
            Self::Http3 => 2,
            Self::Spop => 3,
        }
    }
}

impl From<Version> for RequestProtocol {
    fn from(version: Version) -> Self {
        match version {
            Version::HTTP_2 => Self::Http2,
            Version::HTTP_3 => Self::Http3,
            _ => Self::Http1,
        }
    }
}

/// Counters of one thread, aligned to cache lines of their own to avoid false sharing.
#[repr(align(128))]
struct Shard {
    events: [AtomicU64; SLOTS],
    responses: [[[AtomicU64; STATUSES.len() + 1]; ROUTES]; RequestProtocol::ALL.len()],
    took: [[LatencyCounters; ROUTES]; RequestProtocol::ALL.len()],
}

/// Latency histogram of one route over one protocol.
struct LatencyCounters {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Shard {
    fn new() -> Self {
        Self {
            events: zeroed(),
            responses: std::array::from_fn(|_| std::array::from_fn(|_| zeroed())),
            took: std::array::from_fn(|_| {
                std::array::from_fn(|_| LatencyCounters {
                    buckets: zeroed(),
                    nanos: AtomicU64::new(0),
                })
            }),
        }
    }
}

fn zeroed<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// Latency of a route's responses, summed over all threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Number of responses per bucket: up to its bound, and over that of the previous bucket.
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
pub struct Metrics {
    shards: Vec<Shard>,
    /// Observers of whole requests. Absent in the usual case, so that they cost one comparison.
    pub observers: Option<Box<RequestObservers>>,
    /// The last refused requests.
    pub refused: RefusedRequests,
}

/// Counters of requests beyond those of every server.
#[derive(Default)]
pub struct RequestObservers {
    /// Requests with the labels of Orchestrate's metrics, if the settings ask for them.
    pub series: Option<RequestSeries>,
    /// The judge of the answers, in a load test.
    pub judge: Option<Arc<AnswerJudge>>,
}

/// Returns the index of the shard in which the calling thread counts.
pub(super) fn current_shard() -> usize {
    SHARD.get()
}

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

impl Metrics {
    /// Creates the counters of this many threads, one at least.
    #[must_use]
    pub fn new(threads: usize, settings: &MetricsSettings) -> Self {
        let shards = (0..threads.max(1)).map(|_| Shard::new()).collect();
        let series = RequestSeries::new(threads, settings);
        let observers = series.map(|series| RequestObservers { series: Some(series), judge: None });
        Self { shards, observers: observers.map(Box::new), refused: RefusedRequests::default() }
    }

    /// Judges answers, too.
    #[must_use]
    pub fn with_judge(mut self, judge: Option<Arc<AnswerJudge>>) -> Self {
        if judge.is_some() {
            self.observers.get_or_insert_default().judge = judge;
        }
        self
    }

    /// Requests with the labels of Orchestrate's metrics, if the settings ask for them.
    #[must_use]
    pub fn series(&self) -> Option<&RequestSeries> {
        self.observers.as_ref()?.series.as_ref()
    }

    /// The judge of the answers, in a load test.
    #[must_use]
    pub fn judge(&self) -> Option<&AnswerJudge> {
        self.observers.as_ref()?.judge.as_deref()
    }

    /// Makes the calling thread count in shard `index`.
    pub fn use_shard(index: usize) {
        SHARD.set(index);
    }

    /// Counts one check: a request to a verifying route.
    pub fn count_check(&self, outcome: Outcome) {
        add(&self.shard().events[outcome_slot(outcome)], 1);
    }

    /// Counts one call of an API, which the console makes, too.
    pub fn count_call(&self, outcome: Outcome) {
        add(&self.shard().events[CALLS + outcome_slot(outcome)], 1);
    }

    /// Counts an event.
    pub fn count_event(&self, event: MetricEvent) {
        add(&self.shard().events[event.slot()], 1);
    }

    /// Counts a response, and its latency from the end of the request's head.
    pub fn count_response(
        &self,
        protocol: RequestProtocol,
        route: Route,
        status: StatusCode,
        took: Option<Duration>,
    ) {
        let (shard, route) = (self.shard(), route.index());
        let index =
            STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len());
        add(&shard.responses[protocol.index()][route][index], 1);
        if let Some(took) = took {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            let counters = &shard.took[protocol.index()][route];
            add(&counters.buckets[bucket_of(nanos)], 1);
            add(&counters.nanos, nanos);
        }
    }

    /// Returns the number of checks and calls with this outcome, over all threads.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.checks(outcome) + self.sum(|shard| &shard.events[CALLS + outcome_slot(outcome)])
    }

    /// Returns the number of checks with this outcome, over all threads.
    #[must_use]
    pub fn checks(&self, outcome: Outcome) -> u64 {
        self.sum(|shard| &shard.events[outcome_slot(outcome)])
    }

    /// Returns the count of an event, over all threads.
    #[must_use]
    pub fn event_count(&self, event: MetricEvent) -> u64 {
        self.sum(|shard| &shard.events[event.slot()])
    }

    /// Returns the number of a route's responses over a protocol by each of [`STATUSES`];
    /// the last element counts all others.
    #[must_use]
    pub fn responses(&self, protocol: RequestProtocol, route: Route) -> [u64; STATUSES.len() + 1] {
        std::array::from_fn(|index| {
            self.sum(|shard| &shard.responses[protocol.index()][route.index()][index])
        })
    }

    /// Returns the latency of a route's responses.
    #[must_use]
    pub fn latency(&self, route: Route) -> Latency {
        let mut latency = Latency::default();
        for version in RequestProtocol::ALL {
            let Latency { buckets, total } = self.latency_over(version, route);
            latency.buckets.iter_mut().zip(buckets).for_each(|(sum, count)| *sum += count);
            latency.total += total;
        }
        latency
    }

    /// Returns the latency of a route's responses over a protocol.
    #[must_use]
    pub fn latency_over(&self, version: RequestProtocol, route: Route) -> Latency {
        let (version, route) = (version.index(), route.index());
        Latency {
            buckets: std::array::from_fn(|bucket| {
                self.sum(|shard| &shard.took[version][route].buckets[bucket])
            }),
            total: Duration::from_nanos(self.sum(|shard| &shard.took[version][route].nanos)),
        }
    }

    fn shard(&self) -> &Shard {
        &self.shards[current_shard() % self.shards.len()]
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
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
        let metrics = Metrics::new(2, &MetricsSettings::default());
        for shard in [0, 1, 1] {
            Metrics::use_shard(shard);
            let took = Some(Duration::from_nanos(1500));
            metrics.count_response(RequestProtocol::Http1, Route::Auth, StatusCode::OK, took);
        }
        metrics.count_response(RequestProtocol::Http3, Route::Auth, StatusCode::IM_A_TEAPOT, None);
        Metrics::use_shard(0);
        let responses = RequestProtocol::ALL.map(|one| metrics.responses(one, Route::Auth));
        assert_eq!((responses[0][0], responses[2][STATUSES.len()]), (3, 1));
        assert_eq!(responses[1], [0; STATUSES.len() + 1]);
        let latency = metrics.latency(Route::Auth);
        assert_eq!((latency.buckets[1], latency.total), (3, Duration::from_nanos(4500)));
        assert_eq!(metrics.latency(Route::Verify), Latency::default());
    }
}
