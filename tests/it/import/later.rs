use countersign_tests::{binary::Sandbox, eventually};
use serde_json::json;

use super::{HASH, PASSWORD, PROD, VALID, counts, import, registered_token, source, user};
use crate::users::{Api, assert_done, configuration, data};

/// A hash of `Other-Horse-10`, as libsodium makes it.
const OTHER_HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$V8Rt4q/GmbaxZTN4jg3DiQ$OfdRx7BTWLXQboz6CuJtuqLxgfT0Tb84oJTHkt5l3+4";
const OTHER_PASSWORD: &str = "Other-Horse-10";

#[test]
fn repeated_import_keeps_changes_made_here() {
    let (sandbox, source) = (Sandbox::new(), source());
    let text = configuration("");
    sandbox.file("c.cfg", &text);
    import(&sandbox, &source, &[]).text();
    let server = sandbox.serve(&text);
    let root = Api::root(&server);
    assert_done(&root.ask("DELETE /user/alice"));
    let new = json!({ "password": "changed here" });
    assert_done(&root.send("PATCH /user/bob/password", new));
    assert_done(&root.ask(&format!("DELETE /role_assignment/bob?environment={PROD}&role=noc")));
    assert_done(&root.ask("DELETE /role?name=operator"));
    let revoke = format!("DELETE /environment_auth/{VALID}");
    assert_eq!(root.within(PROD).ask(&revoke).status, 200);

    let again = import(&sandbox, &source, &[]);
    assert_eq!(counts(&again, "users"), [0, 2, 0, 1], "{again:?}");
    assert_eq!(counts(&again, "roles"), [0, 1, 0, 1], "{again:?}");
    assert_eq!(counts(&again, "role assignments"), [0, 0, 0, 1], "{again:?}");
    assert_eq!(counts(&again, "tokens"), [0, 2, 0, 0], "{again:?}");
    assert!(again.text().contains("users: alice: skipped, because it was deleted here"));
    assert!(user(&server, "alice").is_none());
    data(&Api::anonymous(&server).log_in("bob", "changed here"));
    assert_eq!(Api::anonymous(&server).log_in("bob", PASSWORD).status, 401);
    assert_eq!(user(&server, "bob").unwrap()["roles"], json!({}));
    assert_eq!(server.auth(&registered_token(VALID)).status, 401, "still revoked");

    // Also after the user was added anew on either side.
    root.add_user("alice");
    assert_eq!(counts(&import(&sandbox, &source, &[]), "users"), [0, 2, 0, 1]);
    assert_eq!(user(&server, "alice").unwrap()["is_admin"], false);
    assert_done(&root.ask("DELETE /user/alice"));
    // Another user of the source, after the first one was deleted there too.
    source.query("DELETE FROM inmanta_user WHERE username = 'bob'");
    source.query(&format!(
        "UPDATE inmanta_user SET id = gen_random_uuid() WHERE username = 'alice';
         INSERT INTO inmanta_user VALUES (gen_random_uuid(), 'bob', '{HASH}', 'database', false)"
    ));
    let again = import(&sandbox, &source, &[]);
    assert_eq!(counts(&again, "users"), [1, 1, 0, 1], "{again:?}");
    assert!(
        again.text().contains("bob: skipped, because an earlier user of this name"),
        "{again:?}"
    );
    data(&Api::anonymous(&server).log_in("alice", PASSWORD));
    assert_done(&root.ask("DELETE /user/bob"));
    assert_eq!(counts(&import(&sandbox, &source, &[]), "users"), [1, 2, 0, 0]);
    data(&Api::anonymous(&server).log_in("bob", PASSWORD));
}

