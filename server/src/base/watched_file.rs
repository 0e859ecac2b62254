//! Files that are checked for changes by their metadata.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::clock;

/// Opens a regular file. Opening a pipe would block until another process writes to it.
///
/// # Errors
/// The file is missing, unreadable or not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if path.metadata()?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Reads a regular file of text, of `max` bytes at most.
///
/// # Errors
/// The file is missing, unreadable, too long, not a regular file or not UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    let mut text = String::new();
    open_regular(path)?.take(max.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::other(format!("longer than {max} bytes")));
    }
    Ok(text)
}

/// Version of a file: device, inode, length, and times of the last modification and change.
/// Files with equal versions have the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion([i128; 7]);

impl FileVersion {
    /// Returns the version that `metadata` describes. `None` for a file written in the last two
    /// seconds, because another change within the resolution of its time stamp would be
    /// missed. A modification time in the future was set explicitly, so the time of the
    /// change decides.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Option<Self> {
        let now = i128::from(clock::now().0);
        let [modified, changed] = [metadata.mtime(), metadata.ctime()].map(i128::from);
        let is_near = |time: i128| (time - now).abs() <= 2;
        let is_settled = !is_near(modified) && (modified < now || !is_near(changed));
        is_settled.then(|| {
            Self([
                metadata.dev().into(),
                metadata.ino().into(),
                metadata.len().into(),
                metadata.mtime().into(),
                metadata.mtime_nsec().into(),
                metadata.ctime().into(),
                metadata.ctime_nsec().into(),
            ])
        })
    }
}
