//! Journal of revocations: an append-only file with chained checksums, shared by every process
//! that uses the same state directory.
//!
//! The first line names the format. Each further line is a checksum and a JSON
//! [`RevocationRecord`]. The checksum covers the record and everything before it, so a changed,
//! moved or removed line is detected. Only a cut at the end is not: a user with write access
//! can truncate the file while no process follows it.
//!
//! An append holds the file's lock, and is on disk (fsync) when it returns. A killed process
//! may leave an incomplete line, without a line ending. It was never acknowledged, and the next
//! append overwrites it. A rewrite without expired records creates a new file and renames it.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256, digest};
use countersign_engine::Revocation;

use super::{RevocationStore, record::RevocationRecord};
use crate::base::{clock::Stopwatch, hex::to_hex};

const HEADER: &[u8] = b"countersign-revocations 1\n";

/// A journal file, followed as other processes append to it.
pub struct Journal {
    path: PathBuf,
    /// Position up to which it has been read; `None` to read from its start.
    position: Option<ReadPosition>,
    /// Whether the file has existed. From then on a missing file is an error.
    existed: bool,
    /// Revocations that were read, but not returned because of a later error.
    unread: Vec<Revocation>,
}

/// Timeout for the write lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for the read lock.
const READ_LOCK_TIMEOUT: Duration = Duration::from_millis(400);

/// An open journal file, and the position up to which it has been read.
struct ReadPosition {
    file: File,
    /// Device and inode. Another file of the same name is read from its start.
    identity: (u64, u64),
    /// End of the last complete line.
    end: u64,
    checksum: Vec<u8>,
    records: usize,
}

impl Journal {
    /// Returns the journal at `path`, which need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, position: None, existed: false, unread: Vec::new() }
    }

    fn damaged(&self, what: &str) -> io::Error {
        let text = format!(
            "{} {what}; restore it, or move it away and restart to continue without its revocations",
            self.path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    fn missing(&self) -> io::Error {
        let text = format!(
            "{} is missing; restore it, or restart to begin a new one",
            self.path.display()
        );
        io::Error::new(io::ErrorKind::NotFound, text)
    }

    /// Adds the path to an error of the operating system.
    fn with_path(&self, error: io::Error) -> io::Error {
        if is_transient(&error) {
            return error;
        }
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// Follows `file`, unless it is followed already.
    fn adopt(&mut self, file: &File) -> io::Result<()> {
        self.existed = true;
        let identity = identity(&file.metadata()?);
        if self.position.as_ref().is_none_or(|position| position.identity != identity) {
            let file = file.try_clone()?;
            self.position =
                Some(ReadPosition { file, identity, end: 0, checksum: Vec::new(), records: 0 });
        }
        Ok(())
    }

    /// Reads the lines appended since the last read. The caller holds a lock on the file.
    fn catch_up(&mut self) -> io::Result<Vec<Revocation>> {
        let Some(mut position) = self.position.take() else {
            return Ok(std::mem::take(&mut self.unread));
        };
        match position.read_on() {
            Ok(new) => {
                self.position = Some(position);
                self.unread.extend(new);
                Ok(std::mem::take(&mut self.unread))
            }
            Err(ReadError::Shorter) => {
                // The missing lines have been read before. Once they are restored, reading
                // continues at the same position.
                self.position = Some(position);
                Err(self.damaged("has become shorter"))
            }
            // Read from the start next time: lines before the damage that were not returned
            // must not be skipped once the file is repaired.
            Err(ReadError::Damaged(what)) => Err(self.damaged(&what)),
            Err(ReadError::Io(error)) => Err(self.with_path(error)),
        }
    }

    /// Opens the file for writing and locks it. Creates it if it does not exist.
    fn lock(&self) -> io::Result<FileLock> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory(&self.path))?;
        loop {
            let is_new = !self.path.exists();
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&self.path)?;
            retry_lock(LOCK_TIMEOUT, || file.try_lock())?;
            let file = FileLock(file);
            // Another process may have replaced the file during the wait for the lock.
            let (ours, there) = (file.0.metadata()?, self.path.metadata());
            if there.is_ok_and(|there| identity(&there) == identity(&ours)) {
                if is_new {
                    copy_owner(&file.0, directory(&self.path));
                    sync_directory(&self.path)?;
                }
                return Ok(file);
            }
        }
    }

    /// Writes lines after the last complete one. The caller holds the lock.
    fn write(&mut self, file: &mut File, revocations: &[Revocation]) -> io::Result<()> {
        let position = self
            .position
            .as_mut()
            .ok_or_else(|| io::Error::other("the journal has not been read"))?;
        let mut lines = Vec::new();
        let mut checksum = position.checksum.clone();
        if position.end == 0 {
            lines.extend_from_slice(HEADER);
            checksum = digest(&SHA256, HEADER).as_ref().to_vec();
        }
        write_lines(&mut lines, &mut checksum, revocations)?;
        if file.metadata()?.len() > position.end {
            tracing::warn!("{}: dropping an incomplete entry at the end", self.path.display());
        }
        file.set_len(position.end)?;
        file.seek(SeekFrom::Start(position.end))?;
        if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
            let _ignored = file.set_len(position.end);
            return Err(error);
        }
        position.end += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        position.checksum = checksum;
        position.records += revocations.len();
        Ok(())
    }
}

