//! Import of a revocation journal, the file format of earlier versions, into the SQLite file
//! that replaces it.
//!
//! The first line of a journal names the format. Each further line is a checksum and a JSON
//! [`RevocationRecord`]. The checksum covers the record and everything before it. A line without
//! a line ending was never acknowledged: a killed process left it incomplete.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256, digest};
use countersign_engine::Revocation;

use super::{record::RevocationRecord, store::RevocationStore};
use crate::{
    base::{clock::Stopwatch, hex::to_hex, watched_file::open_regular},
    store::{
        Store,
        sqlite::{FileIdentity, copy_owner, directory, with_path, with_suffix},
    },
};

const HEADER: &[u8] = b"countersign-revocations 1\n";
const SQLITE_HEADER: &[u8] = b"SQLite format 3\0";
/// Timeout for the lock of the journal, which processes of earlier versions take to write to it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a checksum that are stored.
const CHECKSUM_BYTES: usize = 8;
/// Revocations in one transaction of the import.
const TRANSACTION_ROWS: usize = 10_000;

/// Replaces a journal at `path` by an SQLite file with its revocations, and keeps the journal
/// under another name. Does nothing if `path` is an SQLite file, an empty file or missing.
///
/// The new file is complete and durable before it gets the name. After a crash or an error, the
/// journal is still at `path`, and the next call starts over.
///
/// # Errors
/// The journal is damaged, the new file cannot be written, or `path` is another kind of file. The
/// file at `path` is unchanged.
pub(super) fn import_journal(path: &Path) -> io::Result<()> {
    let locked = lock_journal(path).map_err(|error| with_path(path, &error))?;
    let Some(mut journal) = locked else { return Ok(()) };
    // The path may be a symbolic link: replace the file, not the link.
    let path = &path.canonicalize()?;
    refuse_log_of_another(path)?;
    let mut bytes = Vec::new();
    journal.read_to_end(&mut bytes).map_err(|error| with_path(path, &error))?;
    let revocations = read_lines(&bytes).map_err(|line| {
        let text = format!(
            "{} is damaged in line {line}; restore it, or move it away and restart to continue \
             without its revocations",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    let draft = write_draft(path, &revocations)?;
    replace(path, &journal, &draft).map_err(|error| with_path(&draft, &error)).map(|kept| {
        tracing::info!(
            "{}: imported {} revocations from the journal, which is kept as {}",
            path.display(),
            revocations.len(),
            kept.display()
        );
    })
}

/// Whether the file at `path` is a journal.
pub(super) fn is_journal(path: &Path) -> bool {
    let mut start = vec![0; HEADER.len()];
    open_regular(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok() && start == HEADER)
}

/// Opens and locks the journal at `path`. `None` if there is no journal.
fn lock_journal(path: &Path) -> io::Result<Option<File>> {
    let waiting = Stopwatch::start();
    loop {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // A pipe would block.
        let mut file = match open_regular(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut start = Vec::new();
        let header_bytes = u64::try_from(HEADER.len()).unwrap_or(u64::MAX);
        (&file).take(header_bytes).read_to_end(&mut start)?;
        if start.is_empty() || start.starts_with(SQLITE_HEADER) {
            return Ok(None);
        }
        if !HEADER.starts_with(&start) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "neither an SQLite database nor a revocation journal; move it away, or name \
                 another file in [revocation]",
            ));
        }
        match file.try_lock() {
            // Another process may have imported it during the wait.
            Ok(()) if FileIdentity::of(path)? == FileIdentity::of_open(&file)? => {
                file.rewind()?;
                return Ok(Some(file));
            }
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if waiting.elapsed() > LOCK_TIMEOUT => {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "another process keeps this journal locked: end it, or try again",
                ));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Refuses the write-ahead log of a database that was at `path` before. SQLite would replay it over
/// the imported revocations.
fn refuse_log_of_another(path: &Path) -> io::Result<()> {
    let log = with_suffix(path, "-wal");
    if log.exists() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} belongs to another database than the journal beside it; move it to that \
                 database, or remove it",
                log.display()
            ),
        ));
    }
    Ok(())
}

/// Reads the complete lines of a journal.
///
/// # Errors
/// The number of the first damaged line.
fn read_lines(bytes: &[u8]) -> Result<Vec<Revocation>, usize> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let mut checksum = digest(&SHA256, HEADER).as_ref().to_vec();
    let numbered = lines.zip(1..).skip(1);
    numbered.map(|(line, number)| read_line(&mut checksum, line).ok_or(number)).collect()
}

/// Reads a line after the one that `checksum` belongs to. `None` if it is damaged.
fn read_line(checksum: &mut Vec<u8>, line: &[u8]) -> Option<Revocation> {
    let (written, record) = line.strip_suffix(b"\n")?.split_at_checked(2 * CHECKSUM_BYTES)?;
    let json = record.strip_prefix(b" ")?;
    let mut context = Context::new(&SHA256);
    context.update(checksum);
    context.update(json);
    *checksum = context.finish().as_ref().to_vec();
    if written != to_hex(&checksum[..CHECKSUM_BYTES]).as_bytes() {
        return None;
    }
    serde_json::from_slice::<RevocationRecord>(json).ok()?.into_revocation().ok()
}

/// Writes an SQLite file with `revocations` next to `path`, and returns its path.
fn write_draft(path: &Path, revocations: &[Revocation]) -> io::Result<PathBuf> {
    let draft = with_suffix(path, ".importing");
    for leftover in [&draft, &with_suffix(&draft, "-wal"), &with_suffix(&draft, "-shm")] {
        #[expect(clippy::disallowed_methods, reason = "an interrupted import may have left them")]
        match std::fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(with_path(leftover, &error));
            }
            _ => {}
        }
    }
    let store = Store::in_file(draft.clone())?;
    let mut drafted = RevocationStore::in_database(store.clone(), Vec::new());
    drafted.append(&[])?;
    for rows in revocations.chunks(TRANSACTION_ROWS) {
        drafted.append(rows)?;
    }
    store.block_on(store.close());
    Ok(draft)
}

/// Gives `draft` the name of the locked journal, which gets another one. Returns that name.
#[expect(clippy::disallowed_methods, reason = "a rename replaces the journal atomically")]
fn replace(path: &Path, journal: &File, draft: &Path) -> io::Result<PathBuf> {
    let file = File::open(draft)?;
    copy_owner(&file, path);
    file.set_permissions(journal.metadata()?.permissions())?;
    file.sync_all()?;
    let journal = FileIdentity::of_open(journal)?;
    let mut names = (0_u32..).map(|number| match number {
        0 => with_suffix(path, ".imported"),
        _ => with_suffix(path, &format!(".imported.{number}")),
    });
    let kept = loop {
        let name = names.next().unwrap_or_default();
        match std::fs::hard_link(path, &name) {
            Ok(()) => break name,
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // An interrupted import has linked it.
            Err(_) if FileIdentity::of(&name)? == journal => break name,
            Err(_) => {}
        }
    };
    std::fs::rename(draft, path)?;
    File::open(directory(path))?.sync_all()?;
    Ok(kept)
}
