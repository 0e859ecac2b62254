//! Databases that lack what the state directory knew.

use std::{
    fs,
    time::{Duration, Instant},
};

use countersign_tests::{binary::Server, database::query_sqlite, eventually};
use serde_json::Value;

use crate::backup::{DatabaseSandbox, fill, revoked_token, state};

const KNEW: &str = "this server knew";

/// Starts and stops a server. Returns its log.
fn log_of_a_run(place: &DatabaseSandbox) -> String {
    place.serve().stop("TERM");
    fs::read_to_string(place.sandbox.path().join("log")).unwrap()
}

#[track_caller]
fn assert_quiet(place: &DatabaseSandbox) {
    let log = log_of_a_run(place);
    assert!(!log.contains(KNEW), "{log}");
}

fn unexpected(server: &Server<'_>) -> u64 {
    server.metric("countersign_databases_unexpected")
}

/// Checks that a server reports its databases until an operator confirms them.
#[track_caller]
fn assert_loud_until_confirmed(place: &DatabaseSandbox, text: &str) {
    for _ in 0..2 {
        let server = place.serve();
        eventually(|| unexpected(&server) == 1);
        let doctor = place.run(&["doctor"]);
        assert_eq!(doctor.code(), 1, "{doctor:?}");
        assert!(doctor.stdout.contains("WRONG") && doctor.stdout.contains(text), "{doctor:?}");
        server.stop("TERM");
        let log = fs::read_to_string(place.sandbox.path().join("log")).unwrap();
        let error = log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{log}"));
        assert!(error.contains("ERROR") && error.contains("database confirm"), "{error}");
    }
    let confirmed = place.run(&["database", "confirm"]);
    assert!(confirmed.text().starts_with("the server expects "), "{confirmed:?}");
    let accepted = confirmed.stdout.lines().find(|line| line.starts_with("accepted: "));
    assert!(accepted.is_some_and(|line| line.contains(text)), "{confirmed:?}");
    assert_quiet(place);
}

#[test]
fn lost_database_is_a_loud_start() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    server.stop("TERM");
    assert_quiet(&place);
    for (file, text) in [
        ("countersign.db", "countersign.db is another database"),
        ("revocations", "revocations does not exist: the revocations that this server knew"),
    ] {
        let server = place.serve();
        if file == "countersign.db" {
            // While the server runs: a stop must not record the loss.
            fs::remove_file(state(&place.sandbox).join(file)).unwrap();
            server.stop("TERM");
        } else {
            server.stop("TERM");
            fs::remove_file(state(&place.sandbox).join(file)).unwrap();
        }
        assert_loud_until_confirmed(&place, text);
    }
}

#[test]
fn older_copy_is_a_loud_start() {
    let place = DatabaseSandbox::sqlite();
    let revoked = {
        let server = place.serve();
        let revoked = fill(&server, "bob");
        server.stop("TERM");
        revoked
    };
    let file = |name: &str| state(&place.sandbox).join(name);
    let older = ["countersign.db", "revocations"].map(|name| fs::read(file(name)).unwrap());
    {
        let server = place.serve();
        revoked_token(&server);
        server.stop("TERM");
    }
    fs::write(file("revocations"), &older[1]).unwrap();
    let lost = "its newest revocation is number 1, and this server knew number 2";
    assert_loud_until_confirmed(&place, lost);
    // The number was used again by another row.
    {
        let server = place.serve();
        revoked_token(&server);
        server.stop("TERM");
    }
    fs::write(file("revocations"), &older[1]).unwrap();
    {
        let server = place.serve();
        revoked_token(&server);
        server.stop("TERM");
    }
    assert_loud_until_confirmed(&place, "its revocation number 2 is another one than");
    fs::write(file("countersign.db"), &older[0]).unwrap();
    assert_loud_until_confirmed(&place, "countersign.db was restored from an older copy");
    let server = place.serve();
    assert_eq!(server.auth(&revoked).status, 401);
}

#[test]
fn changed_database_url_is_confirmed_once() {
    let mut place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    server.stop("TERM");
    let moved = place.sandbox.path().join("moved.db");
    fs::copy(state(&place.sandbox).join("countersign.db"), &moved).unwrap();
    place.database = format!("[database]\nurl=sqlite:{}\n", moved.display());
    assert_quiet(&place);

    place.database = "[database]\nurl=sqlite:other.db\n".into();
    assert_loud_until_confirmed(&place, "other.db is another database");
    place.database = format!("[database]\nurl=sqlite:{}\n", moved.display());
    assert_quiet(&place);
}

