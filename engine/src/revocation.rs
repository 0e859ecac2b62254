//! Revocations: authentic tokens that are refused by token id, subject, key, issuer or signing
//! input.
//!
//! A revocation only adds a refusal, so it needs no new [`Snapshot`](crate::Snapshot). It applies
//! to every verification that starts after it was inserted, under any issuers, keys and rules.

mod filter;
mod target;

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
use foldhash::fast::RandomState;

use crate::{
    reject::Reject,
    time::UnixTime,
    token::{Scratch, with_scratch},
};
use filter::BloomFilter;
pub use target::{Revocation, RevocationTarget};
use target::{RevocationEntry, RevocationKind, decode_name, encode_name, sha256};

/// The atomics of the filter; replaced by loom's for model checking.
mod sync {
    pub(super) use core::sync::atomic::{AtomicU64, Ordering};
}

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationCapacityError {
    /// The maximum number of entries.
    pub capacity: usize,
}

impl fmt::Display for RevocationCapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the revocation table is full ({} entries)", self.capacity)
    }
}

impl core::error::Error for RevocationCapacityError {}

/// Set until the stored revocations have been loaded.
const UNAVAILABLE: u8 = 128;
/// The number of shards of the table. Inserting an entry copies one shard.
const SHARDS: usize = 1024;

/// The name of an entry: kind, issuer and value, in an unambiguous encoding.
type EntryName = Arc<[u8]>;
type RevocationShard = HashMap<EntryName, RevocationEntry, RandomState>;

/// The revocations in force, read by every verification.
///
/// # Synchronization
/// There is a single writer, the [`RevocationsWriter`]. Each shard of the table is an immutable map
/// behind an [`ArcSwap`]. A change copies one shard and swaps it in, so a reader sees the shard
/// before or after the change.
///
/// `present` has a bit for each kind of revocation in the table. The writer sets it (Release) after
/// it has published the map with the first entry of that kind. Readers load it (Acquire) before the
/// maps, so a reader that sees the bit also sees the entry. The bit of a kind is never cleared.
///
/// When [`RevocationsWriter::insert`] returns, the filter contains every name in the maps, and
/// possibly others. A cached token whose names may be in the filter is verified in full.
pub struct Revocations {
    present: AtomicU8,
    hash: RandomState,
    shards: Box<[ArcSwap<RevocationShard>]>,
    filter: ArcSwap<BloomFilter>,
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("available", &self.are_available())
            .finish_non_exhaustive()
    }
}

/// The hashes of a token in the filter: of its token id, subject, key and signing input.
///
/// They are stored with a cached token, to check whether it may have been revoked since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RevocationHashes(pub(crate) [u64; 4]);

impl RevocationHashes {
    const KINDS: [RevocationKind; 4] = [
        RevocationKind::TokenId,
        RevocationKind::Subject,
        RevocationKind::Key,
        RevocationKind::SigningInput,
    ];
    /// The token has no value of this kind.
    const ABSENT: u64 = 0;
    /// The signing input was not digested, because no signing input was revoked.
    const NOT_COMPUTED: u64 = 1;
}

