//! The cache's memory: one anonymous mapping of words. Only pages that were written take memory.
//! The module also contains the unsafe operations on words that no safe one replaces at this speed.
//!
//! The system is asked for huge pages. Tokens arrive in no order, so with small pages nearly every
//! look-up would also miss the translation look-aside buffer (TLB). If there are no huge pages,
//! nothing else changes.

#![expect(unsafe_code, reason = "zeroed huge pages as atomics, and comparing 32 bytes at a time")]

use core::{ops::Deref, slice};

use memmap2::{MmapMut, MmapRaw};

use super::sync::{AtomicU64, Ordering};

/// Bytes in a word.
pub(super) const WORD: usize = size_of::<u64>();

/// A table of words, initially zero.
#[derive(Debug)]
pub(super) struct Table {
    memory: MmapRaw,
}

impl Table {
    /// Allocates `bytes` bytes, rounded down to whole words; `None` if the system does not provide
    /// them.
    pub(super) fn of_zeros(bytes: usize) -> Option<Self> {
        let memory = MmapRaw::from(MmapMut::map_anon(bytes).ok()?);
        #[cfg(target_os = "linux")]
        let _ignored = memory.advise(memmap2::Advice::HugePage);
        Some(Self { memory })
    }
}

impl Deref for Table {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: The pointer is that of a live, private, anonymous mapping of at least this many
        // words. It begins at a page boundary and is therefore aligned. It belongs to the mapping
        // alone: a `MmapRaw` never creates a reference to its bytes. The mapping lives as long as
        // `self`, which the reference borrows, and is neither moved nor resized. Every value is a
        // valid `AtomicU64`. Nothing accesses the memory except through one, because `memory` is
        // private and never lent out.
        unsafe {
            slice::from_raw_parts(
                self.memory.as_ptr().cast::<AtomicU64>(),
                self.memory.len() / WORD,
            )
        }
    }
}

/// The bytes of words, in memory order.
pub(crate) fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: A `u64` has no padding, every byte is a valid `u8`, the alignment only decreases, and
    // the length in bytes is that of the borrowed words.
    unsafe { slice::from_raw_parts(words.as_ptr().cast::<u8>(), size_of_val(words)) }
}

/// Whether the words begin with exactly these bytes.
///
/// All of them are compared, even after a difference: if the words are not in the processor's
/// cache, fetching all of them at once is faster. The bytes after the prefix in the last word are
/// ignored.
///
/// The words may be written concurrently. The result is then about a mixture of old and new words,
/// and the caller must discard it.
#[inline]
pub(super) fn starts_with(words: &[AtomicU64], bytes: &[u8]) -> bool {
    if words.len() < bytes.len().div_ceil(WORD) {
        return false;
    }
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= wide::BLOCK && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: The processor has AVX2. The words hold at least as many bytes as the slice, and
        // at least one block.
        return unsafe { wide::equal(words.as_ptr().cast::<u8>(), bytes) };
    }
    narrow(words, bytes)
}

