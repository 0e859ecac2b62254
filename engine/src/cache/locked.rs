//! Reference implementation of the store: slow and simple, a map behind a lock that evicts the
//! oldest entry.
//!
//! It runs the same tests as [`Store`](super::store::Store). A test that fails on both is itself
//! wrong.
#![cfg(test)]

use std::collections::{HashMap, VecDeque};
#[expect(
    clippy::disallowed_types,
    reason = "a reference implementation only has to be simple"
)]
use std::sync::Mutex;

/// Records of tokens, behind a lock.
#[expect(clippy::disallowed_types, reason = "as above")]
pub(super) struct LockedStore {
    inner: Mutex<LockedRecords>,
    max_bytes: usize,
}

#[derive(Default)]
struct LockedRecords {
    records: HashMap<Vec<u8>, Vec<u64>>,
    order: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl LockedStore {
    #[expect(clippy::disallowed_types, reason = "as above")]
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { inner: Mutex::default(), max_bytes }
    }

    pub(super) fn find(&self, token: &[u8], record: &mut Vec<u64>) -> bool {
        let inner = lock(&self.inner);
        let found = inner.records.get(token);
        if let Some(found) = found {
            record.clone_from(found);
        }
        found.is_some()
    }

    pub(super) fn insert(&self, token: &[u8], record: &[u64]) -> bool {
        let mut inner = lock(&self.inner);
        let size = |token: &[u8], record: &[u64]| token.len() + size_of_val(record);
        if size(token, record) > self.max_bytes {
            return false;
        }
        if let Some(earlier) = inner.records.remove(token) {
            inner.bytes -= size(token, &earlier);
            inner.order.retain(|one| one != token);
        }
        while inner.bytes + size(token, record) > self.max_bytes {
            let Some(oldest) = inner.order.pop_front() else { break };
            let evicted = inner.records.remove(&oldest).unwrap_or_default();
            inner.bytes -= size(&oldest, &evicted);
        }
        inner.bytes += size(token, record);
        inner.order.push_back(token.to_vec());
        inner.records.insert(token.to_vec(), record.to_vec());
        true
    }
}

#[expect(clippy::disallowed_types, reason = "as above")]
fn lock(inner: &Mutex<LockedRecords>) -> std::sync::MutexGuard<'_, LockedRecords> {
    inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
