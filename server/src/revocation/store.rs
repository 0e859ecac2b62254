//! Durable storage of revocations: a table of the SQLite or PostgreSQL database.
//!
//! Rows have ascending numbers. Each process reads on from the last row that it has read, with that
//! row: if it is another one, the table was restored from a backup, or lost its latest rows in a
//! failover, and is read from its start.

use std::{io, mem, path::PathBuf};

use countersign_engine::Revocation;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction, any::AnyRow};

use super::{import::import_journal, record::RevocationRecord, recovery};
use crate::{
    base::redacted::json_error,
    store::{
        DatabaseKind, Store, StoreError,
        expiry::ExpiringTable,
        moment,
        sqlite::{self, with_path},
    },
};

/// The stored revocations, followed as other processes append to them.
pub struct RevocationStore {
    store: Store,
    /// File of a [`RevocationStore::in_file`] that was not opened yet. It may be missing, or a
    /// journal.
    unopened: Option<PathBuf>,
    /// Whether that file has existed. From then on a missing file is an error.
    existed: bool,
    /// Revocations from the file that was used before the database.
    inherited: Vec<Revocation>,
    /// [`Store::generation`] that `last` belongs to.
    generation: usize,
    /// The last row that was read; `None` before the first one.
    last: Option<StoredRow>,
    /// Whether the table was found to be another one since this was last asked.
    was_replaced: bool,
}

/// A row of the table.
#[derive(Clone, PartialEq, Eq)]
struct StoredRow {
    number: i64,
    record: String,
    /// Id of the database.
    database: String,
}

/// Selects the rows from a number on, with the id of the database.
macro_rules! select {
    () => {
        "SELECT number, record, (SELECT id FROM countersign_database) FROM countersign_revocation \
         WHERE number >= $1 ORDER BY number"
    };
}

/// Number of rows read by one query.
const PAGE_ROWS: i64 = 10_000;
/// Number of rows written by one statement. Each has two parameters.
const BATCH_ROWS: usize = 1000;

impl RevocationStore {
    /// Creates the store for this database, with the revocations inherited from a file.
    #[must_use]
    pub fn in_database(store: Store, inherited: Vec<Revocation>) -> Self {
        Self {
            store,
            unopened: None,
            existed: false,
            inherited,
            generation: 0,
            last: None,
            was_replaced: false,
        }
    }

    /// Creates the store for an SQLite file, which is created with the first revocation. A
    /// journal of an earlier version at that path is imported.
    ///
    /// # Errors
    /// The path is unusable, or the operating system cannot create a thread.
    pub fn in_file(file: PathBuf) -> io::Result<Self> {
        let store = Self::in_database(Store::in_file(file.clone())?, Vec::new());
        Ok(Self { unopened: Some(file), ..store })
    }

    /// Returns the database that has the table.
    #[must_use]
    pub const fn database(&self) -> &Store {
        &self.store
    }

