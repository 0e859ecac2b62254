//! The first start after an upgrade logs the changed defaults that apply.

use countersign_tests::{binary::Sandbox, openssl::SigningKey};

use crate::fixture::{self, SIGNING};

/// Lines of the log about changed defaults.
fn reported(sandbox: &Sandbox, configuration: &str) -> Vec<String> {
    let log = sandbox.serve(configuration).log();
    let lines = log.lines().filter(|line| line.contains("changed in this version"));
    lines.map(|line| line.split_once("(docs/upgrading.md): ").unwrap().1.to_owned()).collect()
}

#[test]
fn first_start_after_an_upgrade_reports_changed_defaults_once() {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::new();
    let keys = sandbox.file("jwks.json", fixture::key_set(&[&key]));
    let options = "jwt_username_claim=preferred_username\nclaims=a is b";
    let idp = fixture::with_idp("ES256", &format!("jwks_uri=file://{}\n{options}", keys.display()));
    let socket = sandbox.path().join("socket");
    let listener = format!("[listener_local]\nbind=unix:{}\n", socket.display());
    let idp = format!("{listener}{idp}");
    assert_eq!(reported(&sandbox, &idp), [""; 0], "a new installation has no former behaviour");
    let version = sandbox.path().join(".local/state/countersign/defaults-version");
    std::fs::write(&version, "0\n").unwrap();
    let report = reported(&sandbox, &idp);
    for (change, line) in [
        ("/api/v2 requires a token", "auth = false is in [server]"),
        ("its tokens may not administer", "administers = true is in [auth_jwt_oidc]"),
        ("its tokens without exp", "require_exp = false is in [auth_jwt_oidc]"),
        ("its clock may differ", "leeway = 0 is in [auth_jwt_oidc]"),
        ("without the username claim", "username_required = false is in [auth_jwt_oidc]"),
        ("its tokens with cnf", "cnf = ignore is in [auth_jwt_oidc]"),
        ("do not meet claims", "rejected_token_status = 401 is in [server]"),
        ("its Unix sockets have mode 0660", "mode = 0755 is in [listener_local]"),
        ("the head of a request may have 65536 bytes", "max_head = 32768 is in [limits]"),
        ("may have 200 header lines", "max_header_lines = 100 is in [limits]"),
    ] {
        let lines = report.iter().filter(|text| text.contains(change) && text.contains(line));
        assert_eq!(lines.count(), 1, "{report:?}");
    }
    assert_eq!(reported(&sandbox, &idp), [""; 0], "once");
    // Every change is on the page, with its line.
    let page = include_str!("../../docs/upgrading.md");
    for text in &report {
        let option = text.split_once(" unless ").unwrap().1.split_once(" is in ").unwrap().0;
        assert!(page.contains(option), "docs/upgrading.md has no {option}");
    }
    std::fs::write(&version, "0\n").unwrap();
    let written = format!("{idp}administers=true\n[server]\nauth=true\n");
    let report = reported(&sandbox, &written);
    for option in ["auth", "administers"] {
        assert!(!report.iter().any(|text| text.contains(&format!(" {option} = "))), "{report:?}");
    }
    std::fs::write(&version, "0\n").unwrap();
    let report = reported(&sandbox, SIGNING);
    assert!(
        report
            .iter()
            .all(|text| text.contains("is in [server]") || text.contains("is in [limits]")),
        "{report:?}"
    );
    assert!(report.iter().any(|text| text.contains("login_session_max = 0")), "{report:?}");
}
