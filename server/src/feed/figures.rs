//! Figures of the feed, for metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Reason for which the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedClosure {
    /// The client reads too slowly.
    Slow,
    /// The client has sent something that is not a request.
    Sent,
    /// There are too many clients.
    Limit,
    /// There are too many clients of its user.
    UserLimit,
}

impl FeedClosure {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Slow, Self::Sent, Self::Limit, Self::UserLimit];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Sent => "sent",
            Self::Limit => "limit",
            Self::UserLimit => "user_limit",
        }
    }
}

/// Counters of the server's side.
///
/// # Synchronization
/// Relaxed: a figure orders no other access.
#[derive(Debug, Default)]
pub struct FeedFigures {
    clients: AtomicUsize,
    closures: [AtomicU64; FeedClosure::ALL.len()],
    requests: AtomicU64,
}

/// Counts a client while it is connected.
pub(super) struct CountedClient<'f>(&'f FeedFigures);

impl FeedFigures {
    /// Returns the number of clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Returns how many connections the server has closed for this reason.
    #[must_use]
    pub fn closures(&self, closure: FeedClosure) -> u64 {
        self.counter(closure).load(Ordering::Relaxed)
    }

    /// Returns how many times clients have requested a fetch.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn record_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a client, unless there are `limit`.
    pub(super) fn enter(&self, limit: usize) -> Option<CountedClient<'_>> {
        // Counted before the comparison. The guard takes it back.
        let client = CountedClient(self);
        (self.clients.fetch_add(1, Ordering::Relaxed) < limit).then_some(client)
    }

    pub(super) fn record(&self, closure: FeedClosure) {
        self.counter(closure).fetch_add(1, Ordering::Relaxed);
    }

    fn counter(&self, closure: FeedClosure) -> &AtomicU64 {
        let [slow, sent, limit, user_limit] = &self.closures;
        match closure {
            FeedClosure::Slow => slow,
            FeedClosure::Sent => sent,
            FeedClosure::Limit => limit,
            FeedClosure::UserLimit => user_limit,
        }
    }
}

impl Drop for CountedClient<'_> {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
