//! Database storage shared by all nodes: users, roles, projects, environments, the registry of
//! tokens, revocations, and machine identities.
//!
//! SQLite and PostgreSQL use the same statements, with text and integer columns only, which
//! both treat alike. [`DatabaseKind`] has the differences. Queries run on a thread of their own,
//! so a slow database does not block the worker threads.
//!
//! The database is opened with the first query. If it is unreachable, the next query tries
//! again.

pub mod client_secrets;
mod conflicts;
mod connection;
pub mod console_sessions;
pub mod custom_roles;
mod deleted_methods;
pub(crate) mod draft;
pub mod environments;
pub mod expiry;
mod health;
pub mod identity;
pub mod identity_logins;
pub mod identity_methods;
pub mod identity_projects;
pub mod identity_tokens;
pub mod key_sets;
mod login_sources;
pub mod logout_tokens;
pub mod machine_identities;
pub mod migrations;
mod notices;
pub mod organizations;
pub mod projects;
pub mod renewals;
pub mod roles;
pub mod servers;
pub mod settings;
pub mod signing_keys;
pub(crate) mod sqlite;
pub mod tls_certificate_methods;
pub mod tokens;
pub(crate) mod transfer;
pub mod universal_auth_methods;
pub mod users;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Any, AnyPool, Row as _, Transaction,
    any::AnyRow,
    error::{DatabaseError, ErrorKind},
};
use tokio::time::{sleep, timeout};

pub use self::health::DatabaseHealth;
use self::{
    connection::{DatabaseTarget, StoreInner, embedded},
    expiry::ExpiringTable,
    settings::{Database, DatabaseLocation},
};
use crate::base::clock::Stopwatch;

/// File of the embedded database in the state directory.
pub const DATABASE_FILE: &str = "countersign.db";

/// Handle of the database, which may not be open yet. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<StoreInner>);

/// Kind of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// Embedded SQLite, for one node.
    Sqlite,
    /// PostgreSQL, for any number of nodes.
    Postgres,
}

/// Error of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The database is unreachable, or does not answer in time.
    Unavailable(String),
    /// The file of an SQLite database is unusable: its path, the reason and the remedy. The kind
    /// is [`io::ErrorKind::WouldBlock`] if another process keeps it locked,
    /// [`io::ErrorKind::NotFound`] if it was open and is missing,
    /// [`io::ErrorKind::InvalidData`] if it cannot be read completely, and
    /// [`io::ErrorKind::NotConnected`] otherwise.
    File(io::ErrorKind, String),
    /// The schema has a version that this program cannot use.
    Schema(String),
    /// A pooler executes prepared statements over other connections than those that have them.
    Pooler,
    /// Uniqueness violation: the row already exists.
    AlreadyExists,
    /// Foreign-key violation: a referenced row is missing, or the row is still referenced.
    ForeignKeyViolation,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "cannot query the database: {reason}"),
            Self::File(_, reason) | Self::Schema(reason) => f.write_str(reason),
            Self::Pooler => f.write_str(
                "url in [database] leads through a transaction pooler that loses prepared \
                 statements: use PgBouncer 1.21 or later with max_prepared_statements, or \
                 pool_mode = session",
            ),
            Self::AlreadyExists => f.write_str("already exists"),
            Self::ForeignKeyViolation => f.write_str(
                "foreign-key violation: a referenced row is missing or still referenced",
            ),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let reason = error.as_database_error();
        match reason.map(|reason| reason.kind()) {
            Some(ErrorKind::UniqueViolation) => Self::AlreadyExists,
            Some(ErrorKind::ForeignKeyViolation) => Self::ForeignKeyViolation,
            _ if reason.is_some_and(is_lost_statement) => Self::Pooler,
            _ => reason
                .and_then(sqlite::file_error)
                .unwrap_or_else(|| Self::Unavailable(error.to_string())),
        }
    }
}

/// Whether PostgreSQL does not have a statement that was prepared, or has another one of that name.
fn is_lost_statement(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| ["26000", "42P05", "08P01"].contains(&&*code))
}

