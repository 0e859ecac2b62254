//! One shard: entries are found through an index of small sets, and lie in two rings
//! that are written round and round.
//!
//! An entry holds a token and a note: whatever the cache wants to know of the token;
//! here it is only words.
//!
//! # Synchronization
//! Whoever reads takes no lock and writes nothing, but for a bit in the slot that says
//! it was read, once. Whoever writes holds the shard's lock.
//!
//! Reading is a sequence lock whose sequence number is the slot itself: a slot names
//! line, round and tag of its entry, and no entry is named like that a second time
//! (see [`Slot`]). A reader loads the slot (Acquire: it then sees all that was written
//! before the slot was), reads the entry's words (Relaxed), and after a fence (Acquire)
//! loads the slot again. A writer empties or redirects every slot of what lies in its
//! way, and only then, after a fence (Release), writes words. Had the reader seen a
//! single one of those, the two fences would order the slot's change before the
//! reader's second look, which would then differ, and what was read is dropped. All
//! words are atomics, so a race is a value that is thrown away, never undefined.

use super::{
    entry::{Entry, lines_of},
    layout::{CacheLocation, Extent, GHOST_WORDS, LINE, Layout, Slot, WAYS},
    ring::Ring,
    sync::{AtomicU64, Ordering, fence, spin_loop},
};

/// How often a slot that changes under a reader is read again. Each change is one
/// entry written, so once is nearly always enough.
const MAX_READ_ATTEMPTS: usize = 3;
/// How long to wait for another writer, in spins: some microseconds, a few times what
/// one takes to finish. Afterwards the token is simply not entered this time.
const MAX_LOCK_SPINS: usize = 200;
/// How many entries may be moved for one that is entered, so that entering is bounded.
/// That others have to go is paid for by their own entering.
const MAX_MOVES: usize = 16;

/// What is counted in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Tokens that can be found.
    pub entries: u64,
    /// Tokens that had to make room for others, by age.
    pub evicted: u64,
    /// Tokens that were not entered because another thread was writing beside them.
    pub skipped: u64,
}

/// A shard, seen through its words.
#[derive(Clone, Copy)]
pub(super) struct Shard<'w> {
    pub(super) words: &'w [AtomicU64],
    pub(super) layout: &'w Layout,
}

/// The first line: the lock, where the rings begin and end, and what is counted.
mod control {
    pub(super) const LOCK: usize = 0;
    pub(super) const SMALL: [usize; 2] = [1, 2];
    pub(super) const MAIN: [usize; 2] = [3, 4];
    /// Slots that were filled, and entries that had to go: what is between them is here.
    pub(super) const ENTERED: usize = 5;
    pub(super) const EVICTED: usize = 6;
    /// Tokens that were not entered, since another writer had the lock.
    pub(super) const SKIPPED: usize = 7;
}

impl<'w> Shard<'w> {
    /// Copies the note of exactly this token, if it is here.
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
        // Which way it is cannot be foreseen, so no branch tries to: the slots are
        // looked at together, and the first that fits is nearly always the right one.
        let fits =
            |slot: &AtomicU64| u8::from(Slot(slot.load(Ordering::Relaxed)).has_tag(location.tag));
        let mut fitting = set.iter().rev().fold(0, |others, slot| others << 1 | fits(slot));
        while let Some(slot) = set.get(first_bit(fitting)) {
            if self.read_slot(slot, location.tag, token, record) {
                return true;
            }
            fitting &= fitting.wrapping_sub(1);
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
            let is_here =
                self.entry(before).is_some_and(|entry| entry.copy_record_of(token, record));
            fence(Ordering::Acquire);
            let after = Slot(slot.load(Ordering::Relaxed));
            if before.same_entry(after) {
                if is_here && !after.was_read() {
                    // Another reader may be quicker.
                    let _done = slot.compare_exchange(
                        after.0,
                        after.read().0,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                return is_here;
            }
        }
        false
    }

    /// Enters a token, or replaces the note of one that is here. `false` if it was not
    /// entered: because it is too long, or another writer is at work.
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
        let earlier = self.slot_of(location, token);
        if earlier.is_some_and(|slot| self.has_record(slot, token, record)) {
            return true;
        }
        let Some(entered) = self.append(location, hash, token, record, earlier.is_some()) else {
            return false;
        };
        let Some(slot) = earlier.or_else(|| self.victim_slot(location)) else { return false };
        if Slot(slot.load(Ordering::Relaxed)) == Slot::EMPTY {
            self.count(control::ENTERED);
        }
        redirect(slot, entered);
        true
    }

