//! The connection to the database: its address, its pool, and how it is opened.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _,
    any::{AnyPoolOptions, install_default_drivers},
    pool::PoolOptions,
};
use tokio::{
    runtime,
    sync::{Mutex, oneshot},
};

use super::{
    DatabaseKind, StoreError,
    health::QueryResults,
    migrations,
    settings::Database,
    sqlite::{self, FileIdentity},
};
use crate::base::clock::Stopwatch;

/// State of a [`Store`](super::Store).
pub(super) struct StoreInner {
    pub(super) runtime: runtime::Handle,
    pub(super) pool: AnyPool,
    pub(super) kind: DatabaseKind,
    /// Path of an SQLite database.
    pub(super) file: Option<PathBuf>,
    /// Its location for logs, without a password.
    pub(super) location: String,
    /// URL of a direct connection, for migrations and notifications (LISTEN).
    pub(super) direct_url: String,
    pub(super) connection_timeout: Duration,
    pub(super) migrates: bool,
    /// Time since this process has the handle.
    pub(super) started: Stopwatch,
    /// The database as it was last opened; `None` before the first time.
    opened: Mutex<Option<OpenedDatabase>>,
    /// Number of times that the database was opened.
    pub(super) generation: AtomicUsize,
    pub(super) results: QueryResults,
    /// Keeps the thread of the runtime alive.
    _is_used: oneshot::Sender<()>,
}

/// A database that was opened. If its file is missing later, no new one is created: the
/// contents would be lost without notice.
struct OpenedDatabase {
    /// The file of an SQLite database.
    identity: Option<FileIdentity>,
    /// Whether it can be queried: it is readable, and its schema is current.
    is_usable: bool,
}

/// Address of a database.
pub(super) struct DatabaseTarget {
    pub(super) kind: DatabaseKind,
    /// URL for the driver, which may contain a password.
    pub(super) url: String,
    pub(super) file: Option<PathBuf>,
    pub(super) location: String,
}

/// Returns the address of an SQLite database.
pub(super) fn embedded(file: PathBuf) -> io::Result<DatabaseTarget> {
    let path = std::path::absolute(&file)?;
    let path = path
        .to_str()
        .ok_or_else(|| io::Error::other(format!("{}: the path is not UTF-8", file.display())))?
        .to_owned();
    Ok(DatabaseTarget {
        kind: DatabaseKind::Sqlite,
        url: format!("sqlite://{}", utf8_percent_encode(&path, NON_ALPHANUMERIC)),
        file: Some(file),
        location: path,
    })
}

impl StoreInner {
    /// Creates the pool of connections and the thread of its runtime. Nothing is opened yet.
    pub(super) fn new(settings: &Database, target: DatabaseTarget) -> io::Result<Self> {
        install_default_drivers();
        let DatabaseTarget { kind, url, file, location } = target;
        let (runtime, is_used) = spawn_runtime()?;
        let _guard = runtime.enter();
        let pool = pool_options(kind, settings).connect_lazy(&url).map_err(io::Error::other)?;
        let direct_url = settings.listen_url.as_ref().map_or(url, |url| url.expose().to_owned());
        Ok(Self {
            runtime,
            pool,
            kind,
            file,
            location,
            direct_url,
            connection_timeout: settings.connection_timeout,
            migrates: settings.migrates,
            started: Stopwatch::start(),
            opened: Mutex::new(None),
            generation: AtomicUsize::new(0),
            results: QueryResults::default(),
            _is_used: is_used,
        })
    }