#[test]
fn intended_restore_is_quiet_on_every_node() {
    let place = DatabaseSandbox::postgresql();
    let server = place.serve();
    fill(&server, "bob");
    let file = place.back_up();
    revoked_token(&server);
    let node = place.node();
    assert_quiet(&node);
    server.stop("TERM");
    let restored = place.run(&["database", "restore", file.to_str().unwrap(), "--force"]);
    assert!(restored.status.success(), "{restored:?}");
    assert_quiet(&place);
    assert_quiet(&node);
    // Not by this program.
    let postgres = place.postgres.as_ref().unwrap();
    postgres.query("UPDATE countersign_database SET id = 'x'");
    let log = log_of_a_run(&node);
    assert!(log.contains("is another database (x)"), "{log}");
}

#[test]
fn emptied_table_is_a_loud_start() {
    for place in [DatabaseSandbox::sqlite(), DatabaseSandbox::postgresql()] {
        let server = place.serve();
        fill(&server, "bob");
        server.stop("TERM");
        let empty = "DELETE FROM countersign_revocation";
        if let Some(postgres) = &place.postgres {
            postgres.query(empty);
        } else {
            query_sqlite(&state(&place.sandbox).join("revocations"), empty);
        }
        let text = "lacks revocation 1, which this server knew: its newest is number 0";
        let checked = place.run(&["revocations", "check"]);
        assert_eq!(checked.code(), 1, "{checked:?}");
        assert!(checked.stdout.contains(text), "{checked:?}");
        assert_loud_until_confirmed(&place, text);
    }
}

#[test]
fn lost_row_is_noticed_among_newer_ones() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    server.stop("TERM");
    let file = state(&place.sandbox).join("revocations");
    // The last one that was known, and a newer one by another server.
    query_sqlite(
        &file,
        "DELETE FROM countersign_revocation; \
         INSERT INTO countersign_revocation (record) VALUES ('{\"issued_before\":1}')",
    );
    let text = "lacks revocation 1, which this server knew: its newest is number 2";
    assert_loud_until_confirmed(&place, text);
}

#[test]
fn newest_rows_are_recorded_at_once() {
    let place = DatabaseSandbox::sqlite();
    let file = state(&place.sandbox).join("known-databases.json");
    let newest = |role: &str| {
        let text = fs::read(&file).unwrap_or_default();
        let records: Value = serde_json::from_slice(&text).unwrap_or_default();
        let known = records[role].as_object().and_then(|known| known.values().next().cloned());
        known.and_then(|known| known["newest"].as_i64())
    };
    let server = place.serve();
    fill(&server, "bob");
    let acknowledged = Instant::now();
    eventually(|| newest("revocations") == Some(1) && newest("users") > Some(0));
    revoked_token(&server);
    eventually(|| newest("revocations") == Some(2));
    assert!(acknowledged.elapsed() < Duration::from_secs(25), "not at the next interval");
    server.signal("KILL");
    server.stop("KILL");
    fs::remove_file(state(&place.sandbox).join("revocations")).unwrap();
    assert_loud_until_confirmed(&place, "revocations does not exist: the revocations");
}

#[test]
fn damaged_record_of_databases_is_a_warning() {
    let place = DatabaseSandbox::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    server.stop("TERM");
    let file = state(&place.sandbox).join("known-databases.json");
    fs::write(&file, "{").unwrap();
    let log = log_of_a_run(&place);
    let expected = "known-databases.json: ";
    let warning =
        log.lines().find(|line| line.contains(expected)).unwrap_or_else(|| panic!("{log}"));
    assert!(warning.contains("WARN") && warning.contains("is unknown"), "{warning}");
    assert!(!log_of_a_run(&place).contains(expected));
}

#[test]
fn unreachable_postgresql_is_named() {
    let mut place = DatabaseSandbox::postgresql();
    let server = place.serve();
    fill(&server, "bob");
    let file = place.back_up();
    server.stop("TERM");
    place.database = place.database.replace("countersign@", "countersign:secret@");
    let mut postgres = place.postgres.take().unwrap();
    postgres.crash();
    for arguments in [&["confirm"][..], &["restore", file.to_str().unwrap(), "--force"]] {
        let failed = place.run(&[&["database"], arguments].concat());
        assert_eq!(failed.code(), 1, "{failed:?}");
        for part in ["Connection refused", "127.0.0.1:"] {
            assert!(failed.stderr.contains(part), "{failed:?}");
        }
        assert!(!failed.stderr.contains("secret"), "{failed:?}");
    }
}
