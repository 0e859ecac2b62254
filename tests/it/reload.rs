//! A configuration that changes while the server runs: on SIGHUP and by itself.

/// What is true of requests, and of which requests.
mod settings;
/// What is wrong changes nothing.
mod mistakes;
/// Directories, links, pipes, the environment and the embedded default.
mod files;
/// Issuers whose keys are published.
mod providers;
/// TLS switched on, and certificates that are renewed.
mod certificates;

use countersign_tests::{
    binary::{Sandbox, Server},
    http::Connection,
    openssl,
};
use serde_json::json;

/// An issuer beside the guide's, with a secret of its own.
const SECOND: &str = "\
[auth_jwt_second]
algorithm=HS256
client_types=api
issuer=https://second/
audience=inm
key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY
";

/// A token of it.
fn second_token() -> String {
    let claims = json!({ "iss": "https://second/", "aud": "inm", "sub": "carol" });
    openssl::hs256(
        b"0123456789abcdef0123456789abcdef",
        &json!({ "alg": "HS256", "typ": "JWT" }),
        &claims,
    )
}

/// Replaces the configuration and has it read again; returns what is said about it.
#[track_caller]
fn reload(sandbox: &Sandbox, server: &Server<'_>, configuration: &str) -> String {
    sandbox.replace("server.cfg", configuration);
    server.reload()
}

/// The same, where all of it is to be in force.
#[track_caller]
fn take_over(sandbox: &Sandbox, server: &Server<'_>, configuration: &str) {
    let said = reload(sandbox, server, configuration);
    assert!(said.contains("is in force") && !said.contains("restart"), "{said}");
}

/// The status of `/auth` on a connection that stays open.
fn ask(connection: &mut Connection, token: &str) -> u16 {
    connection.send(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"");
    connection.receive(false).status
}
