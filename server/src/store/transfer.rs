//! Copies of tables from one database to another, of either kind.
//!
//! Tables and columns are those of an SQLite database with the schema of this version, in the order
//! of their creation: each refers only to earlier ones.

use std::{io, time::Duration};

use futures_util::TryStreamExt as _;
use sqlx::{
    AnyConnection, AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
    any::{AnyConnectOptions, AnyRow},
};
use tokio::time::{sleep, timeout};

use super::{DatabaseKind, Store, StoreError};

/// A table to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableLayout {
    /// Its name.
    pub name: String,
    columns: Vec<ColumnLayout>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ColumnLayout {
    name: String,
    kind: ColumnKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnKind {
    Text,
    Number,
    /// A number that the database assigns.
    Assigned,
}

/// Tables about the database and its servers themselves, and sessions of browsers with a server.
/// They are not copied.
const OWN_TABLES: [&str; 5] = [
    "countersign_console_session",
    "countersign_database",
    "countersign_migration",
    "countersign_predecessor",
    "countersign_server",
];
/// Time by the clock of one SQLite database: see [`expiry`](super::expiry).
const OWN_COLUMN: &str = "over_since";
/// Rows of one INSERT.
const BATCH_ROWS: usize = 500;

impl Store {
    /// Opens a connection outside of the pool, without a check of the schema.
    pub(crate) async fn connect(&self) -> Result<AnyConnection, StoreError> {
        // Statements that read a whole table are slow, and none is remarkable for that.
        let options = self.0.direct_url.parse::<AnyConnectOptions>()?.disable_statement_logging();
        let limit = self.0.connection_timeout;
        let Ok(connected) = timeout(limit, options.connect()).await else {
            let seconds = limit.as_secs();
            return Err(StoreError::Unavailable(format!("no connection within {seconds} s")));
        };
        connected.map_err(|error| self.0.with_location(error.into()))
    }

    /// Checks that a PostgreSQL answers. A pool only reports that it waited in vain.
    ///
    /// # Errors
    /// It does not, with its location and the reason.
    pub(crate) async fn check_reachable(&self) -> Result<(), StoreError> {
        if self.kind() == DatabaseKind::Sqlite {
            return Ok(());
        }
        let connection = self.connect().await.map_err(|error| match error {
            StoreError::Unavailable(reason) => {
                StoreError::Unavailable(format!("{}: {reason}", self.location()))
            }
            error => error,
        })?;
        Ok(connection.close().await?)
    }

    /// Opens a connection outside of the pool, and begins a write transaction.
    pub(crate) async fn connect_to_write(&self) -> Result<AnyConnection, StoreError> {
        let mut connection = self.connect().await?;
        let begin = match self.kind() {
            DatabaseKind::Sqlite => "BEGIN IMMEDIATE",
            DatabaseKind::Postgres => "BEGIN",
        };
        execute(&mut connection, begin).await.map_err(|error| self.0.with_location(error))?;
        Ok(connection)
    }

    /// Whether another process has an SQLite database open.
    pub(crate) async fn is_open_elsewhere(&self) -> Result<bool, StoreError> {
        let mut connection = self.connect().await?;
        // Leaving the write-ahead log takes the only connection. The next one that opens the
        // database returns to it.
        let alone = execute(&mut connection, "PRAGMA journal_mode = DELETE").await;
        match alone {
            Err(StoreError::File(io::ErrorKind::WouldBlock, _)) => Ok(true),
            alone => alone.map(|()| false).map_err(|error| self.0.with_location(error)),
        }
    }
}

/// Begins a read transaction on each database. Together they see one moment, in which no SQLite
/// database among them is written.
pub(crate) async fn begin_snapshots(stores: &[&Store]) -> Result<Vec<AnyConnection>, StoreError> {
    let locks = lock_writers(stores).await?;
    let mut snapshots = Vec::new();
    for store in stores {
        let mut snapshot = store.connect().await?;
        let begin = match store.kind() {
            DatabaseKind::Sqlite => "BEGIN",
            DatabaseKind::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        execute(&mut snapshot, begin).await?;
        // The first query determines what the transaction sees.
        database_id(&mut snapshot).await?;
        snapshots.push(snapshot);
    }
    for mut lock in locks {
        execute(&mut lock, "ROLLBACK").await?;
        lock.close().await?;
    }
    Ok(snapshots)
}

/// Locks all SQLite databases against writers.
async fn lock_writers(stores: &[&Store]) -> Result<Vec<AnyConnection>, StoreError> {
    const RETRY_INTERVAL: Duration = Duration::from_millis(50);
    let mut retries = 100;
    loop {
        match try_lock_writers(stores).await {
            // Writers of the first one must not wait for the second one.
            Err(StoreError::File(io::ErrorKind::WouldBlock, _)) if retries > 0 => retries -= 1,
            locks => return locks,
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn try_lock_writers(stores: &[&Store]) -> Result<Vec<AnyConnection>, StoreError> {
    let mut locks = Vec::new();
    for store in stores.iter().filter(|store| store.kind() == DatabaseKind::Sqlite) {
        let mut lock = store.connect().await?;
        execute(&mut lock, "PRAGMA busy_timeout = 500").await?;
        execute(&mut lock, "BEGIN IMMEDIATE").await?;
        locks.push(lock);
    }
    Ok(locks)
}

/// Executes a statement without a result.
pub(crate) async fn execute(
    connection: &mut AnyConnection,
    statement: &str,
) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await?;
    Ok(())
}

/// `application_id` of an SQLite file that is a backup: `CSbk`.
pub(crate) const BACKUP_MARK: i64 = 0x4353_626b;

/// Returns the `application_id` of an SQLite file.
pub(crate) async fn application_id(connection: &mut AnyConnection) -> sqlx::Result<i64> {
    let id = "SELECT application_id FROM pragma_application_id";
    sqlx::query_scalar(id).fetch_one(connection).await
}

/// Checks that an SQLite file is not a backup: its revocations would not be in force.
pub(crate) async fn refuse_backup(
    connection: &mut AnyConnection,
    location: &str,
) -> Result<(), StoreError> {
    if application_id(connection).await? != BACKUP_MARK {
        return Ok(());
    }
    let text = format!("{location} is a backup: restore it with countersign database restore");
    Err(StoreError::Schema(text))
}

/// Returns the id of a database.
pub(crate) async fn database_id(connection: &mut AnyConnection) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT id FROM countersign_database").fetch_one(connection).await
}

/// Returns the tables of an SQLite database that are copied.
pub(crate) async fn tables(connection: &mut AnyConnection) -> sqlx::Result<Vec<TableLayout>> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'countersign\\_%' \
         ESCAPE '\\' ORDER BY rowid",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut tables = Vec::new();
    for name in names.into_iter().filter(|name| !OWN_TABLES.contains(&name.as_str())) {
        let columns = "SELECT name, type FROM pragma_table_info($1) ORDER BY cid";
        let columns = sqlx::query(columns).bind(&name).fetch_all(&mut *connection).await?;
        let columns = columns.iter().map(column).collect::<sqlx::Result<Vec<_>>>()?;
        let columns = columns.into_iter().filter(|column| column.name != OWN_COLUMN).collect();
        tables.push(TableLayout { name, columns });
    }
    Ok(tables)
}

fn column(row: &AnyRow) -> sqlx::Result<ColumnLayout> {
    let kind = match row.try_get(1)? {
        "TEXT" => ColumnKind::Text,
        // The type of AUTOINCREMENT columns.
        "INTEGER" => ColumnKind::Assigned,
        _ => ColumnKind::Number,
    };
    Ok(ColumnLayout { name: row.try_get(0)?, kind })
}

/// Copies the rows of a table. Returns how many.
pub(crate) async fn copy(
    table: &TableLayout,
    from: &mut AnyConnection,
    (to, kind): (&mut AnyConnection, DatabaseKind),
) -> Result<u64, StoreError> {
    let select = format!("SELECT {} FROM {}", table.column_names(), table.name);
    let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(from);
    let (mut batch, mut copied) = (Vec::with_capacity(BATCH_ROWS), 0);
    let failed = |error: sqlx::Error| {
        StoreError::Unavailable(format!("the table {} cannot be copied: {error}", table.name))
    };
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        batch.push(row);
        if batch.len() == BATCH_ROWS {
            copied += insert(table, &batch, to, kind).await.map_err(failed)?;
            batch.clear();
        }
    }
    drop(rows);
    if !batch.is_empty() {
        copied += insert(table, &batch, to, kind).await.map_err(failed)?;
    }
    if kind == DatabaseKind::Postgres {
        advance_sequence(table, to).await.map_err(failed)?;
    }
    Ok(copied)
}

impl TableLayout {
    fn column_names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
        names.join(", ")
    }
}

