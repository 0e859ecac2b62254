//! Cache of recently parsed headers.
//!
//! An issuer writes the same header into every token that it signs with one key. The parsed header
//! is a function of the bytes alone, and a look-up compares all of them, so an entry cannot be
//! stale. Only headers that were parsed without error are stored.

use core::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use super::header::{Header, MAX_THUMBPRINT_BYTES};
use crate::{keyset::KeyName, limits};

/// Maximum length of a cached header, encoded; a longer one is parsed each time.
const MAX_HEADER_BYTES: usize = 512;
/// Enough for the keys of a dozen issuers in rotation.
const SLOTS: u64 = 16;

/// A small table of headers, indexed by a keyed hash of all their bytes, which an attacker cannot
/// predict.
///
/// Its memory is allocated once. Hostile headers can only evict others, which are then parsed
/// again.
pub(super) struct HeaderMemo {
    hash: RandomState,
    slots: Vec<HeaderSlot>,
    /// Holds a header that is too long for the table, until the next one.
    overflow: HeaderSlot,
}

struct HeaderSlot {
    /// Whether the slot holds a header. An empty slot is not the same as an empty header.
    filled: bool,
    encoded: Vec<u8>,
    algorithm: OptionalText,
    kid: OptionalText,
    x5t_s256: OptionalText,
    x5t: OptionalText,
    token_type: OptionalText,
}

/// An `Option<String>` that keeps its memory when it becomes `None`.
struct OptionalText {
    present: bool,
    text: String,
}

impl HeaderMemo {
    pub(super) fn new() -> Self {
        Self {
            hash: RandomState::default(),
            slots: (0..SLOTS).map(|_| HeaderSlot::with_capacity(MAX_HEADER_BYTES)).collect(),
            overflow: HeaderSlot::with_capacity(limits::MAX_TOKEN_BYTES),
        }
    }

    /// Returns the parsed header, calling `read` if it is not cached.
    pub(super) fn get_or_read<'m, E>(
        &'m mut self,
        encoded: &[u8],
        read: impl FnOnce(&mut dyn FnMut(Header<'_>)) -> Result<(), E>,
    ) -> Result<Header<'m>, E> {
        let slot = self.slot(encoded);
        if !slot.filled || slot.encoded != encoded {
            // Stays unset until the whole new header is stored, so a refused header leaves no
            // trace.
            slot.filled = false;
            read(&mut |header| slot.insert(encoded, header))?;
        }
        Ok(Header {
            algorithm: slot.algorithm.get(),
            key: KeyName {
                kid: slot.kid.get(),
                x5t_s256: slot.x5t_s256.get(),
                x5t: slot.x5t.get(),
            },
            token_type: slot.token_type.get(),
        })
    }

    fn slot(&mut self, encoded: &[u8]) -> &mut HeaderSlot {
        let index = usize::try_from(self.hash.hash_one(encoded) % SLOTS).unwrap_or(0);
        match self.slots.get_mut(index) {
            Some(slot) if encoded.len() <= MAX_HEADER_BYTES => slot,
            _ => &mut self.overflow,
        }
    }
}

impl HeaderSlot {
    fn with_capacity(bytes: usize) -> Self {
        let text = |bytes| OptionalText { present: false, text: String::with_capacity(bytes) };
        Self {
            filled: false,
            encoded: Vec::with_capacity(bytes),
            algorithm: text(bytes),
            kid: text(bytes),
            x5t_s256: text(MAX_THUMBPRINT_BYTES),
            x5t: text(MAX_THUMBPRINT_BYTES),
            token_type: text(bytes),
        }
    }

    fn insert(&mut self, encoded: &[u8], header: Header<'_>) {
        self.algorithm.set(header.algorithm);
        let KeyName { kid, x5t_s256, x5t } = header.key;
        self.kid.set(kid);
        self.x5t_s256.set(x5t_s256);
        self.x5t.set(x5t);
        self.token_type.set(header.token_type);
        self.encoded.clear();
        self.encoded.extend_from_slice(encoded);
        self.filled = true;
    }
}