/// Timeout of a query, including the wait for a connection.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Creates the handle of the configured database; of one in the state directory if none is
    /// configured. Nothing is opened yet.
    ///
    /// # Errors
    /// The path is unusable, or the operating system cannot create a thread.
    pub fn new(
        settings: &Database,
        state_dir: impl FnOnce() -> io::Result<PathBuf>,
    ) -> io::Result<Self> {
        let target = match &settings.location {
            DatabaseLocation::StateDirectory => embedded(state_dir()?.join(DATABASE_FILE))?,
            DatabaseLocation::Sqlite(file) => embedded(file.clone())?,
            DatabaseLocation::Postgres { url, redacted } => DatabaseTarget {
                kind: DatabaseKind::Postgres,
                url: url.expose().to_owned(),
                file: None,
                location: redacted.clone(),
            },
        };
        Ok(Self(Arc::new(StoreInner::new(settings, target)?)))
    }

    /// Creates the handle of an SQLite database in `file`, whatever `[database]` configures.
    ///
    /// # Errors
    /// The path is unusable, or the operating system cannot create a thread.
    pub fn in_file(file: PathBuf) -> io::Result<Self> {
        let settings = Database {
            location: DatabaseLocation::Sqlite(file.clone()),
            listen_url: None,
            connections: 1,
            connection_timeout: Duration::from_secs(5),
            migrates: true,
            is_configured: true,
        };
        Ok(Self(Arc::new(StoreInner::new(&settings, embedded(file)?)?)))
    }

    /// Returns the kind of the database.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        self.0.kind
    }

    /// Returns its location for logs, without a password.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.0.location
    }

    /// Returns whether the database can have contents: an SQLite file that does not exist cannot.
    ///
    /// # Errors
    /// The process may not read the directory.
    pub fn exists(&self) -> Result<bool, StoreError> {
        let exists = self.0.file.as_ref().map_or(Ok(true), |file| file.try_exists());
        exists.map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.0.location)))
    }

    /// Opens the database, and migrates its schema if the configuration allows it.
    ///
    /// # Errors
    /// The database is unreachable, or its schema has another version.
    pub async fn open(&self) -> Result<(), StoreError> {
        self.run(async |_| Ok(())).await
    }

    /// Closes the database. The write-ahead log of an SQLite database is merged into its file
    /// before, so that a copy of the file is complete. Later queries fail.
    pub async fn close(&self) {
        let inner = Arc::clone(&self.0);
        let closed = self.run_with_timeout(async move {
            inner.close().await;
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::warn!("cannot close the database {}: {error}", self.0.location);
        }
    }

    /// Closes the file of an SQLite database. The next query opens the one at its path.
    pub(crate) fn close_file(&self) {
        self.block_on(self.0.close_file());
    }

    /// Returns the state of the database, as the queries of this handle have found it.
    #[must_use]
    pub fn health(&self) -> DatabaseHealth {
        self.0.results.health()
    }

    /// Returns the version of the database software.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn database_version(&self) -> Result<String, StoreError> {
        let version = match self.kind() {
            DatabaseKind::Sqlite => "SELECT sqlite_version()",
            DatabaseKind::Postgres => "SELECT current_setting('server_version')",
        };
        self.run(async move |pool| Ok(sqlx::query_scalar(version).fetch_one(&pool).await?)).await
    }

    /// Returns the number of times that the database was opened. It changes when another file
    /// has replaced that of an SQLite database.
    #[must_use]
    pub fn generation(&self) -> usize {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Migrates the schema, even if the configuration does not allow it at start-up.
    ///
    /// # Errors
    /// The database is unreachable, or its schema is of a newer version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        // Without a timeout: the migration of another node may have to end first.
        let migrate = async move {
            migrations::run(&inner).await.map_err(|error| inner.with_location(error))
        };
        self.spawn(migrate).await
    }

    /// Runs a future to its end, for callers outside an async runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(work)
    }

    /// Starts the task that deletes tokens from the registry `retention` seconds after they
    /// expired.
    pub fn spawn_token_deletion(&self, retention: u64) {
        self.spawn_deletion("expired tokens of the registry", move |store| async move {
            store.delete_expired(ExpiringTable::Tokens, retention).await
        });
    }

    /// Starts the task that deletes logout tokens which are refused for their age.
    pub fn spawn_logout_token_deletion(&self) {
        self.spawn_deletion("logout tokens", |store| async move {
            store.delete_expired(ExpiringTable::LogoutTokens, 0).await
        });
    }

    /// Starts the task that deletes access tokens of machine identities after their end.
    pub fn spawn_identity_token_deletion(&self) {
        self.spawn_deletion("access tokens of machine identities", |store| async move {
            store.delete_expired(ExpiringTable::IdentityTokens, 0).await
        });
    }

    /// Starts the task that deletes sessions of the console after their end.
    pub fn spawn_console_session_deletion(&self) {
        self.spawn_deletion("sessions of the console", |store| async move {
            store.delete_expired(ExpiringTable::ConsoleSessions, 0).await
        });
    }

    /// Starts a task that deletes `what` at intervals.
    pub(crate) fn spawn_deletion<D, F>(&self, what: &'static str, delete: D)
    where
        D: Fn(Self) -> F + Send + 'static,
        F: Future<Output = Result<u64, StoreError>> + Send + 'static,
    {
        /// Frequent enough to count the time for which an SQLite database is open.
        const INTERVAL: Duration = Duration::from_secs(120);
        let store = self.clone();
        self.0.runtime.spawn(async move {
            loop {
                match delete(store.clone()).await {
                    Ok(0) => {}
                    Ok(deleted) => tracing::info!(deleted, "deleted {what}"),
                    Err(error) => tracing::warn!("cannot delete {what}: {error}"),
                }
                sleep(INTERVAL).await;
            }
        });
    }

    /// Starts a task on the store's thread. It ends with the store.
    pub(crate) fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.runtime.spawn(task);
    }

    /// Runs a query. Opens the database first if it is not open.
    pub(crate) async fn run<T, W, F>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(AnyPool) -> F + Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        self.run_with_timeout(async move {
            inner.ensure_open().await?;
            let result = work(inner.pool.clone()).await;
            match &result {
                // Once the file is repaired, it is read anew.
                Err(StoreError::File(io::ErrorKind::InvalidData, _)) => inner.close_file().await,
                Err(
                    StoreError::File(io::ErrorKind::NotConnected, _) | StoreError::Unavailable(_),
                ) => inner.recover_connection().await,
                _ => {}
            }
            result.map_err(|error| inner.with_location(error))
        })
        .await
    }

    pub(crate) async fn run_with_timeout<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let started = Stopwatch::start();
        // The timer runs on the store's thread, because the caller may have no timer.
        let result = self
            .spawn(async move {
                timeout(QUERY_TIMEOUT, work).await.unwrap_or_else(|_elapsed| {
                    let seconds = QUERY_TIMEOUT.as_secs();
                    Err(StoreError::Unavailable(format!("no answer within {seconds} s")))
                })
            })
            .await;
        self.0.results.record(&result, started.elapsed());
        result
    }

    /// Runs work to its end, even if the caller does not wait for it.
    pub(crate) async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let task = self.0.runtime.spawn(work);
        task.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the query panicked".into())))
    }
}

