//! A verification result encoded as `u64` words, as stored in the cache, and as
//! [`Verified`](crate::Verified) reads it.
//!
//! ```text
//! | epoch | start | iat | exp | id | hashes (5) | key (4) | issuer, ends of 9 fields, flags (6) |
//! | fields | exported claims | ends of the exported claims, four a word | conditions |
//! ```
//!
//! The fields are the claims that callers ask for. A field that is not plain ASCII is stored a
//! second time, percent-encoded for use in HTTP headers. The exported claims are stored only in
//! that form. Their number is that of the issuer's rules. The conditions are a bit each.

use core::{
    cell::RefCell,
    sync::atomic::{AtomicU64, Ordering},
};

use super::table::bytes_of;
use crate::{
    escape,
    exported_claim::ExportedValues,
    issuer::IssuerEpoch,
    keyset::KeyIdentity,
    revocation::RevocationHashes,
    rules::{has_ended, has_started},
    time::UnixTime,
};

const EPOCH: usize = 0;
const START: usize = 1;
const ISSUED: usize = 2;
const END: usize = 3;
const ID: usize = 4;
const HASHES: usize = ID + 1;
const KEY: usize = HASHES + RevocationHashes::COUNT;
const ENDS: usize = KEY + 4;
const TEXTS: usize = ENDS + 6;
/// The index of the flags beside the ends.
const FLAGS: usize = 10;
/// The index of the number of words with conditions.
const CONDITION_WORDS: usize = 11;
/// Encodes an absent time. No claim reaches this value.
const NEVER: u64 = u64::MAX;

/// A text field of a record; the value is the index of its end.
#[derive(Clone, Copy)]
pub(crate) enum RecordField {
    Subject = 1,
    Username = 2,
    ClientTypes = 3,
    Environment = 4,
    HeaderSubject = 5,
    HeaderUsername = 6,
    HeaderClientTypes = 7,
    HeaderEnvironment = 8,
    /// The issuer with the tenant, which is always visible ASCII.
    Issuer = 9,
}

/// The issuer's index, the ends of all fields, the flags, and the number of words with conditions.
type FieldEnds = [u32; 12];

/// Ends of exported claims in a word.
const ENDS_PER_WORD: usize = 4;

/// Set for a token with a list that contains anything but strings.
const MIXED_LIST: u32 = 1;
/// Set for a token whose header has a `kid`.
const KEY_NAMED: u32 = 2;

/// Set in the end of a field that the token has.
const PRESENT: u32 = 1 << 31;

/// The values of a [`VerificationRecord`].
pub(crate) struct RecordFields<'f> {
    /// The epoch of the issuer, or [`IssuerEpoch::NEVER`] if the result depends on the request.
    pub(crate) epoch: IssuerEpoch,
    /// The issuer's index in its snapshot.
    pub(crate) issuer: u32,
    pub(crate) key: KeyIdentity,
    /// The later of `iat` and `nbf`.
    pub(crate) start: Option<UnixTime>,
    pub(crate) issued_at: Option<UnixTime>,
    pub(crate) expires_at: Option<UnixTime>,
    pub(crate) hashes: RevocationHashes,
    pub(crate) subject: Option<&'f str>,
    pub(crate) username: Option<&'f str>,
    pub(crate) client_types: &'f str,
    pub(crate) environment: Option<&'f str>,
    /// The issuer, if it is not exactly the configured name.
    pub(crate) issuer_name: Option<&'f str>,
    /// Whether a claim is a list that contains anything but strings.
    pub(crate) has_mixed_list: bool,
    /// Whether the header names the key by `kid`.
    pub(crate) names_key: bool,
    pub(crate) exported: &'f ExportedValues,
    /// The conditions that the token meets, a bit each.
    pub(crate) conditions: &'f [u64],
}

/// A record in a pooled buffer. Dropping it returns the buffer to the pool of the thread.
pub(crate) struct VerificationRecord {
    words: Vec<u64>,
}

thread_local! {
    static POOL: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}
/// Buffers that one thread keeps; further ones are freed.
const MAX_POOLED: usize = 16;

impl Drop for VerificationRecord {
    fn drop(&mut self) {
        let words = core::mem::take(&mut self.words);
        // A thread that is exiting has no pool any more; the buffer is then freed.
        let _ignored = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < MAX_POOLED && words.capacity() > 0 {
                pool.push(words);
            }
        });
    }
}

impl Clone for VerificationRecord {
    fn clone(&self) -> Self {
        let mut copy = Self::from_pool();
        copy.words.extend_from_slice(&self.words);
        copy
    }
}

