//! Where bad signatures and connections that were cut off come from: a table of sources,
//! bounded however many there are.
//!
//! It is a table of small sets, and a keyed hash says to which a source belongs, so
//! that nobody can choose neighbours. In a set that is full, whoever owes least is
//! forgotten for a newcomer. So many sources can push out one that owes a little, and
//! give it that back; one that has spent its budget goes last. Only sources that have done
//! something have a place: honest ones are never in the way.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::bucket::{Bucket, Nanos, Share};

/// One client, as far as addresses tell: an IPv4 address, or an IPv6 network of 64
/// bits, since that is what one client is given. An IPv4 address that was written as
/// an IPv6 one, by the system or a translator, is an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Source {
    /// The client at an address.
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

/// 64:ff9b::/96, the prefix of translated addresses (RFC 6052 section 2.1).
const NAT64_PREFIX: u128 = 0x0064_ff9b << 96;
/// Where the IPv4 address is in them.
const IPV4_BITS: u128 = 0xffff_ffff;
/// The upper half of an IPv6 address.
const NETWORK_BITS: u128 = !0 << 64;

/// What sources have left of their budgets.
pub(super) struct SourceTable {
    slots: Box<[SourceSlot]>,
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct SourceSlot {
    source: Source,
    bucket: Bucket,
}

/// How many sources share a set: two cache lines of four.
const SET_SLOTS: usize = 8;

impl SourceTable {
    /// Room for so many sources, rounded up to whole sets.
    pub(super) fn new(capacity: usize) -> Self {
        // It owes nothing, so it gives way to everybody.
        let empty = SourceSlot {
            source: Source(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            bucket: Bucket::default(),
        };
        Self {
            slots: vec![empty; capacity.max(1).next_multiple_of(SET_SLOTS)].into(),
            hasher: RandomState::new(),
        }
    }

    /// What a source has left: everything, unless it is known.
    pub(super) fn get(&self, source: Source) -> Bucket {
        let set = &self.slots[self.set_start(source)..][..SET_SLOTS];
        set.iter()
            .find(|place| place.source == source)
            .map_or_else(Bucket::default, |place| place.bucket)
    }

    /// Charges a source; says what it has left, and whether another that still owed
    /// something was forgotten for it.
    pub(super) fn charge(
        &mut self,
        source: Source,
        share: Share,
        cost: Nanos,
        now: Nanos,
    ) -> (Bucket, bool) {
        let start = self.set_start(source);
        let set = &mut self.slots[start..][..SET_SLOTS];
        let known = set.iter().position(|place| place.source == source);
        let index = known.unwrap_or_else(|| least_indebted(set));
        let place = &mut set[index];
        let forgotten = known.is_none() && !place.bucket.is_full(now);
        if known.is_none() {
            *place = SourceSlot { source, bucket: Bucket::default() };
        }
        place.bucket.charge(share, cost, now);
        (place.bucket, forgotten)
    }

    /// Where the set of a source begins.
    fn set_start(&self, source: Source) -> usize {
        let hash = self.hasher.hash_one(source) >> 32;
        SET_SLOTS * (usize::try_from(hash).unwrap_or_default() % (self.slots.len() / SET_SLOTS))
    }
}

/// The place of the source that owes least.
fn least_indebted(set: &[SourceSlot]) -> usize {
    let least = set.iter().enumerate().min_by_key(|(_, place)| place.bucket);
    least.map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    fn numbered(number: u32) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_network_of_64_bits() {
        for written in ["::ffff:192.0.2.1", "64:ff9b::192.0.2.1"] {
            assert_eq!(source(written), source("192.0.2.1"));
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
    fn each_source_has_its_own_budget() {
        let (mut sources, share) = (SourceTable::new(SET_SLOTS), Share::new(1).unwrap());
        sources.charge(source("192.0.2.1"), share, MS, 0);
        let (left, _) = sources.charge(source("192.0.2.1"), share, 20 * MS, 0);
        assert_eq!((left.wait(0), sources.get(source("192.0.2.1"))), (100 * MS, left));
        assert_eq!(sources.get(source("192.0.2.2")), Bucket::default());
    }

    #[test]
    fn a_full_table_stays_as_large_and_forgets_who_owes_least() {
        let (mut sources, share) = (SourceTable::new(SET_SLOTS), Share::new(1).unwrap());
        let debtor = numbered(1);
        sources.charge(debtor, share, 1000 * MS, 0);
        let spent = sources.get(debtor);
        let room = sources.slots.len();
        let forgotten =
            (2..100_000).filter(|number| sources.charge(numbered(*number), share, MS, 0).1).count();
        assert_eq!(
            forgotten,
            100_000 - 2 - (SET_SLOTS - 1),
            "every one but those that found a free place"
        );
        assert_eq!((sources.get(debtor), sources.slots.len()), (spent, room));
    }

    #[test]
    fn who_owes_nothing_any_more_is_forgotten_without_loss() {
        let (mut sources, share) = (SourceTable::new(SET_SLOTS), Share::new(100).unwrap());
        for number in 1..=1000 {
            let (_, forgotten) =
                sources.charge(numbered(number), share, MS, u64::from(number) * MS);
            assert!(!forgotten, "{number}");
        }
    }

    #[test]
    fn every_set_of_a_large_table_is_used() {
        let (mut sources, share) = (SourceTable::new(64 * SET_SLOTS), Share::new(1).unwrap());
        for number in 1..10_000 {
            sources.charge(numbered(number), share, MS, 0);
        }
        assert!(sources.slots.iter().all(|place| place.bucket != Bucket::default()));
    }
}
