//! Files that are looked at again and again: opened with care, and known again by
//! what the file system says about them.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use crate::clock;

/// Opens a file that ends: to open a pipe would wait for whoever writes to it.
///
/// # Errors
/// There is none.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if path.metadata()?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// One version of a file: device, inode, length, times of the last modification and
/// change. Two that are equal have the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion([i128; 7]);

impl FileVersion {
    /// The version that this is about; `None` for a file written just now: within the
    /// resolution of its time stamp it can change unseen. One that says it is from the
    /// future was told to, some time ago.
    #[must_use]
    pub fn of(about: &Metadata) -> Option<Self> {
        let now = i128::from(clock::now().0);
        let [modified, changed] = [about.mtime(), about.ctime()].map(i128::from);
        let is_near = |time: i128| (time - now).abs() <= 2;
        let is_settled = !is_near(modified) && (modified < now || !is_near(changed));
        is_settled.then(|| {
            Self([
                about.dev().into(),
                about.ino().into(),
                about.len().into(),
                about.mtime().into(),
                about.mtime_nsec().into(),
                about.ctime().into(),
                about.ctime_nsec().into(),
            ])
        })
    }
}
