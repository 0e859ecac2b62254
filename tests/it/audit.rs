use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use countersign_tests::{
    binary::{Sandbox, Server},
    database::query_sqlite,
    eventually,
    http::request,
    openssl::SigningKey,
};
use serde_json::{Value, json};

use crate::{
    fixture,
    users::{
        Api, ENVIRONMENT, PASSWORD, TEST_PROJECT, assert_done, claims, configuration, data,
        session_of,
    },
};

/// Returns the events that `countersign audit` prints with these arguments.
pub(crate) fn audit(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let config = sandbox.path().join("server.cfg");
    let output =
        sandbox.run([&["audit", "--json", "-c", config.to_str().unwrap()], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    output.json_lines()
}

/// Waits until a refusal is written, and returns the events.
pub(crate) fn audit_with(sandbox: &Sandbox, operation: &str, count: usize) -> Vec<Value> {
    let read = || audit(sandbox, &["--operation", operation, "--outcome", "refused"]);
    eventually(|| read().len() >= count);
    read()
}

/// Returns operation, outcome and target of an event.
fn summary(event: &Value) -> (String, String, Value) {
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    (text("operation"), text("outcome"), event["target"].clone())
}

#[test]
fn administrative_changes_are_recorded_with_their_caller() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    root.add_user("bob");
    assert_done(&root.send("PATCH /is_admin", json!({ "username": "bob", "is_admin": true })));
    assert_done(&root.send("POST /role", json!({ "name": "operator" })));
    let assignment = json!({ "environment": ENVIRONMENT, "role": "operator" });
    root.send("POST /role_assignment/bob", assignment);
    let issued = root.issue(ENVIRONMENT);
    let jti = claims(&issued)["jti"].clone();
    root.within(ENVIRONMENT).ask(&format!("DELETE /environment_auth/{}", jti.as_str().unwrap()));
    let [session, other] = [(); 2].map(|()| Api::anonymous(&server).session("bob"));
    assert_eq!(Api::bearing(&server, &other).ask("POST /logout").status, 200);
    let bob = Api::bearing(&server, &session);
    let passwords = json!({ "password": "another horse", "current_password": PASSWORD });
    assert_eq!(bob.send("PATCH /user/bob/password", passwords).status, 200);
    assert_done(&root.ask("DELETE /user/bob"));
    assert_eq!(root.ask("DELETE /user/bob").status, 404);

    let mut events = audit(&sandbox, &[]);
    assert_eq!(events.remove(0)["operation"], "project.add");
    let environment = json!({ "environment": ENVIRONMENT, "project": TEST_PROJECT });
    let expected = [
        ("environment.add", "done", environment),
        ("user.add", "done", json!({ "user": "bob" })),
        ("user.admin", "done", json!({ "user": "bob" })),
        ("role.add", "done", json!({ "role": "operator" })),
        (
            "role.assign",
            "done",
            json!({ "user": "bob", "role": "operator", "environment": ENVIRONMENT }),
        ),
        ("token.create", "done", json!({ "environment": ENVIRONMENT, "token": jti })),
        ("token.revoke", "done", json!({ "environment": ENVIRONMENT, "token": jti })),
        ("login", "done", json!({ "user": "bob" })),
        ("login", "done", json!({ "user": "bob" })),
        ("logout", "done", json!({})),
        ("user.password", "done", json!({ "user": "bob" })),
        ("user.delete", "done", json!({ "user": "bob" })),
        ("user.delete", "failed", json!({ "user": "bob" })),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(operation, outcome, target)| (operation.to_owned(), outcome.to_owned(), target))
        .collect();
    assert_eq!(events.iter().map(summary).collect::<Vec<_>>(), expected);
    let by_root = json!({ "user": "root", "issuer": fixture::ISSUER, "client_types": "api" });
    assert_eq!((&events[1]["by"], &events[1]["count"]), (&by_root, &json!(1)));
    assert_eq!(events[1]["from"], json!({ "client": "127.0.0.1", "peer": "127.0.0.1" }));
    assert_eq!((&events[2]["detail"], &events[5]["detail"]), (&json!("grant"), &json!("api")));
    assert_eq!(
        (&events[10]["by"]["user"], &events[12]["reason"]),
        (&json!("bob"), &json!("not_found"))
    );

    // The filters, and the table.
    assert_eq!(audit(&sandbox, &["--operation", "user.delete", "--outcome", "failed"]).len(), 1);
    assert_eq!(audit(&sandbox, &["--user", "nobody-else"]).len(), 0);
    assert_eq!(audit(&sandbox, &["--since", "1h", "--limit", "2"])[0]["outcome"], "done");
    assert_eq!(audit(&sandbox, &["--since", "2100-01-01T00:00:00Z"]).len(), 0);
    let config = sandbox.path().join("server.cfg");
    let table = sandbox.run(["audit", "--user", "bob", "-c", config.to_str().unwrap()]);
    let lines: Vec<_> = table.text().lines().collect();
    assert!(lines[0].starts_with("TIME ") && lines.len() == 10, "{table:?}");
    assert!(lines[1].contains("user.add") && lines[1].contains("root"), "{table:?}");
}

#[test]
fn refused_calls_are_recorded_without_their_secrets() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration("[audit]\nfile=audit.jsonl\n"));
    let (root, anonymous) = (Api::root(&server), Api::anonymous(&server));
    root.add_user("bob");
    let forged = format!("{}x", session_of("eve", true));
    let user = json!({ "username": "mallory", "password": PASSWORD });
    assert_eq!(anonymous.send("POST /user", user.clone()).status, 401);
    assert_eq!(Api::bearing(&server, &forged).send("POST /user", user.clone()).status, 403);
    let agent = fixture::token(&fixture::claims(json!({ "urn:inmanta:ct": "agent" })));
    assert_eq!(Api::bearing(&server, &agent).send("POST /user", user).status, 403);
    let reasons: Vec<_> =
        audit_with(&sandbox, "user.add", 3).iter().map(|event| event["reason"].clone()).collect();
    assert_eq!(reasons, ["no_token", "signature", "not_authorized"]);

    // A wrong password is recorded under the name of a user. An unknown name may be a password.
    for (username, password) in [("bob", "wrong-s3cret"), ("my-s3cret-password", "x")] {
        assert_eq!(anonymous.log_in(username, password).status, 401);
    }
    let logins = audit_with(&sandbox, "login", 2);
    let names: Vec<_> =
        logins.iter().map(|event| event["target"]["user"].as_str().unwrap()).collect();
    assert_eq!(names[0], "bob");
    assert!(names[1].starts_with("unknown:") && names[1].len() == 16, "{names:?}");

    let file = sandbox.path().join("audit.jsonl");
    let lines = || std::fs::read_to_string(&file).unwrap();
    eventually(|| lines().lines().count() == 6);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let first: Value = serde_json::from_str(lines().lines().next().unwrap()).unwrap();
    assert_eq!((&first["operation"], &first["outcome"]), (&json!("user.add"), &json!("done")));
    let all = format!("{}{:?}", lines(), audit(&sandbox, &[]));
    for secret in ["s3cret", PASSWORD, &forged[..40], &forged[forged.len() - 20..]] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }

    // Rotation: the next event is in a new file.
    std::fs::rename(&file, file.with_extension("1")).unwrap();
    root.add_user("carol");
    eventually(|| file.exists() && lines().contains("carol"));
}