    /// Reads what any process has appended since the last call. The first call, and the first
    /// one after a damaged row, reads everything. Returns `None` if another process keeps the
    /// database locked.
    ///
    /// # Errors
    /// The store cannot be read completely. No token may then be accepted as if it had been:
    /// unread revocations would be ignored. [`io::ErrorKind::NotFound`] if a file that was read
    /// before is missing, [`io::ErrorKind::NotConnected`] if the database is unreachable.
    pub fn read_new(&mut self) -> io::Result<Option<Vec<Revocation>>> {
        let before = self.last.clone();
        match self.read_pages() {
            Ok(mut new) => {
                new.append(&mut self.inherited);
                Ok(Some(new))
            }
            Err(error) => {
                // Pages before the error were read, but are not returned: read them again.
                let is_damaged = error.kind() == io::ErrorKind::InvalidData;
                self.last = before.filter(|_| !is_damaged && !self.was_replaced);
                if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Makes the next read start over.
    pub fn read_from_start(&mut self) {
        self.last = None;
    }

    /// Whether the table was replaced by another one, which has been read from its start, since
    /// this was last asked. It may lack revocations that were acknowledged.
    pub fn was_replaced(&mut self) -> bool {
        mem::take(&mut self.was_replaced)
    }

    /// Appends `revocations`; they are durable when this returns. Returns what other processes
    /// have appended since the last read.
    ///
    /// # Errors
    /// The revocations are not stored.
    pub fn append(&mut self, revocations: &[Revocation]) -> io::Result<Vec<Revocation>> {
        self.open()?;
        let (last, kind) = (self.last.clone(), self.store.kind());
        let after = last.as_ref().map_or(0, |row| row.number);
        let records = revocations.iter().map(to_row).collect::<io::Result<Vec<_>>>()?;
        let appended = self.store.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let others = read_on(kind, &mut transaction, after).await?;
            if !continues(last.as_ref(), &others) {
                return Ok(None);
            }
            let mut newest = None;
            for batch in records.chunks(BATCH_ROWS) {
                newest = insert(&mut transaction, batch).await?.or(newest);
            }
            if kind == DatabaseKind::Postgres {
                sqlx::query("SELECT pg_notify('countersign_revocation', '')")
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            Ok(Some((others, newest)))
        });
        let Some((others, newest)) = self.store.block_on(appended).map_err(store_error)? else {
            // The rows of the other table have to be known first.
            self.start_over();
            let mut others = self.read_pages()?;
            others.extend(self.append(revocations)?);
            return Ok(others);
        };
        let others = self.advance(others)?;
        self.last = newest.or_else(|| self.last.take());
        Ok(others)
    }

    /// Writes a new file with `known` in place of one that was read and is missing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn replace_missing(&mut self, known: &[Revocation]) -> io::Result<()> {
        let former = self.last.as_ref().map(|row| row.database.as_str());
        recovery::write_file(&self.store, known, former)
    }

    /// Deletes the rows that ended long ago. Returns how many.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub fn delete_expired(&self) -> io::Result<u64> {
        if self.unopened.is_some() {
            return Ok(0);
        }
        let deleted = self.store.delete_expired(ExpiringTable::Revocations, 0);
        self.store.block_on(deleted).map_err(store_error)
    }

    fn read_pages(&mut self) -> io::Result<Vec<Revocation>> {
        let mut new = Vec::new();
        if let Some(file) = &self.unopened
            && !self.existed
            && !file.try_exists().map_err(|error| with_path(file, &error))?
        {
            return Ok(new);
        }
        self.open()?;
        loop {
            let page = self.page().map_err(store_error)?;
            if !continues(self.last.as_ref(), &page) {
                self.start_over();
                new.clear();
                continue;
            }
            let is_last = page.len() < usize::try_from(PAGE_ROWS).unwrap_or(usize::MAX);
            new.extend(self.advance(page)?);
            if is_last {
                return Ok(new);
            }
        }
    }

    /// Starts over after the table was replaced.
    fn start_over(&mut self) {
        (self.last, self.was_replaced) = (None, true);
    }

    /// Opens the database. A file that has replaced another one is read from its start.
    fn open(&mut self) -> io::Result<()> {
        if let Some(file) = &self.unopened {
            if file.try_exists().map_err(|error| with_path(file, &error))? {
                self.existed = true;
                import_journal(file)?;
            } else if self.existed {
                return Err(store_error(sqlite::missing(self.store.location())));
            }
            self.unopened = None;
        }
        self.store.block_on(self.store.open()).map_err(store_error)?;
        let generation = self.store.generation();
        if mem::replace(&mut self.generation, generation) != generation && self.last.is_some() {
            self.start_over();
        }
        Ok(())
    }

    /// Parses rows, of which the first may be the last one that was read, and advances the
    /// position. After an error the position is reset, so that the next read starts over.
    fn advance(&mut self, rows: Vec<StoredRow>) -> io::Result<Vec<Revocation>> {
        let known = self.last.as_ref().map(|row| row.number);
        let new = rows.iter().filter(|row| Some(row.number) != known);
        let read = new.map(|row| {
            parse_record(&row.record).map_err(|reason| {
                let text = format!(
                    "cannot parse the revocation {} in {}: {reason}; run countersign revocations \
                     check",
                    row.number,
                    self.store.location()
                );
                io::Error::new(io::ErrorKind::InvalidData, text)
            })
        });
        let read: io::Result<Vec<_>> = read.collect();
        self.last = match &read {
            Ok(_) => rows.into_iter().next_back().or_else(|| self.last.take()),
            Err(_) => None,
        };
        read
    }

    /// Reads a page of rows, from the last one that was read.
    fn page(&self) -> Result<Vec<StoredRow>, StoreError> {
        let from = self.last.as_ref().map_or(0, |row| row.number);
        let page = self.store.run(async move |pool| {
            let rows = sqlx::query(concat!(select!(), " LIMIT $2"));
            let rows = rows.bind(from).bind(PAGE_ROWS).fetch_all(&pool).await?;
            Ok(rows.iter().map(row).collect::<sqlx::Result<Vec<_>>>()?)
        });
        self.store.block_on(page)
    }
}