impl RevocationStore for Journal {
    fn read_new(&mut self) -> io::Result<Option<Vec<Revocation>>> {
        match self.poll() {
            // Out of memory or of file descriptors: the file itself is intact.
            Err(error) if is_transient(&error) => Ok(None),
            looked => looked,
        }
    }

    fn append(&mut self, revocations: &[Revocation]) -> io::Result<Vec<Revocation>> {
        if self.existed && !self.path.exists() {
            return Err(self.missing());
        }
        let mut lock = self.lock().map_err(|error| self.with_path(error))?;
        self.adopt(&lock.0)?;
        let others = self.catch_up()?;
        match self.write(&mut lock.0, revocations) {
            Ok(()) => Ok(others),
            Err(error) => {
                self.unread = others;
                Err(self.with_path(error))
            }
        }
    }

    fn records(&self) -> usize {
        self.position.as_ref().map_or(0, |position| position.records)
    }

    fn rewrite(
        &mut self,
        keep: &mut dyn FnMut(Vec<Revocation>) -> Vec<Revocation>,
    ) -> io::Result<()> {
        let lock = self.lock().map_err(|error| self.with_path(error))?;
        self.adopt(&lock.0)?;
        let kept = keep(self.catch_up()?);
        let mut lines = HEADER.to_vec();
        let mut checksum = digest(&SHA256, HEADER).as_ref().to_vec();
        write_lines(&mut lines, &mut checksum, &kept)?;
        // The path may be a symbolic link: replace the file, not the link.
        let path = self.path.canonicalize()?;
        let mut draft = path.clone().into_os_string();
        draft.push(".new");
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        // Locked before it gets its name, so that no process appends before the rename is
        // durable.
        retry_lock(LOCK_TIMEOUT, || file.try_lock())?;
        let _guard = FileLock(file.try_clone()?);
        file.write_all(&lines)?;
        copy_owner(&file, &path);
        file.set_permissions(lock.0.metadata()?.permissions())?;
        file.sync_all()?;
        #[expect(clippy::disallowed_methods, reason = "rename replaces the old file atomically")]
        std::fs::rename(&draft, &path)?;
        sync_directory(&path)?;
        let identity = identity(&file.metadata()?);
        let end = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.position = Some(ReadPosition { file, identity, end, checksum, records: kept.len() });
        Ok(())
    }
}