    /// Opens the database, unless it is open. If another file has replaced that of an SQLite
    /// database, opens that one.
    pub(super) async fn ensure_open(&self) -> Result<(), StoreError> {
        let mut opened = self.opened.lock().await;
        let exists = || self.file.as_ref().is_some_and(|file| file.exists());
        if opened.is_some() || exists() {
            let identity = self.identity()?;
            match &*opened {
                Some(known) if known.is_usable && known.identity == identity => return Ok(()),
                Some(_) => self.disconnect().await,
                None => {}
            }
            *opened = Some(OpenedDatabase { identity, is_usable: false });
        }
        if let Err(error) = self.check().await {
            self.disconnect().await;
            return Err(self.with_location(error));
        }
        let identity = self.identity()?;
        *opened = Some(OpenedDatabase { identity, is_usable: true });
        // Release: this generation is visible with the first result of the new database.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Checks that the database can be used, and has the current schema.
    async fn check(&self) -> Result<(), StoreError> {
        // A configured pool of one connection cannot be checked.
        if self.kind == DatabaseKind::Postgres && self.pool.options().get_max_connections() > 1 {
            refuse_lossy_pooler(&self.pool).await?;
        }
        migrations::check(self).await
    }

    /// Returns the identity of the file of an SQLite database.
    fn identity(&self) -> Result<Option<FileIdentity>, StoreError> {
        let identity = self.file.as_deref().map(FileIdentity::of).transpose();
        identity.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => sqlite::missing(&self.location),
            _ => {
                self.with_location(StoreError::File(io::ErrorKind::NotConnected, error.to_string()))
            }
        })
    }

    /// Closes the file of an SQLite database. The next query opens it again.
    pub(super) async fn close_file(&self) {
        if let Some(opened) = &mut *self.opened.lock().await {
            opened.is_usable = false;
        }
        self.disconnect().await;
    }

    /// Closes all connections for good. The last process that closes an SQLite database also
    /// deletes its write-ahead log, which is empty by then.
    pub(super) async fn close(&self) {
        let is_open = self.opened.lock().await.as_ref().is_some_and(|opened| opened.is_usable);
        if self.kind == DatabaseKind::Sqlite && is_open {
            let merge = "PRAGMA wal_checkpoint(TRUNCATE)";
            if let Err(error) = sqlx::query(merge).execute(&self.pool).await {
                tracing::warn!("{}: cannot merge the write-ahead log: {error}", self.location);
            }
        }
        self.pool.close().await;
    }

    /// Closes the connection to an SQLite database, because it may read another file than the
    /// one that is at its path.
    async fn disconnect(&self) {
        if self.kind == DatabaseKind::Sqlite
            && let Ok(connection) = self.pool.acquire().await
        {
            let _ignored = connection.close().await;
        }
    }

    /// Replaces the connection to an SQLite database if it can begin no transaction.
    pub(super) async fn recover_connection(&self) {
        let Some(file) = &self.file else { return };
        if let Err(error) = self.replace_aborted(file).await {
            tracing::warn!("{}: cannot replace the connection: {error}", self.location);
        }
    }

    /// Replaces a connection that counts a transaction as open which SQLite has ended by itself, as
    /// it does when the disk is full.
    ///
    /// Another connection keeps the file open meanwhile. The first one to open it writes to the
    /// directory: if that failed too, no revocation could be read.
    async fn replace_aborted(&self, file: &Path) -> sqlx::Result<()> {
        const READ: &str = "SELECT count(*) FROM sqlite_schema";
        let mut aborted = self.pool.acquire().await?;
        // A dropped transaction has only queued its rollback, which ends before this query.
        sqlx::query("SELECT 1").execute(&mut *aborted).await?;
        if !aborted.is_in_transaction() {
            return Ok(());
        }
        let url = embedded(file.to_owned())?.url;
        let mut keeper = AnyConnection::connect(&url).await?;
        sqlx::query(READ).fetch_one(&mut keeper).await?;
        aborted.close().await?;
        sqlx::query(READ).fetch_one(&self.pool).await?;
        keeper.close().await
    }

    /// Adds the path to an error of the file.
    pub(super) fn with_location(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::File(kind, reason) => {
                StoreError::File(kind, format!("{}: {reason}", self.location))
            }
            error => error,
        }
    }
}

/// Refuses a pooler that loses prepared statements. It might also execute another statement of the
/// same name.
///
/// A statement is prepared by one client. A transaction of another client then takes the connection
/// of the pooler that has it, so that the pooler needs a second one to execute it again.
async fn refuse_lossy_pooler(pool: &AnyPool) -> Result<(), StoreError> {
    const STATEMENT: &str = "SELECT 'countersign'";
    let prepared = || sqlx::query_scalar::<_, String>(STATEMENT);
    let (mut client, mut other) = (pool.acquire().await?, pool.acquire().await?);
    prepared().fetch_one(&mut *client).await?;
    let mut transaction = other.begin().await?;
    sqlx::query("SELECT 1").execute(&mut *transaction).await?;
    let again = prepared().fetch_one(&mut *client).await;
    transaction.rollback().await?;
    match again {
        Ok(text) if text == "countersign" => Ok(()),
        // The result of another statement.
        Ok(_) | Err(sqlx::Error::ColumnDecode { .. }) => Err(StoreError::Pooler),
        Err(error) => Err(error.into()),
    }
}

fn pool_options(kind: DatabaseKind, settings: &Database) -> PoolOptions<Any> {
    let options = AnyPoolOptions::new().acquire_timeout(settings.connection_timeout);
    match kind {
        DatabaseKind::Postgres => options.max_connections(settings.connections),
        // SQLite allows one writer at a time. With one connection no query fails as busy. A file
        // does not disconnect, and each test would be two more changes of the thread.
        DatabaseKind::Sqlite => options
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false),
    }
}

/// Starts a runtime on a thread of its own, which ends when the sender is dropped.
fn spawn_runtime() -> io::Result<(runtime::Handle, oneshot::Sender<()>)> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (handle, (is_used, is_dropped)) = (runtime.handle().clone(), oneshot::channel());
    let run = move || drop(runtime.block_on(is_dropped));
    thread::Builder::new().name("store".into()).spawn(run)?;
    Ok((handle, is_used))
}
