use std::{iter, sync::mpsc};

use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{
    Api, ENVIRONMENT, PASSWORD, add_with_hash, assert_done, configuration, data, in_file, refused,
    session_of, store,
};

over_every_protocol!(
    users_are_added_listed_and_deleted,
    c46_invalid_new_users_are_refused,
    dot_segments_are_not_names_of_new_users,
    deleting_a_user_ends_their_sessions,
    c49_own_password_change_needs_the_current_one,
    password_reset_ends_the_users_sessions,
    administrator_right_is_granted_and_revoked,
);

fn users_are_added_listed_and_deleted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    assert_eq!(data(&root.ask("GET /user")), json!([]));
    // The second name contains characters with a meaning in paths.
    for username in ["zoe", "b/o%b \u{e9}"] {
        let added = root.send("POST /user", json!({ "username": username, "password": PASSWORD }));
        assert_eq!(
            data(&added),
            json!({ "username": username, "auth_method": "database", "is_admin": false })
        );
    }
    root.add_environment(ENVIRONMENT);
    assert_done(&root.send("POST /role", json!({ "name": "noc" })));
    assert_done(
        &root.send(
            "POST /role_assignment/zoe",
            json!({ "environment": ENVIRONMENT, "role": "noc" }),
        ),
    );
    let listed = json!([
        { "username": "b/o%b \u{e9}", "auth_method": "database", "is_admin": false, "roles": {} },
        { "username": "zoe", "auth_method": "database", "is_admin": false, "roles": { ENVIRONMENT: ["noc"] } },
    ]);
    assert_eq!(data(&root.ask("GET /user")), listed);
    assert_done(&root.ask("DELETE /user/b%2Fo%25b%20%C3%A9"));
    assert_done(&root.ask("DELETE /user/zoe"));
    assert_eq!(data(&root.ask("GET /user")), json!([]));
}

fn c46_invalid_new_users_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    let add = |username: &str, password: &str| {
        root.send("POST /user", json!({ "username": username, "password": password }))
    };
    refused(&add("", PASSWORD), 400, "the username cannot be an empty string");
    refused(&add("bob", "1234567"), 400, "the password should be at least 8 characters long");
    root.add_user("bob");
    refused(&add("bob", PASSWORD), 409, "A user with name bob already exists.");
}

fn dot_segments_are_not_names_of_new_users(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&in_file(&sandbox)));
    let root = Api::root(&server);
    let text = "the username cannot be . or .., which have a meaning in paths of URLs";
    for username in [".", ".."] {
        let new = json!({ "username": username, "password": PASSWORD });
        refused(&root.send("POST /user", new), 400, text);
    }
    for username in ["...", ".a", "a.", "./.."] {
        root.add_user(username);
    }
    // Users of an earlier version can be changed and deleted.
    let store = store(&sandbox);
    for (username, segment) in [(".", "%2E"), ("..", "%2E%2E")] {
        add_with_hash(&store, username, "x");
        let password = json!({ "password": PASSWORD });
        assert_done(&root.send(&format!("PATCH /user/{segment}/password"), password));
        assert_eq!(Api::anonymous(&server).log_in(username, PASSWORD).status, 200);
        assert_done(&root.ask(&format!("DELETE /user/{segment}")));
    }
    assert_eq!(data(&root.ask("GET /user")).as_array().unwrap().len(), 4);
}

#[test]
fn c47_password_length_is_limited_to_128() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let long = |length| json!({ "username": "bob", "password": "x".repeat(length) });
    refused(
        &Api::root(&server).send("POST /user", long(129)),
        400,
        "the password should be at most 128 characters long",
    );
    assert_eq!(Api::root(&server).send("POST /user", long(128)).status, 200);
    assert_eq!(Api::anonymous(&server).send("POST /login", long(128)).status, 200);
}

#[test]
fn password_policy_applies_to_add_and_change() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration("password_min_length=12\npassword_min_classes=3\n"));
    let root = Api::root(&server);
    let add = |password: &str| {
        root.send("POST /user", json!({ "username": "bob", "password": password }))
    };
    refused(&add("Short-1"), 400, "the password should be at least 12 characters long");
    let kinds = "the password should contain at least 3 of the following four character classes: a \
         lowercase letter, an uppercase letter, a digit, and a special character";
    refused(&add("lowercaseonly"), 400, kinds);
    assert_eq!(add("Lowercase-only").status, 200);
    refused(
        &root.send("PATCH /user/bob/password", json!({ "password": "lowercaseonly" })),
        400,
        kinds,
    );
}

