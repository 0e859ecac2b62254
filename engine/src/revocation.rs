//! Tokens that are refused although they are genuine: revoked by token id, by
//! subject, by key, by issuer, or one by one.
//!
//! A revocation only ever adds a refusal, so it needs no new snapshot: it is true
//! of every verification that starts after it was entered, whatever issuers, keys
//! and rules are in force by then.

mod filter;

use core::{
    fmt,
    hash::{BuildHasher as _, Hasher as _},
    iter,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use foldhash::fast::RandomState;

use crate::{
    reject::Reject,
    time::UnixTime,
    token::{Scratch, with_scratch},
};
use filter::BloomFilter;

/// What the filter is synchronized by; replaced where it is model-checked.
mod sync {
    pub(super) use core::sync::atomic::{AtomicU64, Ordering};
}

/// Which tokens are revoked.
#[derive(Clone, PartialEq, Eq)]
pub enum RevocationTarget {
    /// The token with this `jti` (RFC 7519 section 4.1.7).
    TokenId {
        /// Its issuer.
        issuer: Box<str>,
        /// Its `jti`.
        token_id: Box<str>,
    },
    /// Every token of a subject that was issued before a moment. One that does not
    /// say when it was issued is among them.
    Subject {
        /// The issuer.
        issuer: Box<str>,
        /// The `sub`.
        subject: Box<str>,
        /// The first `iat` that is accepted.
        issued_before: UnixTime,
    },
    /// Every token signed with the key of this id.
    Key {
        /// The issuer.
        issuer: Box<str>,
        /// The `kid`.
        kid: Box<str>,
    },
    /// Every token of an issuer, or of all issuers, that was issued before a
    /// moment. One that does not say when it was issued is among them.
    Everything {
        /// The issuer; `None` for all of them.
        issuer: Option<Box<str>>,
        /// The first `iat` that is accepted.
        issued_before: UnixTime,
    },
    /// The token with this SHA-256 of its signing input (RFC 7515 section 2): for
    /// tokens without a `jti`. Not of the whole token, because anyone can make a
    /// second valid ECDSA signature out of a first.
    SigningInput([u8; 32]),
}

impl fmt::Debug for RevocationTarget {
    /// RevocationHashes the kind. Subjects and token ids are nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revoked({})", self.kind_name())
    }
}

/// Tokens that are revoked, and for how long that must be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which tokens.
    pub target: RevocationTarget,
    /// The first moment at which none of them can be alive any more, so that the
    /// revocation may be forgotten; `None` if there is no such moment.
    pub until: Option<UnixTime>,
}

impl Revocation {
    /// What revokes exactly this token although nobody can say whether it is genuine,
    /// because its key is not known: what was signed, and nothing that it says of
    /// itself, which may be somebody else's. For ever; whoever enters it sets a bound.
    ///
    /// # Errors
    /// The [`Reject`] of bytes that are no token.
    pub fn of_unverified(token: &[u8]) -> Result<Self, Reject> {
        with_scratch(|scratch| {
            let jws = scratch.jws.decode(token)?;
            Ok(Self { target: RevocationTarget::signing_input(jws.signing_input), until: None })
        })
    }
}

/// There is no room for a further entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationCapacityError {
    /// How many entries there may be.
    pub capacity: usize,
}

impl fmt::Display for RevocationCapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is room for {} revocations and no more", self.capacity)
    }
}

impl core::error::Error for RevocationCapacityError {}

/// The kinds of revocation, each a bit of [`Revocations::present`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum RevocationKind {
    TokenId = 1,
    Subject = 2,
    Key = 4,
    Issuer = 8,
    All = 16,
    SigningInput = 32,
}

impl RevocationKind {
    const fn bit(self) -> u8 {
        #[expect(clippy::as_conversions, reason = "the discriminants are the bits")]
        {
            self as u8
        }
    }
}

/// Set until the revocations that were kept have been read back.
const UNAVAILABLE: u8 = 128;
/// How many parts the table is changed in. One entry more copies one part.
const SHARDS: usize = 1024;

