use countersign_tests::{binary::Sandbox, eventually};
use serde_json::json;

use super::{IdentityApi, configuration, text};
use crate::signing_keys::{apply, moved, rotate, with_next};

/// Returns the configuration with these keys of the section that signs.
fn with_keys(lines: &str) -> String {
    let key = format!("key={}", crate::fixture::KEY);
    configuration("").replacen(&key, lines, 1)
}

#[test]
fn access_tokens_survive_a_rotation() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_keys(&with_next()));
    let api = IdentityApi::new(&server);
    let machine = api.machine("admin", json!({ "accessTokenNumUsesLimit": 100 }));
    let plain = api.machine("admin", json!({}));
    let old = [&machine, &plain].map(|machine| api.access_token(machine));
    assert!(rotate(&sandbox, &[]).status.success());
    // The signature of a token whose header and claims are the same differs by its key.
    let header = |token: &str| token.split('.').next().unwrap().to_owned();
    let new = || [&machine, &plain].map(|machine| api.access_token(machine));
    let accepted = |tokens: &[String]| tokens.iter().all(|token| api.auth(token) == 200);
    assert!(accepted(&old) && accepted(&new()));
    assert_eq!(header(&old[1]), header(&new()[1]), "tokens do not name the key");
    let renewed = text(&api.renew(&old[1]).json()["accessToken"]);
    assert_eq!(api.auth(&renewed), 200);

    apply(&sandbox, &server, &with_keys(&moved()));
    assert!(accepted(&old));
    let last = new();
    apply(&sandbox, &server, &with_keys(&format!("key={}", crate::signing_keys::NEXT)));
    // Derived from the key that was removed, or from the one in force.
    eventually(|| old.iter().all(|token| api.server.auth(token).status == 401));
    assert!(last.iter().all(|token| api.server.auth(token).status == 200));
}