/// The properties by which a token can be revoked.
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
        let empty = Arc::new(RevocationShard::with_hasher(hash.clone()));
        let shards = iter::repeat_with(|| ArcSwap::new(Arc::clone(&empty))).take(SHARDS).collect();
        Self {
            present: AtomicU8::new(present),
            hash,
            shards,
            filter: ArcSwap::from_pointee(BloomFilter::with_capacity(capacity)),
        }
    }

    /// Whether the stored revocations have been loaded. Until then every token is refused with
    /// [`Reject::RevocationsUnavailable`].
    #[must_use]
    pub fn are_available(&self) -> bool {
        self.present.load(Ordering::Acquire) & UNAVAILABLE == 0
    }

    /// Returns an error if the token is revoked. `name` is a scratch buffer.
    pub(crate) fn check(
        &self,
        token: &RevocationSubject<'_>,
        name: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        let present = self.present.load(Ordering::Acquire);
        // Usually nothing is revoked, or only token ids.
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

    /// Returns the hashes of this token in the filter.
    pub(crate) fn hashes(&self, token: &RevocationSubject<'_>) -> RevocationHashes {
        let issuer = self.hash.hash_one(token.issuer);
        let hash = |kind, value: Option<&[u8]>| {
            value.map_or(RevocationHashes::ABSENT, |value| self.filter_hash(kind, issuer, value))
        };
        // The digest costs as much as all the other hashes together, and is rarely needed.
        let needs_digest =
            self.present.load(Ordering::Acquire) & RevocationKind::SigningInput.bit() != 0;
        RevocationHashes([
            hash(RevocationKind::TokenId, token.token_id.map(str::as_bytes)),
            hash(RevocationKind::Subject, token.subject.map(str::as_bytes)),
            hash(RevocationKind::Key, token.kid.map(str::as_bytes)),
            if needs_digest {
                self.signing_input_hash(&sha256(token.signing_input))
            } else {
                RevocationHashes::NOT_COMPUTED
            },
        ])
    }

    /// Whether a token that was not revoked when it was verified may be revoked now.
    ///
    /// `false` is certain. After `true`, [`check`](Self::check) decides.
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
        RevocationHashes::KINDS.into_iter().zip(hashes.0).any(|(kind, hash)| {
            present & kind.bit() != 0
                && hash != RevocationHashes::ABSENT
                && (hash == RevocationHashes::NOT_COMPUTED || filter.may_contain(hash))
        })
    }

    /// Whether all tokens of this issuer, or of all issuers, issued at that time are revoked.
    fn contains_issuer(&self, present: u8, issuer: &str, issued_at: Option<UnixTime>) -> bool {
        let either = [(RevocationKind::Issuer, issuer), (RevocationKind::All, "")]
            .map(|(kind, issuer)| (present & kind.bit() != 0).then_some((kind, issuer)));
        either.into_iter().flatten().any(|(kind, issuer)| {
            with_scratch(|Scratch { name, .. }| {
                self.contains_entry((kind, issuer, b""), issued_at, name)
            })
        })
    }

    /// Whether an entry with this name revokes a token issued at that time. `name` is a scratch
    /// buffer.
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

    /// The time from which the entry with this name does not apply to tokens any more.
    fn issued_before(&self, name: &[u8]) -> Option<UnixTime> {
        Some(self.shard(name)?.load().get(name)?.issued_before)
    }

    fn shard(&self, name: &[u8]) -> Option<&ArcSwap<RevocationShard>> {
        self.shards.get(self.shard_index(name))
    }

    /// The upper bits of the hash select the shard. The map in the shard uses all of them.
    fn shard_index(&self, name: &[u8]) -> usize {
        let bits = self.hash.hash_one(name) >> (u64::BITS.saturating_sub(SHARDS.trailing_zeros()));
        usize::try_from(bits).unwrap_or(0)
    }
}

/// The single writer of one [`Revocations`] table.
#[derive(Debug)]
pub struct RevocationsWriter {
    revocations: Arc<Revocations>,
    capacity: usize,
    count: usize,
}

