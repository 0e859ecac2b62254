use std::fs;

use countersign_tests::binary::Sandbox;
use serde_json::json;

use super::{Api, ENVIRONMENT, configuration, data, done, in_file};

#[test]
fn no_password_and_no_token_is_in_the_log_or_on_the_disk() {
    let (old, new, wrong) = ("old-s3cret-password", "new-s3cret-password", "wrong-s3cret-password");
    let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", "trace");
    let server =
        sandbox.serve(&configuration(&format!("{}[log]\nrequests=all\n", in_file(&sandbox))));
    let (root, nobody) = (Api::root(&server), Api::anonymous(&server));
    root.add_environment(ENVIRONMENT);
    for username in ["bob", "bob"] {
        root.send("POST /user", json!({ "username": username, "password": old }));
    }
    nobody.log_in("bob", wrong);
    let session = data(&nobody.log_in("bob", old))["token"].as_str().unwrap().to_owned();
    let bob = Api::bearing(&server, &session);
    let renewed = data(&bob.ask("POST /login/renew"))["token"].as_str().unwrap().to_owned();
    done(
        &bob.send("PATCH /user/bob/password", json!({ "password": new, "current_password": old })),
    );
    let issued = root.issue(ENVIRONMENT);
    Api::bearing(&server, &issued).within(ENVIRONMENT).ask("GET /environment_auth");
    // Where they do not belong, or nobody can read them.
    root.send_raw("POST /user", &format!("{{\"username\":\"eve\",\"password\":\"{new}\""));
    root.send("POST /user", json!({ "username": "eve", "passwort": new }));
    root.ask(&format!("GET /user?password={new}&token={issued}"));
    root.ask(&format!("DELETE /user/bob?current_password={new}"));
    done(&root.ask("DELETE /user/bob"));
    let mut kept = server.log().into_bytes();
    drop(server);
    for file in fs::read_dir(sandbox.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
    {
        // Of ours it is the key alone that stands in the configuration.
        kept.extend(fs::read(file).unwrap());
    }
    for file in fs::read_dir(sandbox.path().join(".local/state/countersign")).into_iter().flatten()
    {
        kept.extend(fs::read(file.unwrap().path()).unwrap());
    }
    let kept = String::from_utf8_lossy(&kept);
    assert!(
        kept.contains("SQLite format 3") && kept.contains("/api/v2/login"),
        "there is something to look at"
    );
    let parts =
        [&session, &renewed, &issued].into_iter().flat_map(|token| token.split('.').skip(1));
    for secret in parts.chain([old, new, wrong]) {
        assert!(!kept.contains(secret), "{secret} is kept");
    }
}