impl DatabaseKind {
    /// Begins a write transaction.
    pub(crate) async fn begin(self, pool: &AnyPool) -> sqlx::Result<Transaction<'static, Any>> {
        match self {
            Self::Postgres => {
                let mut transaction = pool.begin().await?;
                // If this node stops within the transaction, its locks must not block others.
                for limit in [
                    "SET LOCAL idle_in_transaction_session_timeout = '5s'",
                    "SET LOCAL lock_timeout = '5s'",
                    "SET LOCAL statement_timeout = '8s'",
                ] {
                    sqlx::query(limit).execute(&mut *transaction).await?;
                }
                Ok(transaction)
            }
            // A transaction that begins with a read may fail to upgrade to a write.
            Self::Sqlite => pool.begin_with("BEGIN IMMEDIATE").await,
        }
    }
}

/// Encodes a flag for an integer column.
const fn flag(is_set: bool) -> i64 {
    if is_set { 1 } else { 0 }
}

/// Encodes a time for an integer column.
pub(crate) fn moment(at: countersign_engine::UnixTime) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// Decodes a time from an integer column.
pub(crate) fn unix_time(at: i64) -> countersign_engine::UnixTime {
    countersign_engine::UnixTime(u64::try_from(at).unwrap_or(0))
}

/// Encodes a number for an integer column.
pub(crate) fn stored_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Decodes a number from an integer column.
fn read_number(row: &AnyRow, column: &str) -> sqlx::Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

/// Encodes a list for a text column.
fn json_text<T: Serialize + ?Sized>(list: &T) -> String {
    // Lists of texts always serialize.
    serde_json::to_string(list).unwrap_or_default()
}

/// Decodes a list from a text column.
fn read_json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> sqlx::Result<T> {
    parse_json(&row.try_get::<String, _>(column)?, column)
}

/// Decodes a list from a text column that may be null.
fn read_optional_json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> sqlx::Result<Option<T>> {
    let text = row.try_get::<Option<String>, _>(column)?;
    text.map(|text| parse_json(&text, column)).transpose()
}

fn parse_json<T: DeserializeOwned>(text: &str, column: &str) -> sqlx::Result<T> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}
