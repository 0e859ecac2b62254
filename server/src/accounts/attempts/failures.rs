//! Counts of failed logins, in a table of fixed size.

use crate::admission::Nanos;

/// Failed logins by key, which is a keyed hash. A count is forgotten `window` after its last
/// failure.
///
/// The table is set-associative. In a full set, a new key evicts the one with the smallest count.
/// As the hash is keyed, an attacker cannot choose the set, and has to fail more often in the name
/// of eight other keys of a set to evict one.
pub(super) struct FailureTable {
    slots: Box<[FailureSlot]>,
    window: Nanos,
}

/// The failed logins of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FailureSlot {
    key: u64,
    /// Their number. Zero in a free slot.
    pub(super) count: u32,
    /// Time of the last one.
    pub(super) last: Nanos,
}

/// Slots of a set.
const SET_SLOTS: usize = 8;

impl FailureTable {
    /// Creates a table of `sets` sets.
    pub(super) fn new(sets: usize, window: Nanos) -> Self {
        Self { slots: vec![FailureSlot::default(); sets * SET_SLOTS].into(), window }
    }

    /// Returns the failed logins of a key.
    pub(super) fn get(&self, key: u64, now: Nanos) -> FailureSlot {
        let set = &self.slots[self.set_start(key)..][..SET_SLOTS];
        let slot = set.iter().find(|slot| slot.key == key && self.count(slot, now) > 0);
        slot.copied().unwrap_or_default()
    }

    /// Counts a failed login.
    pub(super) fn add(&mut self, key: u64, now: Nanos) {
        let start = self.set_start(key);
        let set = start..start + SET_SLOTS;
        let known = set.clone().find(|index| self.slots[*index].key == key);
        let free = || set.min_by_key(|index| (self.count(&self.slots[*index], now), *index));
        let index = known.or_else(free).unwrap_or(start);
        let earlier = known.map_or(0, |known| self.count(&self.slots[known], now));
        self.slots[index] = FailureSlot { key, count: earlier.saturating_add(1), last: now };
    }

    /// Takes back one failed login.
    pub(super) fn retract(&mut self, key: u64) {
        self.change(key, |count| count.saturating_sub(1));
    }

    /// Forgets the failed logins of a key.
    pub(super) fn clear(&mut self, key: u64) {
        self.change(key, |_| 0);
    }

    /// Returns the time at which the failed logins of a slot are forgotten.
    pub(super) fn end(&self, slot: FailureSlot) -> Nanos {
        slot.last.saturating_add(self.window)
    }

    fn count(&self, slot: &FailureSlot, now: Nanos) -> u32 {
        if now < self.end(*slot) { slot.count } else { 0 }
    }

    fn change(&mut self, key: u64, change: impl FnOnce(u32) -> u32) {
        let start = self.set_start(key);
        let set = &mut self.slots[start..][..SET_SLOTS];
        if let Some(slot) = set.iter_mut().find(|slot| slot.key == key) {
            slot.count = change(slot.count);
        }
    }

    /// Returns the index of the first slot of the key's set.
    fn set_start(&self, key: u64) -> usize {
        let sets = self.slots.len() / SET_SLOTS;
        SET_SLOTS * (usize::try_from(key >> 32).unwrap_or_default() % sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_forgotten_after_their_window() {
        let mut table = FailureTable::new(1, 100);
        table.add(1, 0);
        table.add(1, 60);
        assert_eq!((table.get(1, 159).count, table.get(1, 160).count), (2, 0));
        assert_eq!(table.get(2, 60).count, 0);
        table.add(1, 160);
        assert_eq!(table.get(1, 160).count, 1);
        table.retract(1);
        table.retract(1);
        assert_eq!(table.get(1, 160).count, 0);
    }

    #[test]
    fn full_set_evicts_the_fewest_failures() {
        let mut table = FailureTable::new(1, 1000);
        for _ in 0..2 {
            table.add(1, 0);
        }
        for other in 2..1000 {
            table.add(other, 1);
        }
        assert_eq!((table.get(1, 1).count, table.slots.len()), (2, SET_SLOTS));
        // An expired count is evicted first.
        let mut later = FailureTable::new(1, 10);
        (0..5).for_each(|_| later.add(1, 0));
        for other in 2..10 {
            later.add(other, 10);
        }
        assert_eq!((later.get(1, 10).count, later.get(2, 10).count), (0, 1));
    }
}
