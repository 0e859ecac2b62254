//! Local users: authentication by password, and the registry of issued tokens.

pub mod attempts;
pub mod password;
mod renewals;
pub mod session;
pub mod settings;
pub mod signing;

use std::{fmt, io, time::Duration};

use attempts::{LoginAttempts, LoginOrigin, OncePerSecond, TooManyAttempts};
use aws_lc_rs::rand;
use dashmap::DashMap;
use password::{HashingMemory, OutOfMemoryError, PasswordMatch};

use self::settings::LoginSettings;
use crate::{
    admission::{KeyedBudget, Nanos, nanos},
    base::{
        background_pool::{BackgroundBusyError, BackgroundPool},
        clock::{self, Stopwatch},
    },
    observe::metrics::LoginOutcome,
    store::{Store, StoreError, users::User},
};
pub use renewals::{RENEWAL_OVERLAP, record_renewal, revoke_token, spawn_revocation_of_renewed};

/// State of a token of this server in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRegistration {
    /// It is registered, and not revoked.
    Valid,
    /// It was revoked.
    Revoked,
    /// It is not registered.
    Unknown,
}

/// The local users, and the registry of issued tokens.
pub struct Users {
    /// The database they are stored in.
    pub store: Store,
    hashing: BackgroundPool<HashingMemory>,
    attempts: LoginAttempts,
    /// Renewals of sessions by username.
    renewals: KeyedBudget,
    /// Tokens found in the registry, with the time of the look-up.
    recent_tokens: DashMap<Box<str>, Nanos>,
    last_eviction: OncePerSecond,
    clock: Stopwatch,
}

/// A name and a password, as given by a client. Not `Debug`: it contains the password.
pub struct Credentials<'c> {
    /// The username.
    pub username: &'c str,
    /// The password.
    pub password: &'c str,
    /// Where they come from.
    pub origin: LoginOrigin,
    /// Digest of the username and the source, which the database keeps after a login.
    pub source_digest: &'c str,
}

/// Error of [`Users::authenticate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// Unknown user or wrong password.
    Wrong,
    /// Too many attempts; a new one is possible after this time.
    TooMany(Duration),
    /// The queue of the hashing threads is full, or memory is short.
    Busy,
    /// The database cannot be queried.
    Store(StoreError),
}

/// Checks the name of a new user. It is a segment of paths: clients remove `.` and `..` from a URL,
/// also where they are percent-encoded, and would call another path.
///
/// # Errors
/// The reason why the name is refused.
pub fn check_username(username: &str) -> Result<(), &'static str> {
    match username {
        "" => Err("the username cannot be an empty string"),
        "." | ".." => Err("the username cannot be . or .., which have a meaning in paths of URLs"),
        _ => Ok(()),
    }
}

