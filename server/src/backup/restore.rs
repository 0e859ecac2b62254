//! Restore of a backup.

use std::{collections::HashSet, io, path::Path};

use countersign_engine::UnixTime;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use super::{
    BackupError, BackupSummary, REVOCATION_TABLES, ServerDatabases, add_predecessors, count, file,
    insert_revocation, lineage,
};
use crate::{
    accounts::signing::random_uuid,
    base::clock,
    revocation::{
        inspection::{RevocationProblem, inspect},
        store::RevocationStore,
    },
    store::{
        DatabaseKind, Store, StoreError,
        identity::DatabaseIdentity,
        transfer::{self, TableLayout, execute},
    },
};

/// Tables by which a database counts as not empty.
const CONTENTS: [&str; 7] = [
    "countersign_user",
    "countersign_role",
    "countersign_project",
    "countersign_environment",
    "countersign_token",
    "countersign_identity",
    "countersign_revocation",
];
/// Age of the last heartbeat above which a server counts as stopped.
const ACTIVE_WINDOW_SECONDS: u64 = 120;

/// The part of a backup to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePart {
    /// All tables.
    Everything,
    /// Revocations, which are added to those of the database.
    Revocations,
}

/// A database that is restored.
struct RestoreTarget<'s> {
    store: &'s Store,
    connection: AnyConnection,
}

impl ServerDatabases {
    /// Restores the backup in `file`. Users and what belongs to them are only replaced if `replaces`
    /// is set. Revocations that the backup lacks, and later audit events, are kept.
    ///
    /// # Errors
    /// A server uses the databases, they have contents that must not be replaced, or the file is
    /// not an intact backup of this or an earlier version. The databases are unchanged then.
    pub fn restore(
        &self,
        file: &Path,
        part: RestorePart,
        replaces: bool,
    ) -> Result<BackupSummary, BackupError> {
        let draft = file::copy(file)?;
        let backup = Store::in_file(draft.path().to_owned())?;
        let checked = backup.block_on(file::unmark(&backup, file));
        let read = checked.and_then(|()| read_backup(&backup));
        let (source, problems) = read.map_err(|error| file::name(error, &backup, file))?;
        let stores: Vec<_> = match part {
            RestorePart::Everything => {
                [self.revocations.as_ref(), Some(&self.main)].into_iter().flatten().collect()
            }
            RestorePart::Revocations => vec![self.revocations.as_ref().unwrap_or(&self.main)],
        };
        let (existing, missing): (Vec<&Store>, Vec<&Store>) =
            stores.iter().copied().partition(|store| store.exists().unwrap_or(true));
        for store in &existing {
            store.block_on(check_unused(store))?;
            if part == RestorePart::Everything && !replaces {
                store.block_on(check_empty(store))?;
            }
        }
        // A file is created when nothing can be refused any more.
        for store in existing.into_iter().chain(missing) {
            store.block_on(store.migrate())?;
            if store.location() == self.revocations.as_ref().unwrap_or(&self.main).location() {
                check_revocations(store)?;
            }
        }
        let restored = self.replace_contents(&backup, &stores, part, replaces);
        let restored = backup.block_on(restored);
        backup.block_on(backup.close());
        Ok(BackupSummary { source, problems, ..restored? })
    }

    async fn replace_contents(
        &self,
        backup: &Store,
        stores: &[&Store],
        part: RestorePart,
        replaces: bool,
    ) -> Result<BackupSummary, BackupError> {
        let mut source = backup.connect().await?;
        let (mut tables, ids) = (transfer::tables(&mut source).await?, lineage(&mut source).await?);
        if part == RestorePart::Revocations {
            tables.retain(|table| REVOCATION_TABLES.contains(&table.name.as_str()));
        }
        let mut targets = Vec::new();
        for store in stores {
            targets.push(RestoreTarget { store, connection: store.connect_to_write().await? });
        }
        if part == RestorePart::Everything && !replaces {
            for target in &mut targets {
                target.check_empty().await?;
            }
        }
        let mut summary = BackupSummary::default();
        for target in &mut targets {
            let tables = tables.iter().filter(|table| self.has(target.store, &table.name));
            target.replace(&tables.collect::<Vec<_>>(), &mut source, &mut summary).await?;
            target.set_identity(&ids).await?;
        }
        // Revocations first: if the second commit fails, too much is revoked rather than too little.
        for mut target in targets {
            execute(&mut target.connection, "COMMIT").await?;
            target.connection.close().await?;
        }
        Ok(summary)
    }
}

/// Returns the identity of a backup, and the revocations in it that cannot be parsed: servers that
/// read them answer 503 until they are repaired.
fn read_backup(
    backup: &Store,
) -> Result<(Option<DatabaseIdentity>, Vec<RevocationProblem>), BackupError> {
    let source = backup.block_on(backup.identity())?;
    let inspection = inspect(backup)?;
    if inspection.is_file_damaged() {
        let reason = inspection.problems.first().map(ToString::to_string).unwrap_or_default();
        let damaged = StoreError::File(io::ErrorKind::InvalidData, reason);
        return Err(damaged.into());
    }
    Ok((source, inspection.problems))
}

