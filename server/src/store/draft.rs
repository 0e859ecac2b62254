//! A database that gets its name when it is complete.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;

use super::sqlite::{directory, with_suffix};
use crate::base::hex::to_hex;

/// Suffixes of the files of an SQLite database.
pub(crate) const FILE_SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// A file beside another one, under a name that no other process uses. Dropping it removes it.
pub(crate) struct DatabaseDraft(PathBuf);

impl DatabaseDraft {
    /// Chooses the name of a draft of `file`. An SQLite database is created at it with mode 0600.
    pub(crate) fn beside(file: &Path) -> io::Result<Self> {
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(io::Error::other)?;
        let mut name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}", to_hex(&id)));
        Ok(Self(file.with_file_name(name)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the complete and closed draft its name.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is such a file and `replaces` is
    /// not set.
    #[expect(clippy::disallowed_methods, reason = "the file appears under its name when complete")]
    pub(crate) fn publish(self, file: &Path, replaces: bool) -> io::Result<()> {
        File::open(&self.0)?.sync_all()?;
        if replaces {
            std::fs::rename(&self.0, file)?;
        } else {
            // Fails where a rename would replace the file of another process.
            match std::fs::hard_link(&self.0, file) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                // Some file systems have no hard links.
                Err(_) => std::fs::rename(&self.0, file)?,
                Ok(()) => {}
            }
        }
        File::open(directory(file))?.sync_all()
    }
}

impl Drop for DatabaseDraft {
    fn drop(&mut self) {
        for suffix in FILE_SUFFIXES {
            #[expect(clippy::disallowed_methods, reason = "the draft is ours; most are missing")]
            let _ignored = std::fs::remove_file(with_suffix(&self.0, suffix));
        }
    }
}
