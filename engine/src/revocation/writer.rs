//! The [`RevocationsWriter`]: inserts and purges the entries of a [`Revocations`] table.

use core::fmt;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use super::{
    RevocationShard, Revocations, SHARDS, UNAVAILABLE,
    filter::BloomFilter,
    target::{Revocation, RevocationEntry, RevocationTarget, decode_name},
};
use crate::time::UnixTime;

/// The single writer of one [`Revocations`] table.
#[derive(Debug)]
pub struct RevocationsWriter {
    revocations: Arc<Revocations>,
    capacity: usize,
    count: usize,
}

impl RevocationsWriter {
    /// Creates an empty table.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { revocations: Arc::new(Revocations::new(0, capacity)), capacity, count: 0 }
    }

    /// Creates a table that is not loaded yet. Until [`restore`](Self::restore) is called, every
    /// token is refused with
    /// [`Reject::RevocationsUnavailable`](crate::Reject::RevocationsUnavailable).
    #[must_use]
    pub fn unavailable(capacity: usize) -> Self {
        Self { revocations: Arc::new(Revocations::new(UNAVAILABLE, capacity)), capacity, count: 0 }
    }

    /// The table, for [`VerifierBuilder::revocations`](crate::VerifierBuilder::revocations).
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Marks the table as unavailable, because stored revocations cannot be read. Tokens are
    /// refused with [`Reject::RevocationsUnavailable`](crate::Reject::RevocationsUnavailable) until
    /// the next [`insert`](Self::insert) or [`restore`](Self::restore).
    pub fn mark_unavailable(&mut self) {
        self.revocations.present.fetch_or(UNAVAILABLE, Ordering::Release);
    }

    /// The number of entries.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The maximum number of entries.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the table has an entry for these tokens that is at least as strict.
    #[must_use]
    pub fn contains(&self, target: &RevocationTarget) -> bool {
        self.revocations
            .issued_before(&target.name())
            .is_some_and(|moment| moment >= target.issued_before())
    }

    /// Checks whether there is room for these revocations, before the caller stores them elsewhere.
    ///
    /// # Errors
    /// [`RevocationCapacityError`] if there is not.
    pub fn check_capacity(&self, further: &[Revocation]) -> Result<(), RevocationCapacityError> {
        let keys = further.iter().map(|revocation| revocation.target.name());
        let new: HashSet<_> =
            keys.filter(|name| self.revocations.issued_before(name).is_none()).collect();
        if !new.is_empty() && self.count.saturating_add(new.len()) > self.capacity {
            return Err(RevocationCapacityError { capacity: self.capacity });
        }
        Ok(())
    }

    /// Inserts all of these revocations. Of two revocations of the same tokens, the stricter
    /// applies. Verifications that start after this returns refuse the tokens.
    ///
    /// # Errors
    /// [`RevocationCapacityError`] if the table is full; then none of them is inserted.
    pub fn insert(&mut self, revocations: &[Revocation]) -> Result<(), RevocationCapacityError> {
        self.check_capacity(revocations)?;
        self.restore(revocations);
        Ok(())
    }

    /// Inserts revocations that are already in durable storage, beyond the capacity if necessary.
    /// They were accepted when they were stored, and dropping one would make its tokens valid
    /// again.
    pub fn restore(&mut self, revocations: &[Revocation]) {
        let mut changed: HashMap<usize, RevocationShard, RandomState> = HashMap::default();
        let mut kinds = 0;
        for Revocation { target, until } in revocations {
            let name = target.name();
            let shard_index = self.revocations.shard_index(&name);
            let Some(current) = self.revocations.shards.get(shard_index) else { continue };
            let shard = changed
                .entry(shard_index)
                .or_insert_with(|| RevocationShard::clone(&current.load()));
            let entry = RevocationEntry { issued_before: target.issued_before(), until: *until };
            let merged = shard.get(&*name).map_or(entry, |earlier| entry.or_stricter(earlier));
            if shard.insert(name.into(), merged).is_none() {
                self.count = self.count.saturating_add(1);
            }
            kinds |= target.kind().bit();
        }
        for (shard_index, shard) in changed {
            self.swap(shard_index, shard);
        }
        let filter = self.revocations.filter.load();
        revocations
            .iter()
            .for_each(|revocation| filter.insert(self.filter_hash(&revocation.target)));
        let present = self.revocations.present.load(Ordering::Relaxed) & !UNAVAILABLE;
        self.revocations.present.store(present | kinds, Ordering::Release);
    }

    /// Removes the entries that have expired at `now` and returns their number.
    pub fn purge_expired(&mut self, now: UnixTime) -> usize {
        let is_expired = |entry: &RevocationEntry| entry.until.is_some_and(|until| until <= now);
        let mut purged = 0usize;
        for shard_index in 0..SHARDS {
            let Some(shard) = self.revocations.shards.get(shard_index).map(ArcSwap::load_full)
            else {
                continue;
            };
            let expired = shard.values().filter(|entry| is_expired(entry)).count();
            if expired > 0 {
                let mut remaining = RevocationShard::clone(&shard);
                remaining.retain(|_, entry| !is_expired(entry));
                self.swap(shard_index, remaining);
                purged = purged.saturating_add(expired);
            }
        }
        self.count = self.count.saturating_sub(purged);
        if purged > 0 {
            let filter = BloomFilter::with_capacity(self.capacity);
            self.all()
                .iter()
                .for_each(|revocation| filter.insert(self.filter_hash(&revocation.target)));
            self.revocations.filter.store(Arc::new(filter));
        }
        purged
    }

    fn filter_hash(&self, target: &RevocationTarget) -> u64 {
        let (_, value) = target.issuer_and_value();
        self.revocations.filter_hash(target.kind(), value)
    }

    /// Returns all entries, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Revocation> {
        let shards = self.revocations.shards.iter().map(ArcSwap::load_full);
        shards
            .flat_map(|shard| {
                shard
                    .iter()
                    .filter_map(|(name, entry)| decode_name(name, *entry))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn swap(&self, shard_index: usize, shard: RevocationShard) {
        if let Some(current) = self.revocations.shards.get(shard_index) {
            current.store(Arc::new(shard));
        }
    }
}

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationCapacityError {
    /// The maximum number of entries.
    pub capacity: usize,
}

impl fmt::Display for RevocationCapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the revocation table is full ({} entries)", self.capacity)
    }
}

impl core::error::Error for RevocationCapacityError {}