#[test]
fn flood_of_refusals_is_summarized() {
    const FAILURES: u64 = 300;
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    // An administrative call without a token is refused before any work.
    for number in 0..FAILURES {
        let path = format!("DELETE /user/user-{number}");
        assert_eq!(Api::anonymous(&server).ask(&path).status, 401);
    }
    let events = || audit(&sandbox, &["--outcome", "refused"]);
    let counted = || events().iter().map(|event| event["count"].as_u64().unwrap()).sum::<u64>();
    eventually(|| counted() == FAILURES);
    assert!(events().len() <= 20, "equal refusals of a second are one event: {:?}", events().len());
    assert_eq!(audit(&sandbox, &["--outcome", "done"]).len(), 1);
}

#[test]
fn refusals_are_written_before_the_server_stops() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    assert_eq!(Api::anonymous(&server).log_in("bob", "wrong").status, 401);
    assert!(server.stop("TERM").0.success());
    assert_eq!(audit_with(&sandbox, "login", 1)[0]["reason"], "credentials");
}

/// Refusals that cost nothing to cause have a budget of their own.
#[test]
fn flood_without_tokens_hides_no_attack_on_a_password() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    let calls = ["POST /user", "POST /role", "PUT /environment", "PATCH /is_admin"];
    let key = SigningKey::generate("ES256", "k");
    for number in 0..100 {
        // Different callers, so that their refusals are not merged.
        let session = session_of(&format!("{number}"), false);
        let token = format!("{}.{}", session.rsplit_once('.').unwrap().0, number);
        for call in calls {
            Api::bearing(&server, &token).ask(call);
            Api::bearing(&server, &key.token(&json!({ "sub": number }))).ask(call);
        }
    }
    assert_eq!(Api::anonymous(&server).log_in("bob", "wrong").status, 401);
    assert_eq!(audit_with(&sandbox, "login", 1)[0]["target"]["user"], "bob");
}

