//! Users of our own: who they are, and that they are who they say.

pub mod attempts;
pub mod hashing;
pub mod password;

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use dashmap::DashMap;

use crate::{
    admission::Source,
    clock,
    config::LoginSettings,
    store::{Store, StoreError, users::User},
};
use attempts::{LoginAttempts, OncePerSecond, TooManyAttempts};
use hashing::{HashingBusyError, HashingPool};
use password::{OutOfMemoryError, PasswordMatch};

/// The users, and the registry of what they were issued.
pub struct Users {
    /// Where they are kept.
    pub store: Store,
    hashing: HashingPool,
    attempts: LoginAttempts,
    /// Tokens that were found in the registry, and when.
    recent_tokens: DashMap<Box<str>, Instant>,
    last_eviction: OncePerSecond,
}

/// Why nobody is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// There is no such user, or the password is not theirs.
    Wrong,
    /// It was tried too often.
    TooMany(Duration),
    /// Too many passwords wait to be hashed, or there is no memory for it.
    Busy,
    /// The database did not say.
    Store(StoreError),
}

/// How a login ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// With a session.
    Done,
    /// With a wrong name or password.
    Wrong,
    /// At once: it was tried too often.
    TooMany,
    /// At once: too many passwords wait.
    Busy,
    /// Without the database.
    Unavailable,
}

impl LoginOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Wrong, Self::TooMany, Self::Busy, Self::Unavailable];

    /// Of what authenticating came to.
    #[must_use]
    pub const fn of<T>(result: &Result<T, LoginError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(LoginError::Wrong) => Self::Wrong,
            Err(LoginError::TooMany(_)) => Self::TooMany,
            Err(LoginError::Busy) => Self::Busy,
            Err(LoginError::Store(_)) => Self::Unavailable,
        }
    }

    /// Its name, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Wrong => "wrong",
            Self::TooMany => "too_many",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    /// Its place among [`ALL`](Self::ALL).
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|outcome| *outcome == self).unwrap_or_default()
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong => f.write_str("no such user, or another password"),
            Self::TooMany(wait) => {
                write!(f, "it was tried too often, and may be again in {} s", wait.as_secs() + 1)
            }
            Self::Busy => f.write_str("too many passwords wait to be hashed"),
            Self::Store(fault) => fault.fmt(f),
        }
    }
}

impl From<StoreError> for LoginError {
    fn from(fault: StoreError) -> Self {
        Self::Store(fault)
    }
}

impl From<HashingBusyError> for LoginError {
    fn from(HashingBusyError: HashingBusyError) -> Self {
        Self::Busy
    }
}

impl From<OutOfMemoryError> for LoginError {
    fn from(OutOfMemoryError: OutOfMemoryError) -> Self {
        Self::Busy
    }
}

/// How long a token is known without asking again. One that is revoked is refused before
/// anybody asks.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// More tokens than this are not kept in mind.
const MAX_CACHED_TOKENS: usize = 16 * 1024;

impl Users {
    /// The users of a store.
    ///
    /// # Errors
    /// The system has no thread to hash passwords with.
    pub fn new(store: Store, login: &LoginSettings) -> io::Result<Self> {
        let hashing = HashingPool::start(login.hashing_threads, login.waiting)?;
        Ok(Self {
            store,
            hashing,
            attempts: LoginAttempts::new(login.attempts),
            recent_tokens: DashMap::new(),
            last_eviction: OncePerSecond::default(),
        })
    }

    /// The user of this name and password.
    ///
    /// # Errors
    /// [`LoginError::Wrong`], in the same time whatever is; or it cannot be told now.
    pub async fn authenticate(
        &self,
        username: &str,
        password: &str,
        source: Source,
    ) -> Result<User, LoginError> {
        let too_many = |TooManyAttempts(wait)| LoginError::TooMany(wait);
        self.attempts.begin(username, source, clock::instant()).map_err(too_many)?;
        let verdict = self.verify(username, password).await;
        match verdict {
            Ok(_) => self.attempts.succeeded(username),
            Err(LoginError::Wrong | LoginError::TooMany(_)) => {}
            // It was not his doing.
            Err(LoginError::Busy | LoginError::Store(_)) => self.attempts.retract(username),
        }
        verdict
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

    /// The user with a hash of the normalized password, if one can be kept now.
    async fn with_new_hash(&self, user: User, password: &str) -> User {
        let Ok(renewed) = self.hash(password).await else { return user };
        match self.store.renew_password_hash(&user.username, &user.password_hash, &renewed).await {
            Ok(true) => User { password_hash: renewed, ..user },
            Ok(false) | Err(_) => user,
        }
    }

    /// How many passwords wait to be hashed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.hashing.waiting()
    }

    /// What a new password will be verified by.
    ///
    /// # Errors
    /// Too many wait for theirs.
    pub async fn hash(&self, password: &str) -> Result<String, LoginError> {
        let password = password.to_owned();
        let mut salt = password::Salt::default();
        rand::fill(&mut salt).map_err(|_| LoginError::Busy)?;
        Ok(self.hashing.run(move |memory| password::hash(&password, &salt, memory)).await??)
    }

    /// Whether a token of ours is in the registry. Once in a while it is noted there that
    /// it is in use.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn is_token_registered(&self, jti: &str) -> Result<bool, StoreError> {
        let now = clock::instant();
        if self.recent_tokens.get(jti).is_some_and(|found| now < *found + RECHECK_INTERVAL) {
            return Ok(true);
        }
        let is_known = self.store.token(jti).await?.is_some_and(|token| token.revoked_at.is_none());
        if is_known {
            // Beyond that a token is asked about each time, until others are forgotten.
            if self.recent_tokens.len() < MAX_CACHED_TOKENS {
                self.recent_tokens.insert(jti.into(), now);
            } else {
                self.evict_old_tokens(now);
            }
            // That it was used is nice to know, and no more.
            let _unavailable = self.store.mark_used(jti, clock::now()).await;
        }
        Ok(is_known)
    }

    /// At most once a second, as all of them are looked at.
    fn evict_old_tokens(&self, now: Instant) {
        if self.last_eviction.is_due(now) {
            self.recent_tokens.retain(|_, found| now < *found + RECHECK_INTERVAL);
        }
    }

    /// A token that is no longer in the registry.
    pub fn forget_token(&self, jti: &str) {
        self.recent_tokens.remove(jti);
    }
}
