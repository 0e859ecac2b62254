//! When requests are due.

use serde::Deserialize;

use crate::order::Order;

/// Nanoseconds from the start of a load.
pub type Nanoseconds = u64;

const SECOND: f64 = 1e9;

/// How requests follow one another.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// A closed loop: a request is due when a connection is free for it.
    #[default]
    AsItGoes,
    /// An open loop, so many a second at equal distances.
    Constant(f64),
    /// An open loop, so many a second on average, each independent of the others, as
    /// from many clients that know nothing of one another.
    Poisson(f64),
}

/// When a load ends, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Requests, at most.
    pub requests: u64,
    /// Nothing falls due after this.
    pub time: std::time::Duration,
}

/// The times at which the requests of one load are due.
pub struct Schedule {
    pace: Pace,
    limit: Limit,
    /// Requests that have fallen due.
    given: u64,
    /// When the last one did, in an open loop.
    last: f64,
    order: Order,
}

impl Schedule {
    /// The same seed gives the same times.
    #[must_use]
    pub fn new(pace: Pace, limit: Limit, seed: u64) -> Self {
        Self { pace, limit, given: 0, last: 0.0, order: Order::new(seed) }
    }

    /// When the next request is due; `None` when there are no more. In an open loop
    /// that has nothing to do with `now`, and may be long past.
    pub fn next(&mut self, now: Nanoseconds) -> Option<Nanoseconds> {
        let due = match self.pace {
            Pace::AsItGoes => now,
            // From the start, not from the one before: errors do not add up.
            Pace::Constant(rate) => whole(float(self.given) * SECOND / rate),
            Pace::Poisson(rate) => {
                self.last += self.exponential() * SECOND / rate;
                whole(self.last)
            }
        };
        if self.given == self.limit.requests || u128::from(due) >= self.limit.time.as_nanos() {
            return None;
        }
        self.given += 1;
        Some(due)
    }

    /// Of mean one.
    fn exponential(&mut self) -> f64 {
        const STEPS: u32 = 1 << 31;
        let step = u32::try_from(self.order.below(1 << 31)).unwrap_or(0);
        // Never the logarithm of nothing.
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
    reason = "times of minutes, after the start"
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
        // What the clock says is of no concern to an open loop.
        std::iter::from_fn(|| schedule.next(999)).collect()
    }

    #[test]
    fn a_constant_rate_is_kept_to_the_nanosecond() {
        let times = times(Pace::Constant(3000.0), SECOND, 0);
        assert_eq!(times.len(), 3000);
        assert_eq!(times[..4], [0, 333_333, 666_666, 1_000_000]);
        assert_eq!(times[2999], 999_666_666);
    }

    #[test]
    fn poisson_arrivals_have_their_mean_and_their_bursts_and_come_again() {
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
    fn a_load_ends_by_count_and_by_time() {
        let few = Limit { requests: 7, ..SECOND };
        for pace in [Pace::AsItGoes, Pace::Constant(1e6), Pace::Poisson(1e6)] {
            assert_eq!(times(pace, few, 1).len(), 7, "{pace:?}");
        }
        let mut closed = Schedule::new(Pace::AsItGoes, SECOND, 1);
        assert_eq!(closed.next(10), Some(10));
        assert_eq!(closed.next(999_999_999), Some(999_999_999));
        assert_eq!(closed.next(1_000_000_000), None);
    }
}