impl VerificationRecord {
    /// Returns an empty record in a buffer from the thread's pool.
    #[inline]
    pub(crate) fn from_pool() -> Self {
        let mut words = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
        words.clear();
        Self { words }
    }

    /// The words, for the cache to fill.
    #[inline]
    pub(crate) fn words_mut(&mut self) -> &mut Vec<u64> {
        &mut self.words
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Encodes `fields`. `texts` is a scratch buffer for the text fields.
    pub(crate) fn write(&mut self, fields: &RecordFields<'_>, texts: &mut Vec<u8>) {
        let time = |moment: Option<UnixTime>, none: u64| moment.map_or(none, |moment| moment.0);
        self.words.clear();
        self.words.extend([
            fields.epoch.0,
            time(fields.start, 0),
            time(fields.issued_at, NEVER),
            time(fields.expires_at, NEVER),
            next_id(),
        ]);
        self.words.extend(fields.hashes.0);
        self.words.extend(fields.key.words());
        let ends = fields.write_texts(texts);
        self.words.extend(
            ends.as_chunks::<2>()
                .0
                .iter()
                .map(|[one, other]| u64::from(*one) | u64::from(*other) << 32),
        );
        texts.extend_from_slice(&fields.exported.text);
        let (chunks, rest) = texts.as_chunks::<8>();
        self.words.extend(chunks.iter().map(|chunk| u64::from_ne_bytes(*chunk)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.words.push(u64::from_ne_bytes(last));
        }
        let ends = fields.exported.ends.chunks(ENDS_PER_WORD);
        self.words.extend(ends.map(|ends| {
            ends.iter().rev().fold(0, |word, end| word << u16::BITS | u64::from(*end))
        }));
        self.words.extend(fields.conditions);
    }

    /// The epoch of the keys and rules that the result was found under.
    #[inline]
    pub(crate) fn epoch(&self) -> IssuerEpoch {
        IssuerEpoch(self.word(EPOCH))
    }

    /// Whether the token is within its validity period at `now`.
    #[inline]
    pub(crate) fn is_valid_at(&self, now: UnixTime, leeway: u32) -> bool {
        has_started(UnixTime(self.word(START)), now, leeway)
            && !self.expires_at().is_some_and(|end| has_ended(end, now, leeway))
    }

    /// The issuer's index in the snapshot that the result was found under.
    #[inline]
    pub(crate) fn issuer(&self) -> usize {
        usize::try_from(self.end(0)).unwrap_or(usize::MAX)
    }

    /// The number of the verification that found the result.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.word(ID)
    }

    /// Takes the id of `cached` if that is the same result, and returns whether it is.
    pub(crate) fn continue_from(&mut self, cached: &Self) -> bool {
        let is_same = |one: &[u64], other: &[u64]| {
            one.get(..ID) == other.get(..ID) && one.get(HASHES..) == other.get(HASHES..)
        };
        let is_same = is_same(&self.words, &cached.words);
        if let Some(id) = self.words.get_mut(ID).filter(|_| is_same) {
            *id = cached.id();
        }
        is_same
    }

    /// The key that made the signature.
    pub(crate) fn key(&self) -> KeyIdentity {
        KeyIdentity::from_words([0, 1, 2, 3].map(|index| self.word(KEY.saturating_add(index))))
    }

    /// The hashes to look up in the revocation filter.
    #[inline]
    pub(crate) fn hashes(&self) -> RevocationHashes {
        RevocationHashes([0, 1, 2, 3, 4].map(|index| self.word(HASHES.saturating_add(index))))
    }

    pub(crate) fn issued_at(&self) -> Option<UnixTime> {
        Some(self.word(ISSUED)).filter(|at| *at != NEVER).map(UnixTime)
    }

    #[inline]
    pub(crate) fn expires_at(&self) -> Option<UnixTime> {
        Some(self.word(END)).filter(|at| *at != NEVER).map(UnixTime)
    }

    /// Whether a claim is a list that contains anything but strings.
    pub(crate) fn has_mixed_list(&self) -> bool {
        self.end(FLAGS) & MIXED_LIST != 0
    }

    /// Whether the header names the key by `kid`.
    pub(crate) fn names_key(&self) -> bool {
        self.end(FLAGS) & KEY_NAMED != 0
    }

    /// Returns a text field, if the token has it.
    pub(crate) fn text(&self, field: RecordField) -> Option<&str> {
        core::str::from_utf8(self.field(field)?).ok()
    }

    /// Returns the bytes of a text field, if the token has it.
    pub(crate) fn field(&self, field: RecordField) -> Option<&[u8]> {
        let index = field.index();
        let end = self.end(index);
        if end & PRESENT == 0 {
            return None;
        }
        let start = if index == RecordField::Subject.index() {
            0
        } else {
            self.end(index.saturating_sub(1)) & !PRESENT
        };
        let all = bytes_of(self.words.get(TEXTS..)?);
        let (start, stop) = (usize::try_from(start).ok()?, usize::try_from(end & !PRESENT).ok()?);
        all.get(start..stop)
    }

    /// Returns the values of the exported claims, of which there are `count`.
    #[inline]
    pub(crate) fn exported(&self, count: usize) -> impl Iterator<Item = &[u8]> + Clone {
        let words = self.words.get(..self.conditions_start()).unwrap_or_default();
        let ends = words.len().saturating_sub(count.div_ceil(ENDS_PER_WORD));
        let first = usize::try_from(self.end(RecordField::Issuer.index()) & !PRESENT);
        let all = words.get(TEXTS..ends).map(bytes_of).unwrap_or_default();
        let all = all.get(first.unwrap_or(usize::MAX)..).unwrap_or_default();
        let ends = words.get(ends..).unwrap_or_default().iter();
        let ends = ends.flat_map(|word| [0u32, 16, 32, 48].map(|bits| word.wrapping_shr(bits)));
        let mut start = 0;
        ends.take(count).map(move |end| {
            let end = usize::try_from(end & 0xffff).unwrap_or(usize::MAX);
            let value = all.get(start..end).unwrap_or_default();
            start = end;
            value
        })
    }

    /// Returns the conditions that the token meets, a bit each.
    #[inline]
    pub(crate) fn conditions(&self) -> &[u64] {
        self.words.get(self.conditions_start()..).unwrap_or_default()
    }

    #[inline]
    fn conditions_start(&self) -> usize {
        let count = usize::try_from(self.end(CONDITION_WORDS)).unwrap_or(0);
        self.words.len().saturating_sub(count)
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(NEVER)
    }

    #[inline]
    fn end(&self, index: usize) -> u32 {
        let pair = self.word(ENDS.saturating_add(index / 2));
        let half = if index.is_multiple_of(2) { pair } else { pair >> 32 };
        u32::try_from(half & u64::from(u32::MAX)).unwrap_or(0)
    }
}

/// Returns a new, unique id. Relaxed is enough, because only uniqueness matters.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl RecordField {
    #[inline]
    fn index(self) -> usize {
        #[expect(clippy::as_conversions, reason = "the discriminants are the indexes")]
        {
            self as usize
        }
    }
}

