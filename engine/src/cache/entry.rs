//! Layout of one entry, in words: `| lengths | hash | token, padded with zeros | record |`.
//!
//! The token comes first, so a reader that has a token knows where the whole entry lies, and the
//! processor can fetch all of it at once.

use super::{
    layout::LINE,
    sync::{AtomicU64, Ordering},
    table::{WORD, starts_with},
};

/// Words before the token.
const HEADER_WORDS: usize = 2;
/// Maximum length of a record, in words: 8 KiB. A length read without the lock may have any value.
const MAX_RECORD_WORDS: usize = 1024;
const LENGTH_MASK: u64 = 0xffff;

/// Returns the lines that an entry with this token and record takes.
pub(super) fn lines_of(token: &[u8], record: &[u64]) -> Option<u64> {
    let countable = token.len() <= 0xffff && record.len() <= MAX_RECORD_WORDS;
    let words =
        HEADER_WORDS.saturating_add(record.len()).saturating_add(token.len().div_ceil(WORD));
    u64::try_from(words.div_ceil(LINE)).ok().filter(|_| countable)
}

/// The words of the shard from the start of an entry.
///
/// Without the lock they may hold anything, so every length is checked against the memory before it
/// is used.
#[derive(Clone, Copy)]
pub(super) struct Entry<'w>(pub(super) &'w [AtomicU64]);

/// The lengths of an entry's parts.
#[derive(Clone, Copy)]
struct EntryLengths {
    lines: u64,
    record_words: usize,
    token_bytes: usize,
}

impl<'w> Entry<'w> {
    /// Copies the record, if this is the entry of exactly this token.
    #[inline]
    pub(super) fn copy_record_of(self, token: &[u8], record: &mut Vec<u64>) -> bool {
        let Some(stored) = self.record_of(token) else { return false };
        record.clear();
        record.extend(stored.iter().map(|word| word.load(Ordering::Relaxed)));
        true
    }

    pub(super) fn is_for(self, token: &[u8]) -> bool {
        self.record_of(token).is_some()
    }

    pub(super) fn has_record(self, token: &[u8], record: &[u64]) -> bool {
        self.record_of(token).is_some_and(|stored| equal(stored, record))
    }

    /// Returns the lines of the entry and the hash of its token; `None` for unused lines before the
    /// end of a ring.
    pub(super) fn length_and_hash(self) -> Option<(u64, u64)> {
        let hash = self.0.get(1)?.load(Ordering::Relaxed);
        let lines = self.lengths()?.lines;
        (lines > 0).then_some((lines, hash))
    }

    /// Writes an entry of `lines` lines.
    pub(super) fn write(self, lines: u64, hash: u64, token: &[u8], record: &[u64]) -> Option<()> {
        let lengths = u64::try_from(token.len()).ok()? << 32
            | u64::try_from(record.len()).ok()? << 16
            | lines;
        let (head, rest) = self.0.split_at_checked(HEADER_WORDS)?;
        let (stored_token, stored_note) = rest.split_at_checked(token.len().div_ceil(WORD))?;
        store_words(head, &[lengths, hash]);
        store_bytes(stored_token, token);
        store_words(stored_note, record);
        Some(())
    }

    /// Copies another entry of `lines` lines.
    pub(super) fn copy_from(self, other: Self, lines: u64) -> Option<()> {
        let words = usize::try_from(lines).ok()?.checked_mul(LINE)?;
        for (to, from) in self.0.get(..words)?.iter().zip(other.0.get(..words)?) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Some(())
    }

    /// Returns the words of the record, if this is the entry of exactly this token.
    #[inline]
    fn record_of(self, token: &[u8]) -> Option<&'w [AtomicU64]> {
        let lengths = self.lengths()?;
        let (stored_token, rest) =
            self.0.get(HEADER_WORDS..)?.split_at_checked(token.len().div_ceil(WORD))?;
        let is_same = lengths.token_bytes == token.len() && starts_with(stored_token, token);
        rest.get(..lengths.record_words.min(MAX_RECORD_WORDS)).filter(|_| is_same)
    }

    #[inline]
    fn lengths(self) -> Option<EntryLengths> {
        let word = self.0.first()?.load(Ordering::Relaxed);
        Some(EntryLengths {
            lines: word & LENGTH_MASK,
            record_words: usize::try_from(word >> 16 & LENGTH_MASK).ok()?,
            token_bytes: usize::try_from(word >> 32 & LENGTH_MASK).ok()?,
        })
    }
}

/// Whether the stored words equal `words`.
fn equal(stored: &[AtomicU64], words: &[u64]) -> bool {
    stored.len() == words.len()
        && stored.iter().zip(words).all(|(stored, word)| stored.load(Ordering::Relaxed) == *word)
}

fn store_words(stored: &[AtomicU64], words: &[u64]) {
    for (stored, word) in stored.iter().zip(words) {
        stored.store(*word, Ordering::Relaxed);
    }
}

fn store_bytes(stored: &[AtomicU64], bytes: &[u8]) {
    let (chunks, rest) = bytes.as_chunks::<WORD>();
    let mut last = [0; WORD];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    for (word, chunk) in stored.iter().zip(chunks.iter().chain([&last])) {
        word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
    }
}
