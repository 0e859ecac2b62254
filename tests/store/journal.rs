use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use countersign_engine::{Revocation, RevocationTarget, UnixTime};
use countersign_server::revocation::store::RevocationStore;
use tempfile::TempDir;

/// A journal as version 0.1.0 wrote it.
const JOURNAL: &str = r#"countersign-revocations 1
5101c4723af7acb8 {"issuer":"https://localhost:8888/","jti":"leaked"}
ad0d984548621719 {"issuer":"https://localhost:8888/","subject":"bob","issued_before":1700000000,"until":1900000000}
1ab5a0f1e7a320f0 {"issued_before":1600000000}
"#;

/// The revocations in [`JOURNAL`].
fn journaled() -> [Revocation; 3] {
    let issuer = || Box::from("https://localhost:8888/");
    let revocation = |target, until: Option<u64>| Revocation { target, until: until.map(UnixTime) };
    [
        revocation(RevocationTarget::TokenId { issuer: issuer(), token_id: "leaked".into() }, None),
        revocation(
            RevocationTarget::Subject {
                issuer: issuer(),
                subject: "bob".into(),
                issued_before: UnixTime(1_700_000_000),
            },
            Some(1_900_000_000),
        ),
        revocation(
            RevocationTarget::Everything { issuer: None, issued_before: UnixTime(1_600_000_000) },
            None,
        ),
    ]
}

fn journal(directory: &TempDir, bytes: impl AsRef<[u8]>) -> PathBuf {
    let file = directory.path().join("revocations");
    fs::write(&file, bytes).unwrap();
    file
}

fn open(file: &Path) -> RevocationStore {
    RevocationStore::in_file(file.into()).unwrap()
}

/// Returns the names of the files in a directory, without the log and the index of SQLite.
fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.ends_with("-wal")).collect();
    names.retain(|name| !name.ends_with("-shm"));
    names.sort();
    names
}

#[test]
fn journal_is_imported_once_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = journal(&directory, JOURNAL);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let mut first = open(&file);
    assert_eq!(first.read_new().unwrap().unwrap(), journaled());
    assert_eq!(first.read_new().unwrap().unwrap(), [], "nothing is returned twice");
    first.append(&journaled()[..1]).unwrap();
    assert_eq!(open(&file).read_new().unwrap().unwrap().len(), 4, "the next start reads the rows");
    assert_eq!(names(&directory), ["revocations", "revocations.imported"]);
    assert_eq!(fs::read_to_string(file.with_extension("imported")).unwrap(), JOURNAL);
    assert!(fs::read(&file).unwrap().starts_with(b"SQLite format 3\0"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn journal_is_imported_by_an_append() {
    let directory = tempfile::tempdir().unwrap();
    let file = journal(&directory, JOURNAL);
    assert_eq!(open(&file).append(&journaled()[..1]).unwrap(), journaled());
}

#[test]
fn incomplete_line_of_a_journal_is_dropped() {
    // Within the first line, and within the last one.
    for length in (0..26).chain(JOURNAL.len() - 46..JOURNAL.len()) {
        let directory = tempfile::tempdir().unwrap();
        let file = journal(&directory, &JOURNAL[..length]);
        let expected = JOURNAL[..length].matches('\n').count().saturating_sub(1);
        let read = open(&file).read_new().unwrap().unwrap();
        assert_eq!(read, journaled()[..expected], "cut at {length}");
        open(&file).append(&journaled()[2..]).unwrap();
        assert_eq!(open(&file).read_new().unwrap().unwrap().len(), expected + 1);
    }
}

#[test]
fn damaged_journal_is_refused_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let file = journal(&directory, JOURNAL);
    let assert_refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let mut store = open(&file);
        let error = store.read_new().unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{text}");
        assert!(text.contains("move it away") && text.contains("/revocations"), "{text}");
        assert!(store.append(&journaled()).is_err());
        assert_eq!((fs::read(&file).unwrap(), names(&directory).len()), (bytes.to_vec(), 1));
    };
    for at in 0..JOURNAL.len() - 1 {
        let mut changed = JOURNAL.as_bytes().to_vec();
        changed[at] ^= 1;
        assert_refused(&changed);
    }
    let lines: Vec<_> = JOURNAL.split_inclusive('\n').collect();
    for order in [&[0, 1, 3][..], &[0, 2, 1, 3], &[1, 2, 3], &[0, 1, 1]] {
        assert_refused(order.iter().map(|line| lines[*line]).collect::<String>().as_bytes());
    }
    // Once it is repaired, it is imported.
    let mut store = open(&file);
    assert!(store.read_new().is_err());
    fs::write(&file, JOURNAL).unwrap();
    assert_eq!(store.read_new().unwrap().unwrap(), journaled());
}

