//! The uses of one token on a node, and its lease.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{base::clock::Stopwatch, store::identity_tokens::UseLease};

/// Time for which a node keeps a lease. It limits the wait of others.
pub(super) const LEASE_TIME: Duration = Duration::from_millis(250);
/// Time after its last use in the database after which a token is removed from memory.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(1);
/// Uses within [`LEASE_TIME`] after which the next ones are leased.
pub(super) const MIN_FREQUENT_USES: u64 = 4;
/// First block that is leased. More than this for each node have to remain.
pub(super) const MIN_BLOCK: u64 = 64;
/// Most uses that are leased at once.
pub(super) const MAX_BLOCK: u64 = 4096;

/// The uses of one token on this node.
pub(super) struct TokenUses {
    /// Uses that are leased and not made.
    pub(super) left: AtomicU64,
    /// Locked while the database is asked about the token.
    pub(super) lease: Mutex<TokenLease>,
}

/// What a node knows of the uses of a token in the database.
pub(super) struct TokenLease {
    /// The present lease, with zero uses while the node holds no lease.
    pub(super) current: UseLease,
    /// Its unused uses, once the database was asked to end it. This node does not make them: others
    /// may have them.
    pub(super) returned: Option<u64>,
    /// Size of the last block.
    pub(super) block: u64,
    /// Time of the last lease or use in the database.
    pub(super) touched: Stopwatch,
    /// Start of the period in which uses one by one are counted.
    period: Stopwatch,
    /// Number of uses one by one in this period.
    singles: u64,
    /// Whether all uses were made.
    pub(super) is_exhausted: bool,
}

impl TokenUses {
    /// Makes a leased use. Returns whether there was one.
    pub(super) fn take(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Whether there is a lease to return. One that is locked is in use.
    pub(super) fn has_due_lease(&self) -> bool {
        let lease = self.lease.try_lock();
        lease.is_ok_and(|lease| lease.is_held() && lease.touched.elapsed() >= LEASE_TIME)
    }

    pub(super) fn is_idle(&self) -> bool {
        let lease = self.lease.try_lock();
        lease.is_ok_and(|lease| !lease.is_held() && lease.touched.elapsed() > IDLE_TIME)
    }
}

impl Default for TokenUses {
    fn default() -> Self {
        Self { left: AtomicU64::new(0), lease: Mutex::new(TokenLease::new()) }
    }
}

impl TokenLease {
    pub(super) fn new() -> Self {
        let now = Stopwatch::start();
        Self {
            current: UseLease::default(),
            returned: None,
            block: 0,
            touched: now,
            period: now,
            singles: 0,
            is_exhausted: false,
        }
    }

    /// Whether there is a lease.
    pub(super) const fn is_held(&self) -> bool {
        self.current.uses > 0
    }

    /// Returns the size of the next lease; `None` if the next use is counted by itself.
    pub(super) fn next_block(&mut self) -> Option<u64> {
        if self.is_held() {
            // The last block was used up within its time.
            return Some(self.block.saturating_mul(2).min(MAX_BLOCK));
        }
        if self.period.elapsed() > LEASE_TIME {
            (self.period, self.singles) = (Stopwatch::start(), 0);
        }
        self.singles += 1;
        (self.singles > MIN_FREQUENT_USES).then(|| self.block.max(MIN_BLOCK))
    }

    /// Notes that the lease was returned, after this many uses. They decide about the next one.
    pub(super) fn end(&mut self, uses: u64) {
        (self.current, self.returned) = (UseLease::default(), None);
        self.block = uses.next_power_of_two().clamp(MIN_BLOCK, MAX_BLOCK);
        self.singles = if uses >= MIN_FREQUENT_USES { uses } else { 0 };
        self.period = Stopwatch::start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frequent_uses_are_leased() {
        let mut lease = TokenLease::new();
        assert!((0..MIN_FREQUENT_USES).all(|_| lease.next_block().is_none()));
        assert_eq!(lease.next_block(), Some(MIN_BLOCK));
        lease.end(MIN_FREQUENT_USES - 1);
        assert_eq!(lease.next_block(), None, "the last lease was hardly used");
        lease.end(200);
        assert_eq!(lease.next_block(), Some(256));
    }

    #[test]
    fn block_grows_while_it_is_used_up() {
        let mut lease = TokenLease::new();
        let mut blocks = Vec::new();
        (lease.current.uses, lease.block) = (MIN_BLOCK, MIN_BLOCK);
        for _ in 0..8 {
            lease.block = lease.next_block().unwrap();
            blocks.push(lease.block);
        }
        assert_eq!(blocks, [128, 256, 512, 1024, 2048, 4096, 4096, 4096]);
    }

    #[test]
    fn leased_use_is_made_once() {
        let token = TokenUses::default();
        assert!(!token.take());
        token.left.store(2, Ordering::Relaxed);
        assert_eq!([token.take(), token.take(), token.take()], [true, true, false]);
    }
}
