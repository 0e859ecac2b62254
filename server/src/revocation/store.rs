//! Durable storage of revocations: a table of the SQLite or PostgreSQL database.
//!
//! Rows have ascending numbers. Each process reads the rows after the last number it has seen.

use std::{collections::HashSet, io, mem, path::PathBuf};

use countersign_engine::Revocation;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction, any::AnyRow};

use super::{
    import::{import_journal, with_path},
    record::RevocationRecord,
};
use crate::{
    base::redacted::json_error,
    store::{DatabaseKind, Store, StoreError, sqlite},
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
    /// Number of the last row that was read.
    last: i64,
    /// Number of rows that were read.
    records: usize,
}

/// Number of rows read by one query.
const PAGE_ROWS: i64 = 10_000;
/// Number of rows written or deleted by one statement.
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
            last: 0,
            records: 0,
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

    /// Reads what any process has appended since the last call. The first call, and the first
    /// one after a damaged row, reads everything. Returns `None` if another process keeps the
    /// database locked.
    ///
    /// # Errors
    /// The store cannot be read completely. No token may then be accepted as if it had been:
    /// unread revocations would be ignored. [`io::ErrorKind::NotFound`] if a file that was read
    /// before is missing, [`io::ErrorKind::NotConnected`] if the database is unreachable.
    pub fn read_new(&mut self) -> io::Result<Option<Vec<Revocation>>> {
        let before = (self.last, self.records);
        match self.read_pages() {
            Ok(mut new) => {
                new.append(&mut self.inherited);
                Ok(Some(new))
            }
            Err(error) => {
                // Pages before the error were read, but are not returned: read them again.
                let is_damaged = error.kind() == io::ErrorKind::InvalidData;
                (self.last, self.records) = if is_damaged { (0, 0) } else { before };
                if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Appends `revocations`; they are durable when this returns. Returns what other processes
    /// have appended since the last read.
    ///
    /// # Errors
    /// The revocations are not stored.
    pub fn append(&mut self, revocations: &[Revocation]) -> io::Result<Vec<Revocation>> {
        self.open()?;
        let (last, kind) = (self.last, self.store.kind());
        let records = revocations.iter().map(to_json).collect::<io::Result<Vec<_>>>()?;
        let count = records.len();
        let appended = self.store.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let others = read_after(kind, &mut transaction, last).await?;
            let mut newest = others.last().map_or(last, |row| row.0);
            for batch in records.chunks(BATCH_ROWS) {
                newest = insert(&mut transaction, batch).await?;
            }
            if kind == DatabaseKind::Postgres {
                sqlx::query("SELECT pg_notify('countersign_revocation', '')")
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            Ok((others, newest))
        });
        let (others, newest) = self.store.block_on(appended).map_err(store_error)?;
        let others = self.advance(&others)?;
        (self.last, self.records) = (newest, self.records + count);
        Ok(others)
    }

    /// Returns the number of stored records, including expired and duplicate ones.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Replaces the contents by what `keep` returns. `keep` receives the records of other
    /// processes that this one has not read yet.
    ///
    /// Rows of kept revocations stay. Kept revocations without a row are appended, because two
    /// rows may have been merged to one revocation. All other rows are then deleted in batches.
    ///
    /// # Errors
    /// The database cannot be queried. Then all kept revocations are still stored.
    pub fn rewrite(
        &mut self,
        keep: &mut dyn FnMut(Vec<Revocation>) -> Vec<Revocation>,
    ) -> io::Result<()> {
        let new = self.read_new()?.unwrap_or_default();
        let mut missing = keep(new).iter().map(to_json).collect::<io::Result<HashSet<_>>>()?;
        let (mut after, mut expired) = (0, Vec::new());
        loop {
            let page = self.page(after).map_err(store_error)?;
            let Some((last, _)) = page.last().filter(|(first, _)| *first <= self.last) else {
                break;
            };
            after = *last;
            expired.extend(
                page.into_iter()
                    .filter(|(number, record)| *number <= self.last && !missing.remove(record)),
            );
        }
        let kept = self.records.saturating_sub(expired.len());
        let missing =
            missing.into_iter().map(|record| parse_record(&record)).collect::<Result<Vec<_>, _>>();
        let (missing, written) = (missing.map_err(io::Error::other)?, self.records);
        if !missing.is_empty() {
            self.append(&missing)?;
        }
        let written = self.records - written;
        for part in expired.chunks(BATCH_ROWS) {
            let numbers: Vec<_> = part.iter().map(|(number, _)| *number).collect();
            let removed = self.store.run(async move |pool| {
                let mut transaction = pool.begin().await?;
                for number in numbers {
                    let expired =
                        sqlx::query("DELETE FROM countersign_revocation WHERE number = $1")
                            .bind(number);
                    expired.execute(&mut *transaction).await?;
                }
                Ok(transaction.commit().await?)
            });
            self.store.block_on(removed).map_err(store_error)?;
        }
        self.records = kept + written;
        Ok(())
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
            let page = self.page(self.last).map_err(store_error)?;
            new.extend(self.advance(&page)?);
            if page.len() < usize::try_from(PAGE_ROWS).unwrap_or(usize::MAX) {
                return Ok(new);
            }
        }
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
        if mem::replace(&mut self.generation, generation) != generation {
            (self.last, self.records) = (0, 0);
        }
        Ok(())
    }

    /// Parses rows and advances the position. After an error the position is reset, so that the
    /// next read starts over.
    fn advance(&mut self, rows: &[(i64, String)]) -> io::Result<Vec<Revocation>> {
        let read = rows.iter().map(|(number, record)| {
            parse_record(record).map_err(|reason| {
                let text = format!(
                    "cannot parse the revocation {number} in {}: {reason}",
                    self.store.location()
                );
                io::Error::new(io::ErrorKind::InvalidData, text)
            })
        });
        let read: io::Result<Vec<_>> = read.collect();
        match read {
            Ok(_) => {
                (self.last, self.records) =
                    (rows.last().map_or(self.last, |row| row.0), self.records + rows.len())
            }
            Err(_) => (self.last, self.records) = (0, 0),
        }
        read
    }

    /// Reads a page of rows after a number.
    fn page(&self, after: i64) -> Result<Vec<(i64, String)>, StoreError> {
        let page = self.store.run(async move |pool| {
            let rows =
                sqlx::query("SELECT number, record FROM countersign_revocation WHERE number > $1 ORDER BY number LIMIT $2");
            Ok(rows.bind(after).bind(PAGE_ROWS).fetch_all(&pool).await?.iter().map(row).collect::<sqlx::Result<Vec<_>>>()?)
        });
        self.store.block_on(page)
    }
}

