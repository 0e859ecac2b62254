//! Versions and contents of the watched files.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::base::watched_file::{FileVersion, open_regular};

/// The versions and contents of files at one check.
#[derive(Default)]
pub(super) struct FileVersions(Vec<CheckedFile>);

/// A file at one check.
struct CheckedFile {
    path: PathBuf,
    /// `None` if it may still change unnoticed, or is missing.
    version: Option<FileVersion>,
    content: FileContent,
}

/// The content of a file at one check.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileContent {
    Digest([u8; SHA256_OUTPUT_LEN]),
    /// This process may not read it.
    Unreadable,
    Missing,
}

impl FileVersions {
    pub(super) fn of(files: &[PathBuf]) -> Self {
        Self::default().refresh(files)
    }

    /// Checks files again. The content of a file is read only if its metadata has changed.
    pub(super) fn refresh(&self, files: &[PathBuf]) -> Self {
        let check = |path: &PathBuf| {
            // Taken before the file is read, so that a write in between is noticed at the next
            // check.
            let version = path.metadata().ok().and_then(|about| FileVersion::of(&about));
            let before = self.find(path).filter(|file| file.version == version);
            let content = match before {
                Some(before) if version.is_some() => before.content,
                _ => FileContent::read(path),
            };
            CheckedFile { path: path.clone(), version, content }
        };
        Self(files.iter().map(check).collect())
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.iter().map(|file| &file.path)
    }

    /// Whether these are the same files with the same contents.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let content = |file: &CheckedFile| file.content;
        self.paths().eq(other.paths()) && self.0.iter().map(content).eq(other.0.iter().map(content))
    }

    /// Whether no file may still change unnoticed, or is missing.
    pub(super) fn is_settled(&self) -> bool {
        let is_settled =
            |file: &CheckedFile| file.version.is_some() || file.content == FileContent::Unreadable;
        self.0.iter().all(is_settled)
    }

    pub(super) fn has_missing(&self) -> bool {
        self.0.iter().any(|file| file.content == FileContent::Missing)
    }

    /// Records which files this process may not read. `self` is by a process with more rights. What
    /// that has read stays in force, whatever is in these files now.
    pub(super) fn mark_unreadable(&mut self, now: &Self) {
        for file in &mut self.0 {
            if now.find(&file.path).is_some_and(|now| now.content == FileContent::Unreadable) {
                file.content = FileContent::Unreadable;
            }
        }
    }

    /// Whether a file that this process may read was changed, added or removed since `before`.
    pub(super) fn has_changed_since(&self, before: &Self) -> bool {
        let has_changed = |now: &CheckedFile| {
            let before = before.find(&now.path).map(|before| before.content);
            now.content != FileContent::Unreadable && before != Some(now.content)
        };
        self.0.iter().any(has_changed)
    }

    fn find(&self, path: &Path) -> Option<&CheckedFile> {
        self.0.iter().find(|file| file.path == path)
    }
}

impl FileContent {
    fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        match open_regular(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => {
                let digest = digest(&SHA256, &bytes);
                digest.as_ref().try_into().map_or(Self::Missing, Self::Digest)
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Unreadable,
            Err(_) => Self::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(contents: [(&str, FileContent); 2]) -> FileVersions {
        let file =
            |(path, content): (&str, _)| CheckedFile { path: path.into(), version: None, content };
        FileVersions(contents.map(file).into())
    }

    #[test]
    fn unreadable_file_is_not_a_missed_change() {
        let digest = |byte| FileContent::Digest([byte; 32]);
        let mut before = versions([("a", digest(1)), ("b", digest(2))]);
        for (content, has_changed) in [
            (digest(2), false),
            (FileContent::Unreadable, false),
            (digest(3), true),
            (FileContent::Missing, true),
        ] {
            let now = versions([("a", FileContent::Unreadable), ("b", content)]);
            assert_eq!(now.has_changed_since(&before), has_changed);
        }
        let added = versions([("a", digest(1)), ("c", digest(1))]);
        assert!(added.has_changed_since(&before));
        let now = versions([("a", FileContent::Unreadable), ("b", digest(2))]);
        assert!(!now.is_same(&before) && !now.is_settled());
        before.mark_unreadable(&now);
        assert!(now.is_same(&before));
    }
}
