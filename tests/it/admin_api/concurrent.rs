use std::{thread, time::Duration};

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    database::change_meanwhile,
    over_every_protocol,
};
use serde_json::{Value, json};

use super::{AdminApi, assert_problem, etag};
use crate::users::{Api, ENVIRONMENT, OTHER, PASSWORD, claims, configuration, in_file, session_of};

over_every_protocol!(
    constraint_is_answered_as_the_check_before_it,
    one_of_concurrent_calls_makes_the_change,
    one_of_concurrent_calls_with_an_etag_makes_the_change,
    failing_password_attempts_delay_no_change,
);

/// A change by others after the checks of a call, and the answer to the call.
struct ChangeMeanwhile {
    /// The operation in the audit log. It is recorded once the checks have succeeded.
    operation: &'static str,
    change: String,
    call: String,
    body: Value,
    status: u16,
}

/// Changes with which a constraint of the database refuses what a check allowed.
fn changes(token: &str) -> Vec<ChangeMeanwhile> {
    let delete = |table: &str, column: &str, value: &str| {
        format!("DELETE FROM countersign_{table} WHERE {column} = '{value}'")
    };
    let user = |name: &str| delete("user", "username", name);
    let assigned = |name: &str| {
        format!(
            "INSERT OR IGNORE INTO countersign_role_assignment
             VALUES ('{name}', '{ENVIRONMENT}', 'noc')"
        )
    };
    let password = json!({ "password": "another password" });
    let new_user = json!({ "username": "new", "password": PASSWORD });
    let new_row =
        "INSERT OR IGNORE INTO countersign_user (username, password_hash, auth_method, is_admin)
                   VALUES ('new', 'x', 'database', 0)";
    let role = |name: &str| format!("/users/{name}/roles/{ENVIRONMENT}/noc");
    let tokens = |environment: &str| format!("/environments/{environment}/tokens");
    let jti = claims(token)["jti"].as_str().unwrap().to_owned();
    [
        (
            "role.add",
            "INSERT OR IGNORE INTO countersign_role (name) VALUES ('ops')".into(),
            "POST /roles".into(),
            json!({ "name": "ops" }),
            409,
        ),
        ("role.delete", assigned("a"), "DELETE /roles/noc".into(), Value::Null, 409),
        (
            "role.delete",
            delete("role", "name", "gone"),
            "DELETE /roles/gone".into(),
            Value::Null,
            404,
        ),
        ("user.add", new_row.into(), "POST /users".into(), new_user, 409),
        ("role.assign", user("a"), format!("PUT {}", role("a")), Value::Null, 404),
        (
            "role.unassign",
            delete("role_assignment", "username", "b"),
            format!("DELETE {}", role("b")),
            Value::Null,
            404,
        ),
        ("user.admin", user("c"), "PATCH /users/c".into(), json!({ "is_admin": true }), 404),
        ("user.admin", user("d"), "PATCH /users/d".into(), json!({ "is_admin": false }), 404),
        ("user.password", user("e"), "PUT /users/e/password".into(), password, 404),
        ("user.delete", user("f"), "DELETE /users/f".into(), Value::Null, 404),
        (
            "token.revoke",
            delete("token", "jti", &jti),
            format!("DELETE {}/{jti}", tokens(ENVIRONMENT)),
            Value::Null,
            404,
        ),
        (
            "token.create",
            delete("environment", "id", OTHER),
            format!("POST {}", tokens(OTHER)),
            json!({ "client_types": ["api"] }),
            404,
        ),
        (
            "token.create",
            delete("environment", "id", ENVIRONMENT),
            format!("POST {}", tokens(ENVIRONMENT)),
            json!({ "client_types": ["api"], "idempotent": true }),
            404,
        ),
    ]
    .map(|(operation, change, call, body, status)| ChangeMeanwhile {
        operation,
        change,
        call,
        body,
        status,
    })
    .into()
}

/// Starts a server with the objects of [`changes`], whose database is a file.
fn serve(sandbox: &Sandbox) -> Server<'_> {
    let server = sandbox.serve(&configuration(&in_file(sandbox)));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    root.add_environment(OTHER);
    for name in ["a", "b", "c", "d", "e", "f"] {
        root.add_user(name);
    }
    for name in ["noc", "gone"] {
        assert_eq!(root.send("POST /role", json!({ "name": name })).status, 200);
    }
    let assignment = json!({ "environment": ENVIRONMENT, "role": "noc" });
    assert_eq!(root.send("POST /role_assignment/b", assignment).status, 200);
    server
}

