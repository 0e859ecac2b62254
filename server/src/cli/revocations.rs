//! `countersign revocations`: check and repair of stored revocations.

use std::fs::{self, Metadata};

use countersign_engine::UnixTime;

use super::{
    CommandError, ConfigSource,
    arguments::RevocationsCommand,
    database::databases,
    known_databases::{DatabaseRole, KnownDatabases},
    print, record_change,
};
use crate::{
    audit::{AuditOperation, AuditTarget},
    backup::ServerDatabases,
    base::clock,
    config::Config,
    revocation::{
        inspection::{RevocationInspection, RevocationProblem, inspect},
        repair::{RevocationRepair, repair},
    },
    store::{DatabaseKind, Store},
};

pub(super) fn run(source: &ConfigSource, command: &RevocationsCommand) -> Result<(), CommandError> {
    let config = source.load()?;
    let databases = databases(source, &config)?;
    let store = databases.revocations.as_ref().unwrap_or(&databases.main);
    let known = KnownDatabases::of(source, &config)?;
    let inspection = if is_missing(store)? {
        let Some(newest) = known.as_ref().and_then(KnownDatabases::newest_revocation) else {
            let text = format_args!("{} does not exist: nothing is revoked", store.location());
            return Ok(print(text)?);
        };
        let text = format!("{} is missing; this server knew revocation {newest}", store.location());
        let problems = vec![RevocationProblem::Lost(text)];
        RevocationInspection { problems, ..RevocationInspection::default() }
    } else {
        let mut inspection = inspect(store)?;
        if !inspection.is_file_damaged() {
            inspection.problems.extend(known.as_ref().and_then(lost));
        }
        inspection
    };
    let count = inspection.revocations.len();
    print(format_args!("{}: {count} revocations can be read", store.location()))?;
    for problem in &inspection.problems {
        print(format_args!("  WRONG  {problem}"))?;
    }
    let capacity = config.revocation.capacity;
    if count > capacity {
        print(format_args!(
            "  WRONG  the capacity is {capacity}\n         help: raise capacity in [revocation]"
        ))?;
    }
    match command {
        RevocationsCommand::Check if inspection.is_intact() && count <= capacity => Ok(()),
        RevocationsCommand::Check if inspection.is_intact() => {
            Err(CommandError::failed("there are too many revocations"))
        }
        RevocationsCommand::Check => Err(CommandError::failed(
            "the stored revocations are damaged\n  help: run countersign revocations repair",
        )),
        RevocationsCommand::Repair { .. } if inspection.is_intact() => {
            Ok(print("Nothing to repair.")?)
        }
        RevocationsCommand::Repair { revoke_issued_tokens } => {
            let issued_before = revoke_issued_tokens.then(|| latest_issue(&config));
            let (databases, inspection) = (&databases, &inspection);
            run_repair(source, &config, databases, inspection, issued_before)
        }
    }
}

/// Whether an SQLite file does not exist, or is empty.
fn is_missing(store: &Store) -> Result<bool, CommandError> {
    let exists = store.exists().map_err(CommandError::failed)?;
    let is_empty = |metadata: Metadata| metadata.len() == 0;
    Ok(!exists
        || store.kind() == DatabaseKind::Sqlite
            && fs::metadata(store.location()).is_ok_and(is_empty))
}

/// Returns what the database lacks of the revocations that the server knew.
fn lost(known: &KnownDatabases) -> Option<RevocationProblem> {
    // A database that does not answer was not inspected either.
    let unexpected = known.check().unwrap_or_default();
    let lost = unexpected.into_iter().find(|one| one.role == DatabaseRole::Revocations)?;
    Some(RevocationProblem::Lost(lost.text))
}

/// Returns the time before which all tokens are dated that are valid now.
fn latest_issue(config: &Config) -> UnixTime {
    let rules = config.issuers.iter().map(|section| &section.issuer.rules);
    let leeway = rules.map(|rules| rules.leeway.max(rules.issued_at_leeway)).max();
    clock::now().plus(1).plus(leeway.unwrap_or(0).into())
}

fn run_repair(
    source: &ConfigSource,
    config: &Config,
    databases: &ServerDatabases,
    inspection: &RevocationInspection,
    issued_before: Option<UnixTime>,
) -> Result<(), CommandError> {
    let store = databases.revocations.as_ref().unwrap_or(&databases.main);
    let file =
        databases.revocations.as_ref().map(|_| source.revocation_file(config)).transpose()?;
    let done = repair(store, file.as_deref(), inspection, issued_before)?;
    print_repair(&done)?;
    let left = inspect(store)?.problems;
    if let Some(problem) = left.first() {
        return Err(CommandError::failed(format_args!("not everything was repaired: {problem}")));
    }
    if let Some(known) = KnownDatabases::of(source, config)? {
        known.accept(&[DatabaseRole::Revocations])?;
    }
    let (operation, target) = (AuditOperation::RepairRevocations, AuditTarget::default());
    let detail = format!("{} problems", inspection.problems.len());
    record_change(source.audited_store(config)?.as_ref(), operation, target, Some(detail))
}

fn print_repair(done: &RevocationRepair) -> std::io::Result<()> {
    if let Some((count, kept)) = &done.rewritten {
        print(format_args!(
            "Wrote {count} revocations to a new file. The damaged one is {}.",
            kept.display()
        ))?;
    }
    if done.corrected > 0 {
        print(format_args!("Corrected the end of {} revocations.", done.corrected))?;
    }
    if done.moved > 0 {
        print(format_args!(
            "Moved {} unreadable records to the table countersign_damaged_revocation.",
            done.moved
        ))?;
    }
    if let Some(at) = done.issued_before {
        print(format_args!(
            "Revoked all tokens issued before {}. If keys or environments were revoked, revoke \
             them again: this does not cover their later tokens.",
            clock::rfc3339(at).unwrap_or_default()
        ))?;
    }
    Ok(())
}
