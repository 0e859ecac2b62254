//! Which database this is, and how far it has come, to recognize another one or an older copy.

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

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
        self.run(async move |pool| Ok(Some(read(kind, &mut *pool.acquire().await?).await?))).await
    }

    /// Returns the identity without a migration of the schema, and without keeping the database
    /// open.
    ///
    /// # Errors
    /// The database cannot be queried, or its schema is of another version.
    pub(crate) async fn peek_identity(&self) -> Result<Option<DatabaseIdentity>, StoreError> {
        if !self.exists()? {
            return Ok(None);
        }
        let mut connection = self.connect().await?;
        let identity = read(self.kind(), &mut connection).await?;
        connection.close().await?;
        Ok(Some(identity))
    }

    /// Returns the number of the newest row of a table; `None` for an SQLite file that does not
    /// exist.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub(crate) async fn newest(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<Option<i64>, StoreError> {
        if !self.exists()? {
            return Ok(None);
        }
        self.run(async move |pool| {
            let newest = newest(table, column);
            Ok(Some(sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(&pool).await?))
        })
        .await
    }

    /// Records that this database continues the one with an id.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub(crate) async fn add_predecessor(&self, id: String) -> Result<(), StoreError> {
        self.run(async move |pool| {
            let add = "INSERT INTO countersign_predecessor (id) VALUES ($1) ON CONFLICT DO NOTHING";
            sqlx::query(add).bind(id).execute(&pool).await?;
            Ok(())
        })
        .await
    }

    /// Returns the record and the end of the revocation with a number.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub async fn revocation_row(
        &self,
        number: i64,
    ) -> Result<Option<(String, Option<i64>)>, StoreError> {
        self.run(async move |pool| {
            let row = "SELECT record, until FROM countersign_revocation WHERE number = $1";
            Ok(sqlx::query_as(row).bind(number).fetch_optional(&pool).await?)
        })
        .await
    }
}

async fn read(
    kind: DatabaseKind,
    connection: &mut AnyConnection,
) -> sqlx::Result<DatabaseIdentity> {
    let id = sqlx::query_scalar("SELECT id FROM countersign_database");
    let predecessors = sqlx::query_scalar("SELECT id FROM countersign_predecessor ORDER BY id");
    Ok(DatabaseIdentity {
        id: id.fetch_one(&mut *connection).await?,
        predecessors: predecessors.fetch_all(&mut *connection).await?,
        events: row_numbers(kind, &mut *connection, "countersign_audit", "id").await?,
        revocations: row_numbers(kind, connection, "countersign_revocation", "number").await?,
    })
}

fn newest(table: &str, column: &str) -> String {
    format!("SELECT COALESCE(MAX({column}), 0) FROM {table}")
}

async fn row_numbers(
    kind: DatabaseKind,
    connection: &mut AnyConnection,
    table: &str,
    column: &str,
) -> sqlx::Result<RowNumbers> {
    let newest = newest(table, column);
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
        newest: sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(&mut *connection).await?,
        assigned: sqlx::query_scalar(AssertSqlSafe(assigned)).fetch_one(connection).await?,
    })
}
