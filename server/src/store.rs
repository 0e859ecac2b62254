//! Database storage shared by all nodes: users, roles, environments, the registry of tokens
//! and, where several nodes share a database, revocations.
//!
//! SQLite and PostgreSQL use the same statements, with text and integer columns only, which
//! both treat alike. [`DatabaseKind`] has the differences. Queries run on a thread of their own,
//! so a slow database does not block the worker threads.
//!
//! The database is opened with the first query. If it is unreachable, the next query tries
//! again.

pub mod environments;
mod migrations;
mod notices;
pub mod roles;
pub mod servers;
pub mod settings;
pub mod tokens;
pub mod users;

use std::{
    fmt,
    future::pending,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{
    Any, AnyPool, Transaction,
    any::{AnyPoolOptions, install_default_drivers},
    error::ErrorKind,
    pool::PoolOptions,
};
use tokio::{
    runtime,
    sync::OnceCell,
    time::{sleep, timeout},
};

use self::settings::{Database, DatabaseLocation};
use crate::base::clock;

/// Handle of the database, which may not be open yet. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<StoreInner>);

struct StoreInner {
    runtime: runtime::Handle,
    pool: AnyPool,
    kind: DatabaseKind,
    /// Path of an SQLite database.
    file: Option<PathBuf>,
    /// Its location for logs, without a password.
    location: String,
    /// URL of a direct connection, for migrations and notifications (LISTEN).
    direct_url: String,
    connection_timeout: Duration,
    migrates: bool,
    is_open: OnceCell<()>,
}

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
    /// The schema has a version that this program cannot use.
    Schema(String),
    /// Uniqueness violation: the row already exists.
    AlreadyExists,
    /// Foreign-key violation: a referenced row is missing, or the row is still referenced.
    ForeignKeyViolation,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "cannot query the database: {reason}"),
            Self::Schema(reason) => f.write_str(reason),
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
        match error.as_database_error().map(|error| error.kind()) {
            Some(ErrorKind::UniqueViolation) => Self::AlreadyExists,
            Some(ErrorKind::ForeignKeyViolation) => Self::ForeignKeyViolation,
            _ => Self::Unavailable(error.to_string()),
        }
    }
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
        install_default_drivers();
        let (kind, url, file, location) = match &settings.location {
            DatabaseLocation::StateDirectory => embedded(state_dir()?.join("countersign.db"))?,
            DatabaseLocation::Sqlite(file) => embedded(file.clone())?,
            DatabaseLocation::Postgres { url, redacted } => {
                (DatabaseKind::Postgres, url.expose().to_owned(), None, redacted.clone())
            }
        };
        let runtime = spawn_runtime()?;
        let _guard = runtime.enter();
        let pool = kind.pool(settings).connect_lazy(&url).map_err(io::Error::other)?;
        let direct_url = settings.listen_url.as_ref().map_or(url, |url| url.expose().to_owned());
        Ok(Self(Arc::new(StoreInner {
            runtime,
            pool,
            kind,
            file,
            location,
            direct_url,
            connection_timeout: settings.connection_timeout,
            migrates: settings.migrates,
            is_open: OnceCell::new(),
        })))
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

    /// Migrates the schema, even if the configuration does not allow it at start-up.
    ///
    /// # Errors
    /// The database is unreachable, or its schema is of a newer version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        // Without a timeout: the migration of another node may have to end first.
        self.spawn(async move { migrations::run(&inner).await }).await
    }

    /// Runs a future to its end, for callers outside an async runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(work)
    }

    /// Starts the task that removes tokens from the registry `retention` seconds after they
    /// expired.
    pub fn spawn_token_purge(&self, retention: u64) {
        /// Rare enough to cost little, frequent enough to bound the size of the registry.
        const PURGE_INTERVAL: Duration = Duration::from_secs(3600);
        let store = self.clone();
        self.0.runtime.spawn(async move {
            loop {
                let expired_by = clock::now().0.saturating_sub(retention);
                match store.purge_tokens(countersign_engine::UnixTime(expired_by)).await {
                    Ok(0) => {}
                    Ok(forgotten) => {
                        tracing::info!(forgotten, "expired tokens removed from the registry")
                    }
                    Err(error) => {
                        tracing::warn!("cannot remove expired tokens from the registry: {error}")
                    }
                }
                sleep(PURGE_INTERVAL).await;
            }
        });
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
            inner.is_open.get_or_try_init(|| migrations::check(&inner)).await?;
            work(inner.pool.clone()).await
        })
        .await
    }

    pub(crate) async fn run_with_timeout<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        // The timer runs on the store's thread, because the caller may have no timer.
        self.spawn(async move {
            timeout(QUERY_TIMEOUT, work).await.unwrap_or_else(|_elapsed| {
                let seconds = QUERY_TIMEOUT.as_secs();
                Err(StoreError::Unavailable(format!("no answer within {seconds} s")))
            })
        })
        .await
    }

    async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let task = self.0.runtime.spawn(work);
        task.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the query panicked".into())))
    }
}

impl DatabaseKind {
    fn pool(self, settings: &Database) -> PoolOptions<Any> {
        let options = AnyPoolOptions::new().acquire_timeout(settings.connection_timeout);
        match self {
            Self::Postgres => options.max_connections(settings.connections),
            // SQLite allows one writer at a time. With one connection no query fails as busy.
            Self::Sqlite => options.max_connections(1).after_connect(|connection, _| {
                Box::pin(async move {
                    // WAL with synchronous=FULL: an acknowledged commit is durable.
                    for pragma in [
                        "PRAGMA journal_mode = WAL",
                        "PRAGMA synchronous = FULL",
                        "PRAGMA busy_timeout = 5000",
                    ] {
                        sqlx::query(pragma).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            }),
        }
    }

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

/// Returns kind, URL, path and location of an SQLite database.
fn embedded(file: PathBuf) -> io::Result<(DatabaseKind, String, Option<PathBuf>, String)> {
    let path = std::path::absolute(&file)?;
    let path = path
        .to_str()
        .ok_or_else(|| io::Error::other(format!("{}: the path is not UTF-8", file.display())))?
        .to_owned();
    Ok((
        DatabaseKind::Sqlite,
        format!("sqlite://{}", utf8_percent_encode(&path, NON_ALPHANUMERIC)),
        Some(file),
        path,
    ))
}

/// Creates the file of an SQLite database if it does not exist, readable by its owner only.
fn create_file(file: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let explain =
        |error: io::Error| StoreError::Unavailable(format!("{}: {error}", file.display()));
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(explain)?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)
        .map(drop)
        .map_err(explain)
}

/// Starts a runtime on a thread of its own, which ends with the process.
fn spawn_runtime() -> io::Result<runtime::Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("store".into()).spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}

/// Encodes a flag for an integer column.
const fn flag(is_set: bool) -> i64 {
    if is_set { 1 } else { 0 }
}

/// Encodes a time for an integer column.
fn moment(at: countersign_engine::UnixTime) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// Decodes a time from an integer column.
fn unix_time(at: i64) -> countersign_engine::UnixTime {
    countersign_engine::UnixTime(u64::try_from(at).unwrap_or(0))
}
