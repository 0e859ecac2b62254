//! Revocations in a file: append-only, checksummed, shared by every process that
//! uses the same state directory.
//!
//! The first line names the format. Each further line is a checksum and a record
//! in JSON; the checksum covers the record and everything before it, so a line
//! that was changed, moved or taken out is noticed. An append happens under the
//! file's lock and is on the disk when it returns. What a killed process left half
//! written has no line ending: nobody was told that it is kept, and the next append
//! takes its place. Rewriting without what is over makes a new file and renames it.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256, digest};
use countersign_engine::{Revocation, UnixTime};

use super::{
    RevocationStore,
    record::{Record, to_hex},
};

const HEADER: &[u8] = b"countersign-revocations 1\n";

/// A file of revocations, followed as others append to it.
pub struct Journal {
    path: PathBuf,
    followed: Option<Followed>,
}

/// How far a file has been read.
struct Followed {
    file: File,
    /// Device and inode: another file of the same name starts anew.
    identity: (u64, u64),
    /// Where the last complete line ends.
    end: u64,
    checksum: Vec<u8>,
    records: usize,
}

impl Journal {
    /// The file at this path, which need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, followed: None }
    }

    fn damaged(&self, what: &str) -> io::Error {
        let text = format!("{} {what}; restore it, or move it away to go on without what it holds", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// Names the file in an error of the operating system.
    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// Reads what was appended since the last time, of `file` if that is another
    /// one than before.
    fn catch_up(&mut self, file: File) -> io::Result<Vec<Revocation>> {
        let about = file.metadata()?;
        let identity = (about.dev(), about.ino());
        let mut followed = match self.followed.take() {
            Some(followed) if followed.identity == identity => followed,
            _ => Followed { file, identity, end: 0, checksum: Vec::new(), records: 0 },
        };
        let read = followed.read_on();
        // Where it stopped, so that a fault is found again and not passed over.
        self.followed = Some(followed);
        read.map_err(|fault| match fault {
            ReadFault::Io(error) => self.named(error),
            ReadFault::Damaged(what) => self.damaged(&what),
        })
    }

    /// Opens the file for writing and locks it, making it first if need be.
    fn lock(&self) -> io::Result<Locked> {
        if let Some(directory) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        loop {
            let is_new = !self.path.exists();
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
            file.lock()?;
            // While we waited another process may have put a new file in its place.
            let (ours, there) = (file.metadata()?, self.path.metadata());
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                if is_new {
                    sync_directory(&self.path)?;
                }
                return Ok(Locked(file));
            }
        }
    }

    /// Writes lines behind everything complete, under the lock.
    fn write(&mut self, file: &mut File, revocations: &[Revocation]) -> io::Result<()> {
        let Some(followed) = &mut self.followed else { return Ok(()) };
        let mut lines = Vec::new();
        let mut checksum = followed.checksum.clone();
        if followed.end == 0 {
            lines.extend_from_slice(HEADER);
            checksum = digest(&SHA256, HEADER).as_ref().to_vec();
        }
        write_lines(&mut lines, &mut checksum, revocations)?;
        if file.metadata()?.len() > followed.end {
            tracing::warn!("{}: an entry that was never completed is dropped", self.path.display());
        }
        file.set_len(followed.end)?;
        file.seek(SeekFrom::Start(followed.end))?;
        if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
            let _as_it_was = file.set_len(followed.end);
            return Err(error);
        }
        followed.end += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        followed.checksum = checksum;
        followed.records += revocations.len();
        Ok(())
    }
}

