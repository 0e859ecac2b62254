use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use countersign_tests::binary::Sandbox;
use serde_json::json;

use super::{configuration, session_of};
use crate::given::{ISSUER, KEY};

#[test]
fn a_console_written_in_python_lives_the_life_of_a_user_and_a_token() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let place = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut console = Command::new(place.join("clients/.venv/bin/python"));
    console
        .arg(place.join("walk/console.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut console =
        console.spawn().unwrap_or_else(|error| panic!("{error}: tests/run installs what it needs"));
    let url = format!("http://{}", server.address);
    let wanted =
        json!({ "url": url, "key": KEY, "issuer": ISSUER, "token": session_of("root", true) });
    console.stdin.take().unwrap().write_all(wanted.to_string().as_bytes()).unwrap();
    let output = console.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
