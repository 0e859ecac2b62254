//! Tables from the registries that a program could keep verified tokens in, each
//! with the fastest hash for strings of this length. Their lookups give a number
//! back: nothing is checked or copied out, so that they are the least it can cost.

use ahash::RandomState;

use crate::tokens::Tokens;

/// The mainstream concurrent map: shards, each under a lock.
pub type Dashmap = dashmap::DashMap<Box<[u8]>, u64, RandomState>;
/// Reads without locks.
pub type Papaya = papaya::HashMap<Box<[u8]>, u64, RandomState>;
/// Evicts; of these it alone would keep within a bound.
pub type QuickCache =
    quick_cache::sync::Cache<Box<[u8]>, u64, quick_cache::UnitWeighter, RandomState>;

/// A map of these tokens.
#[must_use]
pub fn dashmap(tokens: &Tokens) -> Dashmap {
    let table = Dashmap::with_capacity_and_hasher(tokens.len(), RandomState::new());
    for (token, value) in tokens.iter().zip(0..) {
        table.insert(token.into(), value);
    }
    table
}

/// A map of these tokens.
#[must_use]
pub fn papaya(tokens: &Tokens) -> Papaya {
    let table = Papaya::with_capacity_and_hasher(tokens.len(), RandomState::new());
    for (token, value) in tokens.iter().zip(0..) {
        table.pin().insert(token.into(), value);
    }
    table
}

/// A cache of these tokens, with room so that none is evicted.
#[must_use]
pub fn quick_cache(tokens: &Tokens) -> QuickCache {
    // It divides its capacity among shards, and tokens do not divide evenly.
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
