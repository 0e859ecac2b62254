//! Permissions of files with secrets.

use std::{fs::Metadata, os::unix::fs::PermissionsExt as _, path::Path};

/// Returns the mode of a file that lets every user of the machine read it.
#[must_use]
pub fn mode_for_all(path: &Path) -> Option<u32> {
    let metadata = path.metadata().ok().filter(Metadata::is_file)?;
    let mode = metadata.permissions().mode() & 0o7777;
    (mode & 0o004 != 0).then_some(mode)
}