/// The name of an entry: kind, issuer and value, unambiguously joined.
type EntryName = Arc<[u8]>;
type RevocationShard = HashMap<EntryName, RevocationEntry, RandomState>;

#[derive(Clone, Copy)]
struct RevocationEntry {
    /// Tokens issued from this moment on are not meant; [`FOREVER`] for all.
    issued_before: UnixTime,
    until: Option<UnixTime>,
}

const FOREVER: UnixTime = UnixTime(u64::MAX);

/// The revocations in force, read by every verification.
///
/// # Synchronization
/// One [`RevocationsWriter`] writes. A part of the table is an immutable map behind an
/// [`ArcSwap`]; a change copies that part and swaps it in, so that a reader meets
/// it before or after. `present` says which kinds there are at all and is set
/// (Release) after the map that holds the first of a kind, read (Acquire) before
/// the maps: a reader that sees the bit sees the entry. Nobody clears the bit of a
/// kind. When [`RevocationsWriter::insert`] has returned, the filter holds every name in the maps,
/// and perhaps some more: about those a remembered token is asked the whole way.
pub struct Revocations {
    present: AtomicU8,
    hash: RandomState,
    shards: Box<[ArcSwap<RevocationShard>]>,
    filter: ArcSwap<BloomFilter>,
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("known", &self.are_available()).finish_non_exhaustive()
    }
}

/// What a token is called in the filter: by its token id, subject, key and signing
/// input. Kept with a cached token, for asking whether it may have been revoked since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RevocationHashes(pub(crate) [u64; 4]);

impl RevocationHashes {
    const KINDS: [RevocationKind; 4] = [
        RevocationKind::TokenId,
        RevocationKind::Subject,
        RevocationKind::Key,
        RevocationKind::SigningInput,
    ];
    /// Of a token that has nothing of the kind.
    const ABSENT: u64 = 0;
    /// Of a signing input that nobody has digested, since none was revoked.
    const NOT_COMPUTED: u64 = 1;
}

/// What of a token can be revoked.
pub(crate) struct RevocationSubject<'t> {
    pub(crate) issuer: &'t str,
    pub(crate) kid: Option<&'t str>,
    pub(crate) token_id: Option<&'t str>,
    pub(crate) subject: Option<&'t str>,
    pub(crate) issued_at: Option<UnixTime>,
    pub(crate) signing_input: &'t [u8],
}

impl Revocations {
    fn new(present: u8, capacity: usize) -> Self {
        let hash = RandomState::default();
        let nothing = Arc::new(RevocationShard::with_hasher(hash.clone()));
        let shards =
            iter::repeat_with(|| ArcSwap::new(Arc::clone(&nothing))).take(SHARDS).collect();
        Self {
            present: AtomicU8::new(present),
            hash,
            shards,
            filter: ArcSwap::from_pointee(BloomFilter::with_capacity(capacity)),
        }
    }

    /// Whether what was revoked in the past is known. Until then every token is
    /// answered with [`Reject::RevocationsUnavailable`].
    #[must_use]
    pub fn are_available(&self) -> bool {
        self.present.load(Ordering::Acquire) & UNAVAILABLE == 0
    }

    /// Whether the token is revoked. `name` is memory to build names in.
    pub(crate) fn check(
        &self,
        token: &RevocationSubject<'_>,
        name: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        let present = self.present.load(Ordering::Acquire);
        // Nearly always nothing is revoked, or only by token id.
        if present == 0 {
            return Ok(());
        }
        if present & UNAVAILABLE != 0 {
            return Err(Reject::RevocationsUnavailable);
        }
        let mut revoked = |kind: RevocationKind, issuer: &str, value: Option<&[u8]>| {
            value.is_some_and(|value| {
                present & kind.bit() != 0
                    && self.contains_entry((kind, issuer, value), token.issued_at, name)
            })
        };
        let found =
            revoked(RevocationKind::TokenId, token.issuer, token.token_id.map(str::as_bytes))
                || revoked(RevocationKind::Subject, token.issuer, token.subject.map(str::as_bytes))
                || revoked(RevocationKind::Key, token.issuer, token.kid.map(str::as_bytes))
                || revoked(RevocationKind::Issuer, token.issuer, Some(b""))
                || revoked(RevocationKind::All, "", Some(b""))
                || (present & RevocationKind::SigningInput.bit() != 0
                    && revoked(
                        RevocationKind::SigningInput,
                        "",
                        Some(&sha256(token.signing_input)),
                    ));
        if found { Err(Reject::Revoked) } else { Ok(()) }
    }

