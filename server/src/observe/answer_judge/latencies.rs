//! Latency histograms of a load test: eight buckets between each power of two, so that a percentile
//! is at most an eighth too high.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    base::route::Route,
    observe::{access_log::CompletedRequest, metrics::RequestProtocol},
};

/// The protocol of a judged answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestedProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, except for gRPC.
    Http2,
    /// HTTP/3.
    Http3,
    /// Envoy's checks over gRPC.
    Grpc,
    /// SPOP of HAProxy.
    Spop,
}

impl TestedProtocol {
    /// All protocols.
    pub const ALL: [Self; 5] = [Self::Http1, Self::Http2, Self::Http3, Self::Grpc, Self::Spop];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
            Self::Grpc => "grpc",
            Self::Spop => "spop",
        }
    }

    pub(super) const fn of(completed: &CompletedRequest) -> Self {
        match (completed.protocol, completed.route) {
            (RequestProtocol::Spop, _) => Self::Spop,
            (_, Route::Check) => Self::Grpc,
            (RequestProtocol::Http1, _) => Self::Http1,
            (RequestProtocol::Http2, _) => Self::Http2,
            (RequestProtocol::Http3, _) => Self::Http3,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Http1 => 0,
            Self::Http2 => 1,
            Self::Http3 => 2,
            Self::Grpc => 3,
            Self::Spop => 4,
        }
    }
}

/// Buckets between two powers of two, as a power of two.
const STEP_BITS: u32 = 3;
/// Latencies up to 2^38 ns, which are four minutes; longer ones are in the last bucket.
const BUCKETS: usize = 37 << STEP_BITS;

/// Latencies of one thread over one protocol.
pub(super) struct LatencyHistogram {
    buckets: [AtomicU64; BUCKETS],
    max_nanos: AtomicU64,
}

impl LatencyHistogram {
    pub(super) fn new() -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self { buckets, max_nanos: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        self.max_nanos.fetch_max(nanos, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        let counters = self.buckets.iter().chain([&self.max_nanos]);
        counters.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

/// Returns the bucket of a latency: its highest bit, and the next three.
fn bucket_of(nanos: u64) -> usize {
    let Some(octave) = nanos.checked_ilog2().and_then(|log| log.checked_sub(STEP_BITS)) else {
        return usize::try_from(nanos).unwrap_or(BUCKETS).min(BUCKETS - 1);
    };
    let step = (nanos >> octave) & ((1 << STEP_BITS) - 1);
    let bucket = (u64::from(octave + 1) << STEP_BITS) + step;
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// Returns the lowest latency of the next bucket, in nanoseconds.
fn bound_of(bucket: usize) -> u64 {
    let next = u64::try_from(bucket + 1).unwrap_or(u64::MAX);
    let (octave, step) = (next >> STEP_BITS, next & ((1 << STEP_BITS) - 1));
    match octave.checked_sub(1) {
        None => next,
        Some(shift) => ((1 << STEP_BITS) + step) << shift,
    }
}

/// The latencies of the answers over one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySummary {
    /// Number of answers.
    pub count: u64,
    /// Latencies that half of the answers did not exceed, then 90 %, 99 % and 99.9 %.
    pub percentiles: [Duration; 4],
    /// The longest one.
    pub max: Duration,
}

/// The parts of [`LatencySummary::percentiles`], in thousandths.
const PARTS: [u64; 4] = [500, 900, 990, 999];

impl LatencySummary {
    pub(super) fn of<'h>(histograms: impl Iterator<Item = &'h LatencyHistogram>) -> Self {
        let (mut buckets, mut max) = ([0; BUCKETS], 0);
        for histogram in histograms {
            let counts = histogram.buckets.iter().map(|count| count.load(Ordering::Relaxed));
            buckets.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            max = max.max(histogram.max_nanos.load(Ordering::Relaxed));
        }
        let count = buckets.iter().sum();
        let percentile = |part| Duration::from_nanos(percentile(&buckets, count, part).min(max));
        Self { count, percentiles: PARTS.map(percentile), max: Duration::from_nanos(max) }
    }
}

fn percentile(buckets: &[u64; BUCKETS], count: u64, thousandths: u64) -> u64 {
    let wanted = (count * thousandths).div_ceil(1000);
    let mut seen = 0;
    let found = buckets.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    found.map_or(0, bound_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_bucket_is_an_eighth_wide() {
        for nanos in [0, 1, 7, 8, 9, 15, 16, 100, 1000, 123_456, 1 << 30, (1 << 37) + 5] {
            let bucket = bucket_of(nanos);
            let (low, high) = (bucket.checked_sub(1).map_or(0, bound_of), bound_of(bucket));
            assert!(low <= nanos && nanos < high, "{nanos}: {low}..{high}");
            assert!(high - low <= (low / 8).max(1), "{nanos}: {low}..{high}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_of_all_threads() {
        let (one, other) = (LatencyHistogram::new(), LatencyHistogram::new());
        (0..99).for_each(|_| one.add(Duration::from_micros(10)));
        other.add(Duration::from_millis(2));
        let summary = LatencySummary::of([&one, &other].into_iter());
        let [half, most, nearly_all, longest] = summary.percentiles;
        assert_eq!(summary.count, 100);
        let micros = |latency: Duration| latency.as_micros();
        assert!((10..=11).contains(&micros(half)) && half == most && most == nearly_all);
        assert_eq!((longest, summary.max), (Duration::from_millis(2), Duration::from_millis(2)));
        assert_eq!(LatencySummary::of([].into_iter()), LatencySummary::default());
    }
}
