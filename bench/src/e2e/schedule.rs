//! Due times of requests.

use serde::Deserialize;

use crate::order::SplitMix64;

/// Nanoseconds from the start of a load.
pub type Nanoseconds = u64;

const SECOND: f64 = 1e9;

/// Arrival process of requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// A closed loop: a request is due when a connection is free for it.
    #[default]
    ClosedLoop,
    /// An open loop: this many requests per second, at equal intervals.
    Constant(f64),
    /// An open loop: this many requests per second on average, each independent of the others, as
    /// from many independent clients.
    Poisson(f64),
}

/// End of a load, whichever limit comes first.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Maximum number of requests.
    pub requests: u64,
    /// No request is due after this time.
    pub time: std::time::Duration,
}

/// Due times of the requests of one load.
pub struct Schedule {
    pace: Pace,
    limit: Limit,
    /// Number of requests that have become due.
    issued: u64,
    /// Due time of the last request, in an open loop.
    last: f64,
    random: SplitMix64,
}

impl Schedule {
    /// Creates a schedule. The same seed gives the same times.
    #[must_use]
    pub fn new(pace: Pace, limit: Limit, seed: u64) -> Self {
        Self { pace, limit, issued: 0, last: 0.0, random: SplitMix64::new(seed) }
    }

    /// Returns when the next request is due; `None` at the end. In an open loop the due time does
    /// not depend on `now`, and may be long past.
    pub fn next(&mut self, now: Nanoseconds) -> Option<Nanoseconds> {
        let due = match self.pace {
            Pace::ClosedLoop => now,
            // Computed from the start, not from the previous request, so that errors do not
            // accumulate.
            Pace::Constant(rate) => whole(float(self.issued) * SECOND / rate),
            Pace::Poisson(rate) => {
                self.last += self.exponential() * SECOND / rate;
                whole(self.last)
            }
        };
        if self.issued == self.limit.requests || u128::from(due) >= self.limit.time.as_nanos() {
            return None;
        }
        self.issued += 1;
        Some(due)
    }

    /// Returns an exponentially distributed number with mean one.
    fn exponential(&mut self) -> f64 {
        const STEPS: u32 = 1 << 31;
        let step = u32::try_from(self.random.below(1 << 31)).unwrap_or(0);
        // The offset avoids the logarithm of zero.
        -((f64::from(step) + 0.5) / f64::from(STEPS)).ln()
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 requests"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "minutes at most, and positive"
)]
fn whole(nanoseconds: f64) -> Nanoseconds {
    nanoseconds as Nanoseconds
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Limit = Limit { requests: u64::MAX, time: Duration::from_secs(1) };

    fn times(pace: Pace, limit: Limit, seed: u64) -> Vec<Nanoseconds> {
        let mut schedule = Schedule::new(pace, limit, seed);
        // An open loop ignores the clock.
        std::iter::from_fn(|| schedule.next(999)).collect()
    }

    #[test]
    fn constant_rate_is_exact_to_the_nanosecond() {
        let times = times(Pace::Constant(3000.0), SECOND, 0);
        assert_eq!(times.len(), 3000);
        assert_eq!(times[..4], [0, 333_333, 666_666, 1_000_000]);
        assert_eq!(times[2999], 999_666_666);
    }

    #[test]
    fn poisson_arrivals_have_their_mean_and_repeat() {
        let pace = Pace::Poisson(20_000.0);
        let arrivals = times(pace, SECOND, 5);
        assert!((19_500..20_500).contains(&arrivals.len()), "{}", arrivals.len());
        assert!(arrivals.is_sorted());
        let gaps = arrivals.windows(2).map(|pair| pair[1] - pair[0]);
        // A share of 1/e of the gaps is longer than the mean.
        let long = gaps.filter(|gap| *gap > 50_000).count();
        assert!((7_000..7_700).contains(&long), "{long}");
        assert_eq!(arrivals, times(pace, SECOND, 5));
        assert_ne!(arrivals, times(pace, SECOND, 6));
    }

    #[test]
    fn schedule_ends_by_count_and_by_time() {
        let few = Limit { requests: 7, ..SECOND };
        for pace in [Pace::ClosedLoop, Pace::Constant(1e6), Pace::Poisson(1e6)] {
            assert_eq!(times(pace, few, 1).len(), 7, "{pace:?}");
        }
        let mut closed = Schedule::new(Pace::ClosedLoop, SECOND, 1);
        assert_eq!(closed.next(10), Some(10));
        assert_eq!(closed.next(999_999_999), Some(999_999_999));
        assert_eq!(closed.next(1_000_000_000), None);
    }
}
