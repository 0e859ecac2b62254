//! Rate limits by source address: for bad signatures, reconnects after abuse, and logins. By
//! another key: in [`KeyedBudget`](super::KeyedBudget).
//!
//! [`RateLimiter`] is a set-associative table of sources with their buckets, of fixed size. A
//! keyed hash selects the set of a [`Source`], so an attacker cannot choose whose set they share.
//! When a set is full, a new source evicts the one with the smallest debt. Many sources can
//! therefore evict one with a small debt, which then has its full budget again; a source that has
//! used up its budget is evicted last. Only sources that were charged take a slot, so well-behaved
//! clients never compete for one.

use std::{
    fmt,
    hash::{BuildHasher as _, Hash, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::bucket::{Bucket, Nanos};

/// Source address of a client: an IPv4 address, or an IPv6 /64 network.
///
/// A /64 is what one client is assigned. IPv4 addresses in IPv6 form, mapped by the system or
/// translated by NAT64, count as IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Source {
    /// Returns the source that `address` belongs to.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) if address.to_bits() & !IPV4_BITS == NAT64_PREFIX => {
                IpAddr::V4(Ipv4Addr::from_bits(
                    u32::try_from(address.to_bits() & IPV4_BITS).unwrap_or_default(),
                ))
            }
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK_BITS))
            }
            v4 => v4,
        })
    }
}

impl Source {
    /// Returns the IPv4 address, or the first address of the IPv6 network.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

/// 64:ff9b::/96, the well-known NAT64 prefix (RFC 6052 section 2.1).
const NAT64_PREFIX: u128 = 0x0064_ff9b << 96;
/// Bits of the IPv4 address in a NAT64 address.
const IPV4_BITS: u128 = 0xffff_ffff;
/// Network bits of an IPv6 address, its upper half.
const NETWORK_BITS: u128 = !0 << 64;

/// Token buckets of one capacity, by key.
///
/// The caller passes the time; this type reads no clock.
pub(crate) struct RateLimiter<K> {
    burst: Nanos,
    slots: Box<[LimiterSlot<K>]>,
    hasher: RandomState,
}

/// Token buckets by source.
pub(crate) type SourceLimiter = RateLimiter<Source>;

#[derive(Clone, Copy)]
struct LimiterSlot<K> {
    key: K,
    bucket: Bucket,
}

/// Slots of a set: two cache lines of four.
const SET_SLOTS: usize = 8;

impl SourceLimiter {
    /// Creates a limiter of `capacity` sources, rounded up to whole sets. Each may take `burst` at
    /// once and overdraw it by one charge.
    pub(crate) fn new(capacity: usize, burst: Nanos) -> Self {
        Self::with_key(capacity, burst, Source(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }
}

impl<K: Copy + Eq + Hash> RateLimiter<K> {
    /// Creates a limiter as [`SourceLimiter::new`] does. Free slots have the key `vacant`.
    pub(crate) fn with_key(capacity: usize, burst: Nanos, vacant: K) -> Self {
        // Without debt, so any key evicts it.
        let empty = LimiterSlot { key: vacant, bucket: Bucket::default() };
        Self {
            burst,
            slots: vec![empty; capacity.max(1).next_multiple_of(SET_SLOTS)].into(),
            hasher: RandomState::new(),
        }
    }

    /// Returns the time until a key may be charged again; zero if it may be now.
    pub(crate) fn wait(&self, key: K, now: Nanos) -> Nanos {
        self.bucket(key).wait(self.burst, now)
    }

    /// Returns the bucket of a key.
    pub(super) fn bucket(&self, key: K) -> Bucket {
        let set = &self.slots[self.set_start(key)..][..SET_SLOTS];
        set.iter().find(|slot| slot.key == key).map_or_else(Bucket::default, |slot| slot.bucket)
    }

    /// Charges a key, which may be overdrawn. Returns its bucket, and whether another key that was
    /// still in debt was evicted for it.
    pub(crate) fn charge(&mut self, key: K, cost: Nanos, now: Nanos) -> (Bucket, bool) {
        let start = self.set_start(key);
        let set = &mut self.slots[start..][..SET_SLOTS];
        let known = set.iter().position(|slot| slot.key == key);
        let index = known.unwrap_or_else(|| least_indebted(set));
        let slot = &mut set[index];
        let evicted = known.is_none() && slot.bucket.debt(now) > 0;
        if known.is_none() {
            *slot = LimiterSlot { key, bucket: Bucket::default() };
        }
        slot.bucket.charge(cost, now);
        (slot.bucket, evicted)
    }

    /// Returns the index of the first slot of the key's set.
    fn set_start(&self, key: K) -> usize {
        let hash = self.hasher.hash_one(key) >> 32;
        SET_SLOTS * (usize::try_from(hash).unwrap_or_default() % (self.slots.len() / SET_SLOTS))
    }
}

/// Returns the index of the slot with the smallest debt.
fn least_indebted<K>(set: &[LimiterSlot<K>]) -> usize {
    let least = set.iter().enumerate().min_by_key(|(_, slot)| slot.bucket);
    least.map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;
    /// Two seconds at a rate of one percent.
    const BURST: Nanos = 2000 * MS;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    fn numbered(number: u32) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn source_is_an_ipv4_address_or_an_ipv6_64() {
        for text in ["::ffff:192.0.2.1", "64:ff9b::192.0.2.1"] {
            assert_eq!(source(text), source("192.0.2.1"));
        }
        assert_ne!(source("64:ff9b::192.0.2.1"), source("64:ff9b::192.0.2.2"));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        for (one, other) in [
            ("192.0.2.1", "192.0.2.2"),
            ("2001:db8:1:2::1", "2001:db8:1:3::1"),
            ("::1", "127.0.0.1"),
        ] {
            assert_ne!(source(one), source(other));
        }
    }

    #[test]
    fn sources_have_separate_budgets() {
        let mut sources = SourceLimiter::new(SET_SLOTS, BURST);
        sources.charge(source("192.0.2.1"), 100 * MS, 0);
        let (left, _) = sources.charge(source("192.0.2.1"), 2000 * MS, 0);
        assert_eq!([left.wait(BURST, 0), sources.wait(source("192.0.2.1"), 0)], [100 * MS; 2]);
        assert_eq!(sources.wait(source("192.0.2.2"), 0), 0);
    }

    #[test]
    fn full_table_evicts_the_smallest_debt() {
        let mut sources = SourceLimiter::new(SET_SLOTS, BURST);
        let debtor = numbered(1);
        sources.charge(debtor, 100_000 * MS, 0);
        let spent = sources.wait(debtor, 0);
        let room = sources.slots.len();
        let evicted =
            (2..100_000).filter(|number| sources.charge(numbered(*number), 100 * MS, 0).1).count();
        assert_eq!(evicted, 100_000 - 2 - (SET_SLOTS - 1), "all but those that took a free slot");
        assert_eq!((sources.wait(debtor, 0), sources.slots.len()), (spent, room));
    }

    #[test]
    fn eviction_of_a_full_bucket_is_not_reported() {
        let mut sources = SourceLimiter::new(SET_SLOTS, BURST);
        for number in 1..=1000 {
            let (_, evicted) = sources.charge(numbered(number), MS, u64::from(number) * MS);
            assert!(!evicted, "{number}");
        }
    }

    #[test]
    fn sources_spread_over_all_sets() {
        let mut sources = SourceLimiter::new(64 * SET_SLOTS, BURST);
        for number in 1..10_000 {
            sources.charge(numbered(number), 100 * MS, 0);
        }
        assert!(sources.slots.iter().all(|slot| slot.bucket != Bucket::default()));
    }
}
