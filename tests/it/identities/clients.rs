//! Logins by independent clients, which present their certificate in the TLS handshake.

use std::{path::Path, process::Command};

use countersign_tests::{
    binary::Sandbox,
    certificates::{Authority, IssuedCertificate, ours},
    client::Protocol,
    pages::root,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{IdentityApi, configuration};

/// Runs a test with the URL of a server that requests certificates, an identity, and a directory
/// with its certificate.
fn with_machine(test: impl FnOnce(&str, &str, &Path)) {
    let sandbox = Sandbox::over(Protocol::Http1);
    let requesting =
        configuration("").replace("trusted_proxies=127.0.0.1", "client_certificates=possession");
    let server = sandbox.serve(&requesting);
    let api = IdentityApi::new(&server);
    let ca = Authority::root("machines");
    let identity = api.create("machine", "member");
    let body = json!({ "caCertificate": ca.pem(), "allowedCommonNames": "bob" });
    let attached = api.send(&format!("POST /auth/tls-cert-auth/identities/{identity}"), body);
    assert_eq!(attached.status, 200, "{attached:?}");
    let directory = write_client(&ca.client("bob", 1), &ours().0.pem());
    let url = format!("https://localhost:{}", server.address.port());
    test(&url, &identity, directory.path());
}

/// Writes a certificate, its key, and the authority of the server, into a directory.
fn write_client(issued: &IssuedCertificate, authority: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("client-cert.pem", &*issued.pem()),
        ("client-key.pem", &issued.key),
        ("ca.crt", authority),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// Runs a client and returns its standard output.
#[track_caller]
fn output(command: &mut Command, directory: &Path) -> String {
    let output = command.current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Logs in by the published example for Node.js with a certificate, at a server of this authority, and
/// returns the response.
#[track_caller]
pub(crate) fn log_in_by_node(
    url: &str,
    identity: &str,
    (issued, authority): (&IssuedCertificate, &str),
) -> Value {
    let directory = write_client(issued, authority);
    serde_json::from_str(&output(&mut node(url, identity), directory.path())).unwrap()
}

/// Returns the command of the published example.
fn node(url: &str, identity: &str) -> Command {
    let directory = root().join("tests/node");
    assert!(
        directory.join("node_modules/axios").exists(),
        "axios is missing; tests/run installs it: npm ci --prefix tests/node"
    );
    let mut node = Command::new("node");
    node.arg(directory.join("login.js")).args([url, identity]);
    node.env("NODE_EXTRA_CA_CERTS", "ca.crt");
    node
}

#[track_caller]
fn assert_is_login(response: &Value) {
    assert_eq!(response["tokenType"], "Bearer", "{response}");
    assert_eq!(response["expiresIn"], 2_592_000, "{response}");
    assert_eq!(response["accessTokenMaxTTL"], 2_592_000, "{response}");
}

#[test]
fn published_example_for_node_logs_in() {
    let ca = Authority::root("machines");
    with_machine(|url, identity, directory| {
        let mut node = node(url, identity);
        assert_is_login(&serde_json::from_str(&output(&mut node, directory)).unwrap());
        let stranger = write_client(&ca.client("bob", 1), &ours().0.pem());
        let refused = node.current_dir(stranger.path()).output().unwrap();
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    });
}

#[test]
fn python_requests_uses_renews_and_revokes() {
    with_machine(|url, identity, directory| {
        let clients = root().join("tests/clients");
        let mut python = Command::new(clients.join(".venv/bin/python"));
        python.arg(clients.join("machine.py")).args([url, identity]);
        python.args(["ca.crt", "client-cert.pem", "client-key.pem"]);
        let steps: Value = serde_json::from_str(&output(&mut python, directory)).unwrap();
        assert_is_login(&steps["login"][1]);
        // The maximum lifetime counts from the login.
        let renewed = &steps["renew"][1];
        let lifetime = renewed["expiresIn"].as_u64().unwrap();
        assert!((2_591_940..=2_592_000).contains(&lifetime), "{renewed}");
        assert_eq!(renewed["tokenType"], "Bearer", "{renewed}");
        for (step, expected) in [
            ("use", json!(200)),
            ("use renewed", json!(200)),
            ("use revoked", json!([401, 401])),
            ("revoke", json!([200, { "message": "Successfully revoked access token" }])),
        ] {
            assert_eq!(steps[step], expected, "{step}: {steps}");
        }
        assert_eq!(steps["renew revoked"][0], 401, "{steps}");
    });
}

#[test]
fn curl_uses_renews_and_revokes() {
    with_machine(|url, identity, directory| {
        let curl = |arguments: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--cacert", "ca.crt", "--write-out", "\n%{http_code}"]);
            curl.args(["--cert", "client-cert.pem", "--key", "client-key.pem"]).args(arguments);
            let text = output(&mut curl, directory);
            let (body, status) = text.rsplit_once('\n').unwrap();
            (status.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
        };
        let post = |path: &str, body: Value| {
            let (body, target) = (body.to_string(), format!("{url}/api/v1/auth/{path}"));
            curl(&["--header", "Content-Type: application/json", "--data", &body, &target])
        };
        let check = |token: &str| {
            let (line, target) = (format!("Authorization: Bearer {token}"), format!("{url}/auth"));
            curl(&["--header", &line, &target]).0
        };
        let (status, login) = post("tls-cert-auth/login", json!({ "identityId": identity }));
        assert_eq!(status, "200", "{login}");
        assert_is_login(&login);
        let token = super::text(&login["accessToken"]);
        assert_eq!(check(&token), "200");
        let (status, renewed) = post("token/renew", json!({ "accessToken": token }));
        assert_eq!(status, "200", "{renewed}");
        let renewed = super::text(&renewed["accessToken"]);
        assert_eq!(check(&renewed), "200");
        assert_eq!(post("token/revoke", json!({ "accessToken": token })).0, "200");
        assert_eq!([check(&token), check(&renewed)], ["401", "401"]);
    });
}
