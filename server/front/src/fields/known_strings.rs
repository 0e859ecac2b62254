//! Long strings that were decoded before.
//!
//! A client sends the same token with each request, and its code is the same each time. Decoding
//! it takes longer than all else that an HTTP/2 request for `/auth` needs.
//!
//! # What a match proves
//! The text is a function of the coded bytes alone, and a look-up compares all of them, so a match
//! depends on no hash and cannot be stale. Only strings that were decoded without error are stored.
//! Other codes of the same text (the code is canonical, so these are plain literals) are other
//! bytes, and are read as always. What a line with the text means is decided for each request.
//!
//! # Strings in use under attack
//! Memory is fixed: a ring of bytes, in which a new string replaces the oldest ones. A string is
//! stored when it comes again soon after the first time, so that strings that come once are not
//! copied and replace nothing. A client that sends each string twice can replace those of others,
//! which are then decoded again, as fast as without a match.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use super::huffman;

/// Strings that were decoded before, of one worker.
pub(super) struct KnownStrings {
    hash: RandomState,
    /// A power of two of them. Empty until a long string comes.
    sets: Vec<StringSet>,
    /// The coded bytes and the text of each string, one after the other.
    ring: Vec<u8>,
    /// Bytes that were written to the ring so far, with those that were left out at its end.
    written: u64,
    capacity: usize,
}

/// The strings whose hashes have the same last bits.
#[derive(Clone, Copy, Default)]
struct StringSet {
    stored: [StoredString; WAYS],
    /// Tags of strings that came once; the latest is the first.
    seen: [u32; SEEN],
}

#[derive(Clone, Copy, Default)]
struct StoredString {
    /// Zero if the place is empty.
    tag: u32,
    coded: u16,
    text: u16,
    /// [`KnownStrings::written`] before it.
    start: u64,
}

/// Length of the code of a string that is looked up. Shorter ones are decoded as fast.
const MIN_CODED: usize = 64;
const MAX_CODED: usize = 8192;
/// Bytes of the ring for each set: those of one or two tokens with their code.
const BYTES_PER_SET: usize = 2048;
const MAX_SETS: usize = 1 << 16;
/// Strings of one set.
const WAYS: usize = 4;
/// Strings of one set that came once.
const SEEN: usize = 4;
/// Bytes at the start and at the end that are hashed. Tokens of one issuer differ at the end.
const HASHED_BYTES: usize = 64;

impl KnownStrings {
    /// Creates the strings of a worker, which take at most `capacity` bytes, and a twenty-fifth of that
    /// for their index. Memory is taken when it is needed.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let hash = RandomState::default();
        Self { hash, sets: Vec::new(), ring: Vec::new(), written: 0, capacity }
    }

    /// Decodes a string as [`huffman::decode`] does.
    pub(super) fn decode(&mut self, coded: &[u8], out: &mut [u8]) -> Option<usize> {
        if self.capacity == 0 || !(MIN_CODED..=MAX_CODED).contains(&coded.len()) {
            return huffman::decode(coded, out);
        }
        if self.sets.is_empty() {
            let count = (self.capacity / BYTES_PER_SET).clamp(1, MAX_SETS).next_power_of_two();
            self.sets.resize(count, StringSet::default());
        }
        let (set, tag) = self.place(coded);
        if let Some(text) = self.find(set, tag, coded) {
            out.get_mut(..text.len())?.copy_from_slice(text);
            return Some(text.len());
        }
        let length = huffman::decode(coded, out)?;
        self.record(set, tag, coded, &out[..length]);
        Some(length)
    }

    /// Returns the set of a string, and its tag there.
    fn place(&self, coded: &[u8]) -> (usize, u32) {
        let start = &coded[..coded.len().min(HASHED_BYTES)];
        let end = &coded[coded.len().saturating_sub(HASHED_BYTES)..];
        let hash = self.hash.hash_one((coded.len(), start, end));
        let [set, tag] = [hash, hash >> 32].map(|half| half as u32);
        (set as usize & (self.sets.len() - 1), tag.max(1))
    }

    fn find(&self, set: usize, tag: u32, coded: &[u8]) -> Option<&[u8]> {
        let stored = self.sets[set].stored.iter().find(|stored| stored.tag == tag)?;
        let bytes = self.bytes(*stored)?;
        let (stored_code, text) = bytes.split_at_checked(stored.coded.into())?;
        (stored_code == coded).then_some(text)
    }

    /// Returns the code and text of a stored string, unless later ones have replaced it.
    fn bytes(&self, stored: StoredString) -> Option<&[u8]> {
        let start = self.offset(stored.start);
        self.ring.get(start..start + stored.len()).filter(|_| self.is_kept(stored))
    }

    fn is_kept(&self, stored: StoredString) -> bool {
        stored.tag != 0 && self.written - stored.start <= self.capacity as u64
    }

    fn offset(&self, position: u64) -> usize {
        usize::try_from(position % self.capacity as u64).unwrap_or_default()
    }

    /// Records that a string was decoded. It is stored if it came before.
    fn record(&mut self, set: usize, tag: u32, coded: &[u8], text: &[u8]) {
        let StringSet { stored, seen } = &mut self.sets[set];
        if !seen.contains(&tag) && stored.iter().all(|stored| stored.tag != tag) {
            seen.rotate_right(1);
            seen[0] = tag;
            return;
        }
        if let Some(new) = self.write(tag, coded, text) {
            let oldest = |stored: &StoredString| (stored.tag != tag, stored.start);
            let stored = &mut self.sets[set].stored;
            if let Some(replaced) = stored.iter_mut().min_by_key(|stored| oldest(stored)) {
                *replaced = new;
            }
        }
    }

    fn write(&mut self, tag: u32, coded: &[u8], text: &[u8]) -> Option<StoredString> {
        let (coded_length, text_length) =
            (coded.len().try_into().ok()?, text.len().try_into().ok()?);
        let mut new = StoredString { tag, coded: coded_length, text: text_length, start: 0 };
        let mut start = self.offset(self.written);
        if new.len() > self.capacity {
            return None;
        }
        if start + new.len() > self.capacity {
            self.written += (self.capacity - start) as u64;
            start = 0;
        }
        new.start = self.written;
        let end = start + new.len();
        if self.ring.len() < end {
            // All at once, so that it is never copied. The system provides pages when they are
            // written.
            self.ring.reserve_exact(self.capacity - self.ring.len());
            self.ring.resize(end, 0);
        }
        let (code_part, text_part) = self.ring[start..end].split_at_mut(coded.len());
        code_part.copy_from_slice(coded);
        text_part.copy_from_slice(text);
        self.written += new.len() as u64;
        Some(new)
    }
}

impl StoredString {
    fn len(self) -> usize {
        usize::from(self.coded) + usize::from(self.text)
    }
}

#[cfg(test)]
impl KnownStrings {
    /// Returns the capacities of the ring and of the sets, in bytes.
    pub(super) fn capacities(&self) -> [usize; 2] {
        [self.ring.capacity(), self.sets.capacity() * size_of::<StringSet>()]
    }

    /// Whether this code is stored.
    fn has(&self, coded: &[u8]) -> bool {
        let (set, tag) = if self.sets.is_empty() { return false } else { self.place(coded) };
        self.find(set, tag, coded).is_some()
    }
}

#[cfg(test)]
mod tests;
