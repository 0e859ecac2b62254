//! Backups of a server's databases: one SQLite file with all tables as of one moment, whichever
//! kind of database they are from. It can be restored into either kind.
//!
//! A restored database has another id, so that running servers read it from its start, and write
//! back what it lacks of their revocations. Its former ids are kept in it, so that a server that
//! starts later recognizes an intended restore.

mod file;
pub mod restore;

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
};

use countersign_engine::Revocation;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

use crate::{
    revocation::{
        inspection::{RevocationProblem, inspect},
        record::RevocationRecord,
        store::to_row,
    },
    store::{
        Store, StoreError,
        draft::DatabaseDraft,
        identity::DatabaseIdentity,
        migrations,
        transfer::{self, database_id, execute},
    },
};

/// The databases of a server.
pub struct ServerDatabases {
    /// Users, roles and tokens, and revocations unless they are in a file of their own.
    pub main: Store,
    /// The file of the revocations, if it is not the main database.
    pub revocations: Option<Store>,
    /// The files of the configuration, which no backup may replace.
    pub files: Vec<PathBuf>,
}

/// Contents of a backup, or of a restored database.
#[derive(Clone, Debug, Default)]
pub struct BackupSummary {
    /// Number of rows by table.
    rows: BTreeMap<String, u64>,
    /// Identity of the backup that was restored.
    pub source: Option<DatabaseIdentity>,
    /// Revocations that cannot be read, and are copied as they are.
    pub problems: Vec<RevocationProblem>,
}

/// Error of a backup or a restore.
#[derive(Debug)]
pub enum BackupError {
    /// A database cannot be used.
    Store(StoreError),
    /// A file cannot be used.
    File(io::Error),
    /// The state of a database or of the file does not allow it; with the remedy.
    Refused(String),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for BackupError {}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

/// The tables of a database of revocations.
const REVOCATION_TABLES: [&str; 2] = ["countersign_revocation", "countersign_damaged_revocation"];

impl BackupSummary {
    /// Returns the number of users.
    #[must_use]
    pub fn users(&self) -> u64 {
        self.rows("countersign_user")
    }

    /// Returns the number of revocations.
    #[must_use]
    pub fn revocations(&self) -> u64 {
        self.rows("countersign_revocation")
    }

    fn rows(&self, table: &str) -> u64 {
        self.rows.get(table).copied().unwrap_or(0)
    }
}

impl ServerDatabases {
    /// Writes a backup to `file`, while servers may run. `inherited` are revocations in force that
    /// the databases do not have.
    ///
    /// The file appears when it is complete.
    ///
    /// # Errors
    /// A database cannot be read, its schema has another version, or the file cannot be written; or it exists and `replaces` is not set, or it is not a backup.
    pub fn back_up(
        &self,
        file: &Path,
        replaces: bool,
        inherited: &[Revocation],
    ) -> Result<BackupSummary, BackupError> {
        file::check_target(file, replaces, &self.files)?;
        let draft = DatabaseDraft::beside(file)?;
        let store = Store::in_file(draft.path().to_owned())?;
        let mut summary = store.block_on(self.copy_into(&store))?;
        let stored = inspect(&store)?;
        let known: HashSet<_> = stored.revocations.iter().map(RevocationRecord::from).collect();
        let is_missing = |one: &&Revocation| !known.contains(&RevocationRecord::from(*one));
        let missing: Vec<_> =
            inherited.iter().filter(is_missing).map(to_row).collect::<io::Result<_>>()?;
        store.block_on(add_revocations(&store, &missing))?;
        let count = u64::try_from(missing.len()).unwrap_or(u64::MAX);
        *summary.rows.entry("countersign_revocation".into()).or_default() += count;
        summary.problems = stored.problems;
        store.block_on(store.close());
        store.block_on(file::mark(&store))?;
        file::publish(draft, file, replaces)?;
        Ok(summary)
    }

    async fn copy_into(&self, draft: &Store) -> Result<BackupSummary, BackupError> {
        draft.open().await?;
        let (stores, mut snapshots) = self.begin_snapshots().await?;
        let mut target = draft.connect_to_write().await?;
        let tables = transfer::tables(&mut target).await?;
        let mut summary = BackupSummary::default();
        for (store, snapshot) in stores.iter().zip(&mut snapshots) {
            for table in tables.iter().filter(|table| self.has(store, &table.name)) {
                let rows = transfer::copy(table, snapshot, (&mut target, draft.kind())).await?;
                summary.rows.insert(table.name.clone(), rows);
            }
            copy_identity(snapshot, &mut target).await?;
        }
        execute(&mut target, "COMMIT").await?;
        target.close().await?;
        Ok(summary)
    }

