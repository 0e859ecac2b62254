//! Other hash tables that a program could keep verified tokens in, each with the fastest hash
//! function for strings of this length. A lookup returns a number. Nothing is checked or copied, so
//! that the times are a lower bound for such a table.

use ahash::RandomState;

use crate::tokens::Tokens;

/// The most common concurrent map: shards, each behind a lock.
pub type Dashmap = dashmap::DashMap<Box<[u8]>, u64, RandomState>;
/// A concurrent map with lock-free reads.
pub type Papaya = papaya::HashMap<Box<[u8]>, u64, RandomState>;
/// A cache with eviction: the only one of the three with a bounded size.
pub type QuickCache =
    quick_cache::sync::Cache<Box<[u8]>, u64, quick_cache::UnitWeighter, RandomState>;

/// Returns a [`Dashmap`] of these tokens.
#[must_use]
pub fn dashmap(tokens: &Tokens) -> Dashmap {
    let table = Dashmap::with_capacity_and_hasher(tokens.len(), RandomState::new());
    for (token, value) in tokens.iter().zip(0..) {
        table.insert(token.into(), value);
    }
    table
}

/// Returns a [`Papaya`] map of these tokens.
#[must_use]
pub fn papaya(tokens: &Tokens) -> Papaya {
    let table = Papaya::with_capacity_and_hasher(tokens.len(), RandomState::new());
    for (token, value) in tokens.iter().zip(0..) {
        table.pin().insert(token.into(), value);
    }
    table
}

/// Returns a [`QuickCache`] of these tokens, large enough that none is evicted.
#[must_use]
pub fn quick_cache(tokens: &Tokens) -> QuickCache {
    // The capacity is divided among shards, and tokens do not spread evenly over them.
    let capacity = tokens.len() * 5 / 4 + 1024;
    let weight = u64::try_from(capacity).unwrap_or(u64::MAX);
    let table = QuickCache::with(
        capacity,
        weight,
        quick_cache::UnitWeighter,
        RandomState::new(),
        Default::default(),
    );
    for (token, value) in tokens.iter().zip(0..) {
        table.insert(token.into(), value);
    }
    table
}
