use std::fs;

use countersign_tests::binary::Sandbox;
use serde_json::json;

use super::{Api, ENVIRONMENT, assert_done, configuration, data, in_file};

#[test]
fn passwords_and_tokens_are_not_logged_or_stored() {
    let (old, new, wrong) = ("old-s3cret-password", "new-s3cret-password", "wrong-s3cret-password");
    let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", "trace");
    let server =
        sandbox.serve(&configuration(&format!("{}[log]\nrequests=all\n", in_file(&sandbox))));
    let (root, anonymous) = (Api::root(&server), Api::anonymous(&server));
    root.add_environment(ENVIRONMENT);
    for username in ["bob", "bob"] {
        root.send("POST /user", json!({ "username": username, "password": old }));
    }
    anonymous.log_in("bob", wrong);
    let session = data(&anonymous.log_in("bob", old))["token"].as_str().unwrap().to_owned();
    let bob = Api::bearing(&server, &session);
    let renewed = data(&bob.ask("POST /login/renew"))["token"].as_str().unwrap().to_owned();
    let change = json!({ "password": new, "current_password": old });
    let changed = bob.send("PATCH /user/bob/password", change);
    let changed = changed.header("authorization").unwrap().replace("Bearer ", "");
    let changed = changed.as_str();
    let issued = root.issue(ENVIRONMENT);
    Api::bearing(&server, &issued).within(ENVIRONMENT).ask("GET /environment_auth");
    // Secrets in the wrong place, or in malformed requests.
    root.send_raw("POST /user", &format!("{{\"username\":\"eve\",\"password\":\"{new}\""));
    root.send("POST /user", json!({ "username": "eve", "passwort": new }));
    root.ask(&format!("GET /user?password={new}&token={issued}"));
    root.ask(&format!("DELETE /user/bob?current_password={new}"));
    assert_done(&root.ask("DELETE /user/bob"));
    let mut stored = server.log().into_bytes();
    drop(server);
    for file in fs::read_dir(sandbox.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
    {
        // The only secret in the configuration is the signing key.
        stored.extend(fs::read(file).unwrap());
    }
    for file in fs::read_dir(sandbox.path().join(".local/state/countersign")).into_iter().flatten()
    {
        stored.extend(fs::read(file.unwrap().path()).unwrap());
    }
    let stored = String::from_utf8_lossy(&stored);
    assert!(
        stored.contains("SQLite format 3") && stored.contains("/api/v2/login"),
        "the database and the log were read"
    );
    let parts = [&*session, &renewed, changed, &issued]
        .into_iter()
        .flat_map(|token| token.split('.').skip(1));
    for secret in parts.chain([old, new, wrong]) {
        assert!(!stored.contains(secret), "{secret} is stored");
    }
}