impl RevocationStore for Journal {
    fn read_new(&mut self) -> io::Result<Vec<Revocation>> {
        match File::open(&self.path) {
            Ok(file) => self.catch_up(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.followed.is_none() => Ok(Vec::new()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.damaged("is gone")),
            Err(error) => Err(self.named(error)),
        }
    }

    fn append(&mut self, revocations: &[Revocation]) -> io::Result<Vec<Revocation>> {
        if self.followed.is_some() && !self.path.exists() {
            return Err(self.damaged("is gone"));
        }
        let mut lock = self.lock().map_err(|error| self.named(error))?;
        let others = self.catch_up(lock.0.try_clone()?)?;
        self.write(&mut lock.0, revocations).map_err(|error| self.named(error))?;
        Ok(others)
    }

    fn records(&self) -> usize {
        self.followed.as_ref().map_or(0, |followed| followed.records)
    }

    fn rewrite(&mut self, keep: &mut dyn FnMut(Vec<Revocation>) -> Vec<Revocation>) -> io::Result<()> {
        let lock = self.lock().map_err(|error| self.named(error))?;
        let kept = keep(self.catch_up(lock.0.try_clone()?)?);
        let mut lines = HEADER.to_vec();
        let mut checksum = digest(&SHA256, HEADER).as_ref().to_vec();
        write_lines(&mut lines, &mut checksum, &kept)?;
        let draft = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&lines)?;
        file.sync_all()?;
        #[expect(clippy::disallowed_methods, reason = "the new file takes the old one's place, whole or not at all")]
        std::fs::rename(&draft, &self.path)?;
        sync_directory(&self.path)?;
        let about = file.metadata()?;
        let (identity, end) = ((about.dev(), about.ino()), about.len());
        self.followed = Some(Followed { file, identity, end, checksum, records: kept.len() });
        Ok(())
    }
}

/// A file that no other process writes meanwhile.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Not only closed: what follows the file shares its description, and with
        // it the lock.
        let _gone_with_the_process_at_last = self.0.unlock();
    }
}

enum ReadFault {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for ReadFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Followed {
    fn read_on(&mut self) -> Result<Vec<Revocation>, ReadFault> {
        if self.file.metadata()?.len() < self.end {
            return Err(ReadFault::Damaged("has become shorter".into()));
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.read_to_end(&mut bytes)?;
        let mut revocations = Vec::new();
        // What has no line ending yet is being written, or never will be.
        for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            if self.end == 0 {
                if line != HEADER {
                    return Err(ReadFault::Damaged("does not start as a file of revocations does".into()));
                }
                self.checksum = digest(&SHA256, HEADER).as_ref().to_vec();
            } else {
                revocations.push(self.read_line(line)?);
                self.records += 1;
            }
            self.end += u64::try_from(line.len()).unwrap_or(u64::MAX);
        }
        Ok(revocations)
    }

