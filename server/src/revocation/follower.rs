//! Revocations of another process on this machine, applied as it reports them.

use std::{collections::HashSet, mem, sync::Arc, time::Duration};

use countersign_engine::{Revocation, RevocationsWriter, UnixTime};
use tokio::sync::watch;

use super::{RevocationStatus, freshness::FollowedFreshness};
use crate::base::clock::Stopwatch;

/// Applies the revocations of another process, which stores and expires them.
///
/// They are only ever added, until the other process drops expired ones, or a complete set is known.
/// Then those that are not in it are removed.
pub struct RevocationFollower {
    table: RevocationsWriter,
    status: watch::Sender<RevocationStatus>,
    freshness: Arc<FollowedFreshness>,
    /// The hashes of a set that is being read; unused for the first one.
    set: HashSet<u64>,
    /// Number of complete sets.
    sets: usize,
}

/// Error of more revocations than a table of this capacity has in any process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowedCapacityError;

/// Number of revocations that this process may have beyond twice those of the other one, which
/// drops them when they expire.
const MAX_EXPIRED: usize = 10_000;

impl RevocationFollower {
    pub(super) fn new(
        table: RevocationsWriter,
        status: watch::Sender<RevocationStatus>,
        freshness: Arc<FollowedFreshness>,
    ) -> Self {
        Self { table, status, freshness, set: HashSet::new(), sets: 0 }
    }

    /// Returns how long all that is known may be relied on.
    #[must_use]
    pub fn freshness(&self) -> &Arc<FollowedFreshness> {
        &self.freshness
    }

    /// Begins to read a complete set.
    pub fn begin_set(&mut self) {
        self.set = HashSet::new();
    }

    /// Adds a part of the set. It is in force when this returns.
    ///
    /// # Errors
    /// [`FollowedCapacityError`], after the part is in force.
    pub fn add_to_set(&mut self, part: &[Revocation]) -> Result<(), FollowedCapacityError> {
        // There is nothing to remove after the first set.
        if self.sets > 0 {
            let hashes = part.iter().map(|one| self.table.entry_hash(&one.target));
            self.set.extend(hashes);
        }
        self.add(part)
    }

    /// Adds revocations that were made after the set. They are in force when this returns.
    ///
    /// # Errors
    /// [`FollowedCapacityError`], after they are in force.
    pub fn add(&mut self, revocations: &[Revocation]) -> Result<(), FollowedCapacityError> {
        self.table.preload(revocations);
        if self.has_more_than(self.table.capacity()) { Err(FollowedCapacityError) } else { Ok(()) }
    }

    /// Drops those that the other process has dropped because they had expired at `now`.
    pub fn drop_expired(&mut self, now: UnixTime) {
        self.table.purge_expired(now);
    }

    /// Ends the set: removes those that are not in it, and returns their number.
    pub fn complete_set(&mut self) -> usize {
        let set = mem::take(&mut self.set);
        self.sets += 1;
        if self.sets == 1 { 0 } else { self.table.retain(&set) }
    }

    /// Ends the set of a process that cannot read all of its revocations: removes nothing.
    pub fn end_partial_set(&mut self) {
        self.set = HashSet::new();
        self.sets += 1;
    }

    /// Whether so many are in force that those which the other process has dropped should be
    /// removed by another complete set. `count` is the number that it has.
    #[must_use]
    pub fn has_more_than(&self, count: usize) -> bool {
        self.table.count() > count.saturating_mul(2).saturating_add(MAX_EXPIRED)
    }

    /// Reports whether the other process knows all revocations, and until when this may be relied
    /// on, as a time of [`since_boot`](crate::base::clock::since_boot). With an error, and after
    /// that time, no token is verified.
    pub fn report(&mut self, error: Option<String>, until: Duration) {
        match &error {
            Some(_) => self.table.mark_unavailable(),
            None => self.table.restore(&[]),
        }
        let (count, capacity) = (self.table.count(), self.table.capacity());
        self.status.send_replace(RevocationStatus {
            count,
            capacity,
            replaced: self.sets.saturating_sub(1),
            error,
            polled: Stopwatch::start(),
            read: Some(Stopwatch::start()),
        });
        self.freshness.extend(until);
    }
}
