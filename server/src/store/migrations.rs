//! Schema migrations, in numbered steps with one SQL file per kind of database.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use sqlx::{
    Any, Executor, SqlSafeStr as _,
    any::AnyPoolOptions,
    error::DatabaseError,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::{DatabaseKind, StoreError, connection::StoreInner, sqlite, transfer};

/// Number, name and SQL (SQLite, PostgreSQL) of each migration.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[
    (
        1,
        "users",
        include_str!("../../migrations/sqlite/0001_users.sql"),
        include_str!("../../migrations/postgres/0001_users.sql"),
    ),
    (
        2,
        "servers",
        include_str!("../../migrations/sqlite/0002_servers.sql"),
        include_str!("../../migrations/postgres/0002_servers.sql"),
    ),
    (
        3,
        "signers",
        include_str!("../../migrations/sqlite/0003_signers.sql"),
        include_str!("../../migrations/postgres/0003_signers.sql"),
    ),
    (
        4,
        "sessions",
        include_str!("../../migrations/sqlite/0004_sessions.sql"),
        include_str!("../../migrations/postgres/0004_sessions.sql"),
    ),
    (
        5,
        "audit",
        include_str!("../../migrations/sqlite/0005_audit.sql"),
        include_str!("../../migrations/postgres/0005_audit.sql"),
    ),
    (
        6,
        "environment_ids",
        include_str!("../../migrations/sqlite/0006_environment_ids.sql"),
        include_str!("../../migrations/postgres/0006_environment_ids.sql"),
    ),
    (
        7,
        "expiry",
        include_str!("../../migrations/sqlite/0007_expiry.sql"),
        include_str!("../../migrations/postgres/0007_expiry.sql"),
    ),
    (
        8,
        "key_sets",
        include_str!("../../migrations/sqlite/0008_key_sets.sql"),
        include_str!("../../migrations/postgres/0008_key_sets.sql"),
    ),
    (
        9,
        "backup",
        include_str!("../../migrations/sqlite/0009_backup.sql"),
        include_str!("../../migrations/postgres/0009_backup.sql"),
    ),
    (
        10,
        "projects",
        include_str!("../../migrations/sqlite/0010_projects.sql"),
        include_str!("../../migrations/postgres/0010_projects.sql"),
    ),
    (
        11,
        "import",
        include_str!("../../migrations/sqlite/0011_import.sql"),
        include_str!("../../migrations/postgres/0011_import.sql"),
    ),
    (
        12,
        "identities",
        include_str!("../../migrations/sqlite/0012_identities.sql"),
        include_str!("../../migrations/postgres/0012_identities.sql"),
    ),
    (
        13,
        "console",
        include_str!("../../migrations/sqlite/0013_console.sql"),
        include_str!("../../migrations/postgres/0013_console.sql"),
    ),
    (
        14,
        "logout_tokens",
        include_str!("../../migrations/sqlite/0014_logout_tokens.sql"),
        include_str!("../../migrations/postgres/0014_logout_tokens.sql"),
    ),
    (
        15,
        "confirmations",
        include_str!("../../migrations/sqlite/0015_confirmations.sql"),
        include_str!("../../migrations/postgres/0015_confirmations.sql"),
    ),
    (
        16,
        "leases",
        include_str!("../../migrations/sqlite/0016_leases.sql"),
        include_str!("../../migrations/postgres/0016_leases.sql"),
    ),
    (
        17,
        "sweeps",
        include_str!("../../migrations/sqlite/0017_sweeps.sql"),
        include_str!("../../migrations/postgres/0017_sweeps.sql"),
    ),
    (
        18,
        "deletions",
        include_str!("../../migrations/sqlite/0018_deletions.sql"),
        include_str!("../../migrations/postgres/0018_deletions.sql"),
    ),
    (
        19,
        "signing_keys",
        include_str!("../../migrations/sqlite/0019_signing_keys.sql"),
        include_str!("../../migrations/postgres/0019_signing_keys.sql"),
    ),
];

/// Whether this process has migrated a database of an earlier version.
static UPGRADED: AtomicBool = AtomicBool::new(false);

