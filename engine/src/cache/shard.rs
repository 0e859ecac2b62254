//! One shard: an index of small sets, and two rings that hold the entries.
//!
//! An entry holds a token and a record. Here the record is only words; the cache gives them a
//! meaning.
//!
//! # Synchronization
//! Readers take no lock. The only word they write is the slot, to set its read bit once. A writer
//! holds the shard's lock.
//!
//! Reading is a sequence lock, and the slot itself is the sequence number. A [`Slot`] names the
//! line, round and tag of its entry, and no two entries have the same name.
//!
//! - A reader loads the slot (Acquire, so that it sees everything written before the slot was). It
//!   then reads the entry's words (Relaxed), and after a fence (Acquire) loads the slot again.
//! - A writer first empties or redirects every slot that refers to the lines it needs. Then, after
//!   a fence (Release), it writes the words.
//! - If the reader saw one of the new words, the two fences order the change of the slot before the
//!   reader's second load. The second load then differs from the first, and the copy is discarded.
//!
//! All words are atomics, so a race yields a value that is discarded, never undefined behaviour.

use super::{
    entry::{Entry, lines_of},
    layout::{CacheLocation, Extent, GHOST_WORDS, LINE, Layout, Slot, WAYS},
    ring::Ring,
    sync::{AtomicU64, Ordering, fence, spin_loop},
};

/// Maximum number of attempts to read a slot that changes under the reader. Each change is one
/// entry written, so the first attempt usually succeeds.
const MAX_READ_ATTEMPTS: usize = 3;
/// Maximum spins while waiting for another writer: some microseconds, a few times the duration of
/// one write. After that the token is not inserted this time.
const MAX_LOCK_SPINS: usize = 200;
/// Maximum number of entries moved for one insertion, which bounds its cost. Each of the other
/// insertions pays for the entries that it displaces.
const MAX_MOVES: usize = 16;

/// The counters of one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Tokens in the store.
    pub entries: u64,
    /// Tokens that were evicted to make room for others.
    pub evicted: u64,
    /// Tokens that were not inserted because another thread was writing to the same shard.
    pub skipped: u64,
}

/// A shard, as a view of its words.
#[derive(Clone, Copy)]
pub(super) struct Shard<'w> {
    pub(super) words: &'w [AtomicU64],
    pub(super) layout: &'w Layout,
}

/// The first line: the lock, the ends of the rings, and the counters.
mod control {
    pub(super) const LOCK: usize = 0;
    pub(super) const SMALL: [usize; 2] = [1, 2];
    pub(super) const MAIN: [usize; 2] = [3, 4];
    /// Filled slots and evicted entries. Their difference is the number of entries.
    pub(super) const INSERTED: usize = 5;
    pub(super) const EVICTED: usize = 6;
    /// Tokens that were not inserted because another writer held the lock.
    pub(super) const SKIPPED: usize = 7;
}

impl<'w> Shard<'w> {
    /// Copies the record of exactly this token, if it is in this shard.
    #[inline]
    pub(super) fn read(self, location: CacheLocation, token: &[u8], record: &mut Vec<u64>) -> bool {
        self.read_set(location.set, location, token, record)
            || self.read_second_set(location, token, record)
    }

    #[cold]
    fn read_second_set(self, location: CacheLocation, token: &[u8], record: &mut Vec<u64>) -> bool {
        self.read_set(second_set(location.set), location, token, record)
    }

    #[inline]
    fn read_set(
        self,
        set: u64,
        location: CacheLocation,
        token: &[u8],
        record: &mut Vec<u64>,
    ) -> bool {
        let Some(set) = self.set(set) else { return false };
        // The matching slot is not predictable, so all slots are compared together, without
        // branches. The first match is nearly always the right one.
        let matches =
            |slot: &AtomicU64| u8::from(Slot(slot.load(Ordering::Relaxed)).has_tag(location.tag));
        let mut matching = set.iter().rev().fold(0, |others, slot| others << 1 | matches(slot));
        while let Some(slot) = set.get(first_bit(matching)) {
            if self.read_slot(slot, location.tag, token, record) {
                return true;
            }
            matching &= matching.wrapping_sub(1);
        }
        false
    }

