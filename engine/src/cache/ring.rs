//! A stretch of lines that entries are written into one behind the other, and over
//! the oldest when it is full.

use super::{
    layout::{Extent, Slot},
    sync::{AtomicU64, Ordering},
};

/// One ring, seen by whoever holds the lock of its shard. Positions count the lines
/// ever written, so they never come again.
#[derive(Clone, Copy)]
pub(super) struct Ring<'s> {
    pub(super) extent: Extent,
    /// Where the next entry goes.
    pub(super) head: &'s AtomicU64,
    /// Where the oldest lies; the head when there is none.
    pub(super) tail: &'s AtomicU64,
}

impl Ring<'_> {
    /// Lines that nothing is written in.
    pub(super) fn free(self) -> u64 {
        self.extent.lines.saturating_sub(self.head().saturating_sub(self.tail()))
    }

    /// The lines that an entry of this length takes at the head: more than its own
    /// when it does not fit before the end, since an entry is in one piece.
    pub(super) fn needed(self, lines: u64) -> u64 {
        let rest = self.rest(self.head());
        if rest < lines { lines.saturating_add(rest) } else { lines }
    }

    /// The line at the end that has to be marked as left over, if there is to be one.
    pub(super) fn end_marker(self, lines: u64) -> Option<u64> {
        let head = self.head();
        (self.rest(head) < lines).then(|| self.line(head))
    }

    /// Takes the lines of an entry at the head, which must be free, and says what its
    /// slot is.
    pub(super) fn allocate(self, lines: u64, tag: u64) -> Slot {
        let head = self.head();
        let end = head.saturating_add(self.needed(lines));
        let start = end.saturating_sub(lines);
        self.head.store(end, Ordering::Relaxed);
        Slot::new(self.line(start), self.round(start), tag)
    }

    /// Where the oldest entry lies, unless the ring is empty.
    pub(super) fn oldest(self) -> Option<Slot> {
        let tail = self.tail();
        (tail < self.head()).then(|| Slot::new(self.line(tail), self.round(tail), 0))
    }

    /// Gives the lines of the oldest entry back.
    pub(super) fn release(self, lines: u64) {
        self.tail.store(self.tail().saturating_add(lines), Ordering::Relaxed);
    }

    /// Gives what was left over before the end back.
    pub(super) fn release_rest(self) {
        self.release(self.rest(self.tail()));
    }

    fn head(self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    fn tail(self) -> u64 {
        self.tail.load(Ordering::Relaxed)
    }

    /// The lines from a position to the end.
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