fn constraint_is_answered_as_the_check_before_it(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox);
    let api = AdminApi::root(&server);
    let file = sandbox.path().join("users.db");
    for meanwhile in changes(&Api::root(&server).issue(ENVIRONMENT)) {
        let ChangeMeanwhile { operation, change, call, body, status } = meanwhile;
        let event = format!("AFTER INSERT ON countersign_audit WHEN NEW.operation = '{operation}'");
        change_meanwhile(&file, &event, &change);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = api.call(&call, "", &body);
        let code = if status == 409 { "conflict" } else { "not_found" };
        assert_eq!(answer.status, status, "{call}: {answer:?}");
        let meanwhile = assert_problem(&answer, status, code);
        // The checks find the same from now on.
        let (again, code) = (api.call(&call, "", &body), meanwhile["code"].as_str().unwrap());
        assert_problem(&again, status, code);
    }
}

/// Makes a call with further header lines at the same time on several connections. Returns the
/// sorted statuses.
fn at_once(server: &Server<'_>, call: &str, lines: &str, body: &Value) -> Vec<u16> {
    const CALLS: usize = 6;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let token = AdminApi::root(server).token;
    let head = format!(
        "{} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{lines}",
        call.replacen(" /", " /v1/admin/", 1)
    );
    let mut statuses: Vec<_> = thread::scope(|scope| {
        let calls = (0..CALLS).map(|_| {
            let (mut client, head, body) = (server.client(), &head, body.as_bytes());
            scope.spawn(move || client.request(head, body).status)
        });
        let calls: Vec<_> = calls.collect();
        calls.into_iter().map(|one| one.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    statuses
}

fn one_of_concurrent_calls_makes_the_change(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox);
    let unassign = format!("DELETE /users/b/roles/{ENVIRONMENT}/noc");
    let role = json!({ "name": "ops" });
    let user = json!({ "username": "new", "password": PASSWORD });
    for (call, body, done, refused) in [
        ("POST /roles", role, 201, 409),
        ("DELETE /roles/ops", Value::Null, 204, 404),
        (&unassign, Value::Null, 204, 404),
        ("POST /users", user, 201, 409),
        ("DELETE /users/new", Value::Null, 204, 404),
    ] {
        assert_eq!(at_once(&server, call, "", &body), [[done].as_slice(), &[refused; 5]].concat());
    }
}

fn one_of_concurrent_calls_with_an_etag_makes_the_change(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = format!("[identities]\nenabled=true\n{}", in_file(&sandbox));
    let server = sandbox.serve(&configuration(&options));
    let api = AdminApi::root(&server);
    Api::root(&server).add_environment(ENVIRONMENT);
    api.send("POST /roles", json!({ "name": "noc" }));
    api.send("POST /users", json!({ "username": "bob", "password": PASSWORD }));
    let identity = api.send("POST /identities", json!({ "name": "build" }));
    let identity = format!("/identities/{}", identity.json()["id"].as_str().unwrap());
    let user = "/users/bob";
    for (call, of, body, done) in [
        (format!("PATCH {identity}"), &*identity, json!({ "name": "other" }), 200),
        (format!("PUT {user}/roles/{ENVIRONMENT}/noc"), user, Value::Null, 204),
        (format!("DELETE {user}/roles/{ENVIRONMENT}/noc"), user, Value::Null, 204),
        (format!("PUT {user}/password"), user, json!({ "password": "another password" }), 204),
        (format!("PATCH {user}"), user, json!({ "is_admin": true }), 200),
    ] {
        let tag = etag(&api.ask(&format!("GET {of}")));
        let statuses = at_once(&server, &call, &format!("If-Match: {tag}\r\n"), &body);
        // After an assignment is removed, it does not exist.
        let refused = if statuses.contains(&404) { 404 } else { 412 };
        assert_eq!(statuses, [[done].as_slice(), &[refused; 5]].concat(), "{call}");
    }
}

/// Each attempt is answered after a delay. A user cannot hold up an administrator by them.
fn failing_password_attempts_delay_no_change(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox);
    let head = format!(
        "PUT /v1/admin/users/a/password HTTP/1.1\r\nAuthorization: Bearer {}\r\n",
        session_of("a", false)
    );
    let body = json!({ "password": "another password", "current_password": "a wrong one" });
    let body = body.to_string();
    thread::scope(|scope| {
        let attempts = [(); 4].map(|()| {
            let (mut client, head, body) = (server.client(), &head, body.as_bytes());
            scope.spawn(move || client.request(head, body))
        });
        // They arrive first.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(AdminApi::root(&server).ask("DELETE /users/a").status, 204);
        assert!(attempts.iter().any(|attempt| !attempt.is_finished()), "the change waited for all");
        for attempt in attempts {
            let answer = attempt.join().unwrap();
            assert!(answer.status >= 400, "{answer:?}");
        }
    });
}
