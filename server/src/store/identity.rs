//! Which database this is, and how far it has come, to recognize another one or an older copy.

use sqlx::{AnyPool, AssertSqlSafe};

use super::{DatabaseKind, Store, StoreError};

/// Identity of a database, and the numbers of its newest rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseIdentity {
    /// Its id.
    pub id: String,
    /// Ids of databases that it continues after a restore.
    pub predecessors: Vec<String>,
    /// Numbers of audit events.
    pub events: RowNumbers,
    /// Numbers of revocations.
    pub revocations: RowNumbers,
}

/// Numbers of the rows of a table that are assigned in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowNumbers {
    /// Number of the newest row; 0 without rows.
    pub newest: i64,
    /// Number that was assigned last, also of a row that was deleted.
    pub assigned: i64,
}

impl Store {
    /// Returns the identity of the database; `None` for an SQLite file that does not exist.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn identity(&self) -> Result<Option<DatabaseIdentity>, StoreError> {
        if !self.exists()? {
            return Ok(None);
        }
        let kind = self.kind();
        self.run(async move |pool| {
            let id = sqlx::query_scalar("SELECT id FROM countersign_database");
            let predecessors =
                sqlx::query_scalar("SELECT id FROM countersign_predecessor ORDER BY id");
            Ok(Some(DatabaseIdentity {
                id: id.fetch_one(&pool).await?,
                predecessors: predecessors.fetch_all(&pool).await?,
                events: row_numbers(kind, &pool, "countersign_audit", "id").await?,
                revocations: row_numbers(kind, &pool, "countersign_revocation", "number").await?,
            }))
        })
        .await
    }

    /// Returns the record of the revocation with a number.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn revocation_record(&self, number: i64) -> Result<Option<String>, StoreError> {
        self.run(async move |pool| {
            let record = "SELECT record FROM countersign_revocation WHERE number = $1";
            Ok(sqlx::query_scalar(record).bind(number).fetch_optional(&pool).await?)
        })
        .await
    }
}

async fn row_numbers(
    kind: DatabaseKind,
    pool: &AnyPool,
    table: &str,
    column: &str,
) -> sqlx::Result<RowNumbers> {
    let newest = format!("SELECT COALESCE(MAX({column}), 0) FROM {table}");
    let assigned = match kind {
        DatabaseKind::Sqlite => {
            format!("SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = '{table}'), 0)")
        }
        DatabaseKind::Postgres => format!(
            "SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence('{table}', \
             '{column}')::regclass), 0)"
        ),
    };
    Ok(RowNumbers {
        newest: sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(pool).await?,
        assigned: sqlx::query_scalar(AssertSqlSafe(assigned)).fetch_one(pool).await?,
    })
}
