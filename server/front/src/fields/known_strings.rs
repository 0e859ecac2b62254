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

use super::{
    huffman,
    string_memory::{StoredString, StringMemory},
};

/// Strings that were decoded before, of one worker.
pub(super) struct KnownStrings {
    hash: RandomState,
    /// Sets of references, and a ring with the coded bytes and the text of each string, one after
    /// the other. `None` until a long string comes.
    memory: Option<StringMemory>,
    /// Bytes that were written to the ring so far, with those that were left out at its end.
    written: u64,
    capacity: usize,
}

/// The set of a string, and its tag there.
#[derive(Clone, Copy, Debug)]
struct StringLocation {
    set: usize,
    tag: u32,
}

/// Length of the code of a string that is looked up. Shorter ones are decoded as fast.
const MIN_CODED: usize = 64;
const MAX_CODED: usize = 8192;
/// Bytes of the ring for each set: fewer than those of a token with its code, as a set has room for
/// three.
const BYTES_PER_SET: usize = 1024;
/// Bytes at the start and at the end that are hashed. Tokens of one issuer differ at the end.
const HASHED_BYTES: usize = 64;

impl KnownStrings {
    /// Creates the strings of a worker, which take at most `capacity` bytes, and a sixteenth of
    /// that for their index. Memory is taken when it is needed.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { hash: RandomState::default(), memory: None, written: 0, capacity }
    }

    /// Decodes a string as [`huffman::decode`] does.
    pub(super) fn decode(&mut self, coded: &[u8], out: &mut [u8]) -> Option<usize> {
        if !self.is_looked_up(coded) {
            return huffman::decode(coded, out);
        }
        if self.memory.is_none() {
            self.memory = StringMemory::new((self.capacity / BYTES_PER_SET).max(1), self.capacity);
            if self.memory.is_none() {
                // The system has none, and is not asked for each request.
                self.capacity = 0;
            }
        }
        let Some(location) = self.location(coded) else { return huffman::decode(coded, out) };
        if let Some((stored_code, text)) = self.stored(location)
            && stored_code == coded
        {
            out.get_mut(..text.len())?.copy_from_slice(text);
            return Some(text.len());
        }
        let length = huffman::decode(coded, out)?;
        self.record(location, coded, &out[..length]);
        Some(length)
    }

    fn is_looked_up(&self, coded: &[u8]) -> bool {
        self.capacity > 0 && (MIN_CODED..=MAX_CODED).contains(&coded.len())
    }

    /// Returns the location of a string of a length that is looked up.
    fn location(&self, coded: &[u8]) -> Option<StringLocation> {
        let memory = self.memory.as_ref().filter(|_| self.is_looked_up(coded))?;
        let start = &coded[..coded.len().min(HASHED_BYTES)];
        let end = &coded[coded.len().saturating_sub(HASHED_BYTES)..];
        let hash = self.hash.hash_one((coded.len(), start, end));
        let [low, tag] = [hash, hash >> 32].map(|half| half as u32);
        let set = (u64::from(low) * memory.sets() as u64) >> 32;
        Some(StringLocation { set: set as usize, tag: tag.max(1) })
    }

    /// Returns the code and the text that are stored at a location. The code may be another one.
    fn stored(&self, location: StringLocation) -> Option<(&[u8], &[u8])> {
        let memory = self.memory.as_ref()?;
        let set = memory.set(location.set);
        let stored = set.stored.into_iter().find(|stored| stored.tag == location.tag)?;
        if self.written - stored.start > self.capacity as u64 {
            return None;
        }
        let start = self.offset(stored.start);
        let bytes = memory.ring.get(start..start + stored.len())?;
        bytes.split_at_checked(stored.coded.into())
    }

    fn offset(&self, position: u64) -> usize {
        usize::try_from(position % self.capacity as u64).unwrap_or_default()
    }

    /// Records that a string was decoded. It is stored if it came before.
    fn record(&mut self, location: StringLocation, coded: &[u8], text: &[u8]) {
        let StringLocation { set: number, tag } = location;
        let Some(memory) = &self.memory else { return };
        let mut set = memory.set(number);
        if !set.seen.contains(&tag) && set.stored.iter().all(|stored| stored.tag != tag) {
            set.seen.rotate_right(1);
            set.seen[0] = tag;
        } else if let Some(new) = self.write(tag, coded, text) {
            let oldest = |stored: &&mut StoredString| (stored.tag != tag, stored.start);
            if let Some(replaced) = set.stored.iter_mut().min_by_key(oldest) {
                *replaced = new;
            }
        }
        if let Some(memory) = &mut self.memory {
            memory.replace_set(number, &set);
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
        let ring = &mut self.memory.as_mut()?.ring;
        let (code_part, rest) = ring.get_mut(start..)?.split_at_mut_checked(coded.len())?;
        code_part.copy_from_slice(coded);
        rest.get_mut(..text.len())?.copy_from_slice(text);
        self.written += new.len() as u64;
        Some(new)
    }
}

#[cfg(test)]
use super::string_memory::SET_BYTES;

#[cfg(test)]
impl KnownStrings {
    /// Returns the bytes that are mapped for the ring and for the sets.
    pub(super) fn capacities(&self) -> [usize; 2] {
        let sizes = |memory: &StringMemory| [memory.ring.len(), memory.sets() * SET_BYTES];
        self.memory.as_ref().map_or([0; 2], sizes)
    }

    /// Whether this code is stored.
    fn has(&self, coded: &[u8]) -> bool {
        let stored = self.location(coded).and_then(|location| self.stored(location));
        stored.is_some_and(|(code, _)| code == coded)
    }
}

#[cfg(test)]
mod tests;
