//! Cache of verification results.
//!
//! # What a hit proves
//! An entry holds the exact bytes of a token whose signature was checked under a key by this
//! process. A look-up compares all of them, so a hit depends on no hash and no digest. A hit
//! without a verification would need bytes that differ from every verified token and equal one of
//! them.
//!
//! The index is addressed by a keyed hash of the token's last characters, under a secret of this
//! process. The key only keeps the index evenly filled. An attacker who could predict the hash
//! could only fill one eight-way set and evict their own tokens.
//!
//! # Checks of every hit
//! An entry records facts that do not depend on time or configuration. On every hit the
//! [`Verifier`](crate::Verifier) checks:
//!
//! - Does the issuer have the same keys and rules, that is, the same
//!   [`IssuerEpoch`](crate::issuer::IssuerEpoch)?
//! - Is the token within its validity period at `now`?
//! - Can the token have been revoked?
//!
//! Unless all three are certain, the token is verified in full. The signature check is skipped only
//! if the key to be used is the key that made the signature. A refresh that brings the same keys
//! again therefore costs each token one parse. A key that was removed, or replaced under the same
//! `kid`, loses its effect at once.
//!
//! A result that depends on the request, such as that of a token bound to a client certificate, is
//! stored under an epoch that no issuer has. It never holds, so such a token is verified for every
//! request.
//!
//! # Refused tokens
//! Refused tokens have a store of their own, so they cannot evict accepted ones. It holds only
//! signature verdicts: these bytes are, or are not, signed by the keys with these identities. A
//! verdict is arithmetic, which neither time nor configuration changes, so it cannot become stale.
//! A token that is not valid yet, or of an unknown issuer, is checked again each time. HMAC
//! verdicts are not cached, because computing an HMAC is as fast as a look-up.
//!
//! # Eviction under attack
//! Memory is fixed. New entries go into a small ring, a tenth of the memory. Only entries that are
//! read while they are there, or soon after, move to the main ring. Entries that are read in the
//! main ring stay (S3-FIFO: Yang et al., SOSP 2023).
//!
//! A flood of tokens that are each presented once, authentic or not, passes through the small ring
//! and evicts no entry in use. The exception is the rare token whose two sets of slots are full of
//! such entries. An attacker who can have an issuer sign many tokens, and presents each twice, does
//! reach the main ring. There their entries lose against those in use, because each round of the
//! ring keeps the entries that were read in it.
//!
//! # Concurrency
//! Readers take no lock and write nothing but a read bit (see [`shard`]). The writers of one shard
//! take turns. A thread that has verified a token finds it from then on, so many requests with one
//! new token verify it at most once per core. The exception is a writer that is preempted while it
//! holds the lock: the other writers then skip their tokens instead of waiting, and verify them
//! once more.

mod store;
mod shard;
mod ring;
mod entry;
mod layout;
pub(crate) mod record;
mod table;
mod locked;
mod suite;

/// The atomics of the cache; replaced by loom's for model checking.
mod sync {
    pub(super) use core::{
        hint::spin_loop,
        sync::atomic::{AtomicU64, Ordering, fence},
    };
}

use core::fmt;

use self::record::VerificationRecord;
use crate::{
    algorithm::{Algorithm, KeyType},
    keyset::{KeyIdentity, VerificationKey},
    limits::MAX_TRIED_KEYS,
};

pub use shard::StoreStatistics;
use store::Store;

/// A cache of verification results.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Records of accepted tokens.
    accepted: Store,
    /// Signature verdicts of refused tokens.
    verdicts: Store,
}

/// The counters of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// The store of accepted tokens.
    pub accepted: StoreStatistics,
    /// The store of signature verdicts of refused tokens.
    pub refused: StoreStatistics,
}

/// The system did not provide the memory for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheAllocationError {
    /// The requested size.
    pub bytes: usize,
}

impl fmt::Display for CacheAllocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot allocate {} bytes for the token cache", self.bytes)
    }
}

impl core::error::Error for CacheAllocationError {}

impl Cache {
    /// The store of refused tokens gets one part in this many of the memory.
    const VERDICT_SHARE: usize = 16;

    /// Creates an empty cache of at most `bytes` bytes. Pages are taken from the system only when
    /// they are written.
    pub(crate) fn new(bytes: usize) -> Result<Self, CacheAllocationError> {
        let verdicts = bytes / Self::VERDICT_SHARE;
        let stores = Store::new(bytes.saturating_sub(verdicts)).zip(Store::new(verdicts));
        let (accepted, verdicts) = stores.ok_or(CacheAllocationError { bytes })?;
        Ok(Self { accepted, verdicts })
    }

    /// Returns the record of exactly this token, if it was accepted before.
    #[inline]
    pub(crate) fn find(&self, token: &[u8]) -> Option<VerificationRecord> {
        let mut record = VerificationRecord::from_pool();
        self.accepted.find(token, record.words_mut()).then_some(record)
    }

    /// Stores the record of an accepted token.
    pub(crate) fn insert(&self, token: &[u8], record: &VerificationRecord) {
        self.accepted.insert(token, record.words());
    }

