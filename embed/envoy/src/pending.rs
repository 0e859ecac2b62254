//! A stream whose decision waits. The tier decides on a thread of its own, and wakes the stream on
//! the stream's thread.
//!
//! # Synchronization
//! The stream may end at any time, and with it, at the end of Envoy, the event loop that the
//! scheduler uses. So the scheduler is used and deleted under the lock, and the end of the stream,
//! which runs before that of the loop, takes it away under the same lock.

#[expect(
    clippy::disallowed_types,
    reason = "held for a few instructions, once a waiting stream"
)]
use std::sync::Mutex;
use std::sync::{MutexGuard, PoisonError};

use countersign_server::embedding::CheckDecision;

use crate::envoy::StreamScheduler;

/// The state that a waiting stream and the tier share.
#[expect(clippy::disallowed_types, reason = "as above")]
pub(crate) struct PendingStream(Mutex<PendingState>);

struct PendingState {
    /// Absent once the decision is made, or the stream has ended.
    scheduler: Option<StreamScheduler>,
    decision: Option<CheckDecision>,
}

impl PendingStream {
    #[expect(clippy::disallowed_types, reason = "as above")]
    pub(crate) const fn new(scheduler: StreamScheduler) -> Self {
        Self(Mutex::new(PendingState { scheduler: Some(scheduler), decision: None }))
    }

    /// Keeps the decision and wakes the stream. Does nothing if the stream has ended.
    pub(crate) fn decide(&self, decision: &CheckDecision) {
        let mut state = self.lock();
        if let Some(scheduler) = state.scheduler.take() {
            state.decision = Some(decision.clone());
            scheduler.commit();
            // Deletes it, still under the lock.
            drop(scheduler);
        }
    }

    /// Takes the decision, if it is made.
    pub(crate) fn take(&self) -> Option<CheckDecision> {
        self.lock().decision.take()
    }

    /// Notes that the stream has ended.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.scheduler = None;
    }

    fn lock(&self) -> MutexGuard<'_, PendingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
