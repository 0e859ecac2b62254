//! The file of an SQLite database: how it is created and recognized, and what its errors mean.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{AnyPool, error::DatabaseError, sqlite::SqliteError};
use tokio::time::sleep;

use super::StoreError;

/// Device and inode of a file. A file that replaces another has a different identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity(u64, u64);

impl FileIdentity {
    /// Returns the identity of the file at `path`.
    ///
    /// # Errors
    /// The file is missing, or its directory is not accessible.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        path.metadata().map(|metadata| Self(metadata.dev(), metadata.ino()))
    }

    /// Returns the identity of an open file.
    ///
    /// # Errors
    /// The operating system does not return it.
    pub(crate) fn of_open(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self(metadata.dev(), metadata.ino()))
    }
}

/// Creates the file if it does not exist, readable by its owner only.
///
/// An existing file is not opened: closing it would release the locks that SQLite holds on it
/// in this process.
pub(super) fn create_file(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let directory = directory(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => copy_owner(&file, directory),
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Returns the directory of a file.
pub(crate) fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

/// Adds the path to an error of the operating system.
pub(crate) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Adds a suffix to the name of a file.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Gives `file` the owner of `model`, so that a file created by root stays accessible to a
/// server that runs as another user.
pub(crate) fn copy_owner(file: &File, model: &Path) {
    if let Ok(model) = model.metadata() {
        let _ignored = fchown(file, Some(model.uid()), Some(model.gid()));
    }
}

/// Sets write-ahead logging, with which readers do not wait for a writer.
///
/// The file keeps this mode. Each connection has `synchronous = FULL` by default, so that an
/// acknowledged commit is durable, and waits five seconds for the locks of other processes.
pub(super) async fn use_write_ahead_log(pool: &AnyPool) -> sqlx::Result<()> {
    /// The conversion of a new file does not wait for another process that does the same.
    const RETRY_INTERVAL: Duration = Duration::from_millis(50);
    let mut retries = 100;
    loop {
        match sqlx::query("PRAGMA journal_mode = WAL").execute(pool).await {
            Err(error) if retries > 0 && is_locked(&error) => retries -= 1,
            result => return result.map(drop),
        }
        sleep(RETRY_INTERVAL).await;
    }
}

fn is_locked(error: &sqlx::Error) -> bool {
    let file_error = error.as_database_error().and_then(file_error);
    matches!(file_error, Some(StoreError::File(io::ErrorKind::WouldBlock, _)))
}

/// Converts an error that concerns the file itself; `None` for other errors and databases.
pub(super) fn file_error(error: &(dyn DatabaseError + 'static)) -> Option<StoreError> {
    let error = error.try_downcast_ref::<SqliteError>()?;
    let code: u32 = error.code()?.parse().ok()?;
    // The low byte is the primary result code (https://sqlite.org/rescode.html).
    let (kind, remedy) = match code & 0xff {
        // SQLITE_BUSY, SQLITE_LOCKED.
        5 | 6 => (io::ErrorKind::WouldBlock, "another process keeps it locked: try again"),
        // SQLITE_READONLY, SQLITE_CANTOPEN.
        8 | 14 => (
            io::ErrorKind::NotConnected,
            "make the file and its directory readable and writable for the server's user",
        ),
        // SQLITE_FULL.
        13 => (io::ErrorKind::NotConnected, "free space on this file system"),
        // SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_NOTADB.
        10 | 11 | 26 => (
            io::ErrorKind::InvalidData,
            "run countersign revocations check if it has revocations; otherwise move it away and \
             restore a backup (countersign database restore)",
        ),
        _ => return None,
    };
    Some(StoreError::File(kind, format!("{}; {remedy}", error.message())))
}

/// The error of a file that existed before and is missing now.
pub(crate) fn missing(location: &str) -> StoreError {
    let text = format!("{location}: is missing; put it back, or restore a backup");
    StoreError::File(io::ErrorKind::NotFound, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DatabaseKind, Store};

    /// Opens an SQLite file in a new directory and passes it to `check`.
    fn with_store(name: &str, check: impl FnOnce(&Store)) {
        let name = format!("countersign-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&directory));
        check(&Store::in_file(directory.join("state/r.db")).unwrap());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    /// Runs statements on the only connection. Returns the first column of the last one.
    fn run(store: &Store, statements: &[&'static str]) -> Result<Vec<i64>, StoreError> {
        let statements = statements.to_vec();
        store.block_on(store.run(async move |pool| {
            let mut rows = Vec::new();
            for statement in statements {
                rows = sqlx::query_scalar(statement).fetch_all(&pool).await?;
            }
            Ok(rows)
        }))
    }

    const INSERT: &str =
        "INSERT INTO countersign_revocation (record) VALUES (hex(zeroblob(99999)))";

    #[test]
    fn acknowledged_commit_is_durable() {
        with_store("durable", |store| {
            // 2 is FULL: the log is synchronized with every commit.
            assert_eq!(run(store, &["PRAGMA synchronous"]), Ok(vec![2]));
            assert_eq!(run(store, &["PRAGMA busy_timeout"]), Ok(vec![5000]));
        });
    }

    #[test]
    fn file_error_has_the_path_and_the_remedy() {
        with_store("errors", |store| {
            for (limit, remedy) in [
                ("PRAGMA max_page_count = 1", "database or disk is full; free space"),
                ("PRAGMA query_only = 1", "readonly database; make the file and its directory"),
            ] {
                let Err(StoreError::File(kind, text)) = run(store, &[limit, INSERT]) else {
                    panic!("{limit}")
                };
                assert_eq!(kind, io::ErrorKind::NotConnected);
                assert!(text.contains("/r.db: ") && text.contains(remedy), "{text}");
            }
        });
    }

    #[test]
    fn transaction_after_a_full_disk_begins() {
        with_store("full", |store| {
            let insert_after = |statement: &'static str| {
                store.block_on(store.run(async move |pool| {
                    let mut transaction = DatabaseKind::Sqlite.begin(&pool).await?;
                    sqlx::query(statement).execute(&mut *transaction).await?;
                    sqlx::query(INSERT).execute(&mut *transaction).await?;
                    Ok(transaction.commit().await?)
                }))
            };
            let full = insert_after("PRAGMA max_page_count = 1");
            assert!(
                matches!(full, Err(StoreError::File(io::ErrorKind::NotConnected, _))),
                "{full:?}"
            );
            assert_eq!(insert_after("SELECT 1"), Ok(()));
            assert_eq!(run(store, &["SELECT count(*) FROM countersign_revocation"]), Ok(vec![1]));
        });
    }

    #[test]
    fn locked_file_blocks_writers_only() {
        with_store("locked", |store| {
            assert_eq!(run(store, &[INSERT]), Ok(vec![]));
            let other = Store::in_file(store.location().into()).unwrap();
            assert_eq!(run(&other, &["BEGIN IMMEDIATE", INSERT]), Ok(vec![]));
            assert_eq!(run(store, &["SELECT number FROM countersign_revocation"]), Ok(vec![1]));
            let Err(StoreError::File(kind, text)) = run(store, &[INSERT]) else { panic!() };
            assert_eq!(kind, io::ErrorKind::WouldBlock);
            assert!(text.contains("another process keeps it locked"), "{text}");
            assert_eq!(run(&other, &["COMMIT"]), Ok(vec![]));
            assert_eq!(run(store, &["SELECT count(*) FROM countersign_revocation"]), Ok(vec![2]));
        });
    }
}