#[test]
fn token_in_place_of_an_id_is_recorded_nowhere() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration("[audit]\nfile=audit.jsonl\n"));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let token = session_of("root", true);
    let scoped = root.within(ENVIRONMENT);
    let answers = [
        scoped.ask(&format!("DELETE /environment_auth/{token}")),
        root.ask(&format!("DELETE /user/{token}")),
        root.send("POST /role", json!({ "name": token })),
    ];
    assert_eq!(answers[0].status, 400);
    assert!(!answers[0].body.contains("eyJ"), "{answers:?}");
    // The environment, and at least one of the calls with the token.
    eventually(|| audit(&sandbox, &[]).len() >= 2);
    let count = audit(&sandbox, &[]).len();
    let file = sandbox.path().join("audit.jsonl");
    let recorded = || std::fs::read_to_string(&file).unwrap();
    eventually(|| recorded().lines().count() == count);
    let all = format!("{}{:?}", recorded(), audit(&sandbox, &[]));
    assert!(!all.contains(&token[..40]), "{all}");
}

#[test]
fn change_that_cannot_be_recorded_is_not_made() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("bob");
    let database = sandbox.path().join(".local/state/countersign/countersign.db");
    query_sqlite(&database, "ALTER TABLE countersign_audit RENAME TO hidden");
    assert_eq!(root.ask("DELETE /user/bob").status, 503);
    query_sqlite(&database, "ALTER TABLE hidden RENAME TO countersign_audit");
    let users = data(&root.ask("GET /user"));
    assert_eq!(users[0]["username"], "bob");
    assert_done(&root.ask("DELETE /user/bob"));
}

#[test]
fn local_commands_are_recorded() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("server.cfg", format!("{}auth_method=database\n", configuration("")));
    let path = config.to_str().unwrap();
    let setup = ["setup", "--yes", "--username", "admin", "--password-stdin", "-c", path];
    let done = sandbox.run_with_input(setup, format!("{PASSWORD}\n"));
    assert!(done.status.success(), "{done:?}");
    let revoke = ["token", "revoke", "--issuer", fixture::ISSUER, "--subject", "bob", "-c", path];
    assert!(sandbox.run(revoke).status.success());
    let events = audit(&sandbox, &[]);
    let summaries: Vec<_> = events.iter().map(summary).collect();
    assert_eq!(summaries[0], ("user.add".into(), "done".into(), json!({ "user": "admin" })));
    assert_eq!(summaries[1], ("token.revoke".into(), "done".into(), json!({ "user": "bob" })));
    assert!(events[0]["from"]["client"].as_str().unwrap().starts_with("uid "), "{events:?}");
}

#[test]
fn revocation_by_a_client_is_recorded() {
    let sandbox = Sandbox::new();
    let client = sandbox.run(["key", "client", "deployer"]);
    let lines: Vec<_> = client.text().lines().collect();
    let (secret, section) = (lines[2], lines[6..8].join("\n"));
    let server = sandbox.serve(&configuration(&format!("{section}\n")));
    let revoke = |secret: &str| {
        let body = format!(
            "client_id=deployer&client_secret={secret}&issuer={}&subject=bob",
            fixture::ISSUER
        );
        request(server.address, "POST /v1/revoke HTTP/1.1\r\n", body.as_bytes()).status
    };
    assert_eq!((revoke("wrong-s3cret"), revoke(secret)), (401, 200));
    assert_eq!(audit_with(&sandbox, "token.revoke", 1)[0]["reason"], "credentials");
    let done = audit(&sandbox, &["--operation", "token.revoke", "--outcome", "done"]);
    assert_eq!(done[0]["by"], json!({ "user": "deployer" }));
    assert_eq!(
        (&done[0]["target"], &done[0]["detail"]),
        (&json!({ "user": "bob" }), &json!(done[0]["detail"].as_str().unwrap()))
    );
    let detail = done[0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("by subject: ") && detail.contains(fixture::ISSUER), "{detail}");
}

#[test]
fn reload_is_recorded() {
    let sandbox = Sandbox::new();
    let server: Server<'_> = sandbox.serve(&configuration(""));
    assert!(server.reload().contains("configuration reloaded"));
    sandbox.replace("server.cfg", configuration("password_min_length=odd\n"));
    assert!(server.reload().contains("not reloaded"));
    sandbox.replace("server.cfg", configuration(""));
    let outcomes = || {
        let events = audit(&sandbox, &["--operation", "configuration.reload"]);
        events.iter().map(|event| event["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually(|| outcomes().starts_with(&["done".into(), "failed".into()]));
}

#[test]
fn audit_names_a_missing_database() {
    let sandbox = Sandbox::new();
    let missing: PathBuf = sandbox.path().join("none");
    let output = sandbox.run(["audit", "--state-dir", missing.to_str().unwrap()]);
    assert_eq!(output.code(), 1);
    assert!(
        output.stderr.contains("does not exist") && output.stderr.contains("--state-dir"),
        "{output:?}"
    );
    assert!(!missing.exists());
    let output = sandbox.run(["audit", "--operation", "user.bad"]);
    assert!(output.code() == 2 && output.stderr.contains("user.add"), "{output:?}");
}