/// Reads what other nodes have appended. The table lock blocks their appends until the
/// transaction ends, so that numbers become visible in ascending order.
async fn read_after(
    kind: DatabaseKind,
    transaction: &mut Transaction<'static, Any>,
    last: i64,
) -> sqlx::Result<Vec<(i64, String)>> {
    if kind == DatabaseKind::Postgres {
        let lock = sqlx::query("LOCK TABLE countersign_revocation IN SHARE ROW EXCLUSIVE MODE");
        lock.execute(&mut **transaction).await?;
    }
    let others = sqlx::query(
        "SELECT number, record FROM countersign_revocation WHERE number > $1 ORDER BY number",
    );
    others.bind(last).fetch_all(&mut **transaction).await?.iter().map(row).collect()
}

/// Inserts one row for each record. Returns the number of the last one.
async fn insert(
    transaction: &mut Transaction<'static, Any>,
    records: &[String],
) -> sqlx::Result<i64> {
    let places: Vec<_> = (1..=records.len()).map(|place| format!("(${place})")).collect();
    let insert = format!(
        "INSERT INTO countersign_revocation (record) VALUES {} RETURNING number",
        places.join(", ")
    );
    // Safe: the text consists of placeholders. There are many such texts, so they are not cached.
    let mut insert = sqlx::query_scalar(AssertSqlSafe(insert)).persistent(false);
    for record in records {
        insert = insert.bind(record);
    }
    let numbers: Vec<i64> = insert.fetch_all(&mut **transaction).await?;
    numbers.into_iter().max().ok_or(sqlx::Error::RowNotFound)
}

fn row(row: &AnyRow) -> sqlx::Result<(i64, String)> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Maps an error to the kinds of [`RevocationStore::read_new`]. With
/// [`io::ErrorKind::NotConnected`], the writer continues with the last known revocations. The
/// details of a shared database are only logged.
fn store_error(error: StoreError) -> io::Error {
    match error {
        StoreError::File(kind, reason) => io::Error::new(kind, reason),
        StoreError::Schema(reason) => io::Error::new(io::ErrorKind::NotConnected, reason),
        error => {
            tracing::debug!("{error}");
            io::Error::new(io::ErrorKind::NotConnected, "the database does not answer")
        }
    }
}

fn to_json(revocation: &Revocation) -> io::Result<String> {
    Ok(serde_json::to_string(&RevocationRecord::from(revocation))?)
}

fn parse_record(record: &str) -> Result<Revocation, String> {
    serde_json::from_str::<RevocationRecord>(record)
        .map_err(|error| json_error(&error))?
        .into_revocation()
}
