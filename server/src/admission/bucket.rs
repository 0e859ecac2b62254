//! Token bucket of one budget: a share of a core's time with a bounded burst.
//!
//! [`Bucket`] implements the generic cell rate algorithm (GCRA). It stores one number, the
//! moment at which the bucket is full again if nothing more is taken. No refill step runs as
//! time passes.

use std::num::NonZeroU8;

/// Nanoseconds on a worker's clock: a moment, or a duration.
pub(super) type Nanos = u64;

/// Capacity of a [`Bucket`], as the time in which its [`Share`] refills it.
pub(super) const BURST: Nanos = 2_000_000_000;

/// A share of one core's time, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(NonZeroU8);

impl Share {
    /// The whole core.
    pub(super) const WHOLE: Self = Self(NonZeroU8::new(100).unwrap());

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
    fn time_to_earn(self, cost: Nanos) -> Nanos {
        cost.saturating_mul(100) / Nanos::from(self.0.get())
    }
}

/// Fill level of one budget. [`Bucket::default`] is full. In the order of buckets, the greater
/// one holds less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket {
    full_at: Nanos,
}

impl Bucket {
    /// Returns the time until the bucket is no longer empty; zero if it is not empty.
    pub(super) fn wait(self, now: Nanos) -> Nanos {
        self.full_at.saturating_sub(now.saturating_add(BURST))
    }

    /// Takes `cost`, even if the bucket holds less: a bucket may be overdrawn.
    pub(super) fn charge(&mut self, share: Share, cost: Nanos, now: Nanos) {
        self.full_at = self.full_at.max(now).saturating_add(share.time_to_earn(cost));
    }

    /// Returns whether the bucket has refilled completely.
    pub(super) fn is_full(self, now: Nanos) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

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
        assert!(bucket.is_full(0));
        // Four charges of 50 ms use exactly the capacity, a tenth of two seconds.
        for _ in 0..4 {
            assert_eq!(bucket.wait(0), 0);
            bucket.charge(share, 50 * MS, 0);
        }
        assert_eq!(bucket.wait(0), 0);
        bucket.charge(share, MS, 0);
        assert_eq!(bucket.wait(0), 10 * MS, "a share of 10 % earns 1 ms in 10 ms");
        assert_eq!((bucket.wait(9 * MS), bucket.wait(10 * MS)), (MS, 0));
        assert!(!bucket.is_full(2009 * MS) && bucket.is_full(2010 * MS));
    }

    #[test]
    fn bucket_does_not_fill_beyond_its_burst() {
        let (share, mut idle) = (Share::new(10).unwrap(), Bucket::default());
        idle.charge(share, 250 * MS, 3_600_000 * MS);
        assert_eq!(
            idle.wait(3_600_000 * MS),
            500 * MS,
            "an idle hour earns no more than the burst"
        );
    }

    #[test]
    fn bucket_saturates_at_the_largest_time() {
        let (share, mut bucket) = (Share::new(1).unwrap(), Bucket::default());
        bucket.charge(share, Nanos::MAX, Nanos::MAX);
        assert_eq!(bucket.wait(Nanos::MAX), 0);
        assert_eq!(bucket.wait(0), Nanos::MAX - BURST);
    }
}
