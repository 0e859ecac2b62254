//! Results of a load.

use hdrhistogram::Histogram;

use super::schedule::Nanoseconds;

/// Counts and latencies of one load.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Latencies of valid requests, in nanoseconds.
    pub valid: Histogram<u64>,
    /// Latencies of bad requests, in nanoseconds.
    pub invalid: Histogram<u64>,
    /// Number of connections made.
    pub connections: u64,
    /// Time from the start until the last answer.
    pub elapsed: Nanoseconds,
}

impl Default for Tally {
    fn default() -> Self {
        /// A run ends long before this.
        const MAX_LATENCY: u64 = 120_000_000_000;
        const DIGITS: u8 = 3;
        let empty = Histogram::new_with_bounds(1, MAX_LATENCY, DIGITS);
        let empty =
            empty.unwrap_or_else(|_| unreachable!("three digits over this range are valid bounds"));
        Self { valid: empty.clone(), invalid: empty, connections: 0, elapsed: 0 }
    }
}

impl Tally {
    /// Records an answer.
    pub fn record(&mut self, bad: bool, latency: Nanoseconds) {
        // A latency above [`MAX_LATENCY`] counts as the maximum.
        if bad { &mut self.invalid } else { &mut self.valid }.saturating_record(latency.max(1));
    }

    /// Returns the number of requests, all of them answered as expected.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.valid.len() + self.invalid.len()
    }
}

/// Quantiles of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The maximum.
    pub max: f64,
}

impl Quantiles {
    /// Computes the quantiles; `None` if nothing was recorded.
    #[must_use]
    pub fn of(latencies: &Histogram<u64>) -> Option<Self> {
        #[expect(
            clippy::as_conversions,
            clippy::cast_precision_loss,
            reason = "less than 2^52 nanoseconds"
        )]
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let at = |quantile| microseconds(latencies.value_at_quantile(quantile));
        let quantiles = Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: microseconds(latencies.max()),
        };
        (!latencies.is_empty()).then_some(quantiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_bad_requests_are_counted_separately() {
        let mut tally = Tally::default();
        for latency in 1..=1000 {
            tally.record(false, latency * 1000);
        }
        tally.record(true, 5_000_000);
        assert_eq!(tally.requests(), 1001);
        let valid = Quantiles::of(&tally.valid).unwrap();
        for (measured, expected) in
            [(valid.p50, 500.0), (valid.p99, 990.0), (valid.p999, 999.0), (valid.max, 1000.0)]
        {
            assert!((measured / expected - 1.0).abs() < 2e-3, "{measured} {expected}");
        }
        assert!(Quantiles::of(&tally.invalid).unwrap().p50 > 4_990.0);
        assert!(Quantiles::of(&Tally::default().valid).is_none());
    }
}