    #[inline]
    fn read_slot(self, slot: &AtomicU64, tag: u64, token: &[u8], record: &mut Vec<u64>) -> bool {
        for _ in 0..MAX_READ_ATTEMPTS {
            let before = Slot(slot.load(Ordering::Acquire));
            if !before.has_tag(tag) {
                return false;
            }
            let found = self.entry(before).is_some_and(|entry| entry.copy_record_of(token, record));
            fence(Ordering::Acquire);
            let after = Slot(slot.load(Ordering::Relaxed));
            if before.same_entry(after) {
                if found && !after.was_read() {
                    // If this fails, another reader has set the bit.
                    let _ignored = slot.compare_exchange(
                        after.0,
                        after.read().0,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                return found;
            }
        }
        false
    }

    /// Inserts a token, or replaces its record.
    ///
    /// Returns `false` if the token was not inserted, because it is too long or another writer
    /// holds the lock.
    pub(super) fn write(
        self,
        location: CacheLocation,
        hash: u64,
        token: &[u8],
        record: &[u64],
    ) -> bool {
        if lines_of(token, record).is_none_or(|lines| lines > self.layout.max_entry_lines) {
            return false;
        }
        let Some(_lock) = WriteLock::acquire(self) else {
            self.count(control::SKIPPED);
            return false;
        };
        let existing = self.slot_of(location, token);
        if existing.is_some_and(|slot| self.has_record(slot, token, record)) {
            return true;
        }
        let Some(inserted) = self.append(location, hash, token, record, existing.is_some()) else {
            return false;
        };
        let Some(slot) = existing.or_else(|| self.victim_slot(location)) else { return false };
        if Slot(slot.load(Ordering::Relaxed)) == Slot::EMPTY {
            self.count(control::INSERTED);
        }
        redirect(slot, inserted);
        true
    }

    /// Writes the entry into the main ring if the token is known, left the small ring recently, or
    /// there is room anyway. Otherwise writes it into the small ring.
    fn append(
        self,
        location: CacheLocation,
        hash: u64,
        token: &[u8],
        record: &[u64],
        is_known: bool,
    ) -> Option<Slot> {
        let lines = lines_of(token, record)?;
        let (main, small) = (self.main()?, self.small()?);
        let is_known = self.take_ghost(location) || is_known;
        let mut moves = MAX_MOVES;
        let has_room = main.free() >= self.reserve().saturating_add(main.needed(lines));
        let ring = if has_room || (is_known && self.clear_main(lines, &mut moves).is_some()) {
            main
        } else {
            self.clear_small(lines, &mut moves)?;
            small
        };
        let inserted = self.allocate(ring, lines, location.tag)?;
        self.entry(inserted)?.write(lines, hash, token, record);
        Some(inserted)
    }

    /// Allocates free lines of a ring for an entry.
    ///
    /// A reader that sees the words written there afterwards also sees that no slot refers to these
    /// lines any more.
    fn allocate(self, ring: Ring<'_>, lines: u64, tag: u64) -> Option<Slot> {
        fence(Ordering::Release);
        if let Some(line) = ring.end_marker(lines) {
            self.entry(Slot::new(line, 0, 0))?.0.first()?.store(0, Ordering::Relaxed);
        }
        Some(ring.allocate(lines, tag))
    }

    /// Frees lines at the head of the small ring. Its oldest entries move to the main ring if they
    /// were read. They are evicted if not, or if the limit of moves is reached.
    fn clear_small(self, wanted: u64, moves: &mut usize) -> Option<()> {
        let small = self.small()?;
        while small.free() < small.needed(wanted) {
            let oldest = self.oldest(small)?;
            if let Some(slot) = oldest.slot {
                let room = was_read(slot).then(|| self.clear_main(oldest.lines, moves)).flatten();
                match room.and_then(|()| self.copy_to_main(&oldest)) {
                    Some(moved) => redirect(slot, moved),
                    None => {
                        self.evict(slot);
                        self.push_ghost(oldest.location);
                    }
                }
            }
            small.release(oldest.lines);
        }
        Some(())
    }

    /// Frees lines at the head of the main ring, beyond its reserve. Its oldest entries move from
    /// the tail to the head if they were read, and are evicted if not.
    ///
    /// Returns `None` when the limit of moves is reached. Then no entry in use is evicted, and the
    /// new entry is not stored in this ring.
    fn clear_main(self, wanted: u64, moves: &mut usize) -> Option<()> {
        let main = self.main()?;
        while main.free() < self.reserve().saturating_add(main.needed(wanted)) {
            let oldest = self.oldest(main)?;
            match oldest.slot {
                Some(slot) if was_read(slot) => {
                    *moves = moves.checked_sub(1)?;
                    redirect(slot, self.copy_to_main(&oldest)?);
                }
                Some(slot) => self.evict(slot),
                None => {}
            }
            main.release(oldest.lines);
        }
        Some(())
    }

    /// Returns the oldest entry of a ring, skipping unused lines before the ring's end.
    fn oldest(self, ring: Ring<'_>) -> Option<OldestEntry<'w>> {
        let mut location = ring.oldest()?;
        if self.entry(location)?.length_and_hash().is_none() {
            ring.release_rest();
            location = ring.oldest()?;
        }
        let entry = self.entry(location)?;
        let (lines, hash) = entry.length_and_hash()?;
        let (named, location) = (location, self.layout.location(hash));
        Some(OldestEntry { entry, lines, location, slot: self.slot_naming(location, named) })
    }

    fn evict(self, slot: &AtomicU64) {
        redirect(slot, Slot::EMPTY);
        self.count(control::EVICTED);
    }

    /// Copies an entry to the main ring. The ring's reserve is free, so source and destination
    /// never overlap.
    fn copy_to_main(self, oldest: &OldestEntry<'_>) -> Option<Slot> {
        let main = self.main()?;
        if main.free() < main.needed(oldest.lines) {
            return None;
        }
        let moved = self.allocate(main, oldest.lines, oldest.location.tag)?;
        self.entry(moved)?.copy_from(oldest.entry, oldest.lines);
        Some(moved)
    }

    /// The lines of the main ring that are kept free, to move an entry from its tail to its head,
    /// across the end of the ring if necessary.
    fn reserve(self) -> u64 {
        self.layout.max_entry_lines.saturating_mul(2)
    }

    /// Returns the slot of this token, if it has one.
    fn slot_of(self, location: CacheLocation, token: &[u8]) -> Option<&'w AtomicU64> {
        self.sets(location).flatten().find(|slot| {
            let slot = Slot(slot.load(Ordering::Relaxed));
            slot.has_tag(location.tag) && self.entry(slot).is_some_and(|entry| entry.is_for(token))
        })
    }

    fn has_record(self, slot: &AtomicU64, token: &[u8], record: &[u64]) -> bool {
        self.entry(Slot(slot.load(Ordering::Relaxed)))
            .is_some_and(|entry| entry.has_record(token, record))
    }

    /// Returns the slot that refers to this line and round, whatever its tag.
    fn slot_naming(self, location: CacheLocation, oldest: Slot) -> Option<&'w AtomicU64> {
        let named = oldest.with_tag(location.tag);
        self.sets(location)
            .flatten()
            .find(|slot| named.same_entry(Slot(slot.load(Ordering::Relaxed))))
    }

    fn push_ghost(self, location: CacheLocation) {
        if let Some([newer, older]) = self.ghosts(location) {
            let known = newer.load(Ordering::Relaxed);
            older.store(older.load(Ordering::Relaxed) << 16 | known >> 48, Ordering::Relaxed);
            newer.store(known << 16 | location.ghost, Ordering::Relaxed);
        }
    }

    /// Removes the token's ghost; returns whether there was one. A token with a ghost left the
    /// small ring recently.
    fn take_ghost(self, location: CacheLocation) -> bool {
        let Some(ghosts) = self.ghosts(location) else { return false };
        for word in ghosts {
            let known = word.load(Ordering::Relaxed);
            for shift in [0, 16, 32, 48] {
                if known >> shift & 0xffff == location.ghost {
                    word.store(known & !(0xffff << shift), Ordering::Relaxed);
                    return true;
                }
            }
        }
        false
    }

    fn ghosts(self, location: CacheLocation) -> Option<[&'w AtomicU64; GHOST_WORDS]> {
        let first = line(1u64.saturating_add(self.layout.sets))
            .saturating_add(index(location.set).saturating_mul(GHOST_WORDS));
        let [newer, older] = self.words.get(first..)?.get(..GHOST_WORDS)? else { return None };
        Some([newer, older])
    }

    /// Returns the counters.
    pub(super) fn statistics(self) -> StoreStatistics {
        let counted =
            |word: usize| self.words.get(word).map_or(0, |word| word.load(Ordering::Relaxed));
        let (inserted, evicted) = (counted(control::INSERTED), counted(control::EVICTED));
        StoreStatistics {
            entries: inserted.saturating_sub(evicted),
            evicted,
            skipped: counted(control::SKIPPED),
        }
    }

    fn count(self, word: usize) {
        if let Some(word) = self.words.get(word) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the slot to overwrite: an empty slot of the token's set, else of its second set,
    /// else a slot whose entry was not read, if there is one.
    fn victim_slot(self, location: CacheLocation) -> Option<&'w AtomicU64> {
        self.sets(location).flatten().min_by_key(|slot| {
            let slot = Slot(slot.load(Ordering::Relaxed));
            (slot != Slot::EMPTY, slot.was_read())
        })
    }

    /// The sets in which a token can be found: its own, and a second one for when its own is full.
    /// The second is rarely needed.
    fn sets(self, location: CacheLocation) -> impl Iterator<Item = &'w [AtomicU64; WAYS]> {
        [location.set, second_set(location.set)].into_iter().filter_map(move |set| self.set(set))
    }