impl RecordFields<'_> {
    /// Writes all text fields to `texts` and returns their ends, preceded by the issuer's index.
    fn write_texts(&self, texts: &mut Vec<u8>) -> FieldEnds {
        texts.clear();
        let mut ends = [0; 12];
        ends[0] = self.issuer;
        ends[FLAGS] = if self.has_mixed_list { MIXED_LIST } else { 0 }
            | if self.names_key { KEY_NAMED } else { 0 };
        ends[CONDITION_WORDS] = u32::try_from(self.conditions.len()).unwrap_or(0);
        let mut mark = |field: RecordField, present: bool, texts: &[u8]| {
            let end = u32::try_from(texts.len()).unwrap_or(0);
            if let Some(index) = ends.get_mut(field.index()) {
                *index = if present { end | PRESENT } else { end };
            }
        };
        let plain = [
            (RecordField::Subject, self.subject),
            (RecordField::Username, self.username),
            (RecordField::ClientTypes, Some(self.client_types)),
            (RecordField::Environment, self.environment),
        ];
        for (index, text) in plain {
            texts.extend_from_slice(text.unwrap_or_default().as_bytes());
            mark(index, text.is_some(), texts);
        }
        // Usually no field needs escaping, and the header carries the field as it is.
        let is_plain = escape::is_plain(texts, false);
        let escaped = [
            (RecordField::HeaderSubject, self.subject, false),
            (RecordField::HeaderUsername, self.username, false),
            (RecordField::HeaderClientTypes, Some(self.client_types), true),
            (RecordField::HeaderEnvironment, self.environment, false),
        ];
        for (index, text, list) in escaped {
            let special = text.filter(|text| !is_plain && !escape::is_plain(text.as_bytes(), list));
            if let Some(text) = special {
                escape::escape(text, list, texts);
            }
            mark(index, special.is_some(), texts);
        }
        texts.extend_from_slice(self.issuer_name.unwrap_or_default().as_bytes());
        mark(RecordField::Issuer, self.issuer_name.is_some(), texts);
        ends
    }
}
