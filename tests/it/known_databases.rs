//! Databases that lack what the state directory knew.

use std::fs;

use countersign_tests::{binary::Server, eventually};

use crate::backup::{Place, fill, revoked_token, state};

const KNEW: &str = "this server knew";

/// Starts and stops a server. Returns its log.
fn log_of_a_run(place: &Place) -> String {
    place.serve().stop("TERM");
    fs::read_to_string(place.sandbox.path().join("log")).unwrap()
}

#[track_caller]
fn assert_quiet(place: &Place) {
    let log = log_of_a_run(place);
    assert!(!log.contains(KNEW), "{log}");
}

fn unexpected(server: &Server<'_>) -> u64 {
    server.metric("countersign_databases_unexpected")
}

/// Checks that a server reports its databases until an operator confirms them.
#[track_caller]
fn assert_loud_until_confirmed(place: &Place, text: &str) {
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
    assert_quiet(place);
}

#[test]
fn lost_database_is_a_loud_start() {
    let place = Place::sqlite();
    let server = place.serve();
    fill(&server, "bob");
    server.stop("TERM");
    assert_quiet(&place);
    for (file, text) in [
        ("countersign.db", "countersign.db is another database"),
        ("revocations", "revocations does not exist: the revocations that this server knew"),
    ] {
        // While the server runs: a stop must not record the loss.
        let server = place.serve();
        fs::remove_file(state(&place.sandbox).join(file)).unwrap();
        server.stop("TERM");
        assert_loud_until_confirmed(&place, text);
    }
}

#[test]
fn older_copy_is_a_loud_start() {
    let place = Place::sqlite();
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
    let mut place = Place::sqlite();
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
    let place = Place::postgresql();
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