    #[inline]
    fn set(self, number: u64) -> Option<&'w [AtomicU64; WAYS]> {
        let start = line(number.saturating_add(1));
        self.words.get(start..)?.first_chunk().filter(|_| number < self.layout.sets)
    }

    #[inline]
    fn entry(self, slot: Slot) -> Option<Entry<'w>> {
        self.words.get(line(slot.line())..).map(Entry)
    }

    fn small(self) -> Option<Ring<'w>> {
        self.ring(self.layout.small, control::SMALL)
    }

    fn main(self) -> Option<Ring<'w>> {
        self.ring(self.layout.main, control::MAIN)
    }

    fn ring(self, extent: Extent, [head, tail]: [usize; 2]) -> Option<Ring<'w>> {
        Some(Ring { extent, head: self.words.get(head)?, tail: self.words.get(tail)? })
    }
}

/// The oldest entry of a ring, whose lines are needed.
struct OldestEntry<'w> {
    entry: Entry<'w>,
    lines: u64,
    location: CacheLocation,
    /// The slot that still refers to it, if any.
    slot: Option<&'w AtomicU64>,
}

fn was_read(slot: &AtomicU64) -> bool {
    Slot(slot.load(Ordering::Relaxed)).was_read()
}

/// Points a slot to another entry, or to none.
///
/// An exchange instead of a store: every change of a slot, including the readers' bit, then
/// directly follows the previous one in the slot's modification order.
fn redirect(slot: &AtomicU64, to: Slot) {
    let _previous = slot.swap(to.0, Ordering::Release);
}

/// The second set for tokens of this set.
#[inline]
fn second_set(set: u64) -> u64 {
    set ^ 1
}

/// The index of the lowest bit that is set, or one past the last.
#[inline]
fn first_bit(bits: u8) -> usize {
    index(bits.trailing_zeros().into())
}

/// The index of the first word of a line.
fn line(number: u64) -> usize {
    index(number).saturating_mul(LINE)
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The lock of a shard; released on drop.
struct WriteLock<'w>(&'w AtomicU64);

impl<'w> WriteLock<'w> {
    /// Spins briefly for the lock. A thread that is preempted while it holds the lock would
    /// otherwise block the others for an unbounded time.
    fn acquire(shard: Shard<'w>) -> Option<Self> {
        let word = shard.words.get(control::LOCK)?;
        for _ in 0..MAX_LOCK_SPINS {
            if word.load(Ordering::Relaxed) == 0
                && word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return Some(Self(word));
            }
            spin_loop();
        }
        None
    }
}

impl Drop for WriteLock<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}
