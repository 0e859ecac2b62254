//! Ring buffer of entries in a range of lines. A new entry overwrites the oldest when the ring is
//! full.

use super::{
    layout::{Extent, Slot},
    sync::{AtomicU64, Ordering},
};

/// One ring, accessed by the holder of its shard's lock.
///
/// Positions count all lines ever written, so a position is never used twice.
#[derive(Clone, Copy)]
pub(super) struct Ring<'s> {
    pub(super) extent: Extent,
    /// The position of the next entry.
    pub(super) head: &'s AtomicU64,
    /// The position of the oldest entry; equal to `head` when the ring is empty.
    pub(super) tail: &'s AtomicU64,
}

impl Ring<'_> {
    /// Returns the number of free lines.
    pub(super) fn free(self) -> u64 {
        self.extent.lines.saturating_sub(self.head().saturating_sub(self.tail()))
    }

    /// Returns the lines that an entry of this length takes at the head.
    ///
    /// They are more than its own if it does not fit before the end of the ring, because an entry
    /// is contiguous.
    pub(super) fn needed(self, lines: u64) -> u64 {
        let rest = self.rest(self.head());
        if rest < lines { lines.saturating_add(rest) } else { lines }
    }

    /// Returns the line to mark as unused, if the entry does not fit before the end of the ring.
    pub(super) fn end_marker(self, lines: u64) -> Option<u64> {
        let head = self.head();
        (self.rest(head) < lines).then(|| self.line(head))
    }

    /// Allocates free lines at the head and returns the slot of the new entry.
    pub(super) fn allocate(self, lines: u64, tag: u64) -> Slot {
        let head = self.head();
        let end = head.saturating_add(self.needed(lines));
        let start = end.saturating_sub(lines);
        self.head.store(end, Ordering::Relaxed);
        Slot::new(self.line(start), self.round(start), tag)
    }

    /// Returns the slot of the oldest entry, unless the ring is empty.
    pub(super) fn oldest(self) -> Option<Slot> {
        let tail = self.tail();
        (tail < self.head()).then(|| Slot::new(self.line(tail), self.round(tail), 0))
    }

    /// Releases the lines of the oldest entry.
    pub(super) fn release(self, lines: u64) {
        self.tail.store(self.tail().saturating_add(lines), Ordering::Relaxed);
    }

    /// Releases the unused lines before the end of the ring.
    pub(super) fn release_rest(self) {
        self.release(self.rest(self.tail()));
    }

    fn head(self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    fn tail(self) -> u64 {
        self.tail.load(Ordering::Relaxed)
    }

    /// The lines from a position to the end of the ring.
    fn rest(self, position: u64) -> u64 {
        self.extent.lines.saturating_sub(position.checked_rem(self.extent.lines).unwrap_or(0))
    }

    fn line(self, position: u64) -> u64 {
        self.extent.first.saturating_add(position.checked_rem(self.extent.lines).unwrap_or(0))
    }

    fn round(self, position: u64) -> u64 {
        position.checked_div(self.extent.lines).unwrap_or(0)
    }
}