    /// Writes the entry where it belongs: into the main ring if the token is known, or
    /// left the small ring lately, or there is room anyway; else into the small one.
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
        let entered = self.allocate(ring, lines, location.tag)?;
        self.entry(entered)?.write(lines, hash, token, record);
        Some(entered)
    }

    /// Takes free lines of a ring for an entry. What is written there afterwards is
    /// seen by nobody who does not see as well that no slot names these lines.
    fn allocate(self, ring: Ring<'_>, lines: u64, tag: u64) -> Option<Slot> {
        fence(Ordering::Release);
        if let Some(line) = ring.end_marker(lines) {
            self.entry(Slot::new(line, 0, 0))?.0.first()?.store(0, Ordering::Relaxed);
        }
        Some(ring.allocate(lines, tag))
    }

    /// Makes so many lines free at the head of the small ring: its oldest entries move
    /// to the main ring if they were read, and go if not, or if no more may be moved.
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

    /// Makes so many lines free at the head of the main ring, beside its reserve: its
    /// oldest entries move from the tail to the head if they were read, and go if not.
    /// `None` when as many were moved as may be: then nothing had to go for whoever
    /// asked, and he is the one to go without.
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

    /// The oldest entry of a ring, behind what was left over before the ring's end.
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

    /// The reserve of the main ring is free, so source and destination never overlap.
    fn copy_to_main(self, oldest: &OldestEntry<'_>) -> Option<Slot> {
        let main = self.main()?;
        if main.free() < main.needed(oldest.lines) {
            return None;
        }
        let moved = self.allocate(main, oldest.lines, oldest.location.tag)?;
        self.entry(moved)?.copy_from(oldest.entry, oldest.lines);
        Some(moved)
    }

    /// Lines of the main ring that are kept free, for moving an entry from its tail to
    /// its head, over the end where need be.
    fn reserve(self) -> u64 {
        self.layout.max_entry_lines.saturating_mul(2)
    }

    /// The slot of this token, if it has one.
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

    /// The slot that names this line and round, whatever its tag.
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

    /// Whether the token left the small ring lately; it is not said twice.
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

    /// What has been counted.
    pub(super) fn statistics(self) -> StoreStatistics {
        let counted =
            |word: usize| self.words.get(word).map_or(0, |word| word.load(Ordering::Relaxed));
        let (entered, evicted) = (counted(control::ENTERED), counted(control::EVICTED));
        StoreStatistics {
            entries: entered.saturating_sub(evicted),
            evicted,
            skipped: counted(control::SKIPPED),
        }
    }

    fn count(self, word: usize) {
        if let Some(word) = self.words.get(word) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An empty slot of the token's set, else of the other; else one whose entry was
    /// not read, if there is any such.
    fn victim_slot(self, location: CacheLocation) -> Option<&'w AtomicU64> {
        self.sets(location).flatten().min_by_key(|slot| {
            let slot = Slot(slot.load(Ordering::Relaxed));
            (slot != Slot::EMPTY, slot.was_read())
        })
    }

    /// The sets a token may be found in: its own, and the one beside it, for when its
    /// own is full. The second is nearly never looked at.
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

/// An entry whose lines are wanted.
struct OldestEntry<'w> {
    entry: Entry<'w>,
    lines: u64,
    location: CacheLocation,
    /// The slot that still names it, if any does.
    slot: Option<&'w AtomicU64>,
}

fn was_read(slot: &AtomicU64) -> bool {
    Slot(slot.load(Ordering::Relaxed)).was_read()
}

/// Names another entry, or none, in a slot. An exchange rather than a store: every
/// change of a slot, the readers' bit too, then comes directly after another.
fn redirect(slot: &AtomicU64, to: Slot) {
    let _before = slot.swap(to.0, Ordering::Release);
}

/// The other set that a token of this one may be found in.
#[inline]
fn second_set(set: u64) -> u64 {
    set ^ 1
}

/// The place of the lowest bit that is set, or one past the last.
#[inline]
fn first_bit(bits: u8) -> usize {
    index(bits.trailing_zeros().into())
}

/// The first word of a line.
fn line(number: u64) -> usize {
    index(number).saturating_mul(LINE)
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Held by the one who writes; given back when dropped.
struct WriteLock<'w>(&'w AtomicU64);

impl<'w> WriteLock<'w> {
    /// Waits a little for the other writer. A thread that was interrupted while it
    /// held the lock would have us wait for ever.
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
