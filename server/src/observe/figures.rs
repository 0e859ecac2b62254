//! Recent figures of the server, for the console and the Admin API: samples of the counters at
//! short intervals, kept for some minutes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use countersign_engine::Reject;

use super::metrics::{BUCKETS, Budget, MetricEvent, Metrics, RequestProtocol, bucket_bound};
use crate::base::{clock::Stopwatch, outcome::Outcome, route::Route};

/// Time between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// Number of samples: five minutes and the one before.
const MAX_SAMPLES: usize = 151;
/// Samples over which a current value is averaged.
const CURRENT: usize = 5;
/// The routes whose requests have a token to verify.
const VERIFYING: [Route; 4] = [Route::Auth, Route::Check, Route::Verify, Route::VerifyBatch];
/// Number of [`refusals`].
const REFUSALS: usize = Reject::ALL.len() + OTHER_REFUSALS.len();
/// Refusals for other reasons than a rejected token.
const OTHER_REFUSALS: [Outcome; 11] = [
    Outcome::NoToken,
    Outcome::Conflict,
    Outcome::CrossSite,
    Outcome::Denied,
    Outcome::Undescribed,
    Outcome::WrongKey,
    Outcome::Tenant,
    Outcome::UntrustedAddress,
    Outcome::UsesExhausted,
    Outcome::MethodDeleted,
    Outcome::UsesUnavailable,
];

/// Recent samples of the counters of [`Metrics`].
///
/// # Synchronization
/// One task adds samples, each by replacing the list. Readers load it once.
pub struct RecentFigures {
    samples: ArcSwap<VecDeque<Arc<FigureSample>>>,
    clock: Stopwatch,
}

impl Default for RecentFigures {
    fn default() -> Self {
        Self { samples: ArcSwap::default(), clock: Stopwatch::start() }
    }
}

/// The [`RequestCounts`] at one time.
struct FigureSample {
    at: Duration,
    counts: RequestCounts,
}

/// Numbers of events, since the start or in a [`SampleInterval`].
#[derive(Clone)]
pub(crate) struct RequestCounts {
    /// Requests with a token to verify.
    pub(crate) requests: u64,
    /// Tokens verified from the cache.
    hits: u64,
    /// Signatures checked.
    checks: u64,
    refused: [u64; REFUSALS],
    /// By version of HTTP.
    latency: [[u64; BUCKETS]; RequestProtocol::ALL.len()],
    /// Signature checks that waited for their budget.
    pub(crate) delayed: u64,
    /// Signature checks that were not made, by budget.
    pub(crate) not_admitted: [u64; Budget::ALL.len()],
}

/// The events between two [`FigureSample`]s.
pub(crate) struct SampleInterval {
    seconds: f64,
    /// Their numbers.
    pub(crate) counts: RequestCounts,
}

impl RecentFigures {
    /// Adds a sample.
    pub fn add_sample(&self, metrics: &Metrics) {
        let sample = FigureSample { at: self.clock.elapsed(), counts: RequestCounts::of(metrics) };
        let mut samples = VecDeque::clone(&self.samples.load());
        samples.push_back(Arc::new(sample));
        while samples.len() > MAX_SAMPLES {
            samples.pop_front();
        }
        self.samples.store(Arc::new(samples));
    }

    /// Returns the time of the last sample, since the start.
    pub fn sampled_at(&self) -> Option<Duration> {
        self.samples.load().back().map(|last| last.at)
    }

    /// Returns the intervals between the samples, the oldest first.
    pub(crate) fn intervals(&self) -> Vec<SampleInterval> {
        let samples = self.samples.load();
        samples.iter().zip(samples.iter().skip(1)).map(SampleInterval::between).collect()
    }

    /// Returns the last seconds as one interval, for current values.
    pub(crate) fn current(&self) -> Option<SampleInterval> {
        let samples = self.samples.load();
        let last = samples.back()?;
        let first = samples.get(samples.len().saturating_sub(CURRENT + 1))?;
        (first.at < last.at).then(|| SampleInterval::between((first, last)))
    }

    /// Returns all samples as one [`SampleInterval`].
    pub(crate) fn recent(&self) -> Option<SampleInterval> {
        let samples = self.samples.load();
        let (first, last) = (samples.front()?, samples.back()?);
        (first.at < last.at).then(|| SampleInterval::between((first, last)))
    }
}

