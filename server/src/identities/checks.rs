//! Checks of every use of an access token: whether its client's address is trusted now, and whether
//! it has a use left.
//!
//! The trusted addresses of the login methods in use are kept in memory. They are dropped when this
//! node changes a method, and within a second of a change by another node. While the
//! database cannot be queried, those that are known apply.
//!
//! A token whose method trusts all addresses is found by its verification, without a look at the
//! method: each thread remembers some of them.
//!
//! # Synchronization
//! `epoch` has a new value whenever the addresses are dropped, which no other instance has or had.
//! What is kept, by this struct and by threads, has the value of before it was read (Acquire), and
//! counts only while that is the current one. So addresses that were read while others changed them
//! are read again.

use std::{
    cell::Cell,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_engine::Verified;
use dashmap::DashMap;
use http::StatusCode;
use tokio::time::sleep;

use super::{
    access_token::AccessTokenFacts, lockouts::ClientLockouts, trusted_ips::TrustedIps,
    use_counts::UseCounts,
};
use crate::{
    admission::KeyedBudget,
    audit::{Audit, AuditEvent, AuditOperation, AuditOrigin, AuditOutcome},
    base::{background_pool::BackgroundPool, clock, exact_json, outcome::Outcome},
    store::{Store, StoreError, identity_tokens::TokenUse, organizations::Organization},
};

/// Checks the uses of access tokens by [`TrustedIps`] and [`UseCounts`].
pub struct IdentityChecks {
    /// Failed logins with client ids, as [`ClientLockouts`].
    pub lockouts: ClientLockouts,
    /// Counts of the uses of tokens that have a limit.
    pub uses: Arc<UseCounts>,
    /// Revocations of own tokens by identity.
    revocations: KeyedBudget,
    /// Checks of certificates. Each may take a core for several milliseconds, in which a thread
    /// that serves requests would serve none.
    pub certificates: BackgroundPool<()>,
    store: Store,
    /// Has the uses that are refused for the client's address.
    audit: Arc<Audit>,
    methods: DashMap<Box<str>, KnownMethod>,
    epoch: AtomicU64,
    /// The only organization, once it is known.
    organization: ArcSwapOption<Organization>,
}

/// A login method in use.
struct KnownMethod {
    epoch: u64,
    trusted: Arc<TrustedIps>,
}

/// A verified token whose login method trusts all addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
struct UnrestrictedToken {
    verification: u64,
    epoch: u64,
}

/// Tokens that a thread remembers.
const REMEMBERED_TOKENS: usize = 1024;

thread_local! {
    static UNRESTRICTED: [Cell<UnrestrictedToken>; REMEMBERED_TOKENS] = const {
        [const { Cell::new(UnrestrictedToken { verification: 0, epoch: 0 }) }; REMEMBERED_TOKENS]
    };
}

/// Returns an epoch that no instance of this process has had. None is 0.
fn new_epoch() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Reason to refuse a genuine access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityRefusal {
    /// The address of the client is not trusted.
    Address,
    /// All its uses were made.
    Exhausted,
    /// The token or its login method was deleted.
    Revoked,
    /// The database cannot be queried.
    Unavailable,
}

impl IdentityRefusal {
    /// Returns the status of a response.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Address => StatusCode::FORBIDDEN,
            Self::Exhausted | Self::Revoked => StatusCode::UNAUTHORIZED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the outcome that metrics count.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Address => Outcome::UntrustedAddress,
            Self::Exhausted => Outcome::UsesExhausted,
            Self::Revoked => Outcome::MethodDeleted,
            Self::Unavailable => Outcome::UsesUnavailable,
        }
    }
}

/// Interval at which changes by other nodes are looked for.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Most logins with certificates that wait for their check.
const MAX_WAITING_CERTIFICATES: usize = 256;
/// Interval in which an identity may revoke one more of its tokens. Each takes a part of the
/// capacity for revocations, which is limited.
const REVOCATION_INTERVAL: Duration = Duration::from_secs(5);
/// Tokens that an identity may revoke at once.
const REVOCATION_BURST: u64 = 60;
/// Number of identities whose revocations are counted separately.
const MAX_REVOKING: usize = 4096;
/// Most login methods whose addresses are kept.
const MAX_METHODS: usize = 65_536;