    fn read_line(&mut self, line: &[u8]) -> Result<Revocation, ReadFault> {
        let damaged = || ReadFault::Damaged(format!("is damaged in line {}", self.records + 2));
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (written, record) = line.split_at_checked(2 * CHECKSUM).ok_or_else(damaged)?;
        let json = record.strip_prefix(b" ").ok_or_else(damaged)?;
        let checksum = chained(&self.checksum, json);
        if written != to_hex(&checksum[..CHECKSUM]).as_bytes() {
            return Err(damaged());
        }
        let record: Record = serde_json::from_slice(json).map_err(|_| damaged())?;
        let revocation = record.meaning(UnixTime(0)).map_err(|_| damaged())?;
        self.checksum = checksum;
        Ok(revocation)
    }
}

/// How many bytes of a checksum are written.
const CHECKSUM: usize = 8;

fn chained(before: &[u8], json: &[u8]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(json);
    context.finish().as_ref().to_vec()
}

fn write_lines(lines: &mut Vec<u8>, checksum: &mut Vec<u8>, revocations: &[Revocation]) -> io::Result<()> {
    for revocation in revocations {
        let json = serde_json::to_vec(&Record::from(revocation))?;
        *checksum = chained(checksum, &json);
        lines.extend_from_slice(to_hex(&checksum[..CHECKSUM]).as_bytes());
        lines.push(b' ');
        lines.extend_from_slice(&json);
        lines.push(b'\n');
    }
    Ok(())
}

/// A new name is only kept once its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_engine::Revoked;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("countersign-journal-{name}-{}", std::process::id()));
            drop(std::fs::remove_dir_all(&directory));
            Self(directory)
        }

        fn file(&self) -> PathBuf {
            self.0.join("state/revocations")
        }

        fn journal(&self) -> Journal {
            Journal::new(self.file())
        }

        #[expect(clippy::disallowed_methods, reason = "a test looks into its file")]
        fn bytes(&self) -> Vec<u8> {
            std::fs::read(self.file()).unwrap()
        }

        #[expect(clippy::disallowed_methods, reason = "a test damages its file")]
        fn put(&self, bytes: &[u8]) {
            std::fs::write(self.file(), bytes).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn entry(id: usize) -> Revocation {
        Revocation { what: Revoked::TokenId { issuer: "i".into(), token_id: id.to_string().into() }, until: None }
    }

    #[test]
    fn what_was_appended_is_read_back_by_the_next_process() {
        let place = Place::new("back");
        assert_eq!(place.journal().read_new().unwrap(), [], "no file yet");
        let mut journal = place.journal();
        assert_eq!(journal.append(&[entry(1), entry(2)]).unwrap(), []);
        journal.append(&[entry(3)]).unwrap();
        assert_eq!(place.journal().read_new().unwrap(), [entry(1), entry(2), entry(3)]);
        assert_eq!(journal.read_new().unwrap(), [], "not told twice");
        assert_eq!(place.file().metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn processes_follow_each_other() {
        let place = Place::new("follow");
        let (mut one, mut other) = (place.journal(), place.journal());
        one.append(&[entry(1)]).unwrap();
        assert_eq!(other.append(&[entry(2)]).unwrap(), [entry(1)], "what others wrote first");
        assert_eq!(one.read_new().unwrap(), [entry(2)]);
        one.rewrite(&mut |new| {
            assert_eq!(new, []);
            vec![entry(2)]
        })
        .unwrap();
        assert_eq!(other.read_new().unwrap(), [entry(2)], "a new file is read from its start");
        other.append(&[entry(3)]).unwrap();
        assert_eq!(one.read_new().unwrap(), [entry(3)]);
        assert_eq!((one.records(), place.journal().read_new().unwrap()), (2, vec![entry(2), entry(3)]));
    }

    #[test]
    fn what_was_never_completed_is_dropped_and_nothing_else() {
        let place = Place::new("torn");
        place.journal().append(&[entry(1), entry(2)]).unwrap();
        let whole = place.bytes();
        let first_two = whole.len() - whole.split_inclusive(|byte| *byte == b'\n').next_back().unwrap().len();
        for cut in first_two..whole.len() {
            place.put(&whole[..cut]);
            let mut journal = place.journal();
            assert_eq!(journal.read_new().unwrap(), [entry(1)], "cut at {cut}");
            journal.append(&[entry(3)]).unwrap();
            assert_eq!(place.journal().read_new().unwrap(), [entry(1), entry(3)], "cut at {cut}");
        }
        // Also before the first line was complete.
        place.put(&whole[..5]);
        place.journal().append(&[entry(4)]).unwrap();
        assert_eq!(place.journal().read_new().unwrap(), [entry(4)]);
    }

    #[test]
    fn any_change_of_a_complete_line_is_noticed() {
        let place = Place::new("damage");
        place.journal().append(&[entry(1), entry(2), entry(3)]).unwrap();
        let whole = place.bytes();
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            place.put(&changed);
            let mut journal = place.journal();
            assert!(journal.read_new().is_err(), "byte {at}");
            assert!(journal.read_new().is_err(), "byte {at}, again");
            assert!(journal.append(&[entry(9)]).is_err(), "byte {at}, and nothing is written behind it");
        }
        let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        for order in [&[0, 1, 3][..], &[0, 2, 1, 3], &[1, 2, 3], &[0, 1, 1]] {
            place.put(&order.iter().flat_map(|line| lines[*line]).copied().collect::<Vec<_>>());
            let fault = place.journal().read_new().unwrap_err().to_string();
            assert!(fault.contains("move it away"), "{order:?}: {fault}");
        }
    }

    #[test]
    fn a_file_that_goes_away_or_shrinks_is_a_fault_and_not_an_empty_one() {
        let place = Place::new("gone");
        let mut journal = place.journal();
        journal.append(&[entry(1)]).unwrap();
        let whole = place.bytes();
        place.put(HEADER);
        assert!(journal.read_new().unwrap_err().to_string().contains("shorter"));
        place.put(&whole);
        assert_eq!(journal.read_new().unwrap(), []);
        std::fs::remove_dir_all(place.file().parent().unwrap()).unwrap();
        assert!(journal.read_new().unwrap_err().to_string().contains("is gone"));
        assert!(journal.append(&[entry(2)]).unwrap_err().to_string().contains("is gone"));
    }
}
