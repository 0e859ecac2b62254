//! The store's twin: slow, and obviously right. A map behind a lock that forgets the
//! oldest first. It goes through the same tests, so that a test can be told from what
//! it tests.
#![cfg(test)]

use std::collections::{HashMap, VecDeque};
#[expect(
    clippy::disallowed_types,
    reason = "being obviously right is all that is asked of it"
)]
use std::sync::Mutex;

/// Notes on tokens.
#[expect(clippy::disallowed_types, reason = "as above")]
pub(super) struct Locked {
    inner: Mutex<Inner>,
    most_bytes: usize,
}

#[derive(Default)]
struct Inner {
    notes: HashMap<Vec<u8>, Vec<u64>>,
    order: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Locked {
    #[expect(clippy::disallowed_types, reason = "as above")]
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { inner: Mutex::default(), most_bytes }
    }

    pub(super) fn find(&self, token: &[u8], note: &mut Vec<u64>) -> bool {
        let inner = lock(&self.inner);
        let found = inner.notes.get(token);
        if let Some(found) = found {
            note.clone_from(found);
        }
        found.is_some()
    }

    pub(super) fn keep(&self, token: &[u8], note: &[u64]) -> bool {
        let mut inner = lock(&self.inner);
        let size = |token: &[u8], note: &[u64]| token.len() + size_of_val(note);
        if size(token, note) > self.most_bytes {
            return false;
        }
        if let Some(earlier) = inner.notes.remove(token) {
            inner.bytes -= size(token, &earlier);
            inner.order.retain(|one| one != token);
        }
        while inner.bytes + size(token, note) > self.most_bytes {
            let Some(oldest) = inner.order.pop_front() else { break };
            let gone = inner.notes.remove(&oldest).unwrap_or_default();
            inner.bytes -= size(&oldest, &gone);
        }
        inner.bytes += size(token, note);
        inner.order.push_back(token.to_vec());
        inner.notes.insert(token.to_vec(), note.to_vec());
        true
    }
}

#[expect(clippy::disallowed_types, reason = "as above")]
fn lock(inner: &Mutex<Inner>) -> std::sync::MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
