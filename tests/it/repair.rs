//! `countersign revocations check` and `repair`.

use std::{fs, path::Path};

use countersign_engine::{Revocation, RevocationTarget};
use countersign_server::revocation::store::RevocationStore;
use countersign_tests::{database::query_sqlite, eventually};
use serde_json::json;

use crate::{
    backup::{DatabaseSandbox, fill, state},
    fixture::{self, ISSUER},
    revocation::token,
};

#[test]
fn intact_revocations_need_no_repair() {
    let place = DatabaseSandbox::sqlite();
    let missing = place.run(&["revocations", "check"]);
    assert!(missing.text().ends_with("revocations does not exist: nothing is revoked"));
    let server = place.serve();
    fill(&server, "bob");
    for _ in 0..2 {
        let checked = place.run(&["revocations", "check"]);
        assert!(checked.text().ends_with("revocations: 1 revocations can be read"), "{checked:?}");
        let repaired = place.run(&["revocations", "repair"]);
        assert!(repaired.text().ends_with("Nothing to repair."), "{repaired:?}");
    }
}

/// Makes a record unreadable, and repairs it while the server runs.
fn check_unreadable_record(place: &DatabaseSandbox, damage: impl Fn(&str)) {
    let server = place.serve();
    let revoked = fill(&server, "bob");
    let other = token(json!({ "jti": "other", "iat": fixture::now() - 5 }));
    assert_eq!(server.auth(&other).status, 200);
    server.stop("TERM");
    damage("INSERT INTO countersign_revocation (record) VALUES ('{\"new\": 1}')");
    let server = place.sandbox.listen(&place.configuration());
    assert_eq!(server.auth(&other).status, 503);
    let reason = "cannot parse the revocation 2";
    assert!(server.log().contains(reason), "{}", server.log());
    assert!(server.log().contains("run countersign revocations check"), "{}", server.log());

    let checked = place.run(&["revocations", "check"]);
    assert_eq!(checked.code(), 1);
    assert!(checked.stdout.contains(&format!("WRONG  {reason}")), "{checked:?}");
    assert!(checked.stderr.contains("run countersign revocations repair"), "{checked:?}");
    // Which tokens it revoked is unknown.
    let refused = place.run(&["revocations", "repair"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("--revoke-issued-tokens"), "{refused:?}");
    assert_eq!(server.auth(&other).status, 503);

    let repaired = place.run(&["revocations", "repair", "--revoke-issued-tokens"]);
    assert!(repaired.text().contains("Moved 1 unreadable records"), "{repaired:?}");
    eventually(|| server.auth(&other).status == 401);
    assert_eq!(server.auth(&revoked).status, 401);
    eventually(|| server.auth(&token(json!({ "iat": fixture::now() }))).status == 200);
    assert!(place.run(&["revocations", "check"]).status.success());
    let audited = place.run(&["audit", "--json"]).json_lines();
    assert!(audited.iter().any(|event| event["operation"] == "revocations.repair"), "{audited:?}");
}

#[test]
fn unreadable_record_is_repaired_on_sqlite() {
    let place = DatabaseSandbox::sqlite();
    let file = state(&place.sandbox).join("revocations");
    check_unreadable_record(&place, |statement| drop(query_sqlite(&file, statement)));
    assert_eq!(
        query_sqlite(&file, "SELECT record FROM countersign_damaged_revocation"),
        "{\"new\": 1}"
    );
}

#[test]
fn unreadable_record_is_repaired_on_postgresql() {
    let place = DatabaseSandbox::postgresql();
    let postgres = place.postgres.as_ref().unwrap();
    check_unreadable_record(&place, |statement| drop(postgres.query(statement)));
    let moved = postgres.query("SELECT record FROM countersign_damaged_revocation");
    assert_eq!(moved, "{\"new\": 1}");
}

#[test]
fn wrong_end_is_corrected_without_a_loss() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    let file = state(&place.sandbox).join("revocations");
    let end = || query_sqlite(&file, "SELECT until FROM countersign_revocation");
    let before = end();
    query_sqlite(&file, "UPDATE countersign_revocation SET until = 5");
    let checked = place.run(&["revocations", "check"]);
    assert_eq!(checked.code(), 1);
    assert!(checked.stdout.contains("would be deleted at a wrong time"), "{checked:?}");
    let repaired = place.run(&["revocations", "repair"]);
    assert!(repaired.text().contains("Corrected the end of 1 revocations."), "{repaired:?}");
    assert_eq!(end(), before);
}

#[test]
fn missing_newest_revocations_are_noticed() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    server.stop("TERM");
    let file = state(&place.sandbox).join("revocations");
    query_sqlite(&file, "DELETE FROM countersign_revocation");
    let checked = place.run(&["revocations", "check"]);
    assert_eq!(checked.code(), 1);
    assert!(checked.stdout.contains("number 1 was assigned, and the last one is 0"), "{checked:?}");
    assert_eq!(place.run(&["revocations", "repair"]).code(), 1);
    let repaired = place.run(&["revocations", "repair", "--revoke-issued-tokens"]);
    assert!(repaired.text().contains("Revoked all tokens issued before "), "{repaired:?}");
    assert!(place.run(&["revocations", "check"]).status.success());
}

