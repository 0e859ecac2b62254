//! Revocations in the database, for nodes that share one: each reads on from where it
//! was.

use std::{collections::HashSet, io, mem};

use countersign_engine::Revocation;
use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{DatabaseKind, Store, StoreError};
use crate::revocation::{RevocationStore, record::RevocationRecord};

/// The revocations of a database.
pub struct DatabaseRevocations {
    store: Store,
    /// Others that were kept elsewhere before.
    inherited: Vec<Revocation>,
    /// The number of the last that was read.
    last: i64,
    /// How many there are, as far as they were read.
    records: usize,
}

/// How many are read, or removed, at a time.
const PAGE_ROWS: i64 = 10_000;

impl DatabaseRevocations {
    /// Those of this database, of which none was read, and those that were kept elsewhere
    /// before.
    #[must_use]
    pub fn new(store: Store, inherited: Vec<Revocation>) -> Self {
        Self { store, inherited, last: 0, records: 0 }
    }

    /// What these rows say; all of them, or nothing was read.
    fn advance(&mut self, rows: &[(i64, String)]) -> io::Result<Vec<Revocation>> {
        let read = rows.iter().map(|(number, record)| {
            parse_record(record).map_err(|reason| {
                let text = format!(
                    "the revocation {number} in {} cannot be read: {reason}",
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

    /// The rows behind a number.
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

    /// Rows that say what is kept stay; what is kept in no row is written, as two rows
    /// may have become one revocation; then all others go, a part at a time.
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

/// What others have appended. Nobody else appends until the transaction is over, so that
/// numbers become visible in order.
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

/// A database that is away for a while held nothing that is not known. What is wrong in
/// particular is for the log alone.
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
