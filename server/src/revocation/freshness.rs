//! How long the known revocations may be relied on without news of their store, or of the process
//! that has them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::base::clock::since_boot;

/// Until when this process knows all revocations of its store, or all keys and revocations of
/// another process.
///
/// # Synchronization
/// The end is stored (Release) after everything that was known by then was published, and loaded
/// (Acquire) before a verification. So a verification that relies on it sees all of that.
#[derive(Debug, Default)]
pub struct FollowedFreshness {
    /// Milliseconds of [`since_boot`]. Zero until everything is known once.
    until: AtomicU64,
}

impl FollowedFreshness {
    /// Extends it to this moment, as a time of [`since_boot`]. It never becomes shorter.
    pub fn extend(&self, until: Duration) {
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.fetch_max(until, Ordering::Release);
    }

    /// Returns the time that is left; `None` if it has ended.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let until = Duration::from_millis(self.until.load(Ordering::Acquire));
        until.checked_sub(since_boot()).filter(|left| !left.is_zero())
    }

    /// Whether this process has known everything once.
    #[must_use]
    pub fn was_current(&self) -> bool {
        self.until.load(Ordering::Acquire) > 0
    }

    /// Whether this process knows everything.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.left().is_some()
    }
}