    /// What this token is called.
    pub(crate) fn hashes(&self, token: &RevocationSubject<'_>) -> RevocationHashes {
        let issuer = self.hash.hash_one(token.issuer);
        let name = |kind, value: Option<&[u8]>| {
            value.map_or(RevocationHashes::ABSENT, |value| self.filter_hash(kind, issuer, value))
        };
        // A digest costs as much as all the rest, and is nearly never asked for.
        let is_asked_for =
            self.present.load(Ordering::Acquire) & RevocationKind::SigningInput.bit() != 0;
        RevocationHashes([
            name(RevocationKind::TokenId, token.token_id.map(str::as_bytes)),
            name(RevocationKind::Subject, token.subject.map(str::as_bytes)),
            name(RevocationKind::Key, token.kid.map(str::as_bytes)),
            if is_asked_for {
                self.signing_input_hash(&sha256(token.signing_input))
            } else {
                RevocationHashes::NOT_COMPUTED
            },
        ])
    }

    /// Whether a token that was not revoked when it was verified may be by now. Surely
    /// not if `false`; otherwise [`check`](Self::check) tells.
    #[inline]
    pub(crate) fn may_apply(
        &self,
        hashes: RevocationHashes,
        issuer: &str,
        issued_at: Option<UnixTime>,
    ) -> bool {
        let present = self.present.load(Ordering::Acquire);
        present != 0
            && (present & UNAVAILABLE != 0
                || self.may_contain(present, hashes)
                || self.contains_issuer(present, issuer, issued_at))
    }

    fn may_contain(&self, present: u8, hashes: RevocationHashes) -> bool {
        let filter = self.filter.load();
        RevocationHashes::KINDS.into_iter().zip(hashes.0).any(|(kind, name)| {
            present & kind.bit() != 0
                && name != RevocationHashes::ABSENT
                && (name == RevocationHashes::NOT_COMPUTED || filter.may_contain(name))
        })
    }

    /// Whether everything is revoked that this issuer, or anybody, issued then.
    fn contains_issuer(&self, present: u8, issuer: &str, issued_at: Option<UnixTime>) -> bool {
        let either = [(RevocationKind::Issuer, issuer), (RevocationKind::All, "")]
            .map(|(kind, issuer)| (present & kind.bit() != 0).then_some((kind, issuer)));
        either.into_iter().flatten().any(|(kind, issuer)| {
            with_scratch(|Scratch { name, .. }| {
                self.contains_entry((kind, issuer, b""), issued_at, name)
            })
        })
    }

    /// Whether this was revoked for what was issued then. `name` is memory to build in.
    fn contains_entry(
        &self,
        (kind, issuer, value): (RevocationKind, &str, &[u8]),
        issued_at: Option<UnixTime>,
        name: &mut Vec<u8>,
    ) -> bool {
        encode_name(name, kind, issuer, value);
        self.issued_before(name)
            .is_some_and(|moment| issued_at.is_none_or(|issued_at| issued_at < moment))
    }

    fn signing_input_hash(&self, digest: &[u8]) -> u64 {
        self.filter_hash(RevocationKind::SigningInput, self.hash.hash_one(""), digest)
    }