/// Checks that a database that exists is empty, without a migration of its schema.
async fn check_empty(store: &Store) -> Result<(), BackupError> {
    let mut target = RestoreTarget { store, connection: store.connect().await? };
    let checked = target.check_empty().await;
    target.connection.close().await?;
    match checked {
        Err(refused @ BackupError::Refused(_)) => Err(refused),
        // An earlier schema may lack a table. It is checked again after the migration.
        _ => Ok(()),
    }
}

/// Checks that each stored revocation can be read.
fn check_revocations(store: &Store) -> Result<(), BackupError> {
    RevocationStore::in_database(store.clone(), Vec::new()).read_new()?;
    Ok(())
}

/// Checks that no server uses a database.
async fn check_unused(store: &Store) -> Result<(), BackupError> {
    if !store.exists()? {
        return Ok(());
    }
    if store.kind() == DatabaseKind::Sqlite {
        if !store.is_open_elsewhere().await? {
            return Ok(());
        }
        return Err(BackupError::Refused(format!(
            "another process uses {}\n  help: stop the server first",
            store.location()
        )));
    }
    let since = UnixTime(clock::now().0.saturating_sub(ACTIVE_WINDOW_SECONDS));
    let servers = store.servers_active_since(since).await?;
    if servers.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = servers.iter().map(|server| format!("{:?}", server.name)).collect();
    Err(BackupError::Refused(format!(
        "servers use the database {}: {}\n  help: stop them first; one that crashed counts for {} \
         minutes",
        store.location(),
        names.join(", "),
        ACTIVE_WINDOW_SECONDS / 60
    )))
}

impl RestoreTarget<'_> {
    async fn check_empty(&mut self) -> Result<(), BackupError> {
        for table in CONTENTS {
            let rows = count(&mut self.connection, table).await?;
            if rows > 0 {
                return Err(BackupError::Refused(format!(
                    "the database {} is not empty: {table} has {rows} rows\n  help: back it up, \
                     then replace its contents with --force",
                    self.store.location()
                )));
            }
        }
        Ok(())
    }

    async fn replace(
        &mut self,
        tables: &[&TableLayout],
        source: &mut AnyConnection,
        summary: &mut BackupSummary,
    ) -> Result<(), BackupError> {
        let has_revocations = tables.iter().any(|table| table.name == "countersign_revocation");
        let kept = if has_revocations { self.missing_in(source).await? } else { Vec::new() };
        for table in tables.iter().rev() {
            let rows = if table.name == "countersign_audit" {
                let last = "SELECT COALESCE(MAX(id), 0) FROM countersign_audit";
                let last: i64 = sqlx::query_scalar(last).fetch_one(&mut *source).await?;
                format!("DELETE FROM {} WHERE id <= {last}", table.name)
            } else {
                format!("DELETE FROM {}", table.name)
            };
            execute(&mut self.connection, &rows).await?;
        }
        for table in tables {
            let to = (&mut self.connection, self.store.kind());
            let rows = transfer::copy(table, source, to).await?;
            summary.rows.insert(table.name.clone(), rows);
        }
        for (record, until) in kept {
            insert_revocation(&mut self.connection, &record, until).await?;
            *summary.rows.entry("countersign_revocation".into()).or_default() += 1;
        }
        if has_revocations && self.store.kind() == DatabaseKind::Sqlite {
            // The newest row has the number that was assigned last, or else it is missing.
            let reset = "UPDATE sqlite_sequence SET seq = \
                         (SELECT COALESCE(MAX(number), 0) FROM countersign_revocation) \
                         WHERE name = 'countersign_revocation'";
            execute(&mut self.connection, reset).await?;
        }
        Ok(())
    }

    /// Returns the revocations of the target that the backup lacks. They were acknowledged.
    async fn missing_in(
        &mut self,
        source: &mut AnyConnection,
    ) -> Result<Vec<(String, Option<i64>)>, BackupError> {
        let restored: HashSet<String> =
            sqlx::query_scalar("SELECT record FROM countersign_revocation")
                .fetch_all(source)
                .await?
                .into_iter()
                .collect();
        let own = sqlx::query("SELECT record, until FROM countersign_revocation ORDER BY number");
        let own = own.fetch_all(&mut self.connection).await?;
        let own = own.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let own: Vec<(String, Option<i64>)> = own.collect::<sqlx::Result<_>>()?;
        Ok(own.into_iter().filter(|(record, _)| !restored.contains(record)).collect())
    }

    /// Gives the database a new id, and records those that it continues.
    async fn set_identity(&mut self, ids: &[String]) -> Result<(), BackupError> {
        let mut former = lineage(&mut self.connection).await?;
        former.extend_from_slice(ids);
        add_predecessors(&mut self.connection, &former).await?;
        let id = random_uuid().map_err(io::Error::other)?.to_string();
        let set = "UPDATE countersign_database SET id = $1";
        sqlx::query(set).bind(id).execute(&mut self.connection).await?;
        if self.store.kind() == DatabaseKind::Postgres {
            let wake = "SELECT pg_notify('countersign_revocation', '')";
            sqlx::query(AssertSqlSafe(wake.to_owned())).execute(&mut self.connection).await?;
        }
        Ok(())
    }
}
