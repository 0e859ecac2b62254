//! Bloom filter with two bits per name (Bloom, CACM 1970).
//!
//! A look-up of a few nanoseconds rules out that a cached token has been revoked. Otherwise the
//! token's claims are checked again.
//!
//! # Synchronization
//! One writer sets bits (Release), and readers load them (Acquire). A bit is never cleared: to
//! remove expired names, the writer builds a new filter and swaps it in.

use super::sync::{AtomicU64, Ordering};

/// Bits for each name of the capacity: one false positive in a hundred when full.
const BITS_PER_NAME: usize = 16;
/// Maximum size: the bits that half a hash can address, enough for 256 million names.
const MAX_WORDS: usize = 1 << 26;

/// Returns the number of words of a filter for this many names.
pub(super) fn words_for(capacity: usize) -> usize {
    (capacity.saturating_mul(BITS_PER_NAME) / 64).next_power_of_two().clamp(16, MAX_WORDS)
}

/// A set of names that may report names it does not contain.
pub(super) struct BloomFilter {
    words: Box<[AtomicU64]>,
}

impl BloomFilter {
    /// Creates an empty filter for this many names.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { words: (0..words_for(capacity)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Inserts a name by its hash.
    pub(super) fn insert(&self, hash: u64) {
        for half in [hash, hash >> 32] {
            if let Some((word, bit)) = self.word_and_bit(half) {
                word.fetch_or(bit, Ordering::Release);
            }
        }
    }

    /// Whether a name with this hash may have been inserted; `false` is certain.
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
