//! Counts of the uses of access tokens that have a limit of them.
//!
//! The uses of a token that is used now and then are counted in the database one by one. Those of a
//! token that is used often are leased: the node counts a block of them at once, and gives them out
//! from memory. It returns the rest after 250 ms. A node that finds all uses counted waits
//! until other nodes have returned theirs, so exactly the limit is reached. A node that crashes
//! loses its leases: fewer uses than the limit are made then, never more. A return that the database
//! does not answer is repeated, and counts once.
//!
//! Near the limit uses are counted one by one again, so leases are rarely waited for.

mod token_lease;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_engine::UnixTime;
use dashmap::DashMap;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use self::token_lease::{MIN_BLOCK, TokenLease, TokenUses};
use crate::{
    accounts::signing::random_uuid,
    base::clock::{self, Stopwatch},
    store::{
        Store, StoreError,
        identity_tokens::{LeaseRequest, TokenUse, UseLease},
    },
};

/// Longest time for which the sweep waits for a token.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval at which leases are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// A block that is larger than [`MIN_BLOCK`] is at most this part of what remains for each node.
const MAX_SHARE: u64 = 4;
/// Longest wait for the leases of other nodes. One that is not returned by then is lost.
const HELD_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval at which returned leases are looked for.
const HELD_INTERVAL: Duration = Duration::from_millis(25);
/// Most tokens in memory. The uses of others are counted one by one.
const MAX_TOKENS: usize = 16_384;
/// Interval at which the nodes are counted.
const NODES_INTERVAL: Duration = Duration::from_secs(10);
/// Age of the heartbeat of a node that does not run any more, in seconds.
const NODE_TIMEOUT_SECONDS: u64 = 120;
/// Longest wait for leases to be returned when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Counts the uses of tokens.
pub struct UseCounts {
    store: Store,
    tokens: DashMap<Box<str>, Arc<TokenUses>>,
    /// Number of nodes at the last count; 0 before the first.
    nodes: AtomicU64,
    /// Wakes the sweep when there is a token.
    added: Notify,
}

impl UseCounts {
    /// Creates counts in a database, and starts the task that returns leases.
    #[must_use]
    pub fn new(store: Store) -> Arc<Self> {
        let (tokens, nodes, added) = (DashMap::default(), AtomicU64::new(0), Notify::new());
        let counts = Arc::new(Self { store, tokens, nodes, added });
        counts.spawn_sweep();
        counts
    }

    /// Counts a use of a token by its id, if one is leased. Returns whether it was counted.
    #[must_use]
    pub fn try_count(&self, id: &str) -> bool {
        self.tokens.get(id).is_some_and(|token| token.take())
    }

    /// Counts a use of a token by its id.
    ///
    /// # Errors
    /// The database cannot be queried. The use may have been counted.
    pub async fn count(self: &Arc<Self>, id: &str) -> Result<TokenUse, StoreError> {
        if self.try_count(id) {
            return Ok(TokenUse::Counted);
        }
        let (counts, id) = (Arc::clone(self), id.to_owned());
        // A lease must be noted even if the client does not wait for it.
        self.store.spawn(async move { counts.count_in_database(&id).await }).await
    }

    /// Returns all leases, when the server stops.
    pub async fn return_leases(self: &Arc<Self>) {
        let counts = Arc::clone(self);
        let returned = self.store.spawn(async move {
            for (id, token) in counts.listed(|_| true) {
                let mut lease = token.lease.lock().await;
                counts.return_lease(&id, &token, &mut lease).await?;
            }
            Ok(())
        });
        if !matches!(timeout(STOP_TIMEOUT, returned).await, Ok(Ok(()))) {
            tracing::warn!("cannot return leased uses of access tokens: they count as made");
        }
    }

    async fn count_in_database(&self, id: &str) -> Result<TokenUse, StoreError> {
        let Some(token) = self.token(id) else {
            return self.count_single(id, &mut TokenLease::new()).await;
        };
        let mut lease = token.lease.lock().await;
        // Another request may have leased uses meanwhile, or found that there are no more.
        if token.take() {
            return Ok(TokenUse::Counted);
        }
        if lease.is_exhausted {
            return Ok(TokenUse::Exhausted);
        }
        if lease.returned.is_some() {
            self.return_lease(id, &token, &mut lease).await?;
        }
        if let Some(block) = lease.next_block()
            && self.lease_block(id, &mut lease, block).await?
        {
            token.left.fetch_add(lease.block - 1, Ordering::Relaxed);
            return Ok(TokenUse::Counted);
        }
        self.count_single(id, &mut lease).await
    }

