//! The [`RevocationsWriter`]: inserts and purges the entries of a [`Revocations`] table.

use core::{fmt, hash::BuildHasher as _};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use super::{
    RevocationShard, Revocations, SHARDS, UNAVAILABLE,
    filter::BloomFilter,
    target::{Revocation, RevocationEntry, RevocationTarget},
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
        let kinds = self.merge(revocations);
        let present = self.revocations.present.load(Ordering::Relaxed) & !UNAVAILABLE;
        self.revocations.present.store(present | kinds, Ordering::Release);
    }

    /// Inserts a part of the stored revocations as [`restore`](Self::restore) does, and leaves the
    /// table unavailable if it is.
    pub fn preload(&mut self, revocations: &[Revocation]) {
        let kinds = self.merge(revocations);
        self.revocations.present.fetch_or(kinds, Ordering::Release);
    }

    /// Publishes the maps with these revocations. Returns the bits of their kinds, to be published
    /// next.
    fn merge(&mut self, revocations: &[Revocation]) -> u8 {
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
        kinds
    }

    /// Removes the entries that have expired at `now` and returns their number.
    pub fn purge_expired(&mut self, now: UnixTime) -> usize {
        self.remove(|_, entry| entry.until.is_some_and(|until| until <= now))
    }

    /// Returns the hash of the entry for these tokens, for [`retain`](Self::retain).
    #[must_use]
    pub fn entry_hash(&self, target: &RevocationTarget) -> u64 {
        self.revocations.hash.hash_one(&*target.name())
    }

    /// Removes the entries that are not in a complete set, and returns their number. The set has
    /// their [hashes](Self::entry_hash): an entry with the hash of another one stays. Those that
    /// stay are in force throughout.
    pub fn retain(&mut self, hashes: &HashSet<u64>) -> usize {
        let revocations = Arc::clone(&self.revocations);
        self.remove(|name, _| !hashes.contains(&revocations.hash.hash_one(name)))
    }

    fn remove(&mut self, is_removed: impl Fn(&[u8], &RevocationEntry) -> bool) -> usize {
        let mut removed = 0usize;
        for shard_index in 0..SHARDS {
            let Some(shard) = self.revocations.shards.get(shard_index).map(ArcSwap::load_full)
            else {
                continue;
            };
            let count = shard.iter().filter(|(name, entry)| is_removed(name, entry)).count();
            if count > 0 {
                let mut remaining = RevocationShard::clone(&shard);
                remaining.retain(|name, entry| !is_removed(name, entry));
                self.swap(shard_index, remaining);
                removed = removed.saturating_add(count);
            }
        }
        self.count = self.count.saturating_sub(removed);
        if removed > 0 {
            let filter = BloomFilter::with_capacity(self.capacity);
            let remaining = self.revocations.parts().flatten();
            remaining.for_each(|revocation| filter.insert(self.filter_hash(&revocation.target)));
            self.revocations.filter.store(Arc::new(filter));
        }
        removed
    }

    fn filter_hash(&self, target: &RevocationTarget) -> u64 {
        let (_, value) = target.issuer_and_value();
        self.revocations.filter_hash(target.kind(), value)
    }

    /// Returns all entries, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Revocation> {
        self.revocations.parts().flatten().collect()
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
