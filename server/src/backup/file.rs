//! The file of a backup: an SQLite database with a mark, by which servers refuse to run on it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sqlx::Connection as _;

use super::BackupError;
use crate::store::{
    Store, StoreError,
    draft::{DatabaseDraft, FILE_SUFFIXES},
    migrations,
    sqlite::{FileIdentity, directory, with_path, with_suffix},
    transfer::{BACKUP_MARK, application_id, execute},
};

const SQLITE_HEADER: &[u8] = b"SQLite format 3\0";

/// Copies `file` to a draft beside it, which can be migrated.
pub(super) fn copy(file: &Path) -> Result<DatabaseDraft, BackupError> {
    let named = |error: io::Error| with_path(file, &error);
    let mut source = File::open(file).map_err(named)?;
    let mut header = [0; SQLITE_HEADER.len()];
    let is_database = source.read_exact(&mut header).is_ok() && header == SQLITE_HEADER;
    if !is_database {
        return Err(not_a_backup(file));
    }
    let draft = DatabaseDraft::beside(file)?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft.path());
    let mut copy = created.map_err(|error| {
        let place = directory(file).display();
        let remedy = "copy the backup to a directory that can be written";
        io::Error::new(error.kind(), format!("{place}: {error}; {remedy}"))
    })?;
    let mut source = File::open(file).map_err(named)?;
    io::copy(&mut source, &mut copy)?;
    Ok(draft)
}

/// Gives the complete draft of a backup its name.
pub(super) fn publish(
    draft: DatabaseDraft,
    file: &Path,
    replaces: bool,
) -> Result<(), BackupError> {
    draft.publish(file, replaces).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(file),
        _ => error.into(),
    })
}

/// Checks that a backup may be written to `file`. It replaces an earlier one if `replaces` is set,
/// and never another file, in particular not one of `databases`.
pub(super) fn check_target(
    file: &Path,
    replaces: bool,
    databases: &[PathBuf],
) -> Result<(), BackupError> {
    let place = directory(file);
    if !place.is_dir() {
        let text = format!("the directory {} does not exist", place.display());
        return Err(BackupError::Refused(text));
    }
    let is_same = |database: &PathBuf| {
        FILE_SUFFIXES.iter().any(|suffix| is_same_file(file, &with_suffix(database, suffix)))
    };
    if databases.iter().any(is_same) {
        return Err(BackupError::Refused(format!(
            "{} is a database of this configuration: name another file",
            file.display()
        )));
    }
    if file.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    if !has_mark(file)? {
        let text = format!("{} is not a backup; name another file", file.display());
        return Err(BackupError::Refused(text));
    }
    if replaces { Ok(()) } else { Err(exists(file)) }
}

/// Whether two paths lead to the same file, or would if it existed.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let location = |path: &Path| Some(directory(path).canonicalize().ok()?.join(path.file_name()?));
    match (FileIdentity::of(one), FileIdentity::of(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => location(one).is_some_and(|one| Some(one) == location(other)),
    }
}

/// Whether a file has the mark of a backup. It is in the header of the SQLite format.
fn has_mark(file: &Path) -> io::Result<bool> {
    const MARK_OFFSET: u64 = 68;
    // A pipe would block.
    if !file.is_file() {
        return Ok(false);
    }
    let file = File::open(file).map_err(|error| with_path(file, &error))?;
    let (mut header, mut mark) = ([0; SQLITE_HEADER.len()], [0; 4]);
    let is_read = file.read_exact_at(&mut header, 0).is_ok()
        && file.read_exact_at(&mut mark, MARK_OFFSET).is_ok();
    let mark = i64::from(u32::from_be_bytes(mark));
    Ok(is_read && header == SQLITE_HEADER && mark == BACKUP_MARK)
}

fn exists(file: &Path) -> BackupError {
    BackupError::Refused(format!(
        "{} exists\n  help: name another file, or replace it with --force",
        file.display()
    ))
}

fn not_a_backup(file: &Path) -> BackupError {
    BackupError::Refused(format!(
        "{} is not a backup\n  help: name a file that countersign database backup has written",
        file.display()
    ))
}

/// Marks a closed SQLite database as a backup, in one file without a log.
pub(super) async fn mark(store: &Store) -> Result<(), BackupError> {
    let mut connection = store.connect().await?;
    execute(&mut connection, &format!("PRAGMA application_id = {BACKUP_MARK}")).await?;
    execute(&mut connection, "PRAGMA journal_mode = DELETE").await?;
    Ok(connection.close().await?)
}

/// Checks that the copy of a backup is intact and not of a newer version, and removes the mark.
pub(super) async fn unmark(copy: &Store, file: &Path) -> Result<(), BackupError> {
    let mut connection = copy.connect().await?;
    if application_id(&mut connection).await? != BACKUP_MARK {
        return Err(not_a_backup(file));
    }
    let damage: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_all(&mut connection).await?;
    if damage != ["ok"] {
        return Err(BackupError::Refused(format!(
            "{} is damaged: {}",
            file.display(),
            damage.join(", ")
        )));
    }
    let (applied, latest) = (migrations::applied(&mut connection).await?, migrations::latest());
    if applied > latest {
        return Err(BackupError::Refused(format!(
            "{} has schema version {applied}, created by a newer version of this program: use \
             that version (this one has {latest})",
            file.display()
        )));
    }
    execute(&mut connection, "PRAGMA application_id = 0").await?;
    Ok(connection.close().await?)
}

/// Names the file of a backup in an error of its copy.
pub(super) fn name(error: BackupError, copy: &Store, file: &Path) -> BackupError {
    let BackupError::Store(StoreError::File(io::ErrorKind::InvalidData, reason)) = error else {
        return error;
    };
    // Without the remedy, which is for databases.
    let reason = reason.split(';').next().unwrap_or_default();
    let reason = reason.trim_start_matches(copy.location()).trim_start_matches(": ");
    BackupError::Refused(format!("{} is damaged: {reason}", file.display()))
}
