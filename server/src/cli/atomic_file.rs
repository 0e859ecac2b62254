//! Files that are written as a whole, with their permissions from the start, and read only if
//! these are right.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    process::geteuid,
};

use super::state_directory::generate_key;

/// Permissions of a file with a secret: only its owner may read it.
pub(super) const PRIVATE: u32 = 0o600;
/// Permissions of a public file.
pub(super) const PUBLIC: u32 = 0o644;

/// Creates a directory and its parents, for their owner only.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Writes a new file. Of several processes, one succeeds.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is a file of this name.
pub(super) fn create(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let draft = Draft::write(file, text, mode)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a hard link fails where a rename would overwrite the file of another process"
    )]
    std::fs::hard_link(&draft.0, file)
}

/// Writes a file, and replaces one of this name. A symbolic link is replaced, not followed.
pub(super) fn replace(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let draft = Draft::write(file, text, mode)?;
    #[expect(clippy::disallowed_methods, reason = "readers see the old text or the new one")]
    std::fs::rename(&draft.0, file)
}

/// Reads a regular file that only this user can read. `None` if it is missing.
pub(super) fn read_private(path: &Path) -> io::Result<Option<String>> {
    /// Bounds the read: a token is much shorter.
    const MAX_FILE_BYTES: u64 = 64 << 10;
    // A pipe must not block the command.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(io::Error::other("it is a symbolic link")),
        Err(error) => return Err(error.into()),
    };
    // The open file is checked, because the name may have another file by now.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "other users can read it (mode {:o}, not 600)",
            metadata.mode() & 0o777
        )));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Adds the path to an error of the operating system.
pub(super) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A complete file beside the one to write. Dropping it removes it.
struct Draft(PathBuf);

impl Draft {
    fn write(file: &Path, text: &str, mode: u32) -> io::Result<Self> {
        // A random name, so that it differs from the drafts of all other processes.
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", generate_key()?));
        let draft = Self(file.with_file_name(name));
        let mut written =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft.0)?;
        written.write_all(text.as_bytes())?;
        written.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is missing after a rename.
        #[expect(clippy::disallowed_methods, reason = "the draft is ours")]
        let _ignored = std::fs::remove_file(&self.0);
    }
}
