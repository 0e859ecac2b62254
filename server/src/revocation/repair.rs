//! Repair of stored revocations, without accepting a revoked token again.
//!
//! Which tokens a lost revocation meant is unknown. A repair that loses one therefore revokes every
//! token that was issued so far, and only if the operator agrees.

use std::{
    io,
    path::{Path, PathBuf},
};

use countersign_engine::{Revocation, RevocationTarget, UnixTime};
use sqlx::{AnyConnection, Connection as _};

use super::{
    inspection::{RevocationInspection, RevocationProblem},
    store::{RevocationStore, store_error},
};
use crate::store::{
    Store, StoreError,
    sqlite::{copy_owner, with_path, with_suffix},
    transfer::execute,
};

/// Result of a repair.
#[derive(Debug, Default)]
pub struct RevocationRepair {
    /// Number of revocations with a corrected end.
    pub corrected: usize,
    /// Number of unreadable records that were moved to `countersign_damaged_revocation`.
    pub moved: usize,
    /// Number of revocations in a new file, and the name that the damaged one has now.
    pub rewritten: Option<(usize, PathBuf)>,
    /// Time before which every token is revoked.
    pub issued_before: Option<UnixTime>,
}

/// Repairs a table of revocations. `file` is its SQLite file if that has nothing else. If
/// revocations are lost, every token issued before `issued_before` is revoked.
///
/// # Errors
/// Revocations are lost and `issued_before` is `None`, or the database cannot be written. Nothing is
/// changed then.
pub fn repair(
    store: &Store,
    file: Option<&Path>,
    inspection: &RevocationInspection,
    issued_before: Option<UnixTime>,
) -> io::Result<RevocationRepair> {
    let is_lossy = inspection.problems.iter().any(RevocationProblem::is_loss);
    let issued_before = match (is_lossy, issued_before) {
        (false, _) => None,
        (true, Some(issued_before)) => Some(issued_before),
        (true, None) => {
            return Err(io::Error::other(
                "revocations are lost, and which tokens they revoked is unknown\n  help: restore \
                 a backup (countersign database restore FILE --only revocations), or repair with --revoke-issued-tokens, \
                 which revokes every token issued so far",
            ));
        }
    };
    let everything = issued_before.map(|issued_before| Revocation {
        target: RevocationTarget::Everything { issuer: None, issued_before },
        until: None,
    });
    let mut repair = RevocationRepair { issued_before, ..RevocationRepair::default() };
    if inspection.is_file_damaged() {
        let file = file.ok_or_else(|| {
            io::Error::other(format!(
                "{} has other contents than revocations: restore a backup (countersign database \
                 restore)",
                store.location()
            ))
        })?;
        rewrite(store, file, inspection, everything, &mut repair)?;
    } else {
        if store.exists().map_err(store_error)? {
            let changed = store.block_on(change(store, inspection, &mut repair));
            changed.map_err(store_error)?;
        }
        let mut revocations = RevocationStore::in_database(store.clone(), Vec::new());
        revocations.append(everything.as_slice())?;
    }
    Ok(repair)
}

/// Corrects rows, and moves those that are not revocations.
async fn change(
    store: &Store,
    inspection: &RevocationInspection,
    repair: &mut RevocationRepair,
) -> Result<(), StoreError> {
    let mut connection = store.connect_to_write().await?;
    for problem in &inspection.problems {
        match problem {
            RevocationProblem::End { number, end } => {
                let set = "UPDATE countersign_revocation SET until = $1 WHERE number = $2";
                sqlx::query(set).bind(*end).bind(*number).execute(&mut connection).await?;
                repair.corrected += 1;
            }
            RevocationProblem::Record { number, record, .. } => {
                set_aside(&mut connection, *number, record).await?;
                let delete = "DELETE FROM countersign_revocation WHERE number = $1";
                sqlx::query(delete).bind(*number).execute(&mut connection).await?;
                repair.moved += 1;
            }
            _ => {}
        }
    }
    execute(&mut connection, "COMMIT").await?;
    Ok(connection.close().await?)
}

async fn set_aside(
    connection: &mut AnyConnection,
    number: i64,
    record: &str,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO countersign_damaged_revocation (number, record) VALUES ($1, $2)";
    sqlx::query(insert).bind(number).bind(record).execute(connection).await?;
    Ok(())
}

/// Writes everything that can be read to a new file, which takes the place of the damaged one.
fn rewrite(
    store: &Store,
    file: &Path,
    inspection: &RevocationInspection,
    everything: Option<Revocation>,
    repair: &mut RevocationRepair,
) -> io::Result<()> {
    // The path may be a symbolic link: replace the file, not the link.
    let file = &file.canonicalize()?;
    let draft = with_suffix(file, ".repairing");
    remove_all(&draft)?;
    let written = Store::in_file(draft.clone())?;
    let mut revocations = RevocationStore::in_database(written.clone(), Vec::new());
    revocations.append(&inspection.revocations)?;
    revocations.append(everything.as_slice())?;
    let records = inspection.problems.iter().filter_map(|problem| match problem {
        RevocationProblem::Record { number, record, .. } => Some((*number, record)),
        _ => None,
    });
    let moved = written.block_on(async {
        let mut connection = written.connect().await?;
        let mut moved = 0;
        for (number, record) in records {
            set_aside(&mut connection, number, record).await?;
            moved += 1;
        }
        connection.close().await?;
        Ok(moved)
    });
    repair.moved = moved.map_err(store_error)?;
    written.block_on(written.close());
    // No process may write to the old file meanwhile. A damaged one may not allow a lock.
    let lock = store.block_on(lock(store)).map_err(store_error)?;
    let kept = replace(file, &draft)?;
    drop(lock);
    repair.rewritten = Some((inspection.revocations.len(), kept));
    Ok(())
}

async fn lock(store: &Store) -> Result<Option<AnyConnection>, StoreError> {
    match store.connect_to_write().await {
        Err(error @ StoreError::File(io::ErrorKind::WouldBlock, _)) => Err(error),
        locked => Ok(locked.ok()),
    }
}

/// Gives the damaged file and its log another name, and the draft theirs. Returns that name.
#[expect(clippy::disallowed_methods, reason = "the damaged file is kept under another name")]
fn replace(file: &Path, draft: &Path) -> io::Result<PathBuf> {
    let new = std::fs::File::open(draft)?;
    copy_owner(&new, file);
    new.sync_all()?;
    let mut names = (1_u32..).map(|number| with_suffix(file, &format!(".damaged.{number}")));
    let kept = names.find(|name| !name.exists()).unwrap_or_default();
    for suffix in ["-wal", "-shm"] {
        let log = with_suffix(file, suffix);
        if log.exists() {
            std::fs::rename(&log, with_suffix(&kept, suffix))
                .map_err(|error| with_path(&log, &error))?;
        }
    }
    std::fs::hard_link(file, &kept).map_err(|error| with_path(&kept, &error))?;
    std::fs::rename(draft, file).map_err(|error| with_path(file, &error))?;
    Ok(kept)
}

#[expect(clippy::disallowed_methods, reason = "an interrupted repair may have left them")]
fn remove_all(draft: &Path) -> io::Result<()> {
    for path in ["", "-wal", "-shm"].map(|suffix| with_suffix(draft, suffix)) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(with_path(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}