/// Returns whether this process has migrated a database of an earlier version.
#[must_use]
pub fn has_upgraded() -> bool {
    UPGRADED.load(Ordering::Relaxed)
}

/// Table of the applied migrations.
const MIGRATIONS_TABLE: &str = "countersign_migration";

/// Applies the missing migrations if the configuration allows it; otherwise checks that none
/// is missing.
pub(super) async fn check(inner: &StoreInner) -> Result<(), StoreError> {
    prepare_file(inner).await?;
    let (applied, required) = (applied(&inner.pool).await?, latest());
    match applied {
        _ if applied > required => Err(newer(inner, applied)),
        _ if applied == required => Ok(()),
        _ if inner.migrates => {
            migrate(inner).await?;
            // Relaxed: nothing else depends on it.
            UPGRADED.fetch_or(applied > 0, Ordering::Relaxed);
            Ok(())
        }
        _ => Err(StoreError::Schema(format!(
            "The version of the database is out of date: {} has version {applied}, and {required} is needed. Run `countersign database \
             migrate`, or remove `migrate = false` from [database], to bring it to the latest version.",
            inner.location
        ))),
    }
}

/// Returns the version of the schema that this program needs.
pub(crate) fn latest() -> i64 {
    MIGRATIONS.iter().map(|step| step.0).max().unwrap_or(0)
}

/// Returns the version of the schema of a database; 0 if it has none.
pub(crate) async fn applied<'c>(database: impl Executor<'c, Database = Any>) -> sqlx::Result<i64> {
    let applied =
        sqlx::query_scalar::<_, i64>("SELECT COALESCE(MAX(version), 0) FROM countersign_migration");
    match applied.fetch_one(database).await {
        Err(sqlx::Error::Database(error)) if is_missing_table(&*error) => Ok(0),
        applied => applied,
    }
}

/// Applies the missing migrations. A lock serializes nodes that start at the same time.
pub(super) async fn run(inner: &StoreInner) -> Result<(), StoreError> {
    prepare_file(inner).await?;
    migrate(inner).await
}

/// Creates the file of an SQLite database if it is missing, and sets its mode.
async fn prepare_file(inner: &StoreInner) -> Result<(), StoreError> {
    let Some(file) = &inner.file else { return Ok(()) };
    sqlite::create_file(file)
        .map_err(|error| StoreError::File(io::ErrorKind::NotConnected, error.to_string()))?;
    sqlite::use_write_ahead_log(&inner.pool).await?;
    transfer::refuse_backup(&mut *inner.pool.acquire().await?, &inner.location).await
}

async fn migrate(inner: &StoreInner) -> Result<(), StoreError> {
    let steps = MIGRATIONS.iter().map(|(number, name, sqlite, postgres)| {
        let sql = if inner.kind == DatabaseKind::Sqlite { sqlite } else { postgres };
        Migration::new(*number, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    let migrated = match inner.kind {
        // The driver has no lock for migrations: a write transaction around them is one.
        DatabaseKind::Sqlite => {
            let mut transaction = inner.kind.begin(&inner.pool).await?;
            match migrator.run_direct(None, &mut *transaction, false).await {
                Ok(()) => Ok(transaction.commit().await?),
                Err(error) => Err(error),
            }
        }
        // The advisory lock belongs to a session, which a transaction pooler (PgBouncer) does
        // not keep. Therefore over a direct connection.
        DatabaseKind::Postgres => {
            let direct =
                AnyPoolOptions::new().max_connections(1).acquire_timeout(inner.connection_timeout);
            let direct = direct.connect(&inner.direct_url).await?;
            let migrated = migrator.run(&direct).await;
            direct.close().await;
            migrated
        }
    };
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(number) => newer(inner, number),
        MigrateError::Execute(error) => error.into(),
        error => {
            StoreError::Schema(format!("cannot migrate the schema of {}: {error}", inner.location))
        }
    })
}

/// Returns whether a table is missing: PostgreSQL reports a code, SQLite only a message.
fn is_missing_table(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "42P01") || error.message().starts_with("no such table")
}

fn newer(inner: &StoreInner, number: i64) -> StoreError {
    StoreError::Schema(format!(
        "the database {} has schema version {number}, created by a newer version of this program: use that version",
        inner.location
    ))
}
