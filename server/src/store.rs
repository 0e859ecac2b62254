//! What outlives the process and is shared by nodes: users, roles, environments, the
//! registry of tokens and, where several nodes share a database, revocations.
//!
//! SQLite or PostgreSQL, by the same statements: they use texts and whole numbers only,
//! and what the two mean by those is the same. What differs is in [`DatabaseKind`]. The database
//! is asked on a thread of its own, so whoever waits for it holds up nobody else.
//!
//! Nothing is opened before it is needed, and what cannot be reached now is tried again
//! with the next question.

pub mod environments;
mod migrations;
mod notices;
pub mod revocations;
pub mod roles;
pub mod servers;
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

use crate::{
    clock,
    config::{Database, DatabaseLocation},
};

/// The database, as far as it is there. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<StoreInner>);

struct StoreInner {
    runtime: runtime::Handle,
    pool: AnyPool,
    kind: DatabaseKind,
    /// The file that it is in.
    file: Option<PathBuf>,
    /// Where it is, without a password.
    location: String,
    /// By which the schema is changed and notices are heard.
    direct_url: String,
    connection_timeout: Duration,
    migrates: bool,
    is_open: OnceCell<()>,
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// Embedded, for one node.
    Sqlite,
    /// For any number of nodes.
    Postgres,
}

/// Why something was not stored, or not found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The database cannot be reached, or does not answer in time.
    Unavailable(String),
    /// It is not as this program needs it.
    Schema(String),
    /// It is there already.
    AlreadyExists,
    /// Something that it refers to is not there, or refers to it.
    ForeignKeyViolation,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "the database cannot be asked: {reason}"),
            Self::Schema(reason) => f.write_str(reason),
            Self::AlreadyExists => f.write_str("it is there already"),
            Self::ForeignKeyViolation => {
                f.write_str("something it refers to is not there, or something refers to it")
            }
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

/// How long a question may take, from the wait for a connection on.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// The store of these settings; one in the state directory where they name none.
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// There is no place for the file, or no thread to be had.
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
        let _entered = runtime.enter();
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

    /// Which database it is.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        self.0.kind
    }

    /// Where it is, for people.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.0.location
    }

    /// Whether anything can be in it: where it is a file, that has to be there.
    ///
    /// # Errors
    /// It is where nobody may look who runs this.
    pub fn exists(&self) -> Result<bool, StoreError> {
        let exists = self.0.file.as_ref().map_or(Ok(true), |file| file.try_exists());
        exists.map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.0.location)))
    }

    /// Opens it, and brings its schema up to date if it may.
    ///
    /// # Errors
    /// It cannot be reached, or is not as it has to be.
    pub async fn open(&self) -> Result<(), StoreError> {
        self.run(async |_| Ok(())).await
    }

    /// Brings its schema up to date, whatever the configuration says.
    ///
    /// # Errors
    /// It cannot be reached, or was made by a newer version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        // However long it takes: others may have to be waited for.
        self.spawn(async move { migrations::run(&inner).await }).await
    }

    /// The same for whoever has a thread to wait with, and no runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(work)
    }

    /// Forgets every so often which tokens have expired so long ago.
    pub fn spawn_token_purge(&self, retention: u64) {
        /// Long enough not to be felt, short enough for the registry not to grow much.
        const PAUSE: Duration = Duration::from_secs(3600);
        let store = self.clone();
        self.0.runtime.spawn(async move {
            loop {
                let expired_by = clock::now().0.saturating_sub(retention);
                match store.purge_tokens(countersign_engine::UnixTime(expired_by)).await {
                    Ok(0) => {}
                    Ok(forgotten) => tracing::info!(
                        forgotten,
                        "tokens that expired long ago have left the registry"
                    ),
                    Err(fault) => {
                        tracing::warn!("the registry of tokens could not be tidied: {fault}")
                    }
                }
                sleep(PAUSE).await;
            }
        });
    }

    /// Asks the database something.
    async fn run<T, W, F>(&self, work: W) -> Result<T, StoreError>
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

    async fn run_with_timeout<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let late =
            || StoreError::Unavailable(format!("no answer within {} s", QUERY_TIMEOUT.as_secs()));
        // A timer of its own thread, as whoever waits may have none.
        self.spawn(
            async move { timeout(QUERY_TIMEOUT, work).await.unwrap_or_else(|_| Err(late())) },
        )
        .await
    }

    async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let task = self.0.runtime.spawn(work);
        task.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it was given up".into())))
    }
}

impl DatabaseKind {
    fn pool(self, settings: &Database) -> PoolOptions<Any> {
        let options = AnyPoolOptions::new().acquire_timeout(settings.connection_timeout);
        match self {
            Self::Postgres => options.max_connections(settings.connections),
            // One writes at a time anyway, and none is ever told that another is busy.
            Self::Sqlite => options.max_connections(1).after_connect(|connection, _| {
                Box::pin(async move {
                    // What is acknowledged is on the disk.
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

    /// Begins a transaction that will write.
    async fn begin(self, pool: &AnyPool) -> sqlx::Result<Transaction<'static, Any>> {
        match self {
            Self::Postgres => {
                let mut transaction = pool.begin().await?;
                // Should this node stop in the middle, others are not to wait for it.
                for limit in [
                    "SET LOCAL idle_in_transaction_session_timeout = '5s'",
                    "SET LOCAL lock_timeout = '5s'",
                    "SET LOCAL statement_timeout = '8s'",
                ] {
                    sqlx::query(limit).execute(&mut *transaction).await?;
                }
                Ok(transaction)
            }
            // One that began by reading may not be allowed to write later.
            Self::Sqlite => pool.begin_with("BEGIN IMMEDIATE").await,
        }
    }
}

/// A database in a file.
fn embedded(file: PathBuf) -> io::Result<(DatabaseKind, String, Option<PathBuf>, String)> {
    let path = std::path::absolute(&file)?;
    let path = path
        .to_str()
        .ok_or_else(|| io::Error::other(format!("{}: the path is no UTF-8", file.display())))?
        .to_owned();
    Ok((
        DatabaseKind::Sqlite,
        format!("sqlite://{}", utf8_percent_encode(&path, NON_ALPHANUMERIC)),
        Some(file),
        path,
    ))
}

/// Makes the file of a database, which only its owner can read, if it is not there.
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

/// A runtime on a thread of its own, which ends with the process.
fn spawn_runtime() -> io::Result<runtime::Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("store".into()).spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}

/// A flag as it is stored.
const fn flag(is_set: bool) -> i64 {
    if is_set { 1 } else { 0 }
}

/// A moment as it is stored.
fn moment(at: countersign_engine::UnixTime) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// A moment as it was stored.
fn unix_time(at: i64) -> countersign_engine::UnixTime {
    countersign_engine::UnixTime(u64::try_from(at).unwrap_or(0))
}
