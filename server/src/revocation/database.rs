//! Storage of revocations in the database, for nodes that share one.
//!
//! Rows have ascending numbers. Each node reads the rows after the last number it has seen.

use std::{collections::HashSet, io, mem};

use countersign_engine::Revocation;
use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{RevocationStore, record::RevocationRecord};
use crate::store::{DatabaseKind, Store, StoreError};

/// The revocations of a database, as a [`RevocationStore`].
pub struct DatabaseRevocations {
    store: Store,
    /// Revocations from the journal file that was used before.
    inherited: Vec<Revocation>,
    /// Number of the last row that was read.
    last: i64,
    /// Number of rows that were read.
    records: usize,
}

/// Number of rows read by one query.
const PAGE_ROWS: i64 = 10_000;

impl DatabaseRevocations {
    /// Creates the store for this database, with the revocations inherited from a journal file.
    #[must_use]
    pub fn new(store: Store, inherited: Vec<Revocation>) -> Self {
        Self { store, inherited, last: 0, records: 0 }
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

impl RevocationStore for DatabaseRevocations {
    fn read_new(&mut self) -> io::Result<Option<Vec<Revocation>>> {
        let mut new = Vec::new();
        loop {
            let page = self.page(self.last).map_err(unavailable)?;
            new.extend(self.advance(&page)?);
            if page.len() < usize::try_from(PAGE_ROWS).unwrap_or(usize::MAX) {
                break;
            }
        }
        new.append(&mut mem::take(&mut self.inherited));
        Ok(Some(new))
    }

    fn append(&mut self, revocations: &[Revocation]) -> io::Result<Vec<Revocation>> {
        let (last, kind) = (self.last, self.store.kind());
        let records = revocations.iter().map(to_json).collect::<io::Result<Vec<_>>>()?;
        let count = records.len();
        let appended = self.store.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let others = read_after(kind, &mut transaction, last).await?;
            let mut newest = last;
            for record in records {
                newest = insert(&mut transaction, record).await?;
            }
            if kind == DatabaseKind::Postgres {
                sqlx::query("SELECT pg_notify('countersign_revocation', '')")
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            Ok((others, newest))
        });
        let (others, newest) = self.store.block_on(appended).map_err(unavailable)?;
        let others = self.advance(&others)?;
        (self.last, self.records) = (newest, self.records + count);
        Ok(others)
    }

    fn records(&self) -> usize {
        self.records
    }

    /// Rows of kept revocations stay. Kept revocations without a row are appended, because two
    /// rows may have been merged to one revocation. All other rows are then deleted in batches.
    fn rewrite(
        &mut self,
        keep: &mut dyn FnMut(Vec<Revocation>) -> Vec<Revocation>,
    ) -> io::Result<()> {
        let new = self.read_new()?.unwrap_or_default();
        let mut missing = keep(new).iter().map(to_json).collect::<io::Result<HashSet<_>>>()?;
        let (mut after, mut expired) = (0, Vec::new());
        loop {
            let page = self.page(after).map_err(unavailable)?;
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
        for part in expired.chunks(1000) {
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
            self.store.block_on(removed).map_err(unavailable)?;
        }
        self.records = kept + written;
        Ok(())
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

async fn insert(transaction: &mut Transaction<'static, Any>, record: String) -> sqlx::Result<i64> {
    let number = sqlx::query_scalar(
        "INSERT INTO countersign_revocation (record) VALUES ($1) RETURNING number",
    );
    number.bind(record).fetch_one(&mut **transaction).await
}

fn row(row: &AnyRow) -> sqlx::Result<(i64, String)> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Maps a database error to [`io::ErrorKind::NotConnected`], with which the writer continues
/// with the last known revocations. The details are only logged.
fn unavailable(fault: StoreError) -> io::Error {
    tracing::debug!("{fault}");
    io::Error::new(io::ErrorKind::NotConnected, "the database does not answer")
}

fn to_json(revocation: &Revocation) -> io::Result<String> {
    Ok(serde_json::to_string(&RevocationRecord::from(revocation))?)
}

fn parse_record(record: &str) -> Result<Revocation, String> {
    serde_json::from_str::<RevocationRecord>(record)
        .map_err(|error| error.to_string())?
        .into_revocation()
}
