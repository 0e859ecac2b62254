//! One budget: a share of a core's time, some of which may be spent at once.
//!
//! A token bucket, kept as the generic cell rate algorithm keeps it: not how full it
//! is, but when it will be full again if nothing more is taken. One number says
//! that, and nothing has to be poured in as time goes by.

use std::num::NonZeroU8;

/// A moment on a worker's clock, or a span of it.
pub(super) type Nanos = u64;

/// A bucket holds what its share earns in this time.
pub(super) const BURST: Nanos = 2_000_000_000;

/// A share of one core's time, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(NonZeroU8);

impl Share {
    /// All of it.
    pub(super) const WHOLE: Self = Self(NonZeroU8::new(100).unwrap());

    /// So many percent, from 1 to 100.
    #[must_use]
    pub fn new(percent: u8) -> Option<Self> {
        NonZeroU8::new(percent).filter(|percent| percent.get() <= 100).map(Self)
    }

    /// How many percent.
    #[must_use]
    pub fn percent(self) -> u8 {
        self.0.get()
    }

    /// How long it takes to earn `cost`.
    fn time_to_earn(self, cost: Nanos) -> Nanos {
        cost.saturating_mul(100) / Nanos::from(self.0.get())
    }
}

/// What is left of a budget; full to begin with. A greater bucket is one with less
/// in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket {
    full_at: Nanos,
}

impl Bucket {
    /// How long until there is something in it again; zero while there is.
    pub(super) fn wait(self, now: Nanos) -> Nanos {
        self.full_at.saturating_sub(now.saturating_add(BURST))
    }

    /// Takes `cost` out, even where less than that is left.
    pub(super) fn charge(&mut self, share: Share, cost: Nanos, now: Nanos) {
        self.full_at = self.full_at.max(now).saturating_add(share.time_to_earn(cost));
    }

    /// Whether it is as if nothing had ever been taken.
    pub(super) fn is_full(self, now: Nanos) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn a_share_is_a_percentage() {
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
    fn a_bucket_holds_its_burst_and_earns_its_share() {
        let (share, mut bucket) = (Share::new(10).unwrap(), Bucket::default());
        assert!(bucket.is_full(0));
        // A tenth of two seconds, in four parts: then it is just not spent.
        for _ in 0..4 {
            assert_eq!(bucket.wait(0), 0);
            bucket.charge(share, 50 * MS, 0);
        }
        assert_eq!(bucket.wait(0), 0);
        bucket.charge(share, MS, 0);
        assert_eq!(bucket.wait(0), 10 * MS, "a millisecond is earned in ten");
        assert_eq!((bucket.wait(9 * MS), bucket.wait(10 * MS)), (MS, 0));
        assert!(!bucket.is_full(2009 * MS) && bucket.is_full(2010 * MS));
    }

    #[test]
    fn a_full_bucket_does_not_overflow_with_time() {
        let (share, mut idle) = (Share::new(10).unwrap(), Bucket::default());
        idle.charge(share, 250 * MS, 3_600_000 * MS);
        assert_eq!(
            idle.wait(3_600_000 * MS),
            500 * MS,
            "an hour of quiet earns no more than the burst"
        );
    }

    #[test]
    fn the_ends_of_time_do_no_harm() {
        let (share, mut bucket) = (Share::new(1).unwrap(), Bucket::default());
        bucket.charge(share, Nanos::MAX, Nanos::MAX);
        assert_eq!(bucket.wait(Nanos::MAX), 0);
        assert_eq!(bucket.wait(0), Nanos::MAX - BURST);
    }
}
