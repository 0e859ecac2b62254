//! Reload of a changed configuration: on SIGHUP and on file changes.

/// Settings that affect requests, and from which request on.
mod settings;
/// Invalid configurations, which change nothing.
mod mistakes;
/// Directories, links, pipes, the environment and the embedded default.
mod files;
/// Issuers with published keys.
mod providers;
/// Enabling TLS, and renewed certificates.
mod certificates;

use countersign_tests::{
    binary::{Sandbox, Server},
    http::Connection,
    openssl,
};
use serde_json::json;

/// A second issuer with its own secret.
const SECOND: &str = "\
[auth_jwt_second]
algorithm=HS256
client_types=api
issuer=https://second/
audience=inm
key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY
";

/// Returns a token of the issuer of [`SECOND`].
fn second_token() -> String {
    let claims = json!({ "iss": "https://second/", "aud": "inm", "sub": "carol" });
    openssl::hs256(
        b"0123456789abcdef0123456789abcdef",
        &json!({ "alg": "HS256", "typ": "JWT" }),
        &claims,
    )
}

/// Replaces the configuration, reloads it, and returns the log message about the reload.
#[track_caller]
fn reload(sandbox: &Sandbox, server: &Server<'_>, configuration: &str) -> String {
    sandbox.replace("server.cfg", configuration);
    server.reload()
}

/// Reloads as [`reload`] does a configuration that must take effect completely.
#[track_caller]
fn reload_completely(sandbox: &Sandbox, server: &Server<'_>, configuration: &str) {
    let message = reload(sandbox, server, configuration);
    assert!(message.contains("in force") && !message.contains("restart"), "{message}");
}

/// Returns the status of `/auth` on an open connection.
fn auth_status(connection: &mut Connection, token: &str) -> u16 {
    connection.send(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"");
    connection.receive(false).status
}