    fn filter_hash(&self, kind: RevocationKind, issuer: u64, value: &[u8]) -> u64 {
        let mut hasher = self.hash.build_hasher();
        hasher.write_u64(issuer);
        hasher.write_u8(kind.bit());
        hasher.write(value);
        hasher.finish().max(2)
    }

    /// The moment from which tokens are not meant by the entry of this name.
    fn issued_before(&self, name: &[u8]) -> Option<UnixTime> {
        Some(self.shard(name)?.load().get(name)?.issued_before)
    }

    fn shard(&self, name: &[u8]) -> Option<&ArcSwap<RevocationShard>> {
        self.shards.get(self.shard_index(name))
    }

    /// By the upper bits of the hash; the map inside goes by all of them.
    fn shard_index(&self, name: &[u8]) -> usize {
        let bits = self.hash.hash_one(name) >> (u64::BITS.saturating_sub(SHARDS.trailing_zeros()));
        usize::try_from(bits).unwrap_or(0)
    }
}

/// Enters and forgets revocations; there is one for one [`Revocations`].
#[derive(Debug)]
pub struct RevocationsWriter {
    revocations: Arc<Revocations>,
    capacity: usize,
    count: usize,
}

impl RevocationsWriter {
    /// A table in which nothing is revoked.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { revocations: Arc::new(Revocations::new(0, capacity)), capacity, count: 0 }
    }

    /// A table that is not known yet: until [`restore`](Self::restore) has brought
    /// back what was kept, every token is answered with [`Reject::RevocationsUnavailable`].
    #[must_use]
    pub fn unavailable(capacity: usize) -> Self {
        Self { revocations: Arc::new(Revocations::new(UNAVAILABLE, capacity)), capacity, count: 0 }
    }

    /// The table it writes, for [`Verifier::with_revocations`](crate::Verifier::with_revocations).
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Says that there are revocations which cannot be read: until the next that are
    /// entered, tokens are answered as if none were known.
    pub fn mark_unavailable(&mut self) {
        self.revocations.present.fetch_or(UNAVAILABLE, Ordering::Release);
    }

    /// How many entries there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many entries there may be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether there is an entry for exactly these tokens.
    #[must_use]
    pub fn contains(&self, target: &RevocationTarget) -> bool {
        self.revocations
            .issued_before(&target.name())
            .is_some_and(|moment| moment >= target.issued_before())
    }

    /// Whether there is room for these: tells before anything is written elsewhere.
    ///
    /// # Errors
    /// [`RevocationCapacityError`].
    pub fn check_capacity(&self, further: &[Revocation]) -> Result<(), RevocationCapacityError> {
        let keys = further.iter().map(|revocation| revocation.target.name());
        let new: HashSet<_> =
            keys.filter(|name| self.revocations.issued_before(name).is_none()).collect();
        if !new.is_empty() && self.count.saturating_add(new.len()) > self.capacity {
            return Err(RevocationCapacityError { capacity: self.capacity });
        }
        Ok(())
    }

    /// Enters all of them. Of two about the same tokens the stricter counts.
    /// Verifications that start after this returns refuse these tokens.
    ///
    /// # Errors
    /// [`RevocationCapacityError`]; then none of them was entered.
    pub fn insert(&mut self, revocations: &[Revocation]) -> Result<(), RevocationCapacityError> {
        self.check_capacity(revocations)?;
        self.restore(revocations);
        Ok(())
    }

    /// Enters what is kept elsewhere already, however much it is: there was room for
    /// it when it was kept, and to drop it would bring it back to life.
    pub fn restore(&mut self, revocations: &[Revocation]) {
        let mut changed: HashMap<usize, RevocationShard, RandomState> = HashMap::default();
        let mut kinds = 0;
        for Revocation { target, until } in revocations {
            let name = target.name();
            let shard_index = self.revocations.shard_index(&name);
            let Some(current) = self.revocations.shards.get(shard_index) else { continue };
            let shard = changed
                .entry(shard_index)
                .or_insert_with(|| RevocationShard::clone(&current.load()));
            let entry = RevocationEntry { issued_before: target.issued_before(), until: *until };
            let merged = shard.get(&*name).map_or(entry, |earlier| entry.or_stricter(earlier));
            if shard.insert(name.into(), merged).is_none() {
                self.count = self.count.saturating_add(1);
            }
            kinds |= target.kind().bit();
        }
        for (shard_index, shard) in changed {
            self.swap(shard_index, shard);
        }
        let filter = self.revocations.filter.load();
        revocations
            .iter()
            .for_each(|revocation| filter.insert(self.filter_hash(&revocation.target)));
        let known = self.revocations.present.load(Ordering::Relaxed) & !UNAVAILABLE;
        self.revocations.present.store(known | kinds, Ordering::Release);
    }

    /// Forgets the entries that are over at `now`, and says how many those were.
    pub fn purge_expired(&mut self, now: UnixTime) -> usize {
        let is_over = |entry: &RevocationEntry| entry.until.is_some_and(|until| until <= now);
        let mut forgotten = 0usize;
        for shard_index in 0..SHARDS {
            let Some(shard) = self.revocations.shards.get(shard_index).map(ArcSwap::load_full)
            else {
                continue;
            };
            let over = shard.values().filter(|entry| is_over(entry)).count();
            if over > 0 {
                let mut kept = RevocationShard::clone(&shard);
                kept.retain(|_, entry| !is_over(entry));
                self.swap(shard_index, kept);
                forgotten = forgotten.saturating_add(over);
            }
        }
        self.count = self.count.saturating_sub(forgotten);
        if forgotten > 0 {
            let filter = BloomFilter::with_capacity(self.capacity);
            self.all()
                .iter()
                .for_each(|revocation| filter.insert(self.filter_hash(&revocation.target)));
            self.revocations.filter.store(Arc::new(filter));
        }
        forgotten
    }

    fn filter_hash(&self, target: &RevocationTarget) -> u64 {
        let (issuer, value) = target.issuer_and_value();
        self.revocations.filter_hash(target.kind(), self.revocations.hash.hash_one(issuer), value)
    }

    /// Everything that is revoked, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Revocation> {
        let shards = self.revocations.shards.iter().map(ArcSwap::load_full);
        shards
            .flat_map(|shard| {
                shard
                    .iter()
                    .filter_map(|(name, entry)| decode_name(name, *entry))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn swap(&self, shard_index: usize, shard: RevocationShard) {
        if let Some(current) = self.revocations.shards.get(shard_index) {
            current.store(Arc::new(shard));
        }
    }
}

impl RevocationEntry {
    fn or_stricter(self, other: &Self) -> Self {
        Self {
            issued_before: self.issued_before.max(other.issued_before),
            until: self.until.zip(other.until).map(|(one, other)| one.max(other)),
        }
    }
}

impl RevocationTarget {
    /// The one token with this signing input: everything before its last dot.
    #[must_use]
    pub fn signing_input(signing_input: &[u8]) -> Self {
        Self::SigningInput(sha256(signing_input))
    }

    /// What kind it is, for logs.
    #[must_use]
    pub const fn kind_name(&self) -> &'static str {
        match self {
            Self::TokenId { .. } => "token id",
            Self::Subject { .. } => "subject",
            Self::Key { .. } => "key",
            Self::Everything { issuer: Some(_), .. } => "issuer",
            Self::Everything { issuer: None, .. } => "everything",
            Self::SigningInput(_) => "signing input",
        }
    }

    fn kind(&self) -> RevocationKind {
        match self {
            Self::TokenId { .. } => RevocationKind::TokenId,
            Self::Subject { .. } => RevocationKind::Subject,
            Self::Key { .. } => RevocationKind::Key,
            Self::Everything { issuer: Some(_), .. } => RevocationKind::Issuer,
            Self::Everything { issuer: None, .. } => RevocationKind::All,
            Self::SigningInput(_) => RevocationKind::SigningInput,
        }
    }

    fn issued_before(&self) -> UnixTime {
        match self {
            Self::Subject { issued_before, .. } | Self::Everything { issued_before, .. } => {
                *issued_before
            }
            Self::TokenId { .. } | Self::Key { .. } | Self::SigningInput(_) => FOREVER,
        }
    }

    fn issuer_and_value(&self) -> (&str, &[u8]) {
        match self {
            Self::TokenId { issuer, token_id: value }
            | Self::Subject { issuer, subject: value, .. }
            | Self::Key { issuer, kid: value } => (issuer, value.as_bytes()),
            Self::Everything { issuer, .. } => (issuer.as_deref().unwrap_or_default(), b""),
            Self::SigningInput(digest) => ("", digest),
        }
    }

    fn name(&self) -> Vec<u8> {
        let (issuer, value) = self.issuer_and_value();
        let mut name = Vec::new();
        encode_name(&mut name, self.kind(), issuer, value);
        name
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The length keeps apart what concatenation would confuse.
fn encode_name(name: &mut Vec<u8>, kind: RevocationKind, issuer: &str, value: &[u8]) {
    name.clear();
    name.push(kind.bit());
    name.extend_from_slice(&u32::try_from(issuer.len()).unwrap_or(u32::MAX).to_be_bytes());
    name.extend_from_slice(issuer.as_bytes());
    name.extend_from_slice(value);
}

/// What [`encode_name`] wrote.
fn decode_name(name: &[u8], entry: RevocationEntry) -> Option<Revocation> {
    let (kind, rest) = name.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (issuer, value) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let issuer: Box<str> = str::from_utf8(issuer).ok()?.into();
    let text = || str::from_utf8(value).ok().map(Box::from);
    let target = match *kind {
        kind if kind == RevocationKind::TokenId.bit() => {
            RevocationTarget::TokenId { issuer, token_id: text()? }
        }
        kind if kind == RevocationKind::Subject.bit() => RevocationTarget::Subject {
            issuer,
            subject: text()?,
            issued_before: entry.issued_before,
        },
        kind if kind == RevocationKind::Key.bit() => RevocationTarget::Key { issuer, kid: text()? },
        kind if kind == RevocationKind::Issuer.bit() => RevocationTarget::Everything {
            issuer: Some(issuer),
            issued_before: entry.issued_before,
        },
        kind if kind == RevocationKind::All.bit() => {
            RevocationTarget::Everything { issuer: None, issued_before: entry.issued_before }
        }
        _ => RevocationTarget::SigningInput(value.try_into().ok()?),
    };
    Some(Revocation { target, until: entry.until })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_id(id: &str, until: Option<u64>) -> Revocation {
        Revocation {
            target: RevocationTarget::TokenId { issuer: "i".into(), token_id: id.into() },
            until: until.map(UnixTime),
        }
    }

    fn token(id: &str) -> RevocationSubject<'_> {
        RevocationSubject {
            issuer: "i",
            kid: Some("k"),
            token_id: Some(id),
            subject: Some("s"),
            issued_at: Some(UnixTime(1000)),
            signing_input: b"h.p",
        }
    }

    fn check(revoker: &RevocationsWriter, token: &RevocationSubject<'_>) -> Result<(), Reject> {
        revoker.revocations().check(token, &mut Vec::new())
    }

    fn one(target: RevocationTarget) -> RevocationsWriter {
        let mut revoker = RevocationsWriter::new(10);
        revoker.insert(&[Revocation { target, until: None }]).unwrap();
        revoker
    }

    #[test]
    fn each_kind_meets_its_tokens_and_no_others() {
        let token_id = one(RevocationTarget::TokenId { issuer: "i".into(), token_id: "1".into() });
        assert_eq!(check(&token_id, &token("1")), Err(Reject::Revoked));
        for other in [
            token("2"),
            token(""),
            RevocationSubject { issuer: "j", ..token("1") },
            RevocationSubject { token_id: None, ..token("1") },
        ] {
            assert_eq!(check(&token_id, &other), Ok(()));
        }
        let key = one(RevocationTarget::Key { issuer: "i".into(), kid: "k".into() });
        assert_eq!(check(&key, &token("1")), Err(Reject::Revoked));
        for other in [
            RevocationSubject { kid: Some("l"), ..token("1") },
            RevocationSubject { kid: None, ..token("1") },
            RevocationSubject { issuer: "", ..token("1") },
        ] {
            assert_eq!(check(&key, &other), Ok(()));
        }
        let input = one(RevocationTarget::signing_input(b"h.p"));
        assert_eq!(check(&input, &token("1")), Err(Reject::Revoked));
        assert_eq!(
            check(&input, &RevocationSubject { signing_input: b"h.q", ..token("1") }),
            Ok(())
        );
    }

    #[test]
    fn issued_before_is_exact_and_a_token_without_iat_is_older_than_everything() {
        let subject = |moment| {
            one(RevocationTarget::Subject {
                issuer: "i".into(),
                subject: "s".into(),
                issued_before: UnixTime(moment),
            })
        };
        let issuer = |moment| {
            one(RevocationTarget::Everything {
                issuer: Some("i".into()),
                issued_before: UnixTime(moment),
            })
        };
        let all = |moment| {
            one(RevocationTarget::Everything { issuer: None, issued_before: UnixTime(moment) })
        };
        for revoked in [&subject as &dyn Fn(u64) -> RevocationsWriter, &issuer, &all] {
            assert_eq!(check(&revoked(1001), &token("1")), Err(Reject::Revoked));
            assert_eq!(check(&revoked(1000), &token("1")), Ok(()));
            assert_eq!(
                check(&revoked(0), &RevocationSubject { issued_at: None, ..token("1") }),
                Err(Reject::Revoked)
            );
        }
        assert_eq!(
            check(&subject(2000), &RevocationSubject { subject: Some("t"), ..token("1") }),
            Ok(())
        );
        assert_eq!(
            check(&subject(2000), &RevocationSubject { subject: None, ..token("1") }),
            Ok(())
        );
        assert_eq!(check(&issuer(2000), &RevocationSubject { issuer: "j", ..token("1") }), Ok(()));
        assert_eq!(
            check(&all(2000), &RevocationSubject { issuer: "j", ..token("1") }),
            Err(Reject::Revoked)
        );
    }

    #[test]
    fn names_that_look_alike_when_joined_are_kept_apart() {
        let joined = one(RevocationTarget::TokenId { issuer: "ab".into(), token_id: "c".into() });
        assert_eq!(
            check(&joined, &RevocationSubject { issuer: "a", token_id: Some("bc"), ..token("") }),
            Ok(())
        );
        let subject = one(RevocationTarget::Subject {
            issuer: "i".into(),
            subject: "k".into(),
            issued_before: UnixTime(9999),
        });
        assert_eq!(check(&subject, &token("k")), Ok(()), "a key or a token of the same name");
    }

    #[test]
    fn the_stricter_of_two_counts() {
        let subject = |moment, until| Revocation {
            target: RevocationTarget::Subject {
                issuer: "i".into(),
                subject: "s".into(),
                issued_before: UnixTime(moment),
            },
            until,
        };
        let mut revoker = RevocationsWriter::new(1);
        revoker
            .insert(&[
                subject(500, None),
                subject(1500, Some(UnixTime(1))),
                subject(700, Some(UnixTime(5))),
            ])
            .unwrap();
        assert_eq!((revoker.count(), revoker.all()), (1, vec![subject(1500, None)]));
    }

    #[test]
    fn the_capacity_is_exact_and_passing_it_changes_nothing() {
        let mut revoker = RevocationsWriter::new(3);
        revoker.insert(&[token_id("1", None), token_id("2", None)]).unwrap();
        assert_eq!(
            revoker.insert(&[token_id("3", None), token_id("4", None)]),
            Err(RevocationCapacityError { capacity: 3 })
        );
        assert_eq!((revoker.count(), check(&revoker, &token("3"))), (2, Ok(())));
        revoker.insert(&[token_id("3", None), token_id("1", None)]).unwrap();
        assert_eq!(
            revoker.insert(&[token_id("4", None)]),
            Err(RevocationCapacityError { capacity: 3 })
        );
        assert_eq!(revoker.insert(&[token_id("3", None)]), Ok(()), "what is there needs no room");
        revoker.restore(&[token_id("5", None)]);
        assert_eq!(
            (revoker.count(), check(&revoker, &token("5"))),
            (4, Err(Reject::Revoked)),
            "what is kept is never dropped"
        );
        assert_eq!(
            revoker.insert(&[token_id("6", None)]),
            Err(RevocationCapacityError { capacity: 3 })
        );
        assert_eq!(revoker.insert(&[token_id("5", None)]), Ok(()));
    }

    #[test]
    fn entries_leave_when_they_are_over_and_never_before() {
        let mut revoker = RevocationsWriter::new(10);
        revoker
            .insert(&[token_id("1", Some(100)), token_id("2", Some(101)), token_id("3", None)])
            .unwrap();
        assert_eq!(revoker.purge_expired(UnixTime(99)), 0);
        assert_eq!(revoker.purge_expired(UnixTime(100)), 1);
        assert_eq!(
            ["1", "2", "3"].map(|id| check(&revoker, &token(id)).is_err()),
            [false, true, true]
        );
        assert_eq!(revoker.purge_expired(UnixTime(u64::MAX)), 1);
        assert_eq!((revoker.count(), check(&revoker, &token("3"))), (1, Err(Reject::Revoked)));
    }

    #[test]
    fn while_they_are_unknown_no_token_is_judged() {
        let mut revoker = RevocationsWriter::unavailable(10);
        assert!(!revoker.revocations().are_available());
        assert_eq!(check(&revoker, &token("1")), Err(Reject::RevocationsUnavailable));
        revoker.insert(&[]).unwrap();
        assert_eq!(
            (revoker.revocations().are_available(), check(&revoker, &token("1"))),
            (true, Ok(()))
        );
        revoker.mark_unavailable();
        assert_eq!(check(&revoker, &token("1")), Err(Reject::RevocationsUnavailable));
        revoker.insert(&[]).unwrap();
        assert_eq!(check(&revoker, &token("1")), Ok(()));
    }

    #[test]
    fn everything_entered_comes_back_as_it_was() {
        let whats = [
            RevocationTarget::TokenId { issuer: "ä".into(), token_id: String::new().into() },
            RevocationTarget::Subject {
                issuer: "i".into(),
                subject: "s\0".into(),
                issued_before: UnixTime(7),
            },
            RevocationTarget::Key { issuer: String::new().into(), kid: "k".into() },
            RevocationTarget::Everything { issuer: Some("i".into()), issued_before: UnixTime(8) },
            RevocationTarget::Everything { issuer: None, issued_before: UnixTime(9) },
            RevocationTarget::SigningInput([3; 32]),
        ];
        for target in whats {
            let revocation = Revocation { target, until: Some(UnixTime(50)) };
            let mut revoker = RevocationsWriter::new(10);
            revoker.insert(std::slice::from_ref(&revocation)).unwrap();
            assert_eq!(revoker.all(), [revocation]);
        }
    }

    #[test]
    fn ten_thousand_entries_are_told_apart() {
        let mut revoker = RevocationsWriter::new(10_000);
        let entries: Vec<_> = (0..10_000).map(|id| token_id(&id.to_string(), None)).collect();
        for part in entries.chunks(100) {
            revoker.insert(part).unwrap();
        }
        assert_eq!((revoker.count(), revoker.all().len()), (10_000, 10_000));
        assert!((0..10_000).all(|id| check(&revoker, &token(&id.to_string())).is_err()));
        assert!((10_000..20_000).all(|id| check(&revoker, &token(&id.to_string())).is_ok()));
    }
}