async fn insert(
    table: &TableLayout,
    rows: &[AnyRow],
    to: &mut AnyConnection,
    kind: DatabaseKind,
) -> sqlx::Result<u64> {
    let width = table.columns.len();
    let places = |row: usize| {
        let places: Vec<_> =
            (1..=width).map(|column| format!("${}", row * width + column)).collect();
        format!("({})", places.join(", "))
    };
    let places: Vec<_> = (0..rows.len()).map(places).collect();
    let (name, columns, places) = (&table.name, table.column_names(), places.join(", "));
    let assigned = match kind {
        DatabaseKind::Sqlite => "",
        DatabaseKind::Postgres => "OVERRIDING SYSTEM VALUE",
    };
    let statement = format!("INSERT INTO {name} ({columns}) {assigned} VALUES {places}");
    let mut insert = sqlx::query(AssertSqlSafe(statement)).persistent(rows.len() == BATCH_ROWS);
    for row in rows {
        for (index, column) in table.columns.iter().enumerate() {
            insert = match column.kind {
                ColumnKind::Text => insert.bind(row.try_get::<Option<String>, _>(index)?),
                ColumnKind::Number | ColumnKind::Assigned => {
                    insert.bind(row.try_get::<Option<i64>, _>(index)?)
                }
            };
        }
    }
    Ok(insert.execute(to).await?.rows_affected())
}

/// Makes PostgreSQL assign later numbers than those that were copied, and than those it has
/// assigned before. SQLite does that by itself.
async fn advance_sequence(table: &TableLayout, to: &mut AnyConnection) -> sqlx::Result<()> {
    let assigned = table.columns.iter().filter(|column| column.kind == ColumnKind::Assigned);
    for ColumnLayout { name: column, .. } in assigned {
        let name = &table.name;
        let sequence = format!("pg_get_serial_sequence('{name}', '{column}')");
        let advance = format!(
            "SELECT setval({sequence}, GREATEST(nextval({sequence}), \
             (SELECT COALESCE(MAX({column}), 0) FROM {name})))"
        );
        sqlx::query(AssertSqlSafe(advance)).execute(&mut *to).await?;
    }
    Ok(())
}
