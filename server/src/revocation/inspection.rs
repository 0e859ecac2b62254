//! Inspection of stored revocations, also of a damaged table.
//!
//! A server that cannot read every revocation answers no token. The inspection reads every
//! readable row and describes the others, for [`repair`](super::repair).

use std::{fmt, io, path::Path};

use countersign_engine::Revocation;
use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, Connection as _, Row as _, any::AnyRow};

use super::{
    import::{import_journal, is_journal},
    store::{parse_record, store_error},
};
use crate::store::{DatabaseKind, Store, StoreError, moment, transfer::refuse_backup};

/// Contents of a table of revocations, and its problems.
#[derive(Debug, Default)]
pub struct RevocationInspection {
    /// The revocations that can be read, in their order.
    pub revocations: Vec<Revocation>,
    /// The problems.
    pub problems: Vec<RevocationProblem>,
}

/// A problem of a table of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationProblem {
    /// The file is damaged, as SQLite describes it.
    File(String),
    /// The row with this number cannot be read.
    Unreadable(i64),
    /// The record of a row is not a revocation.
    Record {
        /// Number of the row.
        number: i64,
        /// Its record.
        record: String,
        /// The mistake in it.
        reason: String,
    },
    /// A row would be deleted at another time than its revocation ends.
    End {
        /// Number of the row.
        number: i64,
        /// End of the revocation.
        end: Option<i64>,
    },
    /// The newest rows are missing, which are never deleted.
    Missing {
        /// Number of the newest row.
        newest: i64,
        /// Number that was assigned last.
        assigned: i64,
    },
    /// The database lacks what a server knew; with the difference.
    Lost(String),
}

impl RevocationProblem {
    /// Whether revocations may be lost.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        !matches!(self, Self::End { .. })
    }
}

impl fmt::Display for RevocationProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(reason) => write!(f, "the file is damaged: {reason}"),
            Self::Unreadable(number) => write!(f, "the revocation {number} cannot be read"),
            Self::Record { number, reason, .. } => {
                write!(f, "cannot parse the revocation {number}: {reason}")
            }
            Self::Lost(difference) => f.write_str(difference),
            Self::End { number, .. } => {
                write!(f, "the revocation {number} would be deleted at a wrong time")
            }
            Self::Missing { newest, assigned } => write!(
                f,
                "the newest revocations are missing: number {assigned} was assigned, and the last \
                 one is {newest}"
            ),
        }
    }
}

/// Reads all revocations of a database as far as possible. Imports a journal of an earlier version.
///
/// # Errors
/// The database is unreachable or locked, its schema is of an earlier version, or it is a backup.
pub fn inspect(store: &Store) -> io::Result<RevocationInspection> {
    if store.kind() == DatabaseKind::Sqlite {
        let file = Path::new(store.location());
        if is_journal(file) {
            import_journal(file)?;
        }
    }
    store.block_on(async { read_all(store).await }).map_err(store_error)
}

async fn read_all(store: &Store) -> Result<RevocationInspection, StoreError> {
    let mut inspection = RevocationInspection::default();
    if let Err(error) = inspection.read(store).await {
        match error {
            StoreError::File(io::ErrorKind::InvalidData, reason) => {
                // Without the remedy.
                let reason = reason.split(';').next().unwrap_or_default();
                inspection.add(RevocationProblem::File(reason.to_owned()));
            }
            error => return Err(error),
        }
    }
    Ok(inspection)
}

impl RevocationInspection {
    /// Whether the table is in order.
    #[must_use]
    pub const fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether the file is damaged, so that it has to be written anew.
    #[must_use]
    pub fn is_file_damaged(&self) -> bool {
        self.problems.iter().any(|problem| {
            matches!(problem, RevocationProblem::File(_) | RevocationProblem::Unreadable(_))
        })
    }

    fn add(&mut self, problem: RevocationProblem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    async fn read(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut connection = store.connect().await?;
        if store.kind() == DatabaseKind::Sqlite {
            refuse_backup(&mut connection, store.location()).await?;
            self.check_file(&mut connection).await?;
            if !has_table(&mut connection).await? {
                let reason = "it has no table of revocations";
                self.add(RevocationProblem::File(reason.into()));
                return Ok(connection.close().await?);
            }
        }
        if self.read_table(&mut connection).await.is_err() {
            let reason = "its rows cannot be read in sequence";
            self.add(RevocationProblem::File(reason.into()));
            self.revocations.clear();
            self.problems.retain(|problem| matches!(problem, RevocationProblem::File(_)));
            self.read_each(&mut connection).await?;
        }
        if store.kind() == DatabaseKind::Sqlite {
            self.check_newest(&mut connection).await?;
        }
        Ok(connection.close().await?)
    }

    async fn check_file(&mut self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let checks: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(5)").fetch_all(connection).await?;
        for reason in checks.into_iter().filter(|reason| reason != "ok") {
            self.add(RevocationProblem::File(reason));
        }
        Ok(())
    }

    async fn read_table(&mut self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let select = "SELECT number, record, until FROM countersign_revocation ORDER BY number";
        let mut rows = sqlx::query(select).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            self.read_row(&row)?;
        }
        Ok(())
    }

    /// Reads rows one by one, so that a damaged page hides only its own.
    async fn read_each(&mut self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let assigned = assigned(connection).await?;
        for number in 1..=assigned {
            let select =
                "SELECT number, record, until FROM countersign_revocation WHERE number = $1";
            match sqlx::query(select).bind(number).fetch_optional(&mut *connection).await {
                // It ended, and was deleted.
                Ok(None) => {}
                Ok(Some(row)) => self.read_row(&row)?,
                Err(_) => self.add(RevocationProblem::Unreadable(number)),
            }
        }
        Ok(())
    }

    fn read_row(&mut self, row: &AnyRow) -> Result<(), StoreError> {
        let number: i64 = row.try_get(0)?;
        let Ok(record) = row.try_get::<String, _>(1) else {
            self.add(RevocationProblem::Unreadable(number));
            return Ok(());
        };
        match parse_record(&record) {
            Ok(revocation) => {
                let end = revocation.until.map(moment);
                if row.try_get::<Option<i64>, _>(2).ok() != Some(end) {
                    self.problems.push(RevocationProblem::End { number, end });
                }
                self.revocations.push(revocation);
            }
            Err(reason) => {
                self.problems.push(RevocationProblem::Record { number, record, reason });
            }
        }
        Ok(())
    }

    async fn check_newest(&mut self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let assigned = assigned(connection).await?;
        let newest = "SELECT COALESCE(MAX(number), 0) FROM countersign_revocation";
        let Ok(newest) = sqlx::query_scalar::<_, i64>(newest).fetch_one(connection).await else {
            return Ok(());
        };
        if newest < assigned {
            self.add(RevocationProblem::Missing { newest, assigned });
        }
        Ok(())
    }
}

async fn has_table(connection: &mut AnyConnection) -> Result<bool, StoreError> {
    let table = "SELECT 1 FROM sqlite_master WHERE name = 'countersign_revocation'";
    Ok(sqlx::query(table).fetch_optional(connection).await?.is_some())
}

/// Returns the number that an SQLite database assigned last.
async fn assigned(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    let assigned = "SELECT seq FROM sqlite_sequence WHERE name = 'countersign_revocation'";
    let assigned = sqlx::query_scalar(assigned).fetch_optional(connection).await?;
    Ok(assigned.unwrap_or(0))
}
