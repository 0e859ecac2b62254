//! Results of reloads, for metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::clock;

/// What a reload replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadKind {
    /// The configuration.
    Configuration,
    /// The certificates of a listener.
    Certificates,
}

impl ReloadKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Configuration, Self::Certificates];

    /// Returns its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Certificates => "certificates",
        }
    }
}

/// Results of the reloads of one kind. Those of a failure that lasts count once.
///
/// # Synchronization
/// One thread reloads and writes, with relaxed ordering: a figure orders no other access. A scrape
/// may see a new count with the previous time.
#[derive(Debug)]
pub struct ReloadResults {
    successes: AtomicU64,
    failures: AtomicU64,
    is_current: AtomicBool,
    last_success: AtomicU64,
}

impl ReloadResults {
    /// Creates the results of a server that has just loaded everything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            is_current: AtomicBool::new(true),
            last_success: AtomicU64::new(clock::now().0),
        }
    }

    /// Counts a success.
    pub fn record_success(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
        self.last_success.store(clock::now().0, Ordering::Relaxed);
    }

    /// Counts a failure.
    pub fn record_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets whether the last reload succeeded, so that the files are in force.
    pub fn set_current(&self, is_current: bool) {
        self.is_current.store(is_current, Ordering::Relaxed);
    }

    /// Returns the number of successes and of failures.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        [
            ("success", self.successes.load(Ordering::Relaxed)),
            ("failure", self.failures.load(Ordering::Relaxed)),
        ]
    }

    /// Whether the last reload succeeded.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Relaxed)
    }

    /// Returns the time of the last success, at first that of the start, in seconds since 1970.
    #[must_use]
    pub fn last_success(&self) -> u64 {
        self.last_success.load(Ordering::Relaxed)
    }
}

impl Default for ReloadResults {
    fn default() -> Self {
        Self::new()
    }
}
