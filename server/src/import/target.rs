//! The database here, which is read and written in one transaction.

use std::collections::HashMap;

use countersign_engine::Revocation;
use sqlx::{
    Any, AnyConnection, AssertSqlSafe, Connection as _, Row as _, any::AnyArguments, query::Query,
};

use super::{
    ImportError, ImportSettings,
    plan::{ExistingContents, ExistingUser, ImportInsert, ImportPlan, ImportUpdate, ImportValue},
    source::EnvironmentValues,
};
use crate::{
    backup::ServerDatabases,
    revocation::store::to_row,
    store::{DatabaseKind, Store, StoreError, migrations, transfer::execute},
};

/// Rows of one INSERT.
const BATCH_ROWS: usize = 500;

/// Reads a database without a migration of its schema. One that does not exist has no contents.
pub(super) async fn read_if_current(store: &Store) -> Result<ExistingContents, ImportError> {
    if !store.exists()? {
        return Ok(ExistingContents::default());
    }
    let mut connection = store.connect().await?;
    let (applied, latest) = (migrations::applied(&mut connection).await?, migrations::latest());
    let existing = match applied {
        0 => ExistingContents::default(),
        _ if applied == latest => read(&mut connection).await?,
        _ => {
            return Err(ImportError::Refused(format!(
                "the database {} has schema version {applied}, and this program needs {latest}\n  \
                 help: run countersign database migrate first",
                store.location()
            )));
        }
    };
    connection.close().await?;
    Ok(existing)
}

/// Checks that the revocations of a plan fit into the memory of the servers.
pub(super) async fn check_capacity(
    databases: &ServerDatabases,
    plan: &ImportPlan,
    settings: &ImportSettings,
) -> Result<(), ImportError> {
    let store = databases.revocations.as_ref().unwrap_or(&databases.main);
    let mut stored = 0;
    if store.exists()? {
        let mut connection = store.connect().await?;
        if migrations::applied(&mut connection).await? > 0 {
            let count = "SELECT count(*) FROM countersign_revocation";
            stored = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut connection).await?;
        }
        connection.close().await?;
    }
    let needed = usize::try_from(stored).unwrap_or(0) + plan.revocations.len();
    if plan.revocations.is_empty() || needed <= settings.revocation_capacity {
        return Ok(());
    }
    Err(ImportError::Refused(format!(
        "there would be {needed} revocations, and the servers hold {} at most\n  help: raise \
         capacity in [revocation], and restart the servers",
        settings.revocation_capacity
    )))
}

/// The transaction of an import.
pub(super) struct ImportTransaction {
    connection: AnyConnection,
    kind: DatabaseKind,
}

impl ImportTransaction {
    /// Opens the database, migrates its schema if the configuration allows it, and begins a
    /// transaction that excludes other writers of the same tables.
    pub(super) async fn begin(store: &Store) -> Result<Self, ImportError> {
        store.open().await?;
        let mut transaction =
            Self { connection: store.connect_to_write().await?, kind: store.kind() };
        if store.kind() == DatabaseKind::Postgres {
            for statement in [
                // If this process stops within the transaction, its locks must not block others.
                "SET LOCAL idle_in_transaction_session_timeout = '30s'",
                "SET LOCAL lock_timeout = '10s'",
                "LOCK TABLE countersign_user, countersign_role, countersign_project, \
                 countersign_environment, countersign_role_assignment, countersign_token, \
                 countersign_import IN SHARE ROW EXCLUSIVE MODE",
            ] {
                execute(&mut transaction.connection, statement).await?;
            }
        }
        Ok(transaction)
    }

    pub(super) async fn existing(&mut self) -> Result<ExistingContents, ImportError> {
        read(&mut self.connection).await
    }

    pub(super) async fn write(&mut self, plan: &ImportPlan) -> Result<(), ImportError> {
        self.update(&plan.releases).await?;
        for insert in &plan.inserts {
            insert_rows(&mut self.connection, insert).await?;
        }
        self.update(&plan.updates).await
    }

