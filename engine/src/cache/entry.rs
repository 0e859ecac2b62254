//! One entry, word by word: `| lengths | hash | token, padded with zeros | note |`.
//!
//! The token comes first so that a reader who has one in hand knows where all of the
//! entry lies, and the machine can fetch all of it at once.

use super::{
    layout::LINE,
    sync::{AtomicU64, Ordering},
    table::{WORD, begin_with},
};

/// Words before the token.
const HEAD: usize = 2;
/// The longest note, in words: 8 KiB. What is read without the lock may claim any length.
const MOST_NOTE: usize = 1024;
const ALL_ONES: u64 = 0xffff;

/// The lines of an entry for this token and note.
pub(super) fn lines_of(token: &[u8], note: &[u64]) -> Option<u64> {
    let countable = token.len() <= 0xffff && note.len() <= MOST_NOTE;
    let words = HEAD.saturating_add(note.len()).saturating_add(token.len().div_ceil(WORD));
    u64::try_from(words.div_ceil(LINE)).ok().filter(|_| countable)
}

/// The words from where an entry begins. Read without the lock, it may be anything at
/// all: every length is checked against the memory before it is used.
#[derive(Clone, Copy)]
pub(super) struct Entry<'w>(pub(super) &'w [AtomicU64]);

/// The lengths of an entry's parts.
#[derive(Clone, Copy)]
struct Lengths {
    lines: u64,
    note_words: usize,
    token_bytes: usize,
}

impl<'w> Entry<'w> {
    /// Copies the note, if this is the entry of exactly this token.
    #[inline]
    pub(super) fn copy_note_of(self, token: &[u8], note: &mut Vec<u64>) -> bool {
        let Some(stored) = self.note_of(token) else { return false };
        note.clear();
        note.extend(stored.iter().map(|word| word.load(Ordering::Relaxed)));
        true
    }

    pub(super) fn is_of(self, token: &[u8]) -> bool {
        self.note_of(token).is_some()
    }

    pub(super) fn has_note(self, token: &[u8], note: &[u64]) -> bool {
        self.note_of(token).is_some_and(|stored| are(stored, note))
    }

    /// How many lines it takes, and the token's hash; `None` where there is no entry
    /// but what was left over before the end of a ring.
    pub(super) fn length_and_hash(self) -> Option<(u64, u64)> {
        let hash = self.0.get(1)?.load(Ordering::Relaxed);
        let lines = self.lengths()?.lines;
        (lines > 0).then_some((lines, hash))
    }

    /// Writes an entry of so many lines.
    pub(super) fn write(self, lines: u64, hash: u64, token: &[u8], note: &[u64]) -> Option<()> {
        let lengths =
            u64::try_from(token.len()).ok()? << 32 | u64::try_from(note.len()).ok()? << 16 | lines;
        let (head, rest) = self.0.split_at_checked(HEAD)?;
        let (stored_token, stored_note) = rest.split_at_checked(token.len().div_ceil(WORD))?;
        store_words(head, &[lengths, hash]);
        store_bytes(stored_token, token);
        store_words(stored_note, note);
        Some(())
    }

    /// Copies another entry of so many lines.
    pub(super) fn copy_from(self, other: Self, lines: u64) -> Option<()> {
        let words = usize::try_from(lines).ok()?.checked_mul(LINE)?;
        for (to, from) in self.0.get(..words)?.iter().zip(other.0.get(..words)?) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Some(())
    }

    /// The words of the note, if this is the entry of exactly this token.
    #[inline]
    fn note_of(self, token: &[u8]) -> Option<&'w [AtomicU64]> {
        let lengths = self.lengths()?;
        let (stored_token, rest) =
            self.0.get(HEAD..)?.split_at_checked(token.len().div_ceil(WORD))?;
        let is_same = lengths.token_bytes == token.len() && begin_with(stored_token, token);
        rest.get(..lengths.note_words.min(MOST_NOTE)).filter(|_| is_same)
    }

    #[inline]
    fn lengths(self) -> Option<Lengths> {
        let word = self.0.first()?.load(Ordering::Relaxed);
        Some(Lengths {
            lines: word & ALL_ONES,
            note_words: usize::try_from(word >> 16 & ALL_ONES).ok()?,
            token_bytes: usize::try_from(word >> 32 & ALL_ONES).ok()?,
        })
    }
}

/// Whether these words are those.
fn are(stored: &[AtomicU64], words: &[u64]) -> bool {
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