#[test]
fn foreign_file_is_refused_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    for foreign in [
        &b"a secret without a line ending"[..],
        &[0; 5000],
        b"countersign-revocations 2\n",
        b"\n",
        b"SQLite format 2\0",
    ] {
        let file = journal(&directory, foreign);
        let error = open(&file).read_new().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("name another file in [revocation]"), "{error}");
        assert!(open(&file).append(&journaled()).is_err());
        assert_eq!((fs::read(&file).unwrap(), names(&directory).len()), (foreign.to_vec(), 1));
    }
}

#[test]
fn interrupted_import_starts_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = journal(&directory, JOURNAL);
    // Before the draft was complete, and before it was renamed.
    fs::write(directory.path().join("revocations.importing"), "incomplete").unwrap();
    fs::write(directory.path().join("revocations.importing-wal"), "incomplete").unwrap();
    fs::hard_link(&file, directory.path().join("revocations.imported")).unwrap();
    assert_eq!(open(&file).read_new().unwrap().unwrap(), journaled());
    assert_eq!(names(&directory), ["revocations", "revocations.imported"]);
}

#[test]
fn import_keeps_earlier_journals() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["revocations.imported", "revocations.imported.1"] {
        fs::write(directory.path().join(name), "earlier").unwrap();
    }
    let file = journal(&directory, JOURNAL);
    assert_eq!(open(&file).read_new().unwrap().unwrap(), journaled());
    let kept = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(kept("revocations.imported.2"), JOURNAL);
    assert_eq!((kept("revocations.imported"), names(&directory).len()), ("earlier".into(), 4));
}

#[test]
fn import_keeps_a_symbolic_link() {
    let directory = tempfile::tempdir().unwrap();
    let file = journal(&directory, JOURNAL);
    let link = directory.path().join("link");
    symlink(&file, &link).unwrap();
    assert_eq!(open(&link).read_new().unwrap().unwrap(), journaled());
    assert!(link.is_symlink());
    assert_eq!(open(&file).read_new().unwrap().unwrap(), journaled());
    assert_eq!(names(&directory), ["link", "revocations", "revocations.imported"]);
}

#[test]
fn locked_journal_is_not_imported() {
    let directory = tempfile::tempdir().unwrap();
    let file = journal(&directory, JOURNAL);
    let writing = File::open(&file).unwrap();
    writing.lock().unwrap();
    let mut store = open(&file);
    assert_eq!(store.read_new().unwrap(), None, "a locked journal is not an empty one");
    assert_eq!(file.metadata().unwrap().ino(), writing.metadata().unwrap().ino());
    writing.unlock().unwrap();
    assert_eq!(store.read_new().unwrap().unwrap(), journaled());
}

#[test]
fn concurrent_imports_do_not_conflict() {
    let directory = tempfile::tempdir().unwrap();
    let file = journal(&directory, JOURNAL);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(open(&file).read_new().unwrap().unwrap(), journaled()));
        }
    });
    assert_eq!(names(&directory), ["revocations", "revocations.imported"]);
}

#[test]
fn log_of_another_database_beside_a_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = journal(&directory, JOURNAL);
    let log = directory.path().join("revocations-wal");
    fs::write(&log, "of a database that was moved away").unwrap();
    let error = open(&file).read_new().unwrap_err().to_string();
    assert!(error.contains("revocations-wal belongs to another database"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), JOURNAL);
    fs::remove_file(log).unwrap();
    assert_eq!(open(&file).read_new().unwrap().unwrap(), journaled());
}

#[test]
fn pipe_in_place_of_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("revocations");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = open(&pipe).read_new().unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}