impl IdentityChecks {
    /// Creates the checks with a database. [`spawn_poll`](Self::spawn_poll) starts the look for
    /// changes by other nodes.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn new(store: Store, audit: Arc<Audit>) -> io::Result<Self> {
        // Half of the cores, so that the other half answers requests.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / 2).clamp(1, 4);
        Ok(Self {
            lockouts: ClientLockouts::default(),
            uses: UseCounts::new(store.clone()),
            revocations: KeyedBudget::new(MAX_REVOKING, REVOCATION_BURST, REVOCATION_INTERVAL),
            certificates: BackgroundPool::start("certificates", threads, MAX_WAITING_CERTIFICATES)?,
            store,
            audit,
            methods: DashMap::default(),
            epoch: AtomicU64::new(new_epoch()),
            organization: ArcSwapOption::empty(),
        })
    }

    /// Starts the task that looks for changes by other nodes.
    pub fn spawn_poll(self: &Arc<Self>) {
        let checks = Arc::downgrade(self);
        self.store.spawn_task(async move {
            let mut known = None;
            while let Some(checks) = checks.upgrade() {
                // Without a method in use there is nothing to drop.
                if !checks.methods.is_empty()
                    && let Ok(revision) = checks.store.methods_revision().await
                    && known.replace(revision) != Some(revision)
                {
                    checks.forget_methods();
                }
                drop(checks);
                sleep(POLL_INTERVAL).await;
            }
        });
    }

    /// Drops the addresses of all methods, after a change of one.
    pub fn forget_methods(&self) {
        self.epoch.store(new_epoch(), Ordering::Release);
        self.methods.clear();
    }

    /// Returns the organization, if it is known.
    #[must_use]
    pub fn organization(&self) -> Option<Arc<Organization>> {
        self.organization.load_full()
    }

    /// Keeps the organization for later calls. It does not change.
    pub fn keep_organization(&self, organization: Organization) -> Arc<Organization> {
        let organization = Arc::new(organization);
        self.organization.store(Some(Arc::clone(&organization)));
        organization
    }

    /// Checks the address of a client that uses an access token. `None` if the database has to be
    /// asked.
    #[inline]
    #[must_use]
    pub fn try_check(
        &self,
        verified: &Verified<'_>,
        client: impl FnOnce() -> IpAddr,
    ) -> Option<Result<(), IdentityRefusal>> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let token = UnrestrictedToken { verification: verified.verification_id(), epoch };
        let slot = usize::try_from(token.verification).map_or(0, |id| id % REMEMBERED_TOKENS);
        if UNRESTRICTED.with(|remembered| remembered[slot].get() == token) {
            return Some(Ok(()));
        }
        let trusted = self.known(verified.claims().environment()?, epoch)?;
        if trusted.is_unrestricted() {
            UNRESTRICTED.with(|remembered| remembered[slot].set(token));
            return Some(Ok(()));
        }
        Some(if trusted.contains(client()) { Ok(()) } else { Err(IdentityRefusal::Address) })
    }

    /// Returns the addresses of a login method, if they are known as of this epoch.
    fn known(&self, method: &str, epoch: u64) -> Option<Arc<TrustedIps>> {
        let known = self.methods.get(method).filter(|known| known.epoch == epoch)?;
        Some(Arc::clone(&known.trusted))
    }

    /// Checks the address of a client that uses a token of this login method.
    ///
    /// # Errors
    /// The refusal.
    pub async fn check_address(&self, method: &str, client: IpAddr) -> Result<(), IdentityRefusal> {
        let trusted = self.trusted_ips(method).await?;
        if trusted.contains(client) { Ok(()) } else { Err(IdentityRefusal::Address) }
    }

    /// Records that a token was refused for the address of its client.
    #[cold]
    pub fn record_untrusted_use(&self, verified: &Verified<'_>, origin: AuditOrigin) {
        let claims = exact_json::claims(&verified.claims().json());
        let Some(facts) = AccessTokenFacts::read(&claims) else { return };
        let mut event = AuditEvent::new(AuditOperation::UseIdentityToken, origin, clock::now());
        event.outcome = AuditOutcome::Refused;
        event.reason = Some(IdentityRefusal::Address.outcome().name().to_owned());
        event.caller = facts.audited(&verified.issuer().name);
        event.detail = Some(facts.method_kind);
        self.audit.record_later(event);
    }

    /// Counts one use of the token with this id.
    ///
    /// # Errors
    /// The refusal.
    pub async fn count_use(&self, token_id: &str) -> Result<(), IdentityRefusal> {
        match self.uses.count(token_id).await {
            Ok(TokenUse::Counted) => Ok(()),
            Ok(TokenUse::Exhausted | TokenUse::Held(_)) => Err(IdentityRefusal::Exhausted),
            Ok(TokenUse::Revoked) => Err(IdentityRefusal::Revoked),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Counts the revocation of a token by its identity.
    ///
    /// # Errors
    /// The identity revokes too often: the time until the next revocation is possible.
    pub fn begin_revocation(&self, identity: &str) -> Result<(), Duration> {
        self.revocations.take(identity)
    }

    async fn trusted_ips(&self, method: &str) -> Result<Arc<TrustedIps>, IdentityRefusal> {
        loop {
            let epoch = self.epoch.load(Ordering::Acquire);
            if let Some(trusted) = self.known(method, epoch) {
                return Ok(trusted);
            }
            let stored = self.store.identity_method(method).await;
            let stored = stored.map_err(|error| unavailable(&error))?;
            let stored = stored.ok_or(IdentityRefusal::Revoked)?;
            let trusted = TrustedIps::parse(&stored.terms.trusted_ips).map_err(|_| {
                tracing::error!(method, "the trusted addresses in the database are malformed");
                IdentityRefusal::Unavailable
            })?;
            let trusted = Arc::new(trusted);
            if self.methods.len() >= MAX_METHODS {
                self.methods.clear();
            }
            let known = KnownMethod { epoch, trusted: Arc::clone(&trusted) };
            self.methods.insert(method.into(), known);
            if self.epoch.load(Ordering::Acquire) == epoch {
                return Ok(trusted);
            }
        }
    }
}

fn unavailable(error: &StoreError) -> IdentityRefusal {
    tracing::error!("cannot check the use of an access token: {error}");
    IdentityRefusal::Unavailable
}