#[test]
fn damaged_file_is_salvaged() {
    const COUNT: usize = 5000;
    let place = DatabaseSandbox::sqlite();
    place.serve().stop("TERM");
    let file = state(&place.sandbox).join("revocations");
    let entry = |id: usize| {
        let target =
            RevocationTarget::TokenId { issuer: ISSUER.into(), token_id: id.to_string().into() };
        Revocation { target, until: None }
    };
    let mut store = RevocationStore::in_file(file.clone()).unwrap();
    store.append(&(0..COUNT).map(entry).collect::<Vec<_>>()).unwrap();
    store.database().block_on(store.database().close());
    let mut bytes = fs::read(&file).unwrap();
    // Pages in the middle, of which some are of the table and others of its indexes.
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 16 * 4096].fill(0xff);
    fs::write(&file, &bytes).unwrap();

    let server = place.sandbox.listen(&place.configuration());
    let of = |id: usize| token(json!({ "jti": id.to_string(), "iat": fixture::now() - 5 }));
    assert_eq!(server.auth(&of(0)).status, 503);
    let checked = place.run(&["revocations", "check"]);
    assert_eq!(checked.code(), 1);
    assert!(checked.stdout.contains("WRONG  the file is damaged"), "{checked:?}");
    assert_eq!(place.run(&["revocations", "repair"]).code(), 1);
    assert_eq!(fs::read(&file).unwrap(), bytes, "unchanged");
    let repaired = place.run(&["revocations", "repair", "--revoke-issued-tokens"]);
    let kept = state(&place.sandbox).join("revocations.damaged.1");
    assert!(repaired.text().contains(kept.to_str().unwrap()), "{repaired:?}");
    assert_eq!(fs::read(&kept).unwrap(), bytes);
    let checked = place.run(&["revocations", "check"]);
    let count = checked.text().rsplit(": ").next().unwrap().split(' ').next().unwrap();
    assert!((COUNT / 2..COUNT).contains(&count.parse().unwrap()), "{checked:?}");
    // Those that are lost, too.
    eventually(|| server.auth(&of(0)).status == 401);
    assert!((0..COUNT).step_by(500).all(|id| server.auth(&of(id)).status == 401));
    let later = token(json!({ "jti": "0", "iat": fixture::now() + 100 }));
    assert_eq!(server.auth(&later).status, 401, "a revocation that was read");
    eventually(|| server.auth(&token(json!({ "iat": fixture::now() }))).status == 200);
}

#[test]
fn file_without_readable_revocations_is_replaced() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    let revoked = fill(&server, "bob");
    server.stop("TERM");
    let file = state(&place.sandbox).join("revocations");
    let whole = fs::read(&file).unwrap();
    let mut header = whole.clone();
    header[..100].fill(0);
    let damages = [header, whole[..whole.len() / 2].to_vec(), b"garbage".repeat(1000)];
    for (damaged, number) in damages.iter().zip(1..) {
        fs::write(&file, damaged).unwrap();
        for arguments in [&["check"][..], &["repair"]] {
            let output = place.run(&[&["revocations"], arguments].concat());
            assert_eq!(output.code(), 1, "{output:?}");
            assert!(output.stdout.contains("WRONG  the file is damaged"), "{output:?}");
        }
        assert_eq!(fs::read(&file).unwrap(), *damaged, "unchanged");
        let repaired = place.run(&["revocations", "repair", "--revoke-issued-tokens"]);
        assert!(repaired.text().contains("Revoked all tokens issued before "), "{repaired:?}");
        let kept = file.with_file_name(format!("revocations.damaged.{number}"));
        assert_eq!(fs::read(kept).unwrap(), *damaged);
        assert!(place.run(&["revocations", "check"]).status.success());
    }
    let server = place.serve();
    assert_eq!(server.auth(&revoked).status, 401);
    assert!(!server.log().contains("this server knew"), "{}", server.log());
}

#[test]
fn missing_file_of_known_revocations_is_repaired() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    let revoked = fill(&server, "bob");
    server.stop("TERM");
    let file = state(&place.sandbox).join("revocations");
    for damage in [|file: &Path| fs::remove_file(file), |file: &Path| fs::write(file, "")] {
        damage(&file).unwrap();
        for arguments in [&["check"][..], &["repair"]] {
            let output = place.run(&[&["revocations"], arguments].concat());
            assert_eq!(output.code(), 1, "{output:?}");
            let expected = "revocations is missing; this server knew revocation ";
            assert!(output.stdout.contains(expected), "{output:?}");
        }
        let repaired = place.run(&["revocations", "repair", "--revoke-issued-tokens"]);
        assert!(repaired.text().contains("Revoked all tokens issued before "), "{repaired:?}");
        assert!(place.run(&["revocations", "check"]).status.success());
        let server = place.serve();
        assert_eq!(server.auth(&revoked).status, 401);
        assert!(!server.log().contains("this server knew"), "{}", server.log());
        server.stop("TERM");
    }
}

#[test]
fn backup_is_not_checked_as_a_database() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    let backup = place.back_up();
    server.stop("TERM");
    let file = state(&place.sandbox).join("revocations");
    fs::copy(&backup, &file).unwrap();
    for arguments in [&["check"][..], &["repair"], &["repair", "--revoke-issued-tokens"]] {
        let output = place.run(&[&["revocations"], arguments].concat());
        assert_eq!(output.code(), 1, "{output:?}");
        assert!(output.stderr.contains("is a backup: restore it with"), "{output:?}");
    }
    assert_eq!(fs::read(&file).unwrap(), fs::read(&backup).unwrap());
}