impl Journal {
    fn poll(&mut self) -> io::Result<Option<Vec<Revocation>>> {
        let metadata = match self.path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.existed => {
                return Ok(Some(Vec::new()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Lines appended just before the removal can still be read.
                let last = self.catch_up()?;
                return if last.is_empty() { Err(self.missing()) } else { Ok(Some(last)) };
            }
            Err(error) => return Err(self.with_path(error)),
        };
        let known =
            self.position.as_ref().filter(|position| position.identity == identity(&metadata));
        if known.is_some_and(|position| position.end == metadata.len()) {
            return Ok(Some(std::mem::take(&mut self.unread)));
        }
        let is_known = known.is_some();
        if !is_known {
            let file = File::open(&self.path).map_err(|error| self.with_path(error))?;
            self.adopt(&file)?;
        }
        let Some(file) =
            self.position.as_ref().map(|position| position.file.try_clone()).transpose()?
        else {
            return Ok(None);
        };
        // Not during a write: half a line would look like damage.
        match retry_lock(READ_LOCK_TIMEOUT, || file.try_lock_shared()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut && is_known => return Ok(None),
            Err(error) => {
                self.position = None;
                return Err(self.with_path(error));
            }
        }
        let _lock = FileLock(file);
        self.catch_up().map(Some)
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Returns whether an error is transient and independent of the file.
fn is_transient(error: &io::Error) -> bool {
    // EINTR, ENOMEM, ENFILE and EMFILE, on every Unix.
    matches!(error.raw_os_error(), Some(4 | 12 | 23 | 24))
}

/// A locked file; the lock is released on drop.
struct FileLock(File);

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing is not enough: the followed file shares the open file description, and
        // with it the lock.
        let _ignored = self.0.unlock();
    }
}

/// Retries a lock until `limit` has passed.
fn retry_lock(limit: Duration, take: impl Fn() -> Result<(), TryLockError>) -> io::Result<()> {
    let waiting = Stopwatch::start();
    loop {
        match take() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if waiting.elapsed() > limit => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "timeout: another process holds the lock",
                ));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

enum ReadError {
    Io(io::Error),
    Shorter,
    Damaged(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl ReadPosition {
    fn read_on(&mut self) -> Result<Vec<Revocation>, ReadError> {
        if self.file.metadata()?.len() < self.end {
            return Err(ReadError::Shorter);
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.end))?;
        if self.end == 0 {
            // The header first: a file of another kind may have any length.
            (&self.file)
                .take(u64::try_from(HEADER.len()).unwrap_or(u64::MAX))
                .read_to_end(&mut bytes)?;
            if !HEADER.starts_with(&bytes) {
                return Err(ReadError::Damaged("is not a revocation journal".into()));
            }
        }
        self.file.read_to_end(&mut bytes)?;
        let mut revocations = Vec::new();
        // A line without a line ending is incomplete.
        for line in
            bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
        {
            if self.end == 0 {
                self.checksum = digest(&SHA256, HEADER).as_ref().to_vec();
            } else {
                revocations.push(self.read_line(line)?);
                self.records += 1;
            }
            self.end += u64::try_from(line.len()).unwrap_or(u64::MAX);
        }
        Ok(revocations)
    }

    fn read_line(&mut self, line: &[u8]) -> Result<Revocation, ReadError> {
        let damaged = || ReadError::Damaged(format!("is damaged in line {}", self.records + 2));
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (written, record) = line.split_at_checked(2 * CHECKSUM_BYTES).ok_or_else(damaged)?;
        let json = record.strip_prefix(b" ").ok_or_else(damaged)?;
        let checksum = chain_checksum(&self.checksum, json);
        if written != to_hex(&checksum[..CHECKSUM_BYTES]).as_bytes() {
            return Err(damaged());
        }
        let record: RevocationRecord = serde_json::from_slice(json).map_err(|_| damaged())?;
        let revocation = record.into_revocation().map_err(|_| damaged())?;
        self.checksum = checksum;
        Ok(revocation)
    }
}

/// Bytes of a checksum that are stored.
const CHECKSUM_BYTES: usize = 8;

fn chain_checksum(before: &[u8], json: &[u8]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(json);
    context.finish().as_ref().to_vec()
}

fn write_lines(
    lines: &mut Vec<u8>,
    checksum: &mut Vec<u8>,
    revocations: &[Revocation],
) -> io::Result<()> {
    for revocation in revocations {
        let json = serde_json::to_vec(&RevocationRecord::from(revocation))?;
        *checksum = chain_checksum(checksum, &json);
        lines.extend_from_slice(to_hex(&checksum[..CHECKSUM_BYTES]).as_bytes());
        lines.push(b' ');
        lines.extend_from_slice(&json);
        lines.push(b'\n');
    }
    Ok(())
}

/// Syncs the directory, without which a new file name is not durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

/// Gives `file` the owner of `model`, so that a file created by root stays readable for a
/// server that runs as another user.
fn copy_owner(file: &File, model: &Path) {
    if let Ok(model) = model.metadata() {
        let _ignored = fchown(file, Some(model.uid()), Some(model.gid()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_engine::RevocationTarget;

    struct StateDirectory(PathBuf);

    impl StateDirectory {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir()
                .join(format!("countersign-journal-{name}-{}", std::process::id()));
            drop(std::fs::remove_dir_all(&directory));
            Self(directory)
        }

        fn file(&self) -> PathBuf {
            self.0.join("state/revocations")
        }

        fn journal(&self) -> Journal {
            Journal::new(self.file())
        }

        #[expect(clippy::disallowed_methods, reason = "a test reads its file")]
        fn bytes(&self) -> Vec<u8> {
            std::fs::read(self.file()).unwrap()
        }

        #[expect(clippy::disallowed_methods, reason = "a test damages its file")]
        fn put(&self, bytes: &[u8]) {
            std::fs::write(self.file(), bytes).unwrap();
        }
    }

    impl Drop for StateDirectory {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn entry(id: usize) -> Revocation {
        Revocation {
            target: RevocationTarget::TokenId {
                issuer: "i".into(),
                token_id: id.to_string().into(),
            },
            until: None,
        }
    }

    #[test]
    fn journal_is_read_back_by_the_next_process() {
        let state = StateDirectory::new("back");
        assert_eq!(state.journal().read_new().unwrap().unwrap(), [], "no file yet");
        let mut journal = state.journal();
        assert_eq!(journal.append(&[entry(1), entry(2)]).unwrap(), []);
        journal.append(&[entry(3)]).unwrap();
        assert_eq!(state.journal().read_new().unwrap().unwrap(), [entry(1), entry(2), entry(3)]);
        assert_eq!(journal.read_new().unwrap().unwrap(), [], "nothing is returned twice");
        assert_eq!(state.file().metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn journal_follows_other_processes() {
        let state = StateDirectory::new("follow");
        let (mut one, mut other) = (state.journal(), state.journal());
        one.append(&[entry(1)]).unwrap();
        assert_eq!(other.append(&[entry(2)]).unwrap(), [entry(1)], "the records of others first");
        assert_eq!(one.read_new().unwrap().unwrap(), [entry(2)]);
        one.rewrite(&mut |new| {
            assert_eq!(new, []);
            vec![entry(2)]
        })
        .unwrap();
        assert_eq!(
            other.read_new().unwrap().unwrap(),
            [entry(2)],
            "a new file is read from its start"
        );
        other.append(&[entry(3)]).unwrap();
        assert_eq!(one.read_new().unwrap().unwrap(), [entry(3)]);
        assert_eq!(
            (one.records(), state.journal().read_new().unwrap().unwrap()),
            (2, vec![entry(2), entry(3)])
        );
    }

    #[test]
    fn journal_drops_only_an_incomplete_line() {
        let state = StateDirectory::new("torn");
        state.journal().append(&[entry(1), entry(2)]).unwrap();
        let whole = state.bytes();
        let first_two =
            whole.len() - whole.split_inclusive(|byte| *byte == b'\n').next_back().unwrap().len();
        for cut in first_two..whole.len() {
            state.put(&whole[..cut]);
            let mut journal = state.journal();
            assert_eq!(journal.read_new().unwrap().unwrap(), [entry(1)], "cut at {cut}");
            journal.append(&[entry(3)]).unwrap();
            assert_eq!(
                state.journal().read_new().unwrap().unwrap(),
                [entry(1), entry(3)],
                "cut at {cut}"
            );
        }
        // Also if the header itself is incomplete.
        state.put(&whole[..5]);
        state.journal().append(&[entry(4)]).unwrap();
        assert_eq!(state.journal().read_new().unwrap().unwrap(), [entry(4)]);
    }

    #[test]
    fn journal_detects_any_changed_line() {
        let state = StateDirectory::new("damage");
        state.journal().append(&[entry(1), entry(2), entry(3)]).unwrap();
        let whole = state.bytes();
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            state.put(&changed);
            let mut journal = state.journal();
            assert!(journal.read_new().is_err(), "byte {at}");
            assert!(journal.read_new().is_err(), "byte {at}, again");
            assert!(
                journal.append(&[entry(9)]).is_err(),
                "byte {at}: nothing is appended after it"
            );
        }
        let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let put = |order: &[usize]| {
            state.put(&order.iter().flat_map(|line| lines[*line]).copied().collect::<Vec<_>>())
        };
        for order in [&[0, 1, 3][..], &[0, 2, 1, 3], &[1, 2, 3], &[0, 1, 1]] {
            put(order);
            let error = state.journal().read_new().unwrap_err().to_string();
            assert!(error.contains("move it away"), "{order:?}: {error}");
        }
        // A removed last line is detected only by a process that follows the file.
        put(&[0, 1, 2, 3]);
        let mut follower = state.journal();
        assert_eq!(follower.read_new().unwrap().unwrap().len(), 3);
        put(&[0, 1, 2]);
        assert!(follower.read_new().is_err());
        assert_eq!(state.journal().read_new().unwrap().unwrap().len(), 2);
    }

    #[test]
    fn repaired_journal_is_read_from_its_start() {
        let state = StateDirectory::new("repair");
        state.journal().append(&[entry(1), entry(2)]).unwrap();
        let whole = state.bytes();
        let mut changed = whole.clone();
        let last = changed.len() - 3;
        changed[last] ^= 1;
        state.put(&changed);
        let mut journal = state.journal();
        assert!(journal.read_new().is_err());
        // Restored in place, as by `cp`.
        state.put(&whole);
        assert_eq!(journal.read_new().unwrap().unwrap(), [entry(1), entry(2)]);
    }

    #[test]
    fn journal_never_overwrites_a_foreign_file() {
        let state = StateDirectory::new("foreign");
        state.journal().append(&[]).unwrap();
        for foreign in [
            &b"a secret without a line ending"[..],
            &[0; 5000],
            b"countersign-revocations 2\n",
            b"\n",
        ] {
            state.put(foreign);
            assert!(state.journal().read_new().is_err());
            assert!(state.journal().append(&[entry(1)]).is_err());
            assert_eq!(state.bytes(), foreign);
        }
    }

    #[test]
    fn held_lock_times_out_without_loss() {
        let state = StateDirectory::new("locked");
        let (mut journal, mut other) = (state.journal(), state.journal());
        journal.append(&[entry(1)]).unwrap();
        other.append(&[entry(2)]).unwrap();
        let hung = File::open(state.file()).unwrap();
        hung.lock().unwrap();
        assert_eq!(journal.read_new().unwrap(), None, "the file is locked");
        assert_eq!(journal.append(&[entry(3)]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            state.journal().read_new().unwrap_err().kind(),
            io::ErrorKind::TimedOut,
            "a locked journal is not an empty one"
        );
        hung.unlock().unwrap();
        assert_eq!(journal.read_new().unwrap().unwrap(), [entry(2)]);
    }

    #[test]
    fn rewrite_keeps_concurrent_appends() {
        let state = StateDirectory::new("rewrite");
        let mut journal = state.journal();
        journal.append(&(0..50).map(entry).collect::<Vec<_>>()).unwrap();
        let (appending, done) =
            (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut other = state.journal();
                for id in 100..160 {
                    other.append(&[entry(id)]).unwrap();
                    appending.store(id, std::sync::atomic::Ordering::SeqCst);
                }
                done.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            let mut known: Vec<_> = (0..50).map(entry).collect();
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                journal
                    .rewrite(&mut |new| {
                        known.extend(
                            new.into_iter().filter(|one| !known.contains(one)).collect::<Vec<_>>(),
                        );
                        known.clone()
                    })
                    .unwrap();
            }
        });
        journal.append(&[entry(200)]).unwrap();
        let kept = state.journal().read_new().unwrap().unwrap();
        assert!(
            (0..50).chain(100..160).chain([200]).all(|id| kept.contains(&entry(id))),
            "{}",
            kept.len()
        );
    }

    #[test]
    fn rewrite_keeps_a_symbolic_link() {
        let state = StateDirectory::new("link");
        state.journal().append(&[entry(1)]).unwrap();
        let other = state.0.join("other");
        std::os::unix::fs::symlink(state.file(), &other).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
        File::open(state.file()).unwrap().set_permissions(mode).unwrap();
        let mut linked = Journal::new(other);
        linked.rewrite(&mut |new| new).unwrap();
        linked.append(&[entry(2)]).unwrap();
        assert_eq!(state.journal().read_new().unwrap().unwrap(), [entry(1), entry(2)]);
        assert_eq!(state.file().metadata().unwrap().mode() & 0o777, 0o660);
    }

    #[test]
    fn missing_or_shorter_journal_is_an_error() {
        let state = StateDirectory::new("gone");
        let mut journal = state.journal();
        journal.append(&[entry(1)]).unwrap();
        let whole = state.bytes();
        state.put(HEADER);
        assert!(journal.read_new().unwrap_err().to_string().contains("shorter"));
        state.put(&whole);
        assert_eq!(journal.read_new().unwrap().unwrap(), []);
        std::fs::remove_dir_all(state.file().parent().unwrap()).unwrap();
        assert!(journal.read_new().unwrap_err().to_string().contains("is missing"));
        assert!(journal.append(&[entry(2)]).unwrap_err().to_string().contains("is missing"));
    }
}