impl RevocationsWriter {
    /// Creates an empty table.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { revocations: Arc::new(Revocations::new(0, capacity)), capacity, count: 0 }
    }

    /// Creates a table that is not loaded yet. Until [`restore`](Self::restore) is called, every
    /// token is refused with [`Reject::RevocationsUnavailable`].
    #[must_use]
    pub fn unavailable(capacity: usize) -> Self {
        Self { revocations: Arc::new(Revocations::new(UNAVAILABLE, capacity)), capacity, count: 0 }
    }

    /// The table, for [`Verifier::with_revocations`](crate::Verifier::with_revocations).
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Marks the table as unavailable, because stored revocations cannot be read. Tokens are
    /// refused with [`Reject::RevocationsUnavailable`] until the next [`insert`](Self::insert) or
    /// [`restore`](Self::restore).
    pub fn mark_unavailable(&mut self) {
        self.revocations.present.fetch_or(UNAVAILABLE, Ordering::Release);
    }

    /// The number of entries.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The maximum number of entries.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the table has an entry for these tokens that is at least as strict.
    #[must_use]
    pub fn contains(&self, target: &RevocationTarget) -> bool {
        self.revocations
            .issued_before(&target.name())
            .is_some_and(|moment| moment >= target.issued_before())
    }

    /// Checks whether there is room for these revocations, before the caller stores them elsewhere.
    ///
    /// # Errors
    /// [`RevocationCapacityError`] if there is not.
    pub fn check_capacity(&self, further: &[Revocation]) -> Result<(), RevocationCapacityError> {
        let keys = further.iter().map(|revocation| revocation.target.name());
        let new: HashSet<_> =
            keys.filter(|name| self.revocations.issued_before(name).is_none()).collect();
        if !new.is_empty() && self.count.saturating_add(new.len()) > self.capacity {
            return Err(RevocationCapacityError { capacity: self.capacity });
        }
        Ok(())
    }

    /// Inserts all of these revocations. Of two revocations of the same tokens, the stricter
    /// applies. Verifications that start after this returns refuse the tokens.
    ///
    /// # Errors
    /// [`RevocationCapacityError`] if the table is full; then none of them is inserted.
    pub fn insert(&mut self, revocations: &[Revocation]) -> Result<(), RevocationCapacityError> {
        self.check_capacity(revocations)?;
        self.restore(revocations);
        Ok(())
    }

    /// Inserts revocations that are already in durable storage, beyond the capacity if necessary.
    /// They were accepted when they were stored, and dropping one would make its tokens valid
    /// again.
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
        let present = self.revocations.present.load(Ordering::Relaxed) & !UNAVAILABLE;
        self.revocations.present.store(present | kinds, Ordering::Release);
    }

    /// Removes the entries that have expired at `now` and returns their number.
    pub fn purge_expired(&mut self, now: UnixTime) -> usize {
        let is_expired = |entry: &RevocationEntry| entry.until.is_some_and(|until| until <= now);
        let mut purged = 0usize;
        for shard_index in 0..SHARDS {
            let Some(shard) = self.revocations.shards.get(shard_index).map(ArcSwap::load_full)
            else {
                continue;
            };
            let expired = shard.values().filter(|entry| is_expired(entry)).count();
            if expired > 0 {
                let mut remaining = RevocationShard::clone(&shard);
                remaining.retain(|_, entry| !is_expired(entry));
                self.swap(shard_index, remaining);
                purged = purged.saturating_add(expired);
            }
        }
        self.count = self.count.saturating_sub(purged);
        if purged > 0 {
            let filter = BloomFilter::with_capacity(self.capacity);
            self.all()
                .iter()
                .for_each(|revocation| filter.insert(self.filter_hash(&revocation.target)));
            self.revocations.filter.store(Arc::new(filter));
        }
        purged
    }

    fn filter_hash(&self, target: &RevocationTarget) -> u64 {
        let (issuer, value) = target.issuer_and_value();
        self.revocations.filter_hash(target.kind(), self.revocations.hash.hash_one(issuer), value)
    }

    /// Returns all entries, in no particular order.
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

    fn check(writer: &RevocationsWriter, token: &RevocationSubject<'_>) -> Result<(), Reject> {
        writer.revocations().check(token, &mut Vec::new())
    }

    fn one(target: RevocationTarget) -> RevocationsWriter {
        let mut writer = RevocationsWriter::new(10);
        writer.insert(&[Revocation { target, until: None }]).unwrap();
        writer
    }

    #[test]
    fn revocation_of_each_kind_matches_only_its_tokens() {
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
    fn issued_before_is_exact_and_covers_missing_iat() {
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
    fn revocation_names_are_unambiguous() {
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
    fn stricter_of_two_revocations_applies() {
        let subject = |moment, until| Revocation {
            target: RevocationTarget::Subject {
                issuer: "i".into(),
                subject: "s".into(),
                issued_before: UnixTime(moment),
            },
            until,
        };
        let mut writer = RevocationsWriter::new(1);
        writer
            .insert(&[
                subject(500, None),
                subject(1500, Some(UnixTime(1))),
                subject(700, Some(UnixTime(5))),
            ])
            .unwrap();
        assert_eq!((writer.count(), writer.all()), (1, vec![subject(1500, None)]));
    }

    #[test]
    fn revocation_capacity_is_exact_and_all_or_nothing() {
        let mut writer = RevocationsWriter::new(3);
        writer.insert(&[token_id("1", None), token_id("2", None)]).unwrap();
        assert_eq!(
            writer.insert(&[token_id("3", None), token_id("4", None)]),
            Err(RevocationCapacityError { capacity: 3 })
        );
        assert_eq!((writer.count(), check(&writer, &token("3"))), (2, Ok(())));
        writer.insert(&[token_id("3", None), token_id("1", None)]).unwrap();
        assert_eq!(
            writer.insert(&[token_id("4", None)]),
            Err(RevocationCapacityError { capacity: 3 })
        );
        assert_eq!(
            writer.insert(&[token_id("3", None)]),
            Ok(()),
            "an existing entry needs no room"
        );
        writer.restore(&[token_id("5", None)]);
        assert_eq!(
            (writer.count(), check(&writer, &token("5"))),
            (4, Err(Reject::Revoked)),
            "stored revocations are never dropped"
        );
        assert_eq!(
            writer.insert(&[token_id("6", None)]),
            Err(RevocationCapacityError { capacity: 3 })
        );
        assert_eq!(writer.insert(&[token_id("5", None)]), Ok(()));
    }

    #[test]
    fn revocations_are_purged_when_expired_not_before() {
        let mut writer = RevocationsWriter::new(10);
        writer
            .insert(&[token_id("1", Some(100)), token_id("2", Some(101)), token_id("3", None)])
            .unwrap();
        assert_eq!(writer.purge_expired(UnixTime(99)), 0);
        assert_eq!(writer.purge_expired(UnixTime(100)), 1);
        assert_eq!(
            ["1", "2", "3"].map(|id| check(&writer, &token(id)).is_err()),
            [false, true, true]
        );
        assert_eq!(writer.purge_expired(UnixTime(u64::MAX)), 1);
        assert_eq!((writer.count(), check(&writer, &token("3"))), (1, Err(Reject::Revoked)));
    }

    #[test]
    fn unavailable_revocations_refuse_every_token() {
        let mut writer = RevocationsWriter::unavailable(10);
        assert!(!writer.revocations().are_available());
        assert_eq!(check(&writer, &token("1")), Err(Reject::RevocationsUnavailable));
        writer.insert(&[]).unwrap();
        assert_eq!(
            (writer.revocations().are_available(), check(&writer, &token("1"))),
            (true, Ok(()))
        );
        writer.mark_unavailable();
        assert_eq!(check(&writer, &token("1")), Err(Reject::RevocationsUnavailable));
        writer.insert(&[]).unwrap();
        assert_eq!(check(&writer, &token("1")), Ok(()));
    }

    #[test]
    fn every_revocation_round_trips() {
        let targets = [
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
        for target in targets {
            let revocation = Revocation { target, until: Some(UnixTime(50)) };
            let mut writer = RevocationsWriter::new(10);
            writer.insert(std::slice::from_ref(&revocation)).unwrap();
            assert_eq!(writer.all(), [revocation]);
        }
    }

    #[test]
    fn ten_thousand_revocations_are_distinguished() {
        let mut writer = RevocationsWriter::new(10_000);
        let entries: Vec<_> = (0..10_000).map(|id| token_id(&id.to_string(), None)).collect();
        for part in entries.chunks(100) {
            writer.insert(part).unwrap();
        }
        assert_eq!((writer.count(), writer.all().len()), (10_000, 10_000));
        assert!((0..10_000).all(|id| check(&writer, &token(&id.to_string())).is_err()));
        assert!((10_000..20_000).all(|id| check(&writer, &token(&id.to_string())).is_ok()));
    }
}
