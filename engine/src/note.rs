//! What the verification of a token found, in words: as a cache keeps it, as a hit
//! brings it back, and as [`Verified`](crate::Verified) reads it.
//!
//! ```text
//! | stamp | start | issued at | end | names (4) | key (4) | issuer, ends of 7 texts (4) | texts |
//! ```
//!
//! The texts are the claims that later steps ask for, and the same as they may stand
//! in a header where that is different.

use core::cell::RefCell;

use crate::{
    cache::bytes_of,
    identity,
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
const HASHES: usize = 4;
const KEY: usize = 8;
const ENDS: usize = 12;
const TEXTS: usize = 16;
/// Stands for a time that the token does not state: no claim reaches it.
const NEVER: u64 = u64::MAX;

/// A text of a note, by the place of its end.
#[derive(Clone, Copy)]
pub(crate) enum RecordField {
    Subject = 1,
    Username = 2,
    ClientTypes = 3,
    Environment = 4,
    HeaderSubject = 5,
    HeaderUsername = 6,
    HeaderClientTypes = 7,
}

/// Set in the end of a text that the token does have.
const PRESENT: u32 = 1 << 31;

/// What goes into a note.
pub(crate) struct RecordFields<'f> {
    pub(crate) epoch: IssuerEpoch,
    /// The issuer's place in its snapshot.
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
}

/// A note in memory that is used again: it goes back to the thread that drops it.
pub(crate) struct VerificationRecord {
    words: Vec<u64>,
}

thread_local! {
    static POOL: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}
/// As many as a thread may hold on to at once before it asks for memory again.
const MAX_POOLED: usize = 16;

impl Drop for VerificationRecord {
    fn drop(&mut self) {
        let words = core::mem::take(&mut self.words);
        // A thread that is ending has no place left to put it.
        let _ended = POOL.try_with(|pool| {
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
    /// An empty one.
    #[inline]
    pub(crate) fn from_pool() -> Self {
        let mut words = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
        words.clear();
        Self { words }
    }

    /// Its words, to be filled by a cache.
    #[inline]
    pub(crate) fn words_mut(&mut self) -> &mut Vec<u64> {
        &mut self.words
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Writes down what was found; `texts` is memory to put the texts together in.
    pub(crate) fn write(&mut self, fields: &RecordFields<'_>, texts: &mut Vec<u8>) {
        let time = |moment: Option<UnixTime>, none: u64| moment.map_or(none, |moment| moment.0);
        self.words.clear();
        self.words.extend([
            fields.epoch.0,
            time(fields.start, 0),
            time(fields.issued_at, NEVER),
            time(fields.expires_at, NEVER),
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
        let (chunks, rest) = texts.as_chunks::<8>();
        self.words.extend(chunks.iter().map(|chunk| u64::from_ne_bytes(*chunk)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.words.push(u64::from_ne_bytes(last));
        }
    }

    /// By which keys and rules it was found.
    #[inline]
    pub(crate) fn epoch(&self) -> IssuerEpoch {
        IssuerEpoch(self.word(EPOCH))
    }

    /// Whether the token is alive at this moment, clocks being so far apart.
    #[inline]
    pub(crate) fn is_alive(&self, now: UnixTime, leeway: u32) -> bool {
        has_started(UnixTime(self.word(START)), now, leeway)
            && !self.expires_at().is_some_and(|end| has_ended(end, now, leeway))
    }

    /// The issuer's place in the snapshot it was found in.
    #[inline]
    pub(crate) fn issuer(&self) -> usize {
        usize::try_from(self.end(0)).unwrap_or(usize::MAX)
    }

    /// The key that made the signature.
    pub(crate) fn key(&self) -> KeyIdentity {
        KeyIdentity::from_words([0, 1, 2, 3].map(|index| self.word(KEY.saturating_add(index))))
    }

    /// What its revocation would be called.
    #[inline]
    pub(crate) fn hashes(&self) -> RevocationHashes {
        RevocationHashes([0, 1, 2, 3].map(|index| self.word(HASHES.saturating_add(index))))
    }

    pub(crate) fn issued_at(&self) -> Option<UnixTime> {
        Some(self.word(ISSUED)).filter(|at| *at != NEVER).map(UnixTime)
    }

    #[inline]
    pub(crate) fn expires_at(&self) -> Option<UnixTime> {
        Some(self.word(END)).filter(|at| *at != NEVER).map(UnixTime)
    }

    /// One of the texts, if the token has it.
    pub(crate) fn field(&self, text: RecordField) -> Option<&str> {
        let index = text.index();
        let end = self.end(index);
        let start = if index == RecordField::Subject.index() {
            0
        } else {
            self.end(index.saturating_sub(1)) & !PRESENT
        };
        let all = bytes_of(self.words.get(TEXTS..)?);
        let (start, stop) = (usize::try_from(start).ok()?, usize::try_from(end & !PRESENT).ok()?);
        (end & PRESENT != 0)
            .then_some(all.get(start..stop)?)
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
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

impl RecordField {
    #[inline]
    fn index(self) -> usize {
        #[expect(clippy::as_conversions, reason = "the discriminants are the places")]
        {
            self as usize
        }
    }
}

impl RecordFields<'_> {
    /// Puts the texts together and says where each ends, behind the issuer's place.
    fn write_texts(&self, texts: &mut Vec<u8>) -> [u32; 8] {
        texts.clear();
        let mut ends = [self.issuer, 0, 0, 0, 0, 0, 0, 0];
        let mut mark = |text: RecordField, present: bool, texts: &[u8]| {
            let end = u32::try_from(texts.len()).unwrap_or(0);
            if let Some(index) = ends.get_mut(text.index()) {
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
        // Where nothing is escaped, which is nearly always, the header has the text itself.
        if identity::is_plain(texts, false) {
            return ends;
        }
        let escaped = [
            (RecordField::HeaderSubject, self.subject, false),
            (RecordField::HeaderUsername, self.username, false),
            (RecordField::HeaderClientTypes, Some(self.client_types), true),
        ];
        for (index, text, list) in escaped {
            let odd = text.filter(|text| !identity::is_plain(text.as_bytes(), list));
            if let Some(text) = odd {
                identity::escape(text, list, texts);
            }
            mark(index, odd.is_some(), texts);
        }
        ends
    }
}
