//! `countersign database`: schema migrations, backup and restore.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{
    CommandError, ConfigSource, REVOCATIONS_FILE,
    arguments::{BackupPart, DatabaseCommand},
    known_databases::{DatabaseRole, KnownDatabases, UnexpectedDatabase},
    print, record_change,
};
use crate::{
    audit::{AuditOperation, AuditTarget},
    backup::{BackupSummary, ServerDatabases, restore::RestorePart},
    config::Config,
    store::Store,
};

pub(super) fn run(source: &ConfigSource, command: &DatabaseCommand) -> Result<(), CommandError> {
    let config = source.load()?;
    match command {
        DatabaseCommand::Migrate => migrate(source, &config),
        DatabaseCommand::Backup { file, force } => back_up(source, &config, file, *force),
        DatabaseCommand::Confirm => confirm(source, &config),
        DatabaseCommand::Restore { file, only, force } => {
            let part = match only {
                None => RestorePart::Everything,
                Some(BackupPart::Revocations) => RestorePart::Revocations,
            };
            restore(source, &config, file, part, *force)
        }
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
    warn_of_problems(file, &summary)?;
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
    part: RestorePart,
    force: bool,
) -> Result<(), CommandError> {
    let databases = databases(source, config)?;
    check_reachable(&databases.main)?;
    let known = KnownDatabases::of(source, config)?;
    let before = known.as_ref().map(KnownDatabases::state).unwrap_or_default();
    let summary = databases.restore(file, part, force).map_err(CommandError::failed)?;
    warn_of_problems(file, &summary)?;
    let roles: &[_] = match part {
        RestorePart::Everything => &[DatabaseRole::Users, DatabaseRole::Revocations],
        RestorePart::Revocations => &[DatabaseRole::Revocations],
    };
    let restored = before.iter().filter(|known| roles.contains(&known.role));
    for lost in restored.filter_map(|known| known.lost_by(summary.source.as_ref()?)) {
        writeln!(io::stderr(), "warning: {lost}")?;
    }
    let (detail, operation) = (format!("from {}", file.display()), AuditOperation::RestoreDatabase);
    let store = match part {
        RestorePart::Everything => Some(databases.main.clone()),
        RestorePart::Revocations => source.audited_store(config)?,
    };
    record_change(store.as_ref(), operation, AuditTarget::default(), Some(detail))?;
    if let Some(known) = known {
        known.accept(roles)?;
    }
    let (users, revocations) = (summary.users(), summary.revocations());
    let location = match (part, &databases.revocations) {
        (RestorePart::Revocations, Some(revocations)) => revocations.location(),
        _ => databases.main.location(),
    };
    Ok(match part {
        RestorePart::Everything => print(format_args!(
            "restored {users} users and {revocations} revocations into {location}"
        )),
        RestorePart::Revocations => print(format_args!("{location} has {revocations} revocations")),
    }?)
}

/// Prints what is wrong with the revocations of a backup.
fn warn_of_problems(file: &Path, backup: &BackupSummary) -> io::Result<()> {
    for problem in &backup.problems {
        writeln!(
            io::stderr(),
            "warning: {}: {problem}; the server answers 503 until countersign revocations repair",
            file.display()
        )?;
    }
    Ok(())
}

/// Records the databases as the expected ones.
fn confirm(source: &ConfigSource, config: &Config) -> Result<(), CommandError> {
    let known = KnownDatabases::of(source, config)?
        .ok_or_else(|| CommandError::failed("no state directory is set: use --state-dir"))?;
    check_reachable(&databases(source, config)?.main)?;
    // A database that cannot be queried is not confirmed either.
    let accepted = known.check().map_err(CommandError::failed)?;
    known.confirm()?;
    print(format_args!("the server expects {} from now on", known.locations().join(" and ")))?;
    for UnexpectedDatabase { text, .. } in accepted {
        print(format_args!("accepted: {text}"))?;
    }
    Ok(())
}

fn check_reachable(store: &Store) -> Result<(), CommandError> {
    store.block_on(store.check_reachable()).map_err(CommandError::failed)
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
