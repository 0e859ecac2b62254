//! Whether a name may be among those that were entered: a Bloom filter of two bits
//! for each (Bloom, CACM 1970), so that a cached token is asked about in a few
//! nanoseconds and its claims are looked at again only if there is something to it.
//!
//! # Synchronization
//! One writer sets bits (Release), readers load them (Acquire). A bit once set stays:
//! a filter without what is over is a new filter, put in the place of the old.

use super::sync::{AtomicU64, Ordering};

/// Bits for each name there is room for: one false alarm in a hundred when full.
const BITS_PER_NAME: usize = 16;
/// No more than 16 MiB, whatever the room.
const MAX_WORDS: usize = 1 << 21;

/// The filter.
pub(super) struct BloomFilter {
    words: Box<[AtomicU64]>,
}

impl BloomFilter {
    /// One in which nothing is, with room for so many names.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let words =
            (capacity.saturating_mul(BITS_PER_NAME) / 64).next_power_of_two().clamp(16, MAX_WORDS);
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Enters a name by its hash.
    pub(super) fn insert(&self, hash: u64) {
        for half in [hash, hash >> 32] {
            if let Some((word, bit)) = self.word_and_bit(half) {
                word.fetch_or(bit, Ordering::Release);
            }
        }
    }

    /// Whether a name with this hash may have been entered; surely not if `false`.
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        [hash, hash >> 32].into_iter().all(|half| {
            self.word_and_bit(half)
                .is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
        })
    }

    fn word_and_bit(&self, half: u64) -> Option<(&AtomicU64, u64)> {
        let word =
            usize::try_from((half & 0xffff_ffff) >> 6).ok()? & self.words.len().saturating_sub(1);
        Some((self.words.get(word)?, 1 << (half & 63)))
    }
}
