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
//! # What is checked on every hit
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
//! signature verdicts: these bytes are, or are not, signed by the key with this identity. A verdict
//! is arithmetic, which neither time nor configuration changes, so it cannot become stale. A token
//! that is not valid yet, or of an unknown issuer, is checked again each time. HMAC verdicts are
//! not cached, because computing an HMAC is as fast as a look-up.
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
    algorithm::KeyType,
    keyset::{KeyIdentity, VerificationKey},
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

    /// Returns whether this key signed the token, if that is known.
    pub(crate) fn verdict(&self, token: &[u8], key: &VerificationKey) -> Option<bool> {
        let mut record = VerificationRecord::from_pool();
        let is_known = is_verdict_cacheable(key) && self.verdicts.find(token, record.words_mut());
        match record.words() {
            [is_valid, one, two, three, four] if is_known => {
                (KeyIdentity::from_words([*one, *two, *three, *four]) == key.identity())
                    .then_some(*is_valid == 1)
            }
            _ => None,
        }
    }

    /// Stores whether this key signed a token that was refused.
    pub(crate) fn insert_verdict(&self, token: &[u8], key: &VerificationKey, is_valid: bool) {
        if is_verdict_cacheable(key) {
            let [one, two, three, four] = key.identity().words();
            self.verdicts.insert(token, &[u64::from(is_valid), one, two, three, four]);
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
fn is_verdict_cacheable(key: &VerificationKey) -> bool {
    key.algorithm().key_type() != KeyType::Secret
}
