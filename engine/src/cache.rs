//! Tokens that were verified before, and what their verification found.
//!
//! # What a hit proves
//! An entry is made of the exact bytes of a token whose signature was checked under a
//! key, by this process. It is found by those bytes: all of them are compared, so no
//! hash and no digest stands between a token and its entry. Whoever wants a hit without
//! a verification has to present bytes that differ from every verified token and are
//! equal to one. The index is addressed by a keyed mix of the token's last characters,
//! under a secret of this process, but only to keep it even: whoever could foresee it
//! would crowd a set of eight slots and slow himself down, and prove nothing.
//!
//! # What a hit does not prove, and is looked at every time
//! An entry says what was true of bytes, never what is true of the moment. `verifier`
//! asks on every hit: has the issuer the same keys and rules as then (its
//! [stamp](crate::issuer::IssuerEpoch) is the same)? Is the token alive at `now`? May it have
//! been revoked? If not all of this is certain, the token goes the whole way, but for
//! its signature if the key that would check it is the key that did. So a
//! refresh that brings the same keys again costs each token one parse, and a key that
//! is gone, or is another under the same `kid`, is gone at once.
//!
//! # What is refused
//! Refused tokens lie in a part of their own, so that no number of them moves an
//! accepted one. It holds nothing but verdicts on signatures: these bytes are, or are
//! not, signed by the key of this identity. That is arithmetic, which neither time nor
//! configuration changes, and so there is nothing that could go stale; a token that is
//! too early, or of an unknown issuer, is looked at again each time. HMACs are not
//! kept: computing one is as quick as finding it.
//!
//! # What eviction does under attack
//! Memory is fixed. New entries go through a small ring, a tenth of the memory; only
//! those that are met again while they are in it, or soon after, move to the main ring,
//! and those that are met there stay (S3-FIFO: Yang et al., SOSP 2023). A flood
//! of tokens that are shown once, genuine or not, passes through the small ring and
//! pushes out nothing that is in use, but for the rare token whose two sets of slots
//! are full of such. Who can make an issuer sign many tokens and shows
//! each of them twice does reach the main ring, and there competes with what is in use
//! and loses, as each round of the ring keeps what was read in it.
//!
//! # Reading and writing at once
//! Readers take no lock and write nothing (see `shard`). Writers of one
//! shard take turns. A thread that has verified a token finds it from then on, so many
//! requests with one new token verify it at most once for each core; but for the case
//! that a writer is interrupted at its work: then the others leave their tokens out
//! rather than wait, and verify them once more.

mod store;
mod shard;
mod ring;
mod entry;
mod layout;
mod table;
mod locked;
mod suite;

/// What the cache's parts are synchronized by; replaced where they are model-checked.
mod sync {
    pub(super) use core::{
        hint::spin_loop,
        sync::atomic::{AtomicU64, Ordering, fence},
    };
}

pub(crate) use table::bytes_of;

use core::fmt;

use crate::{
    algorithm::KeyType,
    keyset::{KeyIdentity, VerificationKey},
    note::VerificationRecord,
};

pub use shard::StoreStatistics;
use store::Store;

/// What is remembered of tokens.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Notes on tokens that were accepted.
    accepted: Store,
    /// Verdicts on the signatures of tokens that were refused.
    verdicts: Store,
}

/// What is counted in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Of tokens that were accepted.
    pub accepted: StoreStatistics,
    /// Of verdicts on the signatures of tokens that were refused.
    pub refused: StoreStatistics,
}

/// The system has no room for a cache of this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheAllocationError {
    /// How many bytes were asked for.
    pub bytes: usize,
}

impl fmt::Display for CacheAllocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no room for a cache of {} bytes", self.bytes)
    }
}

impl core::error::Error for CacheAllocationError {}

impl Cache {
    /// The part of the memory that refused tokens may take: one in so many.
    const VERDICT_SHARE: usize = 16;

    /// An empty cache that never takes more than so many bytes, and as yet takes none.
    pub(crate) fn new(bytes: usize) -> Result<Self, CacheAllocationError> {
        let verdicts = bytes / Self::VERDICT_SHARE;
        let stores = Store::new(bytes.saturating_sub(verdicts)).zip(Store::new(verdicts));
        let (accepted, verdicts) = stores.ok_or(CacheAllocationError { bytes })?;
        Ok(Self { accepted, verdicts })
    }

    /// The note on exactly this token, if it was accepted before.
    #[inline]
    pub(crate) fn find(&self, token: &[u8]) -> Option<VerificationRecord> {
        let mut record = VerificationRecord::from_pool();
        self.accepted.find(token, record.words_mut()).then_some(record)
    }

    /// Remembers an accepted token.
    pub(crate) fn insert(&self, token: &[u8], record: &VerificationRecord) {
        self.accepted.insert(token, record.words());
    }

    /// Whether this key is known to have signed the token, or known not to have.
    pub(crate) fn verdict(&self, token: &[u8], key: &VerificationKey) -> Option<bool> {
        let mut record = VerificationRecord::from_pool();
        let is_known = is_verdict_cacheable(key) && self.verdicts.find(token, record.words_mut());
        match record.words() {
            [genuine, one, two, three, four] if is_known => {
                (KeyIdentity::from_words([*one, *two, *three, *four]) == key.identity())
                    .then_some(*genuine == 1)
            }
            _ => None,
        }
    }

    /// Remembers whether this key has signed a token that was refused.
    pub(crate) fn insert_verdict(&self, token: &[u8], key: &VerificationKey, is_genuine: bool) {
        if is_verdict_cacheable(key) {
            let [one, two, three, four] = key.identity().words();
            self.verdicts.insert(token, &[u64::from(is_genuine), one, two, three, four]);
        }
    }

    /// What was counted.
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
