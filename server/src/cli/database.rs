//! `countersign database`: schema migrations, backup and restore.

use std::path::{Path, PathBuf};

use super::{
    CommandError, ConfigSource, REVOCATIONS_FILE, arguments::DatabaseCommand,
    known_databases::KnownDatabases, print, record_change,
};
use crate::{
    audit::{AuditOperation, AuditTarget},
    backup::ServerDatabases,
    config::Config,
};

pub(super) fn run(source: &ConfigSource, command: &DatabaseCommand) -> Result<(), CommandError> {
    let config = source.load()?;
    match command {
        DatabaseCommand::Migrate => migrate(source, &config),
        DatabaseCommand::Backup { file, force } => back_up(source, &config, file, *force),
        DatabaseCommand::Confirm => confirm(source, &config),
        DatabaseCommand::Restore { file, force } => restore(source, &config, file, *force),
    }
}

fn migrate(source: &ConfigSource, config: &Config) -> Result<(), CommandError> {
    let store = source.store(config)?;
    store.block_on(store.migrate()).map_err(CommandError::failed)?;
    if !source.stores_revocations_in_database(config)
        && let Ok(file) = source.revocation_file(config)
    {
        // Opens and migrates the file if it exists.
        source.revocations_in(file)?.read_new()?;
    }
    Ok(print(format_args!("the database {} is up to date", store.location()))?)
}

fn back_up(
    source: &ConfigSource,
    config: &Config,
    file: &Path,
    force: bool,
) -> Result<(), CommandError> {
    let databases = databases(source, config)?;
    let inherited = match &databases.revocations {
        Some(_) => Vec::new(),
        None => source.earlier_revocations()?,
    };
    let summary = databases.back_up(file, force, &inherited).map_err(CommandError::failed)?;
    let detail = format!("to {}", file.display());
    let store = source.audited_store(config)?;
    let operation = AuditOperation::BackUpDatabase;
    record_change(store.as_ref(), operation, AuditTarget::default(), Some(detail))?;
    Ok(print(format_args!(
        "wrote {} with {} users and {} revocations",
        file.display(),
        summary.users(),
        summary.revocations()
    ))?)
}

fn restore(
    source: &ConfigSource,
    config: &Config,
    file: &Path,
    force: bool,
) -> Result<(), CommandError> {
    let databases = databases(source, config)?;
    let summary = databases.restore(file, force).map_err(CommandError::failed)?;
    let detail = format!("from {}", file.display());
    let operation = AuditOperation::RestoreDatabase;
    record_change(Some(&databases.main), operation, AuditTarget::default(), Some(detail))?;
    if let Some(known) = KnownDatabases::of(source, config)? {
        known.record()?;
    }
    Ok(print(format_args!(
        "restored {} users and {} revocations into {}",
        summary.users(),
        summary.revocations(),
        databases.main.location()
    ))?)
}

/// Records the databases as the expected ones.
fn confirm(source: &ConfigSource, config: &Config) -> Result<(), CommandError> {
    let known = KnownDatabases::of(source, config)?
        .ok_or_else(|| CommandError::failed("no state directory is set: use --state-dir"))?;
    known.confirm()?;
    Ok(print(format_args!("the server expects {} from now on", known.locations().join(" and ")))?)
}

/// Returns the databases that the server of a configuration uses.
pub(super) fn databases(
    source: &ConfigSource,
    config: &Config,
) -> Result<ServerDatabases, CommandError> {
    let main = source.store(config)?;
    let revocations = if source.stores_revocations_in_database(config) {
        None
    } else {
        let file = source.revocation_file(config)?;
        let revocations = source.revocations_in(file)?.database().clone();
        Some(revocations).filter(|revocations| revocations.location() != main.location())
    };
    let mut files = vec![PathBuf::from(main.location())];
    files.extend(source.revocation_file(config));
    // Also those from before the shared database was configured.
    files.extend(source.state_dir().map(|directory| directory.join(REVOCATIONS_FILE)));
    Ok(ServerDatabases { main, revocations, files })
}
