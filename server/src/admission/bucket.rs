//! Token bucket: a rate with a bounded burst.
//!
//! [`Bucket`] implements the generic cell rate algorithm (GCRA). It stores one number, the
//! moment at which the bucket is full again if nothing more is taken. No refill step runs as
//! time passes. Costs and the capacity (the burst) are times: those in which the rate earns them.

use std::{num::NonZeroU8, time::Duration};

/// Nanoseconds on a monotonic clock: a moment, or a duration.
pub(crate) type Nanos = u64;

/// Converts a duration, which is also a moment on a clock that started at zero.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// A share of one core's time, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(NonZeroU8);

impl Share {
    /// Returns a share of `percent`, which must be from 1 to 100.
    #[must_use]
    pub fn new(percent: u8) -> Option<Self> {
        NonZeroU8::new(percent).filter(|percent| percent.get() <= 100).map(Self)
    }

    /// Returns the share in percent.
    #[must_use]
    pub fn percent(self) -> u8 {
        self.0.get()
    }

    /// Returns the time in which this share earns `cost`.
    pub(super) fn time_to_earn(self, cost: Nanos) -> Nanos {
        cost.saturating_mul(100) / Nanos::from(self.0.get())
    }
}

/// Fill level of one budget. [`Bucket::default`] is full. In the order of buckets, the greater
/// one holds less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket {
    full_at: Nanos,
}

impl Bucket {
    /// Returns the time until a bucket of this capacity is not overdrawn; zero if it is not.
    pub(super) fn wait(self, burst: Nanos, now: Nanos) -> Nanos {
        self.debt(now).saturating_sub(burst)
    }

    /// Returns the time until the bucket is full; zero if it is.
    pub(super) fn debt(self, now: Nanos) -> Nanos {
        self.full_at.saturating_sub(now)
    }

    /// Takes `cost`, even if the bucket holds less: a bucket may be overdrawn.
    pub(super) fn charge(&mut self, cost: Nanos, now: Nanos) {
        self.full_at = self.full_at.max(now).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;
    const BURST: Nanos = 2000 * MS;

    #[test]
    fn share_is_a_percentage() {
        assert_eq!((Share::new(0), Share::new(101)), (None, None));
        for (percent, time_to_earn) in [(1, 100 * MS), (5, 20 * MS), (50, 2 * MS), (100, MS)] {
            assert_eq!(
                Share::new(percent).map(|share| share.time_to_earn(MS)),
                Some(time_to_earn),
                "{percent}"
            );
        }
    }

    #[test]
    fn bucket_holds_its_burst_and_earns_its_share() {
        let (share, mut bucket) = (Share::new(10).unwrap(), Bucket::default());
        assert_eq!(bucket.debt(0), 0);
        // Four charges of 50 ms use exactly the capacity, a tenth of two seconds.
        for _ in 0..4 {
            assert_eq!(bucket.wait(BURST, 0), 0);
            bucket.charge(share.time_to_earn(50 * MS), 0);
        }
        assert_eq!(bucket.wait(BURST, 0), 0);
        bucket.charge(share.time_to_earn(MS), 0);
        assert_eq!(bucket.wait(BURST, 0), 10 * MS, "a share of 10 % earns 1 ms in 10 ms");
        assert_eq!((bucket.wait(BURST, 9 * MS), bucket.wait(BURST, 10 * MS)), (MS, 0));
        assert!(bucket.debt(2009 * MS) > 0 && bucket.debt(2010 * MS) == 0);
    }

    #[test]
    fn bucket_does_not_fill_beyond_its_burst() {
        let (share, mut idle) = (Share::new(10).unwrap(), Bucket::default());
        idle.charge(share.time_to_earn(250 * MS), 3_600_000 * MS);
        assert_eq!(
            idle.wait(BURST, 3_600_000 * MS),
            500 * MS,
            "an idle hour earns no more than the burst"
        );
    }

    #[test]
    fn bucket_saturates_at_the_largest_time() {
        let (share, mut bucket) = (Share::new(1).unwrap(), Bucket::default());
        bucket.charge(share.time_to_earn(Nanos::MAX), Nanos::MAX);
        assert_eq!(bucket.wait(BURST, Nanos::MAX), 0);
        assert_eq!(bucket.wait(BURST, 0), Nanos::MAX - BURST);
    }
}