    async fn update(&mut self, updates: &[ImportUpdate]) -> Result<(), ImportError> {
        for ImportUpdate { statement, parameters } in updates {
            bind(sqlx::query(*statement), parameters).execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Stores the revocations, and commits.
    pub(super) async fn commit(
        mut self,
        databases: &ServerDatabases,
        revocations: &[Revocation],
    ) -> Result<(), ImportError> {
        if let Some(store) = databases.revocations.as_ref().filter(|_| !revocations.is_empty()) {
            store.open().await?;
            let mut connection = store.connect_to_write().await?;
            insert_revocations(&mut connection, store.kind(), revocations).await?;
            // First: if the second commit fails, too much is revoked rather than too little.
            execute(&mut connection, "COMMIT").await?;
            connection.close().await?;
        } else if !revocations.is_empty() {
            insert_revocations(&mut self.connection, self.kind, revocations).await?;
        }
        execute(&mut self.connection, "COMMIT").await?;
        Ok(self.connection.close().await?)
    }
}

async fn insert_revocations(
    connection: &mut AnyConnection,
    kind: DatabaseKind,
    revocations: &[Revocation],
) -> Result<(), ImportError> {
    if kind == DatabaseKind::Postgres {
        // Numbers become visible in ascending order.
        let lock = "LOCK TABLE countersign_revocation IN SHARE ROW EXCLUSIVE MODE";
        execute(connection, lock).await?;
    }
    let row = |revocation| -> Result<_, ImportError> {
        let (record, until) =
            to_row(revocation).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(vec![ImportValue::Text(Some(record)), ImportValue::Number(until)])
    };
    let insert = ImportInsert {
        table: "countersign_revocation",
        columns: &["record", "until"],
        on_conflict: "",
        rows: revocations.iter().map(row).collect::<Result<_, _>>()?,
    };
    insert_rows(connection, &insert).await?;
    if kind == DatabaseKind::Postgres {
        execute(connection, "SELECT pg_notify('countersign_revocation', '')").await?;
    }
    Ok(())
}

async fn insert_rows(
    connection: &mut AnyConnection,
    insert: &ImportInsert,
) -> Result<(), ImportError> {
    let ImportInsert { table, columns, on_conflict, rows } = insert;
    let width = columns.len();
    let places = |row: usize| {
        let places: Vec<_> =
            (1..=width).map(|column| format!("${}", row * width + column)).collect();
        format!("({})", places.join(", "))
    };
    for rows in rows.chunks(BATCH_ROWS) {
        let (columns, places) =
            (columns.join(", "), (0..rows.len()).map(places).collect::<Vec<_>>().join(", "));
        let statement = format!("INSERT INTO {table} ({columns}) VALUES {places} {on_conflict}");
        // Safe: the text consists of constants and placeholders.
        let query = sqlx::query(AssertSqlSafe(statement)).persistent(rows.len() == BATCH_ROWS);
        let query = rows.iter().fold(query, |query, row| bind(query, row));
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

fn bind<'q>(
    query: Query<'q, Any, AnyArguments>,
    values: &[ImportValue],
) -> Query<'q, Any, AnyArguments> {
    values.iter().cloned().fold(query, |query, value| match value {
        ImportValue::Text(text) => query.bind(text),
        ImportValue::Number(number) => query.bind(number),
    })
}

async fn read(connection: &mut AnyConnection) -> Result<ExistingContents, ImportError> {
    let mut existing = ExistingContents::default();
    let users = "SELECT username, password_hash, is_admin, source_id FROM countersign_user";
    for row in sqlx::query(users).fetch_all(&mut *connection).await? {
        let user = ExistingUser {
            password_hash: row.try_get(1)?,
            is_admin: row.try_get::<i64, _>(2)? != 0,
            source_id: row.try_get(3)?,
        };
        existing.users.insert(row.try_get(0)?, user);
    }
    let environments = "SELECT id, name, project_id, repo_url, repo_branch, description, icon \
                        FROM countersign_environment";
    for row in sqlx::query(environments).fetch_all(&mut *connection).await? {
        let values = EnvironmentValues {
            name: row.try_get(1)?,
            project: row.try_get(2)?,
            repo_url: row.try_get(3)?,
            repo_branch: row.try_get(4)?,
            description: row.try_get(5)?,
            icon: row.try_get(6)?,
        };
        existing.environments.insert(row.try_get(0)?, values);
    }
    let assignments = "SELECT username, environment, role FROM countersign_role_assignment";
    for row in sqlx::query(assignments).fetch_all(&mut *connection).await? {
        existing.assignments.insert((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let tokens =
        "SELECT jti, CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END FROM countersign_token";
    for row in sqlx::query(tokens).fetch_all(&mut *connection).await? {
        existing.tokens.insert(row.try_get(0)?, row.try_get::<i64, _>(1)? != 0);
    }
    let projects = "SELECT id, name FROM countersign_project";
    for row in sqlx::query(projects).fetch_all(&mut *connection).await? {
        existing.projects.insert(row.try_get(0)?, row.try_get(1)?);
    }
    existing.imported = read_imported(connection).await?;
    let mut column = async |statement| {
        sqlx::query_scalar::<_, String>(statement).fetch_all(&mut *connection).await
    };
    existing.roles = column("SELECT name FROM countersign_role").await?.into_iter().collect();
    existing.signers = column("SELECT issuer FROM countersign_signer").await?.into_iter().collect();
    let ids = column("SELECT id FROM countersign_environment_id").await?;
    existing.environment_ids = ids.into_iter().collect();
    Ok(existing)
}

async fn read_imported(
    connection: &mut AnyConnection,
) -> Result<HashMap<(String, String), String>, ImportError> {
    let imported = "SELECT kind, id, imported FROM countersign_import";
    let mut rows = HashMap::new();
    for row in sqlx::query(imported).fetch_all(connection).await? {
        rows.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
    }
    Ok(rows)
}
