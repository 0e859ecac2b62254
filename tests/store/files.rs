use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt as _, path::Path};

use countersign_engine::{Revocation, RevocationTarget};
use countersign_server::{revocation::store::RevocationStore, store::Store};

fn open(file: &Path) -> RevocationStore {
    RevocationStore::in_file(file.into()).unwrap()
}

fn entry(id: usize) -> Revocation {
    let target = RevocationTarget::TokenId { issuer: "i".into(), token_id: id.to_string().into() };
    Revocation { target, until: None }
}

/// Creates a file with revocations whose log is merged into it.
fn create(file: &Path, ids: std::ops::Range<usize>) {
    let store = Store::in_file(file.into()).unwrap();
    let entries: Vec<_> = ids.map(entry).collect();
    RevocationStore::in_database(store.clone(), Vec::new()).append(&entries).unwrap();
    store.block_on(store.close());
    assert!(!file.with_extension("db-wal").exists(), "the log is merged");
}

#[test]
fn file_is_created_by_the_first_append() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new/r.db");
    let (mut one, mut other) = (open(&file), open(&file));
    assert_eq!(one.read_new().unwrap().unwrap(), []);
    assert!(!file.exists(), "reading creates nothing");
    assert_eq!(other.append(&[entry(1)]).unwrap(), []);
    assert_eq!(one.read_new().unwrap().unwrap(), [entry(1)]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn file_is_created_by_concurrent_processes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("r.db");
    std::thread::scope(|scope| {
        for id in 0..6 {
            let file = &file;
            scope.spawn(move || open(file).append(&[entry(id)]).unwrap());
        }
    });
    let stored = open(&file).read_new().unwrap().unwrap();
    assert!((0..6).all(|id| stored.contains(&entry(id))) && stored.len() == 6, "{stored:?}");
}

#[test]
fn file_that_is_missing_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("r.db");
    let mut store = open(&file);
    store.append(&[entry(1)]).unwrap();
    fs::remove_file(&file).unwrap();
    let error = store.read_new().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("r.db: is missing; put it back"), "{error}");
    assert!(store.append(&[entry(2)]).unwrap_err().to_string().contains("is missing"));
    assert!(!file.exists());
}

#[test]
fn file_that_replaces_another_is_read_from_its_start() {
    let directory = tempfile::tempdir().unwrap();
    let (file, next) = (directory.path().join("r.db"), directory.path().join("next.db"));
    create(&file, 0..5);
    create(&next, 3..7);
    let mut store = open(&file);
    assert_eq!(store.read_new().unwrap().unwrap().len(), 5);
    fs::rename(&next, &file).unwrap();
    assert_eq!(store.read_new().unwrap().unwrap(), [3, 4, 5, 6].map(entry));
    store.append(&[entry(9)]).unwrap();
    assert_eq!(open(&file).read_new().unwrap().unwrap(), [3, 4, 5, 6, 9].map(entry));
}

#[test]
fn file_with_a_damaged_page_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("r.db");
    create(&file, 0..5000);
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2..][..50_000].fill(0xff);
    fs::write(&file, damaged).unwrap();
    let mut store = open(&file);
    for _ in 0..2 {
        let error = store.read_new().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        let text = error.to_string();
        assert!(text.contains("r.db: database disk image is malformed; run countersign"), "{text}");
    }
    // Restored in place, as by `cp`.
    fs::write(&file, &whole).unwrap();
    assert_eq!(store.read_new().unwrap().unwrap().len(), 5000);
}

#[test]
fn damaged_file_that_was_moved_is_not_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("r.db");
    create(&file, 0..5000);
    let whole = fs::read(&file).unwrap();
    let [mut page, mut header] = [whole.clone(), whole];
    page[100..4096].fill(0xff);
    header[0] = b'x';
    for damaged in [page, header] {
        fs::write(&file, damaged).unwrap();
        let mut store = open(&file);
        assert_eq!(store.read_new().unwrap_err().kind(), ErrorKind::InvalidData);
        fs::remove_file(&file).unwrap();
        for _ in 0..2 {
            assert_eq!(store.read_new().unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(store.append(&[entry(1)]).unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert!(!file.exists());
        assert_eq!(open(&file).read_new().unwrap().unwrap(), [], "after a restart");
    }
}

#[test]
fn file_at_an_unusable_path_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    for (path, reason) in [("", "directory"), ("file/r.db", "Not a directory")] {
        let error = open(&directory.path().join(path)).append(&[entry(1)]).unwrap_err();
        let place = directory.path().to_str().unwrap();
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains(place), "{text}");
    }
}