impl OptionalText {
    fn get(&self) -> Option<&str> {
        self.present.then_some(&self.text)
    }

    fn set(&mut self, text: Option<&str>) {
        self.present = text.is_some();
        self.text.clear();
        self.text.push_str(text.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a header up, parsing it as `alg` = its own bytes. The last value is whether it was
    /// parsed.
    fn look_up(
        memo: &mut HeaderMemo,
        encoded: &str,
        kid: Option<&str>,
    ) -> (Option<String>, Option<String>, bool) {
        let mut parsed = false;
        let header = memo.get_or_read::<()>(encoded.as_bytes(), |insert| {
            parsed = true;
            let key = KeyName { kid, x5t_s256: None, x5t: kid };
            insert(Header { algorithm: Some(encoded), key, token_type: kid });
            Ok(())
        });
        let header = header.unwrap();
        let KeyName { kid, x5t_s256, x5t } = header.key;
        assert_eq!((header.token_type, x5t, x5t_s256), (kid, kid, None));
        (header.algorithm.map(str::to_owned), kid.map(str::to_owned), parsed)
    }

    #[test]
    fn memo_reads_a_header_once() {
        let mut memo = HeaderMemo::new();
        assert_eq!(
            look_up(&mut memo, "one", Some("k")),
            (Some("one".into()), Some("k".into()), true)
        );
        assert_eq!(look_up(&mut memo, "one", None), (Some("one".into()), Some("k".into()), false));
    }

    #[test]
    fn memo_never_mixes_up_evicting_headers() {
        let mut memo = HeaderMemo::new();
        for round in 0..3 {
            for number in 0..200 {
                let encoded = format!("{number}{}", "x".repeat(number * 5));
                let kid = (number % 3 != 0).then_some(encoded.as_str());
                let (algorithm, found, _) = look_up(&mut memo, &encoded, kid);
                assert_eq!(
                    (algorithm.as_deref(), found.as_deref()),
                    (Some(encoded.as_str()), kid),
                    "round {round}"
                );
            }
        }
    }

    #[test]
    fn memo_hashes_the_whole_header() {
        let mut memo = HeaderMemo::new();
        for number in 0..200 {
            look_up(
                &mut memo,
                &format!("eyJhbGciOiJSUzI1NiIsImtpZCI6{number:08}InR5cCI6IkpXVCJ9"),
                None,
            );
        }
        let used = memo.slots.iter().filter(|slot| slot.filled).count();
        assert!(used >= 8, "200 headers fill only {used} slots");
    }

    #[test]
    fn memo_does_not_store_refused_headers() {
        let mut memo = HeaderMemo::new();
        // Includes a header of no bytes, like that of an empty slot.
        for hostile in ["", "bad", &"z".repeat(MAX_HEADER_BYTES + 1)] {
            for _ in 0..2 {
                assert!(
                    memo.get_or_read(hostile.as_bytes(), |_| Err("refused")).is_err(),
                    "{hostile:?}"
                );
            }
            assert!(look_up(&mut memo, hostile, Some("k")).2, "{hostile:?} was cached");
            assert!(memo.get_or_read(b"another", |_| Err("refused")).is_err());
        }
    }

    #[test]
    fn memo_memory_never_grows() {
        let mut memo = HeaderMemo::new();
        for length in [0, 1, MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1, limits::MAX_TOKEN_BYTES] {
            let encoded = "y".repeat(length);
            look_up(&mut memo, &encoded, Some(&encoded));
        }
        assert!(memo.slots.iter().all(|slot| slot.encoded.capacity() == MAX_HEADER_BYTES
            && slot.kid.text.capacity() == MAX_HEADER_BYTES));
        assert_eq!(memo.overflow.kid.text.capacity(), limits::MAX_TOKEN_BYTES);
    }
}
