use std::fs;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::{Value, json};

use super::{AdminApi, assert_problem};
use crate::{
    fixture::{KEY, claims, good_token, now, token},
    users::{configuration, session_of},
};

over_every_protocol!(
    token_is_inspected_check_by_check,
    damage_of_a_token_is_located,
    deeply_nested_token_is_shown,
    inspection_needs_an_administrator,
);

const CALL: &str = "POST /tokens/inspect";

#[track_caller]
fn inspect(api: &AdminApi<'_>, token: &str) -> Value {
    let answer = api.send(CALL, json!({ "token": token }));
    assert_eq!((answer.status, answer.header("etag")), (200, None), "{answer:?}");
    assert!(!answer.body.contains(KEY), "{answer:?}");
    answer.json()
}

/// Returns the only element with this name.
#[track_caller]
fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    let mut found = list.as_array().unwrap().iter().filter(|one| one["name"] == name);
    let first = found.next().unwrap_or_else(|| panic!("{name} in {list}"));
    assert!(found.next().is_none(), "{name} in {list}");
    first
}

fn token_is_inspected_check_by_check(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let good = inspect(&api, &format!("Bearer {}\n", good_token()));
    let verdict = json!([good["is_accepted"], good["is_authentic"], good["code"]]);
    assert_eq!(verdict, json!([true, true, null]), "{good}");
    assert!(good["checks"].as_array().unwrap().iter().all(|one| one["is_passed"] == true));
    assert_eq!(named(&good["header"], "alg")["value"], "\"HS256\"");
    let lines = good["checks"].as_array().unwrap().iter().flat_map(|one| {
        one["decided_by"].as_array().unwrap().iter().map(|line| line.as_str().unwrap())
    });
    let key = lines.into_iter().find(|line| line.contains("] key = ")).unwrap();
    assert!(key.starts_with("[auth_jwt_default] key = (not shown), in "), "{good}");
    assert_eq!(named(&good["payload"], "iss")["meaning"], "issuer");

    let expiry = now() - 180;
    let expired = inspect(&api, &token(&claims(json!({ "exp": expiry, "iat": expiry - 60 }))));
    assert_eq!(json!([expired["is_accepted"], expired["code"]]), json!([false, "expired"]));
    let check = named(&expired["checks"], "expiry time (exp)");
    assert_eq!(json!([check["is_passed"], check["code"]]), json!([false, "expired"]));
    assert!(check["reason"].is_string() && check["found"].is_string(), "{check}");
    let exp = named(&expired["payload"], "exp");
    assert_eq!(json!([exp["value"], exp["meaning"]]), json!([expiry.to_string(), "expires"]));
    assert!(exp["time"].as_str().unwrap().ends_with('Z'), "{exp}");

    let (head, signature) = good_token().rsplit_once('.').map(owned).unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let forged = inspect(&api, &forged);
    assert_eq!(json!([forged["is_accepted"], forged["is_authentic"]]), json!([false, false]));
    assert_eq!(named(&forged["checks"], "signature")["is_passed"], false);
}

fn owned((one, other): (&str, &str)) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

fn damage_of_a_token_is_located(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    for (token, expected) in [
        ("e30.e30", "It has 2 parts"),
        ("e30.e+0.c2ln", "The payload has '+' at position 6"),
        (&"a".repeat(17_000), "It has 17000 bytes; the longest token has 16384."),
    ] {
        let inspected = inspect(&api, token);
        assert_eq!(json!([inspected["is_accepted"], inspected["checks"]]), json!([false, []]));
        assert!(inspected["damages"][0].as_str().unwrap().contains(expected), "{inspected}");
    }
    for body in [json!({}), json!({ "token": 1 }), json!({ "token": "a\0" })] {
        let problem = assert_problem(&api.send(CALL, body), 400, "invalid_request");
        assert_eq!(problem["pointer"], "/token");
    }
    let long = json!({ "token": "a".repeat(80_000) });
    assert_problem(&api.send(CALL, long), 413, "body_too_large");
}

/// Anyone can make such a token and ask an administrator why it is refused.
fn deeply_nested_token_is_shown(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    for (header, payload) in [
        (
            r#"{"alg":"HS256"}"#.to_owned(),
            format!("{{\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000)),
        ),
        (
            format!(r#"{{"alg":"HS256","x":{}1{}}}"#, "{\"a\":".repeat(900), "}".repeat(900)),
            "{}".into(),
        ),
    ] {
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        let inspected = inspect(&api, &format!("{header}.{payload}.AAAA"));
        assert_eq!(inspected["is_accepted"], false, "{inspected}");
    }
    assert_eq!(server.auth(&good_token()).status, 200);
}

fn inspection_needs_an_administrator(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let body = json!({ "token": good_token() });
    let agent = token(&claims(json!({ "urn:inmanta:ct": "agent" })));
    let refused = AdminApi { server: &server, token: agent }.send(CALL, body.clone());
    assert_problem(&refused, 403, "not_authorized");
    let anonymous = AdminApi { server: &server, token: String::new() }.send(CALL, body.clone());
    assert_problem(&anonymous, 401, "token_missing");
    let root = AdminApi { server: &server, token: session_of("root", true) };
    assert_eq!(root.send(CALL, body).status, 200);
    assert_eq!(root.get("/audit-events")["items"], json!([]), "nothing was changed");
}

#[test]
fn token_for_inspection_is_neither_stored_nor_logged() {
    let sandbox = Sandbox::new().variable("COUNTERSIGN_LOG", "trace");
    let database = format!("{}[log]\nrequests=all\n", crate::users::in_file(&sandbox));
    let server = sandbox.serve(&configuration(&database));
    let secret = token(&claims(json!({ "sub": "only-in-the-inspected-token" })));
    let inspected = inspect(&AdminApi::root(&server), &secret);
    assert!(inspected.to_string().contains("only-in-the-inspected-token"), "{inspected}");
    let mut stored = server.log().into_bytes();
    drop(server);
    let files = fs::read_dir(sandbox.path()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.is_file()).for_each(|file| stored.extend(fs::read(file).unwrap()));
    let stored = String::from_utf8_lossy(&stored);
    assert!(stored.contains("/v1/admin/tokens/inspect") && stored.contains("SQLite format 3"));
    for part in secret.split('.').skip(1).chain(["only-in-the-inspected-token"]) {
        assert!(!stored.contains(part), "{part} is stored");
    }
}
