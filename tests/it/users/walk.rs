use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use countersign_tests::binary::Sandbox;
use serde_json::json;

use super::{configuration, session_of};
use crate::fixture::{ISSUER, KEY};

#[test]
fn python_console_manages_a_user_and_a_token() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut console = Command::new(tests.join("clients/.venv/bin/python"));
    console
        .arg(tests.join("walk/console.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut console =
        console.spawn().unwrap_or_else(|error| panic!("{error}: tests/run installs what it needs"));
    let url = format!("http://{}", server.address);
    let input =
        json!({ "url": url, "key": KEY, "issuer": ISSUER, "token": session_of("root", true) });
    console.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = console.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
