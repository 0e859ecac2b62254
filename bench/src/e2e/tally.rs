//! What a load has shown.

use hdrhistogram::Histogram;

use super::schedule::Nanoseconds;

/// Counts and latencies of one load.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Of the requests that nothing was wrong with.
    pub valid: Histogram<u64>,
    /// Of the others.
    pub invalid: Histogram<u64>,
    /// How often was connected.
    pub connections: u64,
    /// From the start until the last answer.
    pub elapsed: Nanoseconds,
}

impl Default for Tally {
    fn default() -> Self {
        /// A run is over long before.
        const MOST: u64 = 120_000_000_000;
        const DIGITS: u8 = 3;
        let empty = Histogram::new_with_bounds(1, MOST, DIGITS);
        let empty = empty
            .unwrap_or_else(|_| unreachable!("three digits and a range that is none too large"));
        Self { valid: empty.clone(), invalid: empty, connections: 0, elapsed: 0 }
    }
}

impl Tally {
    /// Counts an answer.
    pub fn answered(&mut self, bad: bool, latency: Nanoseconds) {
        // What took longer than the longest counts as the longest.
        if bad { &mut self.invalid } else { &mut self.valid }.saturating_record(latency.max(1));
    }

    /// All requests, each of which was answered as it should be.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.valid.len() + self.invalid.len()
    }
}

/// Of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantiles {
    /// Half of them were shorter.
    pub p50: f64,
    /// All but one in a hundred.
    pub p99: f64,
    /// All but one in a thousand.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    /// `None` where nothing was recorded.
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
    fn good_and_bad_are_told_apart() {
        let mut tally = Tally::default();
        for latency in 1..=1000 {
            tally.answered(false, latency * 1000);
        }
        tally.answered(true, 5_000_000);
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
