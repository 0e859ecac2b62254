//! The real client library and `inmanta-cli`, through the life of a user, a role, an environment
//! and a token.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use countersign_tests::{binary::Sandbox, postgres::Postgres, shared::skipped};
use serde_json::json;

use super::recorded::{configuration, set_up};

const KEY: &[u8] = b"recorded-key-of-thirty-two-bytes";

#[test]
fn real_clients_work_with_sqlite() {
    assert_real_clients_work("");
}

#[test]
fn real_clients_work_with_postgresql() {
    let postgres = Postgres::start();
    assert_real_clients_work(&format!("[database]\nurl={}\n", postgres.url()));
}

#[track_caller]
fn assert_real_clients_work(database: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("inmanta");
    let python = tests.join(".venv/bin/python");
    if !python.exists() {
        let found = Command::new(tests.join("find-python")).output().unwrap();
        assert!(!found.status.success(), "tests/run installs the real clients");
        skipped("the real clients need python3.13, which pyenv can install");
        return;
    }
    let sandbox = Sandbox::new();
    let configuration = format!("{}auth=true\n{database}", configuration(KEY));
    let administrator = json!({ "username": "admin", "password": "Correct-Horse-9" });
    set_up(&sandbox, &configuration, &administrator);
    let server = sandbox.serve(&configuration);
    // `inmanta-cli token bootstrap` signs with the section of the server.
    sandbox.file("client/.inmanta", &configuration);
    let directory = sandbox.path().join("client");
    let port = server.address.port();
    let input = json!({ "port": port, "administrator": administrator, "directory": directory });
    let mut life = Command::new(python)
        .arg(tests.join("life.py"))
        .env("HOME", &directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    life.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = life.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
