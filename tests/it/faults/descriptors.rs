use std::{fs, process::Command};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    http::Connection,
};
use serde_json::json;

use crate::{
    fixture::ISSUER,
    revocation::{configuration, revoke, token},
};

/// Descriptors that the server may open beyond those it has.
const SPARE: usize = 20;

/// Limits the open files of a running server to those it has and [`SPARE`] more.
fn limit_open_files(server: &Server<'_>) {
    let process = server.process();
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let limit = format!("--nofile={}", open + SPARE);
    let limited = Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status();
    assert!(limited.expect("prlimit is in util-linux").success());
}

#[test]
fn exhausted_descriptors_stop_new_connections_only() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let mut kept = Connection::open(server.address);
    let [first, second] = ["first", "second"].map(|id| token(json!({ "jti": id })));
    let mut status = |token: &str| {
        kept.send(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"");
        kept.receive(false).status
    };
    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=first")).status, 200);
    assert_eq!((status(&first), status(&second)), (401, 200));
    limit_open_files(&server);
    let crowd: Vec<_> = (0..3 * SPARE).map(|_| Connection::open(server.address)).collect();
    eventually(|| server.log().contains("cannot accept connections on "));
    // Connections that were accepted before are served.
    for _ in 0..100 {
        assert_eq!((status(&first), status(&second)), (401, 200));
    }
    drop(crowd);
    // Those that wait are accepted when others have closed.
    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=second")).status, 200);
    assert_eq!((status(&first), status(&second)), (401, 401));
    assert_eq!(server.operations("/ready").status, 200);
}