impl RequestCounts {
    fn of(metrics: &Metrics) -> Self {
        let responses = |route| {
            RequestProtocol::ALL
                .map(|protocol| metrics.responses(protocol, route).iter().sum::<u64>())
        };
        let latency = RequestProtocol::ALL.map(|version| {
            let by_route = VERIFYING.map(|route| metrics.latency_over(version, route).buckets);
            std::array::from_fn(|bucket| {
                by_route.iter().map(|buckets| buckets[bucket]).sum::<u64>()
            })
        });
        let mut refused = [0; REFUSALS];
        let outcomes = refusals().map(|outcome| metrics.checks(outcome));
        refused.iter_mut().zip(outcomes).for_each(|(sum, count)| *sum = count);
        Self {
            requests: VERIFYING.into_iter().flat_map(responses).sum(),
            hits: metrics.event_count(MetricEvent::CacheHit),
            checks: metrics.event_count(MetricEvent::SignatureChecked),
            refused,
            latency,
            delayed: metrics.event_count(MetricEvent::CheckDelayed),
            not_admitted: Budget::ALL
                .map(|budget| metrics.event_count(MetricEvent::NotAdmitted(budget))),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let difference = |now: u64, before: u64| now.saturating_sub(before);
        Self {
            requests: difference(self.requests, before.requests),
            hits: difference(self.hits, before.hits),
            checks: difference(self.checks, before.checks),
            refused: std::array::from_fn(|index| {
                difference(self.refused[index], before.refused[index])
            }),
            latency: std::array::from_fn(|version| {
                std::array::from_fn(|bucket| {
                    difference(self.latency[version][bucket], before.latency[version][bucket])
                })
            }),
            delayed: difference(self.delayed, before.delayed),
            not_admitted: std::array::from_fn(|index| {
                difference(self.not_admitted[index], before.not_admitted[index])
            }),
        }
    }

    /// Returns the number of refused requests.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Returns the reasons for refusals with their numbers, the most frequent first.
    pub(crate) fn reasons(&self) -> Vec<(Outcome, u64)> {
        let mut reasons: Vec<_> =
            refusals().zip(self.refused).filter(|(_, count)| *count > 0).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        reasons
    }

    /// Returns the numbers of tokens verified from the cache, and in all.
    pub(crate) fn cache(&self) -> (u64, u64) {
        (self.hits, self.hits + self.checks)
    }

    /// Returns the latency in seconds that this part of the responses did not exceed, by the bound
    /// of its bucket; `None` without responses.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let all = |bucket: usize| -> u64 {
            self.latency.iter().map(|of_version| of_version[bucket]).sum()
        };
        quantile(&std::array::from_fn(all), part)
    }

    /// As [`quantile`](Self::quantile), for the responses over a version of HTTP.
    pub(crate) fn quantile_over(&self, version: RequestProtocol, part: f64) -> Option<f64> {
        quantile(&self.latency[version.index()], part)
    }

    /// Returns the number of responses over a version of HTTP.
    pub(crate) fn responses_over(&self, version: RequestProtocol) -> u64 {
        self.latency[version.index()].iter().sum()
    }
}

fn quantile(buckets: &[u64; BUCKETS], part: f64) -> Option<f64> {
    let count: u64 = buckets.iter().sum();
    if count == 0 {
        return None;
    }
    let wanted = count as f64 * part;
    let mut seen = 0;
    let bucket = buckets.iter().position(|count| {
        seen += count;
        seen as f64 >= wanted
    });
    // The last bucket has no bound.
    Some(bucket_bound(bucket?.min(BUCKETS - 2)))
}

impl SampleInterval {
    fn between((before, after): (&Arc<FigureSample>, &Arc<FigureSample>)) -> Self {
        let seconds = after.at.saturating_sub(before.at).as_secs_f64();
        Self { seconds, counts: after.counts.since(&before.counts) }
    }

    /// Returns its length in seconds.
    pub(crate) const fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Returns a number of its events in a second.
    pub(crate) fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

/// The outcomes of refused requests.
pub(crate) fn refusals() -> impl Iterator<Item = Outcome> {
    Reject::ALL.iter().map(|reject| Outcome::Rejected(*reject)).chain(OTHER_REFUSALS)
}

/// Every outcome.
pub(super) fn outcomes() -> impl Iterator<Item = Outcome> {
    const ALLOWED: [Outcome; 5] = [
        Outcome::Verified,
        Outcome::Preflight,
        Outcome::Public,
        Outcome::Anonymous,
        Outcome::ApiKey,
    ];
    refusals().chain(ALLOWED)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::observe::settings::MetricsSettings;

    #[test]
    fn figures_are_differences_of_samples() {
        let (metrics, figures) =
            (Metrics::new(1, &MetricsSettings::default()), RecentFigures::default());
        let request = |status, outcome, micros| {
            metrics.count_check(outcome);
            let took = Some(Duration::from_micros(micros));
            metrics.count_response(RequestProtocol::Http2, Route::Auth, status, took);
        };
        request(StatusCode::OK, Outcome::Verified, 1);
        figures.add_sample(&metrics);
        assert!(figures.current().is_none() && figures.intervals().is_empty());
        (0..98).for_each(|_| request(StatusCode::OK, Outcome::Verified, 1));
        let expired = Outcome::Rejected(Reject::Expired);
        request(StatusCode::UNAUTHORIZED, expired, 3000);
        request(StatusCode::UNAUTHORIZED, Outcome::NoToken, 3000);
        metrics.count_response(RequestProtocol::Http1, Route::Live, StatusCode::OK, None);
        // A call of an API is not a check.
        metrics.count_call(Outcome::NoToken);
        figures.add_sample(&metrics);
        let counts = figures.recent().unwrap().counts;
        assert_eq!((counts.requests, counts.refusals()), (100, 2));
        assert_eq!(counts.reasons().len(), 2);
        assert!(counts.quantile(0.5).unwrap() < 1e-5);
        assert!((0.003..0.005).contains(&counts.quantile(0.99).unwrap()));
        assert_eq!(counts.responses_over(RequestProtocol::Http2), 100);
        assert_eq!(counts.quantile_over(RequestProtocol::Http2, 0.5), counts.quantile(0.5));
        assert_eq!(
            counts.quantile_over(RequestProtocol::Http1, 0.5),
            None,
            "of a route without tokens"
        );
        assert_eq!(figures.intervals().len(), 1);
    }

    #[test]
    fn samples_are_bounded() {
        let (metrics, figures) =
            (Metrics::new(1, &MetricsSettings::default()), RecentFigures::default());
        (0..200).for_each(|_| figures.add_sample(&metrics));
        assert_eq!(figures.intervals().len(), MAX_SAMPLES - 1);
        assert_eq!(figures.recent().unwrap().counts.quantile(0.5), None);
    }
}
