//! A new file for revocations that are in the memory of a server, and whose file is missing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use countersign_engine::Revocation;

use super::store::{RevocationStore, store_error};
use crate::store::{
    Store,
    draft::DatabaseDraft,
    sqlite::{directory, with_path, with_suffix},
};

/// Writes a new file of `store`, which appears when it is complete. It continues the database with
/// the id `former`.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write_file(
    store: &Store,
    revocations: &[Revocation],
    former: Option<&str>,
) -> io::Result<()> {
    let file = &target(Path::new(store.location()));
    let draft = DatabaseDraft::beside(file)?;
    let written = Store::in_file(draft.path().to_owned())?;
    RevocationStore::in_database(written.clone(), Vec::new()).append(revocations)?;
    if let Some(former) = former {
        written.block_on(written.add_predecessor(former.to_owned())).map_err(store_error)?;
    }
    written.block_on(written.close());
    // The log of the former file must not be applied to the new one. Closing removes it.
    store.close_file();
    set_logs_aside(file)?;
    match draft.publish(file, false) {
        // Another process was faster. What it does not know is written back after the next read.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        published => published.map_err(|error| with_path(file, &error)),
    }
}

/// Returns the path itself, or the one that a symbolic link names.
fn target(file: &Path) -> PathBuf {
    fs::read_link(file).map_or_else(|_| file.to_owned(), |target| directory(file).join(target))
}

#[expect(clippy::disallowed_methods, reason = "the files of the former database are kept")]
fn set_logs_aside(file: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm"] {
        let log = with_suffix(file, suffix);
        match fs::rename(&log, with_suffix(file, &format!(".lost{suffix}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(with_path(&log, &error));
            }
            _ => {}
        }
    }
    Ok(())
}