impl Store {
    /// Returns the revocations after the one with a number, in their order, each with its number.
    ///
    /// # Errors
    /// The database cannot be queried, or a revocation cannot be parsed.
    pub(super) async fn revocations_after(
        &self,
        number: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Revocation)>, StoreError> {
        let rows = self.run(async move |pool| {
            let select = "SELECT number, record FROM countersign_revocation WHERE number > $1
                          ORDER BY number LIMIT $2";
            let rows = sqlx::query(select).bind(number).bind(i64::from(limit));
            let row = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?));
            Ok(rows.fetch_all(&pool).await?.iter().map(row).collect::<sqlx::Result<Vec<_>>>()?)
        });
        let parsed = |(number, record): (i64, String)| {
            let revocation = parse_record(&record).map_err(|reason| {
                StoreError::Unavailable(format!("cannot parse the revocation {number}: {reason}"))
            });
            Ok((number, revocation?))
        };
        rows.await?.into_iter().map(parsed).collect()
    }
}

/// Whether rows that were read from `last` on belong to the same table: they begin with that row.
fn continues(last: Option<&StoredRow>, rows: &[StoredRow]) -> bool {
    last.is_none_or(|last| rows.first() == Some(last))
}

/// Reads on from a row. The table lock blocks the appends of other nodes until the transaction
/// ends, so that numbers become visible in ascending order.
async fn read_on(
    kind: DatabaseKind,
    transaction: &mut Transaction<'static, Any>,
    from: i64,
) -> sqlx::Result<Vec<StoredRow>> {
    if kind == DatabaseKind::Postgres {
        let lock = sqlx::query("LOCK TABLE countersign_revocation IN SHARE ROW EXCLUSIVE MODE");
        lock.execute(&mut **transaction).await?;
    }
    sqlx::query(select!()).bind(from).fetch_all(&mut **transaction).await?.iter().map(row).collect()
}

/// Inserts one row for each record and its end. Returns the last one.
async fn insert(
    transaction: &mut Transaction<'static, Any>,
    records: &[(String, Option<i64>)],
) -> sqlx::Result<Option<StoredRow>> {
    let place = |place: usize| format!("(${}, ${})", 2 * place + 1, 2 * place + 2);
    let places: Vec<_> = (0..records.len()).map(place).collect();
    let insert = format!(
        "INSERT INTO countersign_revocation (record, until) VALUES {} \
         RETURNING number, record, (SELECT id FROM countersign_database)",
        places.join(", ")
    );
    // Safe: the text consists of placeholders. There are many such texts, so they are not cached.
    let mut insert = sqlx::query(AssertSqlSafe(insert)).persistent(false);
    for (record, until) in records {
        insert = insert.bind(record).bind(*until);
    }
    let rows = insert.fetch_all(&mut **transaction).await?;
    let rows = rows.iter().map(row).collect::<sqlx::Result<Vec<_>>>()?;
    Ok(rows.into_iter().max_by_key(|row| row.number))
}

fn row(row: &AnyRow) -> sqlx::Result<StoredRow> {
    Ok(StoredRow { number: row.try_get(0)?, record: row.try_get(1)?, database: row.try_get(2)? })
}

/// Maps an error to the kinds of [`RevocationStore::read_new`]. With
/// [`io::ErrorKind::NotConnected`], the writer continues with the last known revocations. The
/// details of a shared database are only logged.
pub(super) fn store_error(error: StoreError) -> io::Error {
    match error {
        StoreError::File(kind, reason) => io::Error::new(kind, reason),
        StoreError::Schema(reason) => io::Error::new(io::ErrorKind::NotConnected, reason),
        StoreError::Pooler => io::Error::new(io::ErrorKind::NotConnected, error.to_string()),
        error => {
            tracing::debug!("{error}");
            io::Error::new(io::ErrorKind::NotConnected, "the database does not answer")
        }
    }
}

/// Returns the record of a revocation, and its end.
pub(crate) fn to_row(revocation: &Revocation) -> io::Result<(String, Option<i64>)> {
    let record = serde_json::to_string(&RevocationRecord::from(revocation))?;
    Ok((record, revocation.until.map(moment)))
}

/// Parses a stored record.
pub(super) fn parse_record(record: &str) -> Result<Revocation, String> {
    serde_json::from_str::<RevocationRecord>(record)
        .map_err(|error| json_error(&error))?
        .into_revocation()
}