    /// Returns the verdicts about the signature of a refused token.
    pub(crate) fn verdicts(&self, token: &[u8], algorithm: Algorithm) -> SignatureVerdicts {
        let mut record = VerificationRecord::from_pool();
        if !(is_verdict_cacheable(algorithm) && self.verdicts.find(token, record.words_mut())) {
            record.words_mut().clear();
        }
        SignatureVerdicts(record)
    }

    /// Stores the verdicts about the signature of a token that was refused.
    pub(crate) fn insert_verdicts(&self, token: &[u8], verdicts: &SignatureVerdicts) {
        if !verdicts.0.words().is_empty() {
            self.verdicts.insert(token, verdicts.0.words());
        }
    }

    /// Returns the counters.
    pub(crate) fn statistics(&self) -> CacheStatistics {
        CacheStatistics {
            accepted: self.accepted.statistics(),
            refused: self.verdicts.statistics(),
        }
    }
}

/// Finding a verdict takes as long as computing an HMAC.
fn is_verdict_cacheable(algorithm: Algorithm) -> bool {
    algorithm.key_type() != KeyType::Secret
}

/// Verdicts about the signature of one token: the key that made it, or keys that did not.
///
/// ```text
/// | 1 | key (4) |, or | 0 | key (4) | ..., at most MAX_TRIED_KEYS of them
/// ```
pub(crate) struct SignatureVerdicts(VerificationRecord);

impl SignatureVerdicts {
    /// The verdict that this key made the signature.
    pub(crate) fn signed_by(key: &VerificationKey) -> Self {
        let mut verdicts = Self(VerificationRecord::from_pool());
        verdicts.set(true, key);
        verdicts
    }

    /// Returns whether this key made the signature, if that is known.
    pub(crate) fn of(&self, key: &VerificationKey) -> Option<bool> {
        let (is_valid, keys) = self.0.words().split_first()?;
        let is_key = |words: &[u64; 4]| KeyIdentity::from_words(*words) == key.identity();
        keys.as_chunks::<4>().0.iter().any(is_key).then_some(*is_valid == 1)
    }

    /// Adds the verdict that this key did not make the signature. It replaces the oldest one if
    /// there are too many, which are then of keys that have been replaced.
    pub(crate) fn add_invalid(&mut self, key: &VerificationKey) {
        const FULL: usize = 1 + 4 * MAX_TRIED_KEYS;
        match self.0.words() {
            [0, ..] if self.0.words().len() >= FULL => drop(self.0.words_mut().drain(1..5)),
            [0, ..] => {}
            _ => return self.set(false, key),
        }
        if is_verdict_cacheable(key.algorithm()) {
            self.0.words_mut().extend(key.identity().words());
        }
    }

    fn set(&mut self, is_valid: bool, key: &VerificationKey) {
        let words = self.0.words_mut();
        words.clear();
        if is_verdict_cacheable(key.algorithm()) {
            words.push(is_valid.into());
            words.extend(key.identity().words());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyset::KeyMaterial;

    fn key(byte: u8) -> VerificationKey {
        let mut n = [0xb5; 256];
        n[255] = byte | 1;
        n[1] = byte;
        let material = KeyMaterial::Rsa { n: &n, e: &[1, 0, 1] };
        VerificationKey::new(None, Algorithm::Rs256, material).unwrap()
    }

    #[test]
    fn verdicts_are_kept_for_each_key() {
        let (cache, token) = (Cache::new(1 << 20).unwrap(), [b'x'; 64]);
        let keys: Vec<_> = (0..6).map(key).collect();
        let known = || {
            let verdicts = cache.verdicts(&token, Algorithm::Rs256);
            keys.iter().map(|key| verdicts.of(key)).collect::<Vec<_>>()
        };
        assert_eq!(known(), [None; 6]);
        for key in &keys[..5] {
            let mut verdicts = cache.verdicts(&token, Algorithm::Rs256);
            verdicts.add_invalid(key);
            cache.insert_verdicts(&token, &verdicts);
        }
        let no = Some(false);
        assert_eq!(known(), [None, no, no, no, no, None], "the oldest was replaced");
        cache.insert_verdicts(&token, &SignatureVerdicts::signed_by(&keys[5]));
        assert_eq!(known(), [None, None, None, None, None, Some(true)]);
        let mut verdicts = cache.verdicts(&token, Algorithm::Rs256);
        verdicts.add_invalid(&keys[0]);
        cache.insert_verdicts(&token, &verdicts);
        assert_eq!(known(), [no, None, None, None, None, None]);
    }

    #[test]
    fn hmac_verdicts_are_not_kept() {
        let (cache, token) = (Cache::new(1 << 20).unwrap(), [b'x'; 64]);
        let secret = KeyMaterial::Secret(&[7; 32]);
        let key = VerificationKey::new(None, Algorithm::Hs256, secret).unwrap();
        let mut verdicts = cache.verdicts(&token, Algorithm::Hs256);
        verdicts.add_invalid(&key);
        cache.insert_verdicts(&token, &verdicts);
        cache.insert_verdicts(&token, &SignatureVerdicts::signed_by(&key));
        assert_eq!(cache.verdicts(&token, Algorithm::Hs256).of(&key), None);
        assert_eq!(cache.statistics().refused.entries, 0);
    }
}
