//! Search for two members of one object with the same name.

use core::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use simd_json::Node;

use super::Members;

/// Finds duplicate names, in a buffer that is reused.
///
/// A bitmap of hashes decides for nearly every object. If two hashes collide, the names of a small
/// object are sorted, and those of a large one are hashed once more. The effort is linear but for
/// the sorting: an attacker who makes hashes collide causes two sorts, never a comparison of all
/// pairs.
#[derive(Default)]
pub(super) struct DuplicateFinder {
    /// Hashes under a secret of this process, with the positions of their names in the lower half.
    hashes: Vec<u64>,
    hash: RandomState,
}

/// Objects of up to this many members are small.
const SMALL: usize = 16;

impl DuplicateFinder {
    /// Creates a finder that never allocates for documents of up to this many bytes.
    pub(super) fn for_documents(bytes: usize) -> Self {
        /// The shortest member is `"":0,`.
        const MEMBER_BYTES: usize = 5;
        Self { hashes: Vec::with_capacity(bytes / MEMBER_BYTES), hash: RandomState::default() }
    }

    /// Whether two members have the same name.
    pub(super) fn has_duplicate(&mut self, members: Members<'_, '_>) -> bool {
        may_have_duplicate(members.clone())
            && if members.left <= SMALL {
                has_duplicate_sorted(members)
            } else {
                self.has_duplicate_hashed(members)
            }
    }

    fn has_duplicate_hashed(&mut self, mut members: Members<'_, '_>) -> bool {
        let nodes = members.rest;
        let name = |hash: u64| match usize::try_from(hash & POSITION).map(|at| nodes.get(at)) {
            Ok(Some(Node::String(name))) => *name,
            _ => "",
        };
        self.hashes.clear();
        loop {
            let position = nodes.len().saturating_sub(members.rest.len());
            let Some((name, _)) = members.next() else { break };
            let position = u64::try_from(position).unwrap_or(POSITION) & POSITION;
            self.hashes.push(self.hash.hash_one(name) & !POSITION | position);
        }
        self.hashes.sort_unstable();
        let hash = |hash: u64| hash & !POSITION;
        let is_pair = |pair: &[u64; 2]| hash(pair[0]) == hash(pair[1]);
        if !self.hashes.array_windows().any(is_pair) {
            return false;
        }
        self.hashes.sort_unstable_by(|one, other| {
            hash(*one).cmp(&hash(*other)).then_with(|| name(*one).cmp(name(*other)))
        });
        self.hashes.array_windows().any(|pair| is_pair(pair) && name(pair[0]) == name(pair[1]))
    }
}

const POSITION: u64 = 0xffff_ffff;

/// Whether the short hashes of two names are the same.
fn may_have_duplicate(members: Members<'_, '_>) -> bool {
    let mut seen = [0u64; 16];
    let mut collision = false;
    for (name, _) in members {
        let hash = fingerprint(name.as_bytes());
        let bit = 1u64 << (hash & 63);
        if let Some(word) = seen.get_mut(usize::from(hash >> 6)) {
            collision |= *word & bit != 0;
            *word |= bit;
        }
    }
    collision
}

fn has_duplicate_sorted(members: Members<'_, '_>) -> bool {
    let mut slots = [""; SMALL];
    let mut count = 0usize;
    for (slot, (name, _)) in slots.iter_mut().zip(members) {
        *slot = name;
        count = count.saturating_add(1);
    }
    let names = slots.get_mut(..count).unwrap_or_default();
    names.sort_unstable();
    names.iter().zip(names.iter().skip(1)).any(|(one, next)| one == next)
}

/// Returns ten bits of hash of a name, enough to distinguish the few names in a token.
fn fingerprint(name: &[u8]) -> u16 {
    let ends = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29)
        }
        _ => name.iter().fold(0, |folded, byte| (folded << 8) | u64::from(*byte)),
    };
    let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
    let mixed = (ends ^ length).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u16::try_from(mixed >> 54).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::{JsonBuffers, JsonError};

    fn object(names: &[String]) -> String {
        let members: Vec<_> = names.iter().map(|name| format!(r#""{name}":{{"x":[1]}}"#)).collect();
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn b4_duplicate_is_found_among_any_number_of_members() {
        let mut buffers = JsonBuffers::for_tokens();
        let capacity = buffers.duplicates.hashes.capacity();
        for count in [2, 15, 16, 17, 100, 256, 1000] {
            let mut names: Vec<_> = (0..count).map(|number| format!("n{number}")).collect();
            assert!(buffers.parse(object(&names).as_bytes()).is_ok(), "{count}");
            for twin in [0, count / 2, count - 2] {
                names[count - 1] = names[twin].clone();
                let error = buffers.parse(object(&names).as_bytes()).err();
                assert_eq!(error, Some(JsonError::DuplicateMember), "{twin} of {count}");
            }
        }
        assert_eq!(buffers.duplicates.hashes.capacity(), capacity);
    }

    #[test]
    fn b4_colliding_hashes_are_not_duplicates() {
        // The short hash depends on the ends of a name only.
        let mut names: Vec<_> = (0..400).map(|n| format!("aaaaaaaa{n:03}bbbbbbbb")).collect();
        let mut buffers = JsonBuffers::with_capacity(0);
        assert!(buffers.parse(object(&names).as_bytes()).is_ok());
        names[399] = names[200].clone();
        let error = buffers.parse(object(&names).as_bytes()).err();
        assert_eq!(error, Some(JsonError::DuplicateMember));
    }
}