/// The same, word by word.
fn narrow(words: &[AtomicU64], bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<WORD>();
    let differences = words
        .iter()
        .zip(chunks)
        .map(|(word, chunk)| word.load(Ordering::Relaxed) ^ u64::from_ne_bytes(*chunk));
    let difference = differences.fold(0, |all, one| all | one);
    let last = words
        .get(chunks.len())
        .map_or([0; WORD], |word| word.load(Ordering::Relaxed).to_ne_bytes());
    difference == 0 && last.iter().zip(rest).all(|(one, other)| one == other)
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use core::arch::{
        asm,
        x86_64::{__m256i, _mm256_setzero_si256, _mm256_testz_si256},
    };

    /// Bytes per comparison step.
    pub(super) const BLOCK: usize = 128;

    /// Whether the stored bytes equal `bytes`.
    ///
    /// # Safety
    /// `stored` is valid for reads of `bytes.len()` bytes, and `bytes` has at least [`BLOCK`]
    /// bytes. The stored bytes may be written concurrently by atomic stores.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn equal(stored: *const u8, bytes: &[u8]) -> bool {
        let last = bytes.len().saturating_sub(BLOCK);
        let mut differences = _mm256_setzero_si256();
        let mut start = 0;
        while start < last {
            // SAFETY: A block from here ends before the last block does.
            differences =
                unsafe { fold(differences, stored.add(start), bytes.as_ptr().add(start)) };
            start = start.saturating_add(BLOCK);
        }
        // The last block, which may overlap the one before it.
        // SAFETY: It ends where the bytes end.
        differences = unsafe { fold(differences, stored.add(last), bytes.as_ptr().add(last)) };
        _mm256_testz_si256(differences, differences) == 1
    }

    /// Adds the differences between two blocks to `differences`.
    ///
    /// In assembly, because the stored block may be written concurrently. An ordinary load would
    /// then be undefined behaviour in Rust, while the processor reads each byte either before or
    /// after the write.
    ///
    /// # Safety
    /// Both pointers are valid for reads of a whole block.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn fold(mut differences: __m256i, stored: *const u8, bytes: *const u8) -> __m256i {
        // SAFETY: Reads one block from each pointer, as the caller guarantees, and changes nothing
        // but registers.
        unsafe {
            asm!(
                "vmovdqu {one}, [{stored}]",
                "vmovdqu {two}, [{stored} + 32]",
                "vpxor {one}, {one}, [{bytes}]",
                "vpxor {two}, {two}, [{bytes} + 32]",
                "vpor {one}, {one}, {two}",
                "vmovdqu {three}, [{stored} + 64]",
                "vmovdqu {four}, [{stored} + 96]",
                "vpxor {three}, {three}, [{bytes} + 64]",
                "vpxor {four}, {four}, [{bytes} + 96]",
                "vpor {three}, {three}, {four}",
                "vpor {differences}, {differences}, {one}",
                "vpor {differences}, {differences}, {three}",
                stored = in(reg) stored,
                bytes = in(reg) bytes,
                differences = inout(ymm_reg) differences,
                one = out(ymm_reg) _,
                two = out(ymm_reg) _,
                three = out(ymm_reg) _,
                four = out(ymm_reg) _,
                options(nostack, readonly, preserves_flags),
            );
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn table_is_zeroed_aligned_and_keeps_writes() {
        let table = Table::of_zeros(3 * 4096 + 7).unwrap();
        assert_eq!(table.len(), 3 * 512);
        assert_eq!(table.as_ptr().addr() % 4096, 0);
        assert!(table.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        for (number, word) in (0..).zip(table.iter()) {
            word.store(number, Ordering::Relaxed);
        }
        assert!(
            (0..).zip(table.iter()).all(|(number, word)| word.load(Ordering::Relaxed) == number)
        );
    }

    #[test]
    fn table_is_shared_by_threads() {
        let table = Table::of_zeros(1 << 20).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    table.iter().for_each(|word| {
                        word.fetch_add(1, Ordering::Relaxed);
                    })
                });
            }
        });
        assert!(table.iter().all(|word| word.load(Ordering::Relaxed) == 4));
    }

    #[test]
    fn starts_with_detects_one_different_byte() {
        let text: Vec<u8> = (0..400u16).map(|number| number.to_le_bytes()[0] | 1).collect();
        for length in (0..300).chain([400]) {
            let table = Table::of_zeros(4096).unwrap();
            let (bytes, start) = (&text[..length], 5);
            for (word, chunk) in table[start..].iter().zip(bytes.chunks(WORD)) {
                let mut padded = [0x55; WORD];
                padded[..chunk.len()].copy_from_slice(chunk);
                word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
            }
            let words = &table[start..];
            let both = |words: &[AtomicU64], bytes: &[u8]| {
                assert_eq!(starts_with(words, bytes), narrow(words, bytes), "{length}");
                starts_with(words, bytes)
            };
            assert!(both(words, bytes), "{length}");
            for place in 0..length {
                for bit in [1, 0x80] {
                    let mut other = bytes.to_vec();
                    other[place] ^= bit;
                    assert!(!both(words, &other), "byte {place} of {length}");
                }
            }
            assert!(
                !starts_with(&words[..length.div_ceil(WORD).saturating_sub(1)], bytes)
                    || length == 0,
                "{length}"
            );
        }
    }

    #[test]
    fn bytes_of_keeps_memory_order() {
        assert_eq!(
            bytes_of(&[u64::from_ne_bytes(*b"12345678"), u64::from_ne_bytes(*b"abcdefgh")]),
            b"12345678abcdefgh"
        );
        assert_eq!(bytes_of(&[]), b"");
    }

    #[test]
    fn oversized_table_is_refused() {
        assert!(Table::of_zeros(usize::MAX / 2).is_none());
        assert!(Table::of_zeros(0).is_none_or(|table| table.is_empty()));
    }
}
