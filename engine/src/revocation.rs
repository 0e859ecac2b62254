//! Revocations: authentic tokens that are refused by token id, subject, key, environment, issuer or
//! signing input.
//!
//! A revocation only adds a refusal, so it needs no new [`Snapshot`](crate::Snapshot). It applies
//! to every verification that starts after it was inserted, under any issuers, keys and rules.

mod filter;
mod target;
mod writer;

use core::{
    fmt,
    hash::{BuildHasher as _, Hasher as _},
    iter,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use crate::{
    issuer::TokenIssuer,
    reject::Reject,
    time::UnixTime,
    token::{Scratch, with_scratch},
};
use filter::BloomFilter;
pub use target::{Revocation, RevocationTarget};
use target::{RevocationEntry, RevocationKind, decode_name, encode_name, sha256};
pub use writer::{RevocationCapacityError, RevocationsWriter};

/// The atomics of the filter; replaced by loom's for model checking.
mod sync {
    pub(super) use core::sync::atomic::{AtomicU64, Ordering};
}

/// Set until the stored revocations have been loaded.
const UNAVAILABLE: u8 = 128;
/// The number of shards of the table. Inserting an entry copies one shard.
const SHARDS: usize = 1024;

/// The issuer of an entry that applies to all issuers.
const NO_ISSUER: [&str; 3] = [""; 3];

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

/// The hashes of a token in the filter: of its token id, subject, key, environment and signing
/// input.
///
/// They are stored with a cached token, to check whether it may have been revoked since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RevocationHashes(pub(crate) [u64; Self::COUNT]);

impl RevocationHashes {
    pub(crate) const COUNT: usize = 5;
    const KINDS: [RevocationKind; Self::COUNT] = [
        RevocationKind::TokenId,
        RevocationKind::Subject,
        RevocationKind::Key,
        RevocationKind::Environment,
        RevocationKind::SigningInput,
    ];
    /// The token has no value of this kind.
    const ABSENT: u64 = 0;
    /// The signing input was not digested, because no signing input was revoked.
    const NOT_COMPUTED: u64 = 1;
}

/// The properties by which a token can be revoked.
pub(crate) struct RevocationSubject<'t> {
    pub(crate) issuer: TokenIssuer<'t>,
    pub(crate) kid: Option<&'t str>,
    pub(crate) token_id: Option<&'t str>,
    pub(crate) subject: Option<&'t str>,
    pub(crate) environment: Option<&'t str>,
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

    /// Returns all entries in parts, in no particular order, so that a copy of the table is not
    /// needed at once. An entry that is inserted or removed meanwhile may be missing.
    pub fn parts(&self) -> impl Iterator<Item = Vec<Revocation>> + '_ {
        self.shards.iter().map(|shard| {
            let entries = shard.load();
            entries.iter().filter_map(|(name, entry)| decode_name(name, *entry)).collect()
        })
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
        let mut contains = |kind: RevocationKind, issuer: [&str; 3], value: &[u8]| {
            present & kind.bit() != 0
                && self.contains_entry((kind, issuer, value), token.issued_at, name)
        };
        let of_issuer = [
            (RevocationKind::TokenId, token.token_id),
            (RevocationKind::Subject, token.subject),
            (RevocationKind::Key, token.kid),
            (RevocationKind::Environment, token.environment),
            (RevocationKind::Issuer, Some("")),
        ];
        let found = of_issuer.into_iter().any(|(kind, value)| {
            value.filter(|_| present & kind.bit() != 0).is_some_and(|value| {
                token.issuer.names().any(|name| contains(kind, name, value.as_bytes()))
            })
        });
        let found = found
            || contains(RevocationKind::All, NO_ISSUER, b"")
            || (present & RevocationKind::SigningInput.bit() != 0
                && contains(RevocationKind::SigningInput, NO_ISSUER, &sha256(token.signing_input)));
        if found { Err(Reject::Revoked) } else { Ok(()) }
    }

    /// Returns the hashes of this token in the filter.
    pub(crate) fn hashes(&self, token: &RevocationSubject<'_>) -> RevocationHashes {
        let hash = |kind, value: Option<&[u8]>| {
            value.map_or(RevocationHashes::ABSENT, |value| self.filter_hash(kind, value))
        };
        // The digest costs as much as all the other hashes together, and is rarely needed.
        let needs_digest =
            self.present.load(Ordering::Acquire) & RevocationKind::SigningInput.bit() != 0;
        RevocationHashes([
            hash(RevocationKind::TokenId, token.token_id.map(str::as_bytes)),
            hash(RevocationKind::Subject, token.subject.map(str::as_bytes)),
            hash(RevocationKind::Key, token.kid.map(str::as_bytes)),
            hash(RevocationKind::Environment, token.environment.map(str::as_bytes)),
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
    pub(crate) fn may_apply<'i>(
        &self,
        hashes: RevocationHashes,
        issuer: impl FnOnce() -> TokenIssuer<'i>,
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
    fn contains_issuer<'i>(
        &self,
        present: u8,
        issuer: impl FnOnce() -> TokenIssuer<'i>,
        issued_at: Option<UnixTime>,
    ) -> bool {
        let contains = |kind, issuer| {
            with_scratch(|Scratch { name, .. }| {
                self.contains_entry((kind, issuer, b""), issued_at, name)
            })
        };
        (present & RevocationKind::Issuer.bit() != 0
            && issuer().names().any(|name| contains(RevocationKind::Issuer, name)))
            || (present & RevocationKind::All.bit() != 0
                && contains(RevocationKind::All, NO_ISSUER))
    }

    /// Whether an entry with this name revokes a token issued at that time. `name` is a scratch
    /// buffer.
    fn contains_entry(
        &self,
        (kind, issuer, value): (RevocationKind, [&str; 3], &[u8]),
        issued_at: Option<UnixTime>,
        name: &mut Vec<u8>,
    ) -> bool {
        encode_name(name, kind, issuer, value);
        self.issued_before(name)
            .is_some_and(|moment| issued_at.is_none_or(|issued_at| issued_at < moment))
    }

    fn signing_input_hash(&self, digest: &[u8]) -> u64 {
        self.filter_hash(RevocationKind::SigningInput, digest)
    }

    /// The issuer is not part of the hash, because a revocation may name it by an alias.
    fn filter_hash(&self, kind: RevocationKind, value: &[u8]) -> u64 {
        let mut hasher = self.hash.build_hasher();
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

#[cfg(test)]
mod tests;