    /// Begins a snapshot of each database that exists.
    async fn begin_snapshots(&self) -> Result<(Vec<&Store>, Vec<AnyConnection>), BackupError> {
        loop {
            let stores = self.existing().await?;
            if stores.is_empty() {
                return Err(BackupError::Refused(format!(
                    "{} does not exist, or is empty\n  help: use the --config or --state-dir of \
                     the server",
                    self.main.location()
                )));
            }
            let snapshots = transfer::begin_snapshots(&stores).await?;
            // One that was created in between may have rows of the same moment.
            if self.existing().await?.len() == stores.len() {
                return Ok((stores, snapshots));
            }
        }
    }

    /// Returns the databases that exist. The file of the revocations is created by the first one.
    async fn existing(&self) -> Result<Vec<&Store>, BackupError> {
        let mut existing = Vec::new();
        for store in [Some(&self.main), self.revocations.as_ref()].into_iter().flatten() {
            if store.exists()? && has_schema(store).await? {
                existing.push(store);
            }
        }
        Ok(existing)
    }

    /// Whether one of the databases is where servers read and write a table.
    fn has(&self, store: &Store, table: &str) -> bool {
        let is_of_revocations = REVOCATION_TABLES.contains(&table);
        match &self.revocations {
            None => true,
            Some(revocations) if revocations.location() == store.location() => is_of_revocations,
            Some(_) => !is_of_revocations,
        }
    }
}

/// Returns whether a database has the schema of this version; not if it was just created. It is not
/// migrated: servers of another version may run.
async fn has_schema(store: &Store) -> Result<bool, BackupError> {
    let mut connection = store.connect().await?;
    let (applied, latest) = (migrations::applied(&mut connection).await?, migrations::latest());
    connection.close().await?;
    if applied == latest || applied == 0 {
        return Ok(applied == latest);
    }
    Err(BackupError::Refused(format!(
        "the database {} has schema version {applied}, and this program needs {latest}: use the \
         version of the servers, or migrate the database first (countersign database migrate)",
        store.location()
    )))
}

/// Adds the ids of a database, and of those that it continues, to the draft of its backup.
async fn copy_identity(
    from: &mut AnyConnection,
    draft: &mut AnyConnection,
) -> Result<(), BackupError> {
    let ids = lineage(from).await?;
    add_predecessors(draft, &ids).await
}

/// Records ids of databases that a database continues.
async fn add_predecessors(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<(), BackupError> {
    for id in ids {
        let add = "INSERT INTO countersign_predecessor (id) VALUES ($1) ON CONFLICT DO NOTHING";
        sqlx::query(add).bind(id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Returns the ids of a database and of those that it continues.
async fn lineage(connection: &mut AnyConnection) -> Result<Vec<String>, BackupError> {
    let mut ids: Vec<String> = sqlx::query_scalar("SELECT id FROM countersign_predecessor")
        .fetch_all(&mut *connection)
        .await?;
    ids.push(database_id(connection).await?);
    Ok(ids)
}

/// Adds revocations to the draft of a backup.
async fn add_revocations(draft: &Store, rows: &[(String, Option<i64>)]) -> Result<(), BackupError> {
    let mut connection = draft.connect().await?;
    for (record, until) in rows {
        insert_revocation(&mut connection, record, *until).await?;
    }
    Ok(connection.close().await?)
}

async fn insert_revocation(
    connection: &mut AnyConnection,
    record: &str,
    until: Option<i64>,
) -> Result<(), BackupError> {
    let insert = "INSERT INTO countersign_revocation (record, until) VALUES ($1, $2)";
    sqlx::query(insert).bind(record).bind(until).execute(connection).await?;
    Ok(())
}

/// Returns the number of rows of a table.
async fn count(connection: &mut AnyConnection, table: &str) -> Result<i64, BackupError> {
    let count = format!("SELECT count(*) FROM {table}");
    Ok(sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(connection).await?)
}