    /// Leases a block, or a smaller one. Returns whether enough uses remain for one.
    async fn lease_block(
        &self,
        id: &str,
        lease: &mut TokenLease,
        block: u64,
    ) -> Result<bool, StoreError> {
        let nodes = self.nodes().await?;
        let share = nodes.saturating_mul(MAX_SHARE);
        for (block, remaining) in [
            (block, block.saturating_mul(share)),
            (MIN_BLOCK, nodes.saturating_mul(MIN_BLOCK).saturating_add(1)),
        ] {
            let new = UseLease { id: lease_id()?, uses: block };
            let request = LeaseRequest { lease: &new, remaining, ended: &lease.current };
            if self.store.lease_uses(id, request).await? {
                (lease.current, lease.block, lease.touched) = (new, block, Stopwatch::start());
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts one use, once no other node holds leased uses if that matters.
    async fn count_single(&self, id: &str, lease: &mut TokenLease) -> Result<TokenUse, StoreError> {
        let start = Stopwatch::start();
        loop {
            let counted = self.store.use_limited_token(id, &lease.current, clock::now()).await?;
            (lease.current, lease.touched) = (UseLease::default(), Stopwatch::start());
            match counted {
                TokenUse::Held(_) if start.elapsed() < HELD_TIMEOUT => sleep(HELD_INTERVAL).await,
                TokenUse::Held(held) => {
                    tracing::warn!(
                        "{held} uses of an access token are lost: the server that leased them has \
                         stopped without returning them"
                    );
                    self.store.write_off_uses(id, held, clock::now()).await?;
                }
                counted => {
                    lease.is_exhausted = counted == TokenUse::Exhausted;
                    return Ok(counted);
                }
            }
        }
    }

    /// Returns what a lease has left. If that fails, it may have been returned: this
    /// node does not make these uses any more.
    async fn return_lease(
        &self,
        id: &str,
        token: &TokenUses,
        lease: &mut TokenLease,
    ) -> Result<(), StoreError> {
        if !lease.is_held() {
            return Ok(());
        }
        let unused = *lease.returned.get_or_insert_with(|| token.left.swap(0, Ordering::Relaxed));
        self.store.return_uses(id, &lease.current, unused).await?;
        lease.end(lease.current.uses.saturating_sub(unused));
        Ok(())
    }

    /// Returns the uses of a token, with an entry in memory if there is room.
    fn token(&self, id: &str) -> Option<Arc<TokenUses>> {
        if let Some(token) = self.tokens.get(id) {
            return Some(Arc::clone(&token));
        }
        if self.tokens.len() >= MAX_TOKENS {
            return None;
        }
        let token = Arc::clone(&self.tokens.entry(id.into()).or_default());
        self.added.notify_one();
        Some(token)
    }

    /// Returns the number of nodes that share the database, at least 1.
    async fn nodes(&self) -> Result<u64, StoreError> {
        match self.nodes.load(Ordering::Relaxed) {
            0 => self.count_nodes().await,
            nodes => Ok(nodes),
        }
    }

    async fn count_nodes(&self) -> Result<u64, StoreError> {
        let since = UnixTime(clock::now().0.saturating_sub(NODE_TIMEOUT_SECONDS));
        let nodes = self.store.servers_active_since(since).await?.len().max(1) as u64;
        self.nodes.store(nodes, Ordering::Relaxed);
        Ok(nodes)
    }

    /// Starts the task that returns leases, and forgets tokens that are not used.
    fn spawn_sweep(self: &Arc<Self>) {
        let counts = Arc::downgrade(self);
        self.store.spawn_task(async move {
            let mut counted = Stopwatch::start();
            while let Some(counts) = counts.upgrade() {
                if counts.tokens.is_empty() {
                    // Without a token the task holds the counts at most for this long.
                    let _elapsed = timeout(EMPTY_TIMEOUT, counts.added.notified()).await;
                } else {
                    counts.sweep().await;
                    if counted.elapsed() > NODES_INTERVAL && counts.count_nodes().await.is_ok() {
                        counted = Stopwatch::start();
                    }
                }
                drop(counts);
                sleep(SWEEP_INTERVAL).await;
            }
        });
    }

    async fn sweep(&self) {
        for (id, token) in self.listed(TokenUses::has_due_lease) {
            // A locked lease is in use. Waiting for it would delay the others.
            let Ok(mut lease) = token.lease.try_lock() else { continue };
            if let Err(error) = self.return_lease(&id, &token, &mut lease).await {
                // The next sweep tries again.
                tracing::debug!("cannot return leased uses of an access token: {error}");
                return;
            }
        }
        // Within the lock of the map no request gets a token that is removed.
        self.tokens.retain(|_, token| Arc::strong_count(token) > 1 || !token.is_idle());
    }

    /// Returns the tokens that meet a condition.
    fn listed(&self, is_listed: impl Fn(&TokenUses) -> bool) -> Vec<(Box<str>, Arc<TokenUses>)> {
        let tokens = self.tokens.iter().filter(|token| is_listed(token));
        tokens.map(|token| (token.key().clone(), Arc::clone(&token))).collect()
    }
}

/// Returns the id of a new lease.
fn lease_id() -> Result<String, StoreError> {
    let id = random_uuid();
    id.map(|id| id.simple().to_string())
        .map_err(|_| StoreError::Unavailable("the system has no random numbers".into()))
}
