//! [`DecisionCache`]: decisions of the policy, reused for the same request of the same token.
//!
//! A decision is stored under a hash of everything that it depends on: the
//! [verification](Verified::verification_id) behind the token, the method and the target of the
//! request, the header lines that are parameters, and the tenant that it acts for. The tenant of
//! the token follows from its verification. The policy, the endpoints and the claim with the tenant
//! are fixed: a reload makes another cache, with another key.
//!
//! # Security
//! The hash is SipHash-1-3 with a random key and a result of 128 bits, of which one bit is replaced
//! by the decision. Without the key, an attacker cannot find two requests with the same hash, and a
//! collision by chance has a probability of 2^-127 for each pair. Every text is preceded by its
//! length, so two different requests never have the same input.
//!
//! # Memory
//! A table of fixed size for each thread, which only that thread reads and writes. A decision
//! replaces the one in its slot.

use std::{
    cell::RefCell,
    hash::Hasher as _,
    sync::atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::rand;
use countersign_engine::Verified;
use http::HeaderName;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::ProxiedRequest;
use crate::tenancy::identity::TenantIdentity;

/// The decisions of one policy.
#[derive(Debug)]
pub(super) struct DecisionCache {
    key: [u8; 16],
    /// Slots of each thread: a power of two.
    slots: usize,
}

/// The hash of a request, without the lowest bit.
#[derive(Clone, Copy)]
pub(super) struct RequestHash(u128);

/// Counts the changes of roles. Relaxed: a decision that is made during a change may be from before
/// it.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Invalidates all decisions: roles of users have changed.
pub(crate) fn invalidate_decisions() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

thread_local! {
    static SLOTS: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
}

/// Set in every used slot and hash, so that no hash is that of an empty slot.
const USED: u128 = 1 << 1;
/// Set in the slot of a request that is allowed.
const ALLOWED: u128 = 1;

impl DecisionCache {
    /// Creates a cache for `decisions` on each thread, or the next power of two. `None` for 0, or
    /// without randomness for its key.
    pub(super) fn new(decisions: usize) -> Option<Self> {
        let mut key = [0; 16];
        rand::fill(&mut key).ok()?;
        (decisions > 0).then(|| Self { key, slots: decisions.next_power_of_two() })
    }

    /// Returns the hash of a request with a token.
    pub(super) fn hash(
        &self,
        verified: &Verified<'_>,
        request: &ProxiedRequest<'_>,
        headers: &[HeaderName],
        acting: Option<&TenantIdentity>,
    ) -> RequestHash {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        let start = [
            GENERATION.load(Ordering::Relaxed),
            verified.verification_id(),
            request.method.len() as u64,
            request.target.len() as u64,
        ];
        hasher.write(start.map(u64::to_ne_bytes).as_flattened());
        hasher.write(request.method.as_bytes());
        hasher.write(request.target.as_bytes());
        for name in headers {
            let mut lines = 0_u64;
            request.headers.each_line(name, &mut |line| {
                lines += 1;
                hasher.write(&(line.len() as u64).to_ne_bytes());
                hasher.write(line);
            });
            hasher.write(&lines.to_ne_bytes());
        }
        let names = acting.map(|acting| [acting.tenant(), acting.allowed_tenants(), acting.user()]);
        hasher.write(&[u8::from(names.is_some())]);
        for name in names.into_iter().flatten() {
            hasher.write(&(name.len() as u64).to_ne_bytes());
            hasher.write(name);
        }
        RequestHash(hasher.finish128().as_u128() & !ALLOWED | USED)
    }

    /// Returns the decision on a request, if it is stored.
    pub(super) fn get(&self, hash: RequestHash) -> Option<bool> {
        SLOTS.with_borrow(|slots| {
            let slot = *slots.get(self.index(hash))?;
            (slot & !ALLOWED == hash.0).then_some(slot & ALLOWED != 0)
        })
    }

    /// Stores the decision on a request.
    pub(super) fn insert(&self, hash: RequestHash, is_allowed: bool) {
        SLOTS.with_borrow_mut(|slots| {
            if slots.len() != self.slots {
                *slots = vec![0; self.slots];
            }
            if let Some(slot) = slots.get_mut(self.index(hash)) {
                *slot = hash.0 | if is_allowed { ALLOWED } else { 0 };
            }
        });
    }

    fn index(&self, hash: RequestHash) -> usize {
        usize::try_from(hash.0 >> 64 & (self.slots as u128 - 1)).unwrap_or_default()
    }
}