impl LoginError {
    /// Returns the outcome that metrics count.
    #[must_use]
    pub const fn outcome(&self) -> LoginOutcome {
        match self {
            Self::Wrong => LoginOutcome::Wrong,
            Self::TooMany(_) => LoginOutcome::TooMany,
            Self::Busy => LoginOutcome::Busy,
            Self::Store(_) => LoginOutcome::Unavailable,
        }
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong => f.write_str("unknown user or wrong password"),
            Self::TooMany(wait) => {
                write!(f, "too many attempts: the next one is possible in {} s", wait.as_secs() + 1)
            }
            Self::Busy => f.write_str("the password hashing queue is full"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for LoginError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<BackgroundBusyError> for LoginError {
    fn from(_: BackgroundBusyError) -> Self {
        Self::Busy
    }
}

impl From<OutOfMemoryError> for LoginError {
    fn from(_: OutOfMemoryError) -> Self {
        Self::Busy
    }
}

/// Interval at which a token is looked up in the registry again. A revoked token is rejected
/// by the verifier before this look-up.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Limit of cached registry look-ups.
const MAX_CACHED_TOKENS: usize = 16 * 1024;
/// Interval in which a user may renew one more session. Each renewal revokes a token, and the
/// capacity for revocations is limited.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);
/// Renewals that a user may make at once.
const RENEWAL_BURST: u64 = 60;
/// Number of users whose renewals are counted separately.
const MAX_RENEWING_USERS: usize = 4096;

impl Users {
    /// Creates the users of a store, and starts their hashing threads.
    ///
    /// # Errors
    /// The operating system cannot create a thread.
    pub fn new(store: Store, login: &LoginSettings) -> io::Result<Self> {
        let hashing = BackgroundPool::start("hashing", login.hashing_threads, login.waiting)?;
        Ok(Self {
            store,
            hashing,
            attempts: LoginAttempts::new(login.attempts),
            renewals: KeyedBudget::new(MAX_RENEWING_USERS, RENEWAL_BURST, RENEWAL_INTERVAL),
            recent_tokens: DashMap::new(),
            last_eviction: OncePerSecond::default(),
            clock: Stopwatch::start(),
        })
    }

    /// Returns the user with this name and password. Waits first if [`attempts`] demands it.
    ///
    /// # Errors
    /// [`LoginError::Wrong`] for an unknown user or a wrong password, after the same time for both.
    /// The other variants if the password was not checked.
    pub async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<User, LoginError> {
        let Credentials { username, password, origin, source_digest } = *credentials;
        let too_many = |TooManyAttempts(wait)| LoginError::TooMany(wait);
        let mut attempt = self.attempts.begin(username, origin, self.now()).map_err(too_many)?;
        let is_known =
            !origin.is_shared && self.store.is_login_source(username, source_digest).await?;
        if !is_known {
            attempt.wait_for_turn(|| self.now()).await.map_err(too_many)?;
        }
        attempt.check();
        let user = self.verify(username, password).await;
        match user {
            Ok(_) => attempt.succeed(),
            Err(LoginError::Wrong | LoginError::TooMany(_)) => drop(attempt),
            // Not the user's fault.
            Err(LoginError::Busy | LoginError::Store(_)) => attempt.retract(),
        }
        if user.is_ok() && !origin.is_shared {
            let recorded =
                self.store.record_login_source(username, source_digest, clock::now()).await;
            if let Err(error) = recorded {
                tracing::warn!("cannot record the source of a login: {error}");
            }
        }
        user
    }

    /// Counts a sign-in with an OpenID provider, which the limit of attempts by source applies to.
    ///
    /// # Errors
    /// The source has reached its limit: the time until its next attempt is possible.
    pub fn begin_sign_in(&self, origin: LoginOrigin) -> Result<(), TooManyAttempts> {
        self.attempts.begin_from_source(origin, self.now())
    }

    /// Counts a renewal of a session of this user.
    ///
    /// # Errors
    /// The user renews too often: the time until the next renewal is possible.
    pub fn begin_renewal(&self, username: &str) -> Result<(), TooManyAttempts> {
        self.renewals.take(username).map_err(TooManyAttempts)
    }

    async fn verify(&self, username: &str, password: &str) -> Result<User, LoginError> {
        let user = self.store.user(username).await?.filter(|user| user.auth_method == "database");
        let (stored, given) =
            (user.as_ref().map(|user| user.password_hash.clone()), password.to_owned());
        let verified = self.hashing.run(move |memory| match stored {
            Some(stored) => password::verify(&given, &stored, memory),
            None => password::verify_dummy(&given, memory).map(|()| PasswordMatch::No),
        });
        match (verified.await??, user) {
            (PasswordMatch::Yes, Some(user)) => Ok(user),
            (PasswordMatch::Unnormalized, Some(user)) => {
                Ok(self.with_new_hash(user, password).await)
            }
            _ => Err(LoginError::Wrong),
        }
    }

    /// Replaces the hash of an unnormalized password by one of the normalized password. Returns
    /// the user unchanged if that fails.
    async fn with_new_hash(&self, user: User, password: &str) -> User {
        let Ok(renewed) = self.hash(password).await else { return user };
        match self.store.renew_password_hash(&user.username, &user.password_hash, &renewed).await {
            Ok(true) => User { password_hash: renewed, ..user },
            Ok(false) | Err(_) => user,
        }
    }

    /// Returns the number of passwords in the hashing queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.hashing.waiting()
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`LoginError::Busy`] if the hashing queue is full or memory is short.
    pub async fn hash(&self, password: &str) -> Result<String, LoginError> {
        let password = password.to_owned();
        let mut salt = password::Salt::default();
        rand::fill(&mut salt).map_err(|_| LoginError::Busy)?;
        Ok(self.hashing.run(move |memory| password::hash(&password, &salt, memory)).await??)
    }

    /// Returns the state of a token of this server in the registry. A look-up of a valid one in the
    /// database also records it as used.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn token_registration(&self, jti: &str) -> Result<TokenRegistration, StoreError> {
        let now = self.now();
        if self.recent_tokens.get(jti).is_some_and(|found| is_recent(*found, now)) {
            return Ok(TokenRegistration::Valid);
        }
        let registration = match self.store.token(jti).await? {
            None => TokenRegistration::Unknown,
            Some(token) if token.revoked_at.is_some() => TokenRegistration::Revoked,
            Some(_) => TokenRegistration::Valid,
        };
        if registration == TokenRegistration::Valid {
            // With a full cache, a token is looked up each time until old entries are evicted.
            if self.recent_tokens.len() < MAX_CACHED_TOKENS {
                self.recent_tokens.insert(jti.into(), now);
            } else {
                self.evict_old_tokens(now);
            }
            // The time of use is informational, so its failure is ignored.
            let _ignored = self.store.mark_used(jti, clock::now()).await;
        }
        Ok(registration)
    }

    /// Evicts expired look-ups. At most once a second, as it scans the whole cache.
    fn evict_old_tokens(&self, now: Nanos) {
        if self.last_eviction.is_due(now) {
            self.recent_tokens.retain(|_, found| is_recent(*found, now));
        }
    }

    /// Removes a revoked token from the cached look-ups.
    pub fn forget_token(&self, jti: &str) {
        self.recent_tokens.remove(jti);
    }

    fn now(&self) -> Nanos {
        nanos(self.clock.elapsed())
    }
}

fn is_recent(found: Nanos, now: Nanos) -> bool {
    now < found.saturating_add(nanos(RECHECK_INTERVAL))
}
