//! Memory of long strings: sets of references, and a ring of bytes. Both are mapped in huge pages
//! where the system has them. Strings come in no order, so with small pages nearly every look-up
//! would also miss the translation look-aside buffer (TLB).

use memmap2::MmapMut;

/// References to strings, and their bytes.
pub(super) struct StringMemory {
    /// Each is [`SET_BYTES`] long.
    sets: MmapMut,
    /// The bytes of the strings.
    pub(super) ring: MmapMut,
}

/// The strings whose hashes fall into the same set. It has the size of what a processor loads at
/// once.
#[derive(Clone, Copy)]
pub(super) struct StringSet {
    pub(super) stored: [StoredString; WAYS],
    /// Tags of strings that came once; the latest is the first.
    pub(super) seen: [u32; SEEN],
}

/// A reference to a string in the ring.
#[derive(Clone, Copy)]
pub(super) struct StoredString {
    /// Zero if the place is empty.
    pub(super) tag: u32,
    /// Length of its code.
    pub(super) coded: u16,
    /// Length of its text, which follows the code.
    pub(super) text: u16,
    /// Number of bytes that were written to the ring before it.
    pub(super) start: u64,
}

/// Strings of one set.
const WAYS: usize = 3;
/// Strings of one set that came once.
const SEEN: usize = 4;
/// Bytes of a set.
pub(super) const SET_BYTES: usize = 16 * WAYS + 4 * SEEN;

impl StringMemory {
    /// Maps memory of zeros; `None` if the system does not provide it. Pages are taken when they
    /// are written.
    pub(super) fn new(sets: usize, ring_bytes: usize) -> Option<Self> {
        Some(Self { sets: map(sets.checked_mul(SET_BYTES)?)?, ring: map(ring_bytes)? })
    }

    /// Returns the number of sets.
    pub(super) fn sets(&self) -> usize {
        self.sets.len() / SET_BYTES
    }

    /// Returns a set.
    pub(super) fn set(&self, number: usize) -> StringSet {
        StringSet::from_bytes(&self.sets.as_chunks().0[number])
    }

    /// Replaces a set.
    pub(super) fn replace_set(&mut self, number: usize, set: &StringSet) {
        self.sets.as_chunks_mut().0[number] = set.to_bytes();
    }
}

fn map(bytes: usize) -> Option<MmapMut> {
    let memory = MmapMut::map_anon(bytes).ok()?;
    #[cfg(target_os = "linux")]
    let _ignored = memory.advise(memmap2::Advice::HugePage);
    Some(memory)
}

impl StringSet {
    fn from_bytes(bytes: &[u8; SET_BYTES]) -> Self {
        let (stored, seen) = bytes.split_at(16 * WAYS);
        let stored: [[u8; 16]; WAYS] = std::array::from_fn(|way| stored.as_chunks().0[way]);
        let seen = std::array::from_fn(|number| u32::from_le_bytes(seen.as_chunks().0[number]));
        Self { stored: stored.map(StoredString::from_bytes), seen }
    }

    fn to_bytes(self) -> [u8; SET_BYTES] {
        let mut bytes = [0; SET_BYTES];
        let (stored, seen) = bytes.split_at_mut(16 * WAYS);
        for (to, string) in stored.as_chunks_mut().0.iter_mut().zip(self.stored) {
            *to = string.to_bytes();
        }
        for (to, tag) in seen.as_chunks_mut().0.iter_mut().zip(self.seen) {
            *to = tag.to_le_bytes();
        }
        bytes
    }
}

impl StoredString {
    fn from_bytes(bytes: [u8; 16]) -> Self {
        let packed = u128::from_le_bytes(bytes);
        Self {
            tag: packed as u32,
            coded: (packed >> 32) as u16,
            text: (packed >> 48) as u16,
            start: (packed >> 64) as u64,
        }
    }

    fn to_bytes(self) -> [u8; 16] {
        let lengths = u64::from(self.coded) << 32 | u64::from(self.text) << 48;
        let low = u64::from(self.tag) | lengths;
        (u128::from(self.start) << 64 | u128::from(low)).to_le_bytes()
    }

    /// Returns the bytes of code and text.
    pub(super) fn len(self) -> usize {
        usize::from(self.coded) + usize::from(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_keep_every_bit() {
        let mut memory = StringMemory::new(3, 10).unwrap();
        assert_eq!((memory.sets(), memory.ring.len()), (3, 10));
        let empty = memory.set(1);
        assert!(empty.stored.iter().all(|stored| stored.tag == 0) && empty.seen == [0; SEEN]);
        let string = |way: u16| StoredString {
            tag: u32::MAX - u32::from(way),
            coded: u16::MAX - way,
            text: 0x8001 + way,
            start: u64::MAX - u64::from(way),
        };
        let set = StringSet { stored: [0, 1, 2].map(string), seen: [1, u32::MAX, 0, 1 << 31] };
        memory.replace_set(1, &set);
        let kept = memory.set(1);
        assert_eq!(kept.seen, set.seen);
        for (one, other) in kept.stored.iter().zip(set.stored) {
            let parts =
                |string: StoredString| (string.tag, string.coded, string.text, string.start);
            assert_eq!(parts(*one), parts(other));
        }
        assert_eq!([0, 2].map(|number| memory.set(number).seen), [[0; SEEN]; 2]);
        assert!(StringMemory::new(usize::MAX, 10).is_none());
        assert!(StringMemory::new(1, usize::MAX / 2).is_none());
    }
}