fn deleting_a_user_ends_their_sessions(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("bob");
    let session = Api::anonymous(&server).session("bob");
    assert_eq!(
        (
            server.auth(&session).status,
            Api::bearing(&server, &session).ask("GET /current_user").status
        ),
        (200, 200)
    );
    assert_done(&root.ask("DELETE /user/bob"));
    assert_eq!(
        (
            server.auth(&session).status,
            Api::bearing(&server, &session).ask("GET /current_user").status
        ),
        (401, 401)
    );
    refused(&Api::anonymous(&server).log_in("bob", PASSWORD), 401, "Invalid username or password");
    refused(&root.ask("DELETE /user/bob"), 404, "User with name bob does not exist.");
    // A new user with the same name is another account.
    root.add_user("bob");
    assert_eq!(server.auth(&session).status, 401);
    assert_eq!(
        server.auth(&Api::anonymous(&server).session("bob")).status,
        200,
        "a login in the same second is valid"
    );
}

#[test]
fn login_during_a_deletion_gives_no_valid_session() {
    const LOGINS: usize = 6;
    let sandbox = Sandbox::new();
    // One hashing thread, so that some logins are queued while the user still exists.
    let server = sandbox.serve(&configuration("[login]\nhashing_threads=1\n"));
    Api::root(&server).add_user("bob");
    let (send, answers) = mpsc::channel();
    let sessions: Vec<_> = std::thread::scope(|scope| {
        for send in vec![send; LOGINS] {
            let server = &server;
            scope.spawn(move || send.send(Api::anonymous(server).log_in("bob", PASSWORD)).unwrap());
        }
        let first = answers.recv().unwrap();
        assert_done(&Api::root(&server).ask("DELETE /user/bob"));
        iter::once(first).chain(answers).filter(|answer| answer.status == 200).collect()
    });
    for session in &sessions {
        assert_eq!(server.auth(data(session)["token"].as_str().unwrap()).status, 401);
    }
}

fn c49_own_password_change_needs_the_current_one(protocol: Protocol) {
    const NEW: &str = "another horse";
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    let session = Api::anonymous(&server).session("bob");
    let bob = Api::bearing(&server, &session);
    let change = |arguments| bob.send("PATCH /user/bob/password", arguments);
    let needed = "changing your own password requires the current password";
    refused(&change(json!({ "password": NEW })), 400, needed);
    let wrong = change(json!({ "password": NEW, "current_password": "wrong" }));
    refused(&wrong, 401, "The current password is incorrect");
    let short = change(json!({ "password": "short", "current_password": PASSWORD }));
    refused(&short, 400, "the password should be at least 8 characters long");
    let other = Api::anonymous(&server).session("bob");
    let changed = change(json!({ "password": NEW, "current_password": PASSWORD }));
    assert_done(&changed);
    let token = changed.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    for old in [&session, &other] {
        assert_eq!(server.auth(old).status, 401);
        assert_eq!(Api::bearing(&server, old).ask("POST /login/renew").status, 401);
    }
    assert_eq!(server.auth(token).status, 200, "the call is answered with a new session");
    assert_eq!(Api::bearing(&server, token).ask("POST /login/renew").status, 200);
    assert_eq!(Api::anonymous(&server).log_in("bob", PASSWORD).status, 401);
    assert_eq!(Api::anonymous(&server).log_in("bob", NEW).status, 200);
}

fn password_reset_ends_the_users_sessions(protocol: Protocol) {
    const NEW: &str = "another horse";
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("bob");
    let (of_bob, of_eve) = (Api::anonymous(&server).session("bob"), session_of("eve", false));
    let change = |username: &str| {
        root.send(&format!("PATCH /user/{username}/password"), json!({ "password": NEW }))
    };
    refused(&change("eve"), 404, "User with name eve does not exist.");
    assert_done(&change("bob"));
    assert_eq!((server.auth(&of_bob).status, server.auth(&of_eve).status), (401, 200));
    assert_eq!(Api::anonymous(&server).log_in("bob", PASSWORD).status, 401);
    assert_eq!(Api::anonymous(&server).log_in("bob", NEW).status, 200);
}

fn administrator_right_is_granted_and_revoked(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_user("bob");
    let set = |username: &str, is_admin: bool| {
        root.send("PATCH /is_admin", json!({ "username": username, "is_admin": is_admin }))
    };
    let is_admin = || data(&root.ask("GET /user"))[0]["is_admin"].clone();
    assert_done(&set("bob", true));
    assert_eq!(is_admin(), true);
    let session = Api::anonymous(&server).log_in("bob", PASSWORD);
    assert_eq!(data(&session)["user"]["is_admin"], true);
    let session = data(&session)["token"].as_str().unwrap().to_owned();
    assert_eq!(server.auth(&session).status, 200);
    assert_done(&set("bob", false));
    assert_eq!(
        (is_admin(), server.auth(&session).status),
        (json!(false), 401),
        "the session claims a lost right"
    );
    refused(&set("eve", true), 400, "No user exists with username eve.");
}