#[test]
fn names_may_be_passed_on_and_swapped() {
    let (sandbox, source) = (Sandbox::new(), source());
    sandbox.file("c.cfg", configuration(""));
    let environment = |name: &str, id: u8| {
        source.query(&format!(
            "INSERT INTO environment (id, name, project) SELECT \
             'dddddddd-0000-4000-8000-00000000001{id}', '{name}', id FROM project LIMIT 1"
        ));
    };
    environment("blue", 1);
    environment("green", 2);
    source.query("INSERT INTO project VALUES (gen_random_uuid(), 'lab')");
    import(&sandbox, &source, &[]).text();
    let rename = |table: &str, from: &str, to: &str| {
        source.query(&format!("UPDATE {table} SET name = '{to}' WHERE name = '{from}'"));
    };
    rename("environment", "blue", "old");
    rename("environment", "green", "blue");
    environment("green", 3);
    for table in ["environment", "project"] {
        let (one, other) = if table == "project" { ("lab", "network") } else { ("old", "blue") };
        rename(table, one, "other");
        rename(table, other, one);
        rename(table, "other", other);
    }
    let again = import(&sandbox, &source, &[]);
    assert_eq!(counts(&again, "environments"), [1, 2, 1, 0], "{again:?}");
    assert_eq!(counts(&again, "projects"), [0, 0, 2, 0], "{again:?}");
    assert_eq!(counts(&import(&sandbox, &source, &[]), "environments"), [0, 4, 0, 0]);
}

#[test]
fn user_who_is_locked_in_the_source_is_locked() {
    let (sandbox, source) = (Sandbox::new(), source());
    let text = configuration("");
    sandbox.file("c.cfg", &text);
    import(&sandbox, &source, &[]).text();
    let server = sandbox.serve(&text);
    let login = || Api::anonymous(&server).log_in("alice", PASSWORD);
    let session = data(&login())["token"].as_str().unwrap().to_owned();
    source.query("UPDATE inmanta_user SET password_hash = '!locked' WHERE username = 'alice'");
    assert_eq!(counts(&import(&sandbox, &source, &[]), "users"), [0, 2, 1, 0]);
    assert_eq!(login().status, 401);
    eventually(|| server.auth(&session).status == 401);
    assert_eq!(counts(&import(&sandbox, &source, &[]), "users"), [0, 3, 0, 0], "once");
}

#[test]
fn repeated_import_takes_over_changes_of_the_source() {
    let (sandbox, source) = (Sandbox::new(), source());
    let text = configuration("");
    sandbox.file("c.cfg", &text);
    import(&sandbox, &source, &[]).text();
    let server = sandbox.serve(&text);
    let old = Api::anonymous(&server).log_in("alice", PASSWORD);
    let session = data(&old)["token"].as_str().unwrap().to_owned();
    assert_eq!(server.auth(&session).status, 200);
    let new_user = "aaaaaaaa-0000-4000-8000-000000000009";
    source.query(&format!(
        "UPDATE inmanta_user SET password_hash = '{OTHER_HASH}', is_admin = false
             WHERE username = 'alice';
         UPDATE inmanta_user SET is_admin = true WHERE username = 'bob';
         INSERT INTO inmanta_user VALUES ('{new_user}', 'dave', '{HASH}', 'database', false);
         DELETE FROM inmanta_user WHERE username = 'carol';
         INSERT INTO role_assignment VALUES ('{new_user}', '{PROD}',
             'bbbbbbbb-0000-4000-8000-000000000002');
         UPDATE environment SET name = 'production', repo_branch = 'main';
         UPDATE project SET name = 'core network'"
    ));
    let again = import(&sandbox, &source, &[]);
    assert_eq!(counts(&again, "users"), [1, 0, 2, 0], "{again:?}");
    assert_eq!(counts(&again, "role assignments"), [1, 1, 0, 0], "{again:?}");
    assert_eq!(counts(&again, "environments"), [0, 0, 1, 0], "{again:?}");
    assert_eq!(counts(&again, "projects"), [0, 0, 1, 0], "{again:?}");
    assert!(
        again.text().contains("users: carol: no longer in the source, and kept here"),
        "{again:?}"
    );
    let alice = data(&Api::anonymous(&server).log_in("alice", OTHER_PASSWORD));
    assert_eq!(alice["user"]["is_admin"], false);
    assert_eq!(Api::anonymous(&server).log_in("alice", PASSWORD).status, 401);
    // Their sessions ended with the old password.
    eventually(|| server.auth(&session).status == 401);
    assert_eq!(user(&server, "bob").unwrap()["is_admin"], true);
    data(&Api::anonymous(&server).log_in("dave", PASSWORD));
    let environment = data(&Api::root(&server).ask(&format!("GET /environment/{PROD}")));
    assert_eq!(environment["name"], "production");
    let last = import(&sandbox, &source, &[]);
    assert_eq!(counts(&last, "users"), [0, 3, 0, 0], "{last:?}");
    assert_eq!(counts(&last, "environments"), [0, 1, 0, 0], "{last:?}");
}
