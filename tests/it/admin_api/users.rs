use countersign_tests::{
    binary::Sandbox, client::Protocol, database::query_sqlite, over_every_protocol,
};
use serde_json::json;

use super::{AdminApi, assert_problem, etag};
use crate::{
    audit::audit,
    users::{Api, ENVIRONMENT, PASSWORD, configuration, in_file},
};

over_every_protocol!(
    users_are_added_changed_and_deleted,
    user_with_the_name_of_a_dot_segment_is_deleted,
    own_password_change_returns_a_new_session,
    roles_are_assigned_within_environments,
    changes_of_users_are_in_the_audit_log,
);

fn users_are_added_changed_and_deleted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    // The name contains characters with a meaning in paths.
    let new = json!({ "username": "b/o%b \u{e9}", "password": PASSWORD });
    let added = api.send("POST /users", new.clone());
    let bob = json!({
        "username": "b/o%b \u{e9}", "auth_method": "database", "is_admin": false, "roles": {},
    });
    assert_eq!((added.status, added.json()), (201, bob.clone()));
    let location = added.header("location").unwrap();
    assert_eq!(api.get(location), bob);
    assert_problem(&api.send("POST /users", new), 409, "conflict");
    let short = json!({ "username": "eve", "password": "short" });
    assert_problem(&api.send("POST /users", short), 400, "invalid_request");
    for name in [".", ".."] {
        let dots = json!({ "username": name, "password": PASSWORD });
        let problem = assert_problem(&api.send("POST /users", dots), 400, "invalid_request");
        assert_eq!(problem["pointer"], "/username");
        assert!(problem["detail"].as_str().unwrap().contains("cannot be . or .."), "{problem}");
    }

    let patch = format!("PATCH {location}");
    let changed = api.send(&patch, json!({ "is_admin": true }));
    assert_eq!((changed.status, &changed.json()["is_admin"]), (200, &json!(true)));
    assert_ne!(etag(&changed), etag(&added));
    let password = json!({ "password": "another password" });
    assert_eq!(api.send(&format!("PUT {location}/password"), password).status, 204);
    let accounts = Api::anonymous(&server);
    assert_eq!(accounts.log_in("b/o%b \u{e9}", "another password").status, 200);

    let delete = format!("DELETE {location}");
    assert_eq!(api.ask(&delete).status, 204);
    for call in [delete, patch] {
        let body = if call.starts_with("PATCH") { "{\"is_admin\":true}" } else { "" };
        assert_problem(&api.call(&call, "", body), 404, "not_found");
    }
}

fn user_with_the_name_of_a_dot_segment_is_deleted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&in_file(&sandbox)));
    let api = AdminApi::root(&server);
    assert_eq!(api.get("/users")["items"], json!([]));
    // Such users exist from earlier versions.
    let add = "INSERT INTO countersign_user (username, password_hash, auth_method, is_admin)
               VALUES ('.', 'x', 'database', 0), ('..', 'x', 'database', 0)";
    query_sqlite(&sandbox.path().join("users.db"), add);
    for (name, segment) in [(".", "%2E"), ("..", "%2E%2E")] {
        assert_eq!(api.get(&format!("/users/{segment}"))["username"], name);
        assert_eq!(api.ask(&format!("DELETE /users/{segment}")).status, 204);
    }
    assert_eq!(api.get("/users")["items"], json!([]));
}

fn own_password_change_returns_a_new_session(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = AdminApi::root(&server);
    root.send("POST /users", json!({ "username": "bob", "password": PASSWORD }));
    let token = Api::anonymous(&server).session("bob");
    let bob = AdminApi { server: &server, token };
    let call = "PUT /users/bob/password";
    let new = "another password";
    let refused = bob.send(call, json!({ "password": new }));
    let problem = assert_problem(&refused, 400, "invalid_request");
    assert_eq!(problem["pointer"], "/current_password", "{problem}");
    let wrong = json!({ "password": new, "current_password": "wrong password" });
    assert_problem(&bob.send(call, wrong), 401, "unauthorized");
    let changed = bob.send(call, json!({ "password": new, "current_password": PASSWORD }));
    assert_eq!(changed.status, 204, "{changed:?}");
    assert_eq!(bob.ask("GET /users").status, 401, "the session has ended");
    let next = changed.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let bob = AdminApi { server: &server, token: next.into() };
    assert_eq!(bob.ask("GET /users").status, 200);
}

fn roles_are_assigned_within_environments(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    Api::root(&server).add_environment(ENVIRONMENT);
    api.send("POST /users", json!({ "username": "bob", "password": PASSWORD }));
    let role = json!({ "name": "n/oc" });
    let added = api.send("POST /roles", role.clone());
    assert_eq!((added.status, added.header("location")), (201, Some("/v1/admin/roles/n%2Foc")));
    assert_problem(&api.send("POST /roles", role.clone()), 409, "conflict");
    assert_eq!(api.get("/roles/n%2Foc"), role);

    let assignment = format!("/users/bob/roles/{ENVIRONMENT}/n%2Foc");
    let assign = format!("PUT {assignment}");
    for _ in 0..2 {
        assert_eq!(api.ask(&assign).status, 204, "the second time changes nothing");
    }
    let assignments = format!("/environments/{ENVIRONMENT}/assignments");
    assert_eq!(api.get(&assignments)["items"], json!([{ "username": "bob", "role": "n/oc" }]));
    assert_eq!(api.get("/users/bob")["roles"], json!({ ENVIRONMENT: ["n/oc"] }));
    assert_problem(&api.ask("DELETE /roles/n%2Foc"), 409, "conflict");
    for missing in [
        format!("PUT /users/eve/roles/{ENVIRONMENT}/n%2Foc"),
        format!("PUT /users/bob/roles/{ENVIRONMENT}/other"),
        "PUT /users/bob/roles/22222222-2222-2222-2222-222222222222/n%2Foc".into(),
        format!("DELETE /users/bob/roles/{ENVIRONMENT}/other"),
        "DELETE /roles/other".into(),
        "GET /environments/22222222-2222-2222-2222-222222222222/assignments".into(),
    ] {
        assert_problem(&api.ask(&missing), 404, "not_found");
    }
    assert_eq!(api.ask(&format!("DELETE {assignment}")).status, 204);
    assert_eq!(api.ask("DELETE /roles/n%2Foc").status, 204);
    assert_eq!(api.get("/roles"), json!({ "items": [], "next": null }));
}

fn changes_of_users_are_in_the_audit_log(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    api.send("POST /users", json!({ "username": "bob", "password": PASSWORD }));
    api.send("PATCH /users/bob", json!({ "is_admin": true }));
    api.ask("DELETE /users/bob");
    let events = audit(&sandbox, &[]);
    let shown: Vec<_> =
        events.iter().map(|event| (event["operation"].clone(), event["outcome"].clone())).collect();
    let done = |operation: &str| (json!(operation), json!("done"));
    assert_eq!(shown, ["user.add", "user.admin", "user.delete"].map(done));
    for event in &events {
        assert_eq!(event["target"]["user"], "bob", "{event}");
        assert_eq!(event["by"]["user"], "root", "{event}");
    }
    assert!(!events.iter().any(|event| event.to_string().contains(PASSWORD)));
}
