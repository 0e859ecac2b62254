//! Revocations in the database, for nodes that share one: each reads on from where it
//! was.

use std::{collections::HashSet, io};

use countersign_engine::Revocation;
use sqlx::{Any, Row as _, Transaction};

use super::{Kind, Store, StoreFault};
use crate::revocation::{RevocationStore, record::Record};

/// The revocations of a database.
pub struct Ledger {
    store: Store,
    /// The number of the last that was read.
    last: i64,
    /// How many there are, as far as they were read.
    records: usize,
}

impl Ledger {
    /// Those of this database, of which none was read.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, last: 0, records: 0 }
    }

    fn note(&mut self, rows: Vec<(i64, String)>) -> io::Result<Vec<Revocation>> {
        let mut revocations = Vec::with_capacity(rows.len());
        for (number, record) in rows {
            revocations.push(meaning(&record).map_err(|reason| {
                let text = format!("the revocation {number} in {} cannot be read: {reason}", self.store.place());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?);
            (self.last, self.records) = (self.last.max(number), self.records + 1);
        }
        Ok(revocations)
    }
}

impl RevocationStore for Ledger {
    fn read_new(&mut self) -> io::Result<Option<Vec<Revocation>>> {
        let last = self.last;
        let new = self.store.run(async move |pool| {
            let new = sqlx::query("SELECT number, record FROM countersign_revocation WHERE number > $1 ORDER BY number");
            let rows = new.bind(last).fetch_all(&pool).await?;
            Ok(rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<sqlx::Result<Vec<_>>>()?)
        });
        let rows = self.store.block_on(new).map_err(gone)?;
        self.note(rows).map(Some)
    }

    fn append(&mut self, revocations: &[Revocation]) -> io::Result<Vec<Revocation>> {
        let (last, kind) = (self.last, self.store.kind());
        let records = revocations.iter().map(written).collect::<io::Result<Vec<_>>>()?;
        let count = records.len();
        let appended = self.store.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let others = read_behind(kind, &mut transaction, last).await?;
            let mut newest = last;
            for record in records {
                let number = sqlx::query_scalar("INSERT INTO countersign_revocation (record) VALUES ($1) RETURNING number");
                newest = number.bind(record).fetch_one(&mut *transaction).await?;
            }
            if kind == Kind::Postgres {
                sqlx::query("SELECT pg_notify('countersign_revocation', '')").execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            Ok((others, newest))
        });
        let (others, newest) = self.store.block_on(appended).map_err(io::Error::other)?;
        let others = self.note(others)?;
        (self.last, self.records) = (newest, self.records + count);
        Ok(others)
    }

    fn records(&self) -> usize {
        self.records
    }

    fn rewrite(&mut self, keep: &mut dyn FnMut(Vec<Revocation>) -> Vec<Revocation>) -> io::Result<()> {
        let new = self.read_new()?.unwrap_or_default();
        let kept = keep(new).iter().map(written).collect::<io::Result<HashSet<_>>>()?;
        let (last, kind) = (self.last, self.store.kind());
        let rewritten = self.store.run(async move |pool| {
            let mut transaction = kind.begin(&pool).await?;
            let all = sqlx::query("SELECT number, record FROM countersign_revocation WHERE number <= $1 ORDER BY number");
            let (mut seen, mut left) = (HashSet::new(), 0);
            for row in all.bind(last).fetch_all(&mut *transaction).await? {
                let (number, record): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
                if kept.contains(&record) && seen.insert(record) {
                    left += 1;
                } else {
                    let over = sqlx::query("DELETE FROM countersign_revocation WHERE number = $1").bind(number);
                    over.execute(&mut *transaction).await?;
                }
            }
            transaction.commit().await?;
            Ok(left)
        });
        self.records = self.store.block_on(rewritten).map_err(io::Error::other)?;
        Ok(())
    }
}

/// What others have appended. Nobody else appends until the transaction is over, so that
/// numbers become visible in order.
async fn read_behind(kind: Kind, transaction: &mut Transaction<'static, Any>, last: i64) -> sqlx::Result<Vec<(i64, String)>> {
    if kind == Kind::Postgres {
        let lock = sqlx::query("LOCK TABLE countersign_revocation IN SHARE ROW EXCLUSIVE MODE");
        lock.execute(&mut **transaction).await?;
    }
    let others = sqlx::query("SELECT number, record FROM countersign_revocation WHERE number > $1 ORDER BY number");
    let rows = others.bind(last).fetch_all(&mut **transaction).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// A database that is away for a while held nothing that is not known.
fn gone(fault: StoreFault) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, fault.to_string())
}

fn written(revocation: &Revocation) -> io::Result<String> {
    Ok(serde_json::to_string(&Record::from(revocation))?)
}

fn meaning(record: &str) -> Result<Revocation, String> {
    serde_json::from_str::<Record>(record).map_err(|error| error.to_string())?.meaning()
}
