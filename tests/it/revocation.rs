use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    http::{self, Response},
    openssl::SigningKey,
};
use serde_json::{Value, json};

use crate::given::{self, ISSUER, SIGNING};

/// `countersign key client` made these.
const SECRET: &str = "7WwzQW1fTBQnJ2zq0hD1Y8sU5u2cBf0n3kq9nq2mJ6E";

fn configuration() -> String {
    let hash: String = digest(&SHA256, SECRET.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{SIGNING}[api_clients]\nCI-bot = sha256:{hash}\n")
}

fn basic(name: &str, secret: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{secret}")))
}

fn post(server: &Server<'_>, lines: &str, body: &str) -> Response {
    http::request(server.address, &format!("POST /v1/revoke HTTP/1.1\r\n{lines}"), body.as_bytes())
}

fn revoke(server: &Server<'_>, body: &str) -> Response {
    post(server, &basic("CI-bot", SECRET), body)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(changes: Value) -> String {
    given::token(&given::claims(changes))
}

#[test]
fn a_revoked_token_is_refused_from_then_on_and_no_other() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let (leaked, other) = (token(json!({ "jti": "1" })), token(json!({ "jti": "2" })));
    assert_eq!((server.auth(&leaked).status, server.auth(&other).status), (200, 200));
    let revoked = revoke(&server, &format!("token={leaked}&token_type_hint=access_token"));
    assert_eq!((revoked.status, revoked.body.as_str(), revoked.header("cache-control")), (200, "", Some("no-store")));
    let refused = server.auth(&leaked);
    assert_eq!((refused.status, refused.body.as_str()), (401, ""));
    let challenge = "Bearer error=\"invalid_token\", error_description=\"the token was revoked\"";
    assert_eq!(refused.header("www-authenticate"), Some(challenge));
    assert_eq!(server.auth(&other).status, 200);
    assert_eq!(revoke(&server, &format!("token={leaked}")).status, 200, "again changes nothing");
    assert_eq!(server.operations("/ready").json()["revocations"], json!({ "known": true, "count": 1, "fault": null }));
}

#[test]
fn a_token_without_an_id_is_revoked_by_what_was_signed() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let eternal = token(json!({ "exp": null, "sub": "eternal" }));
    assert_eq!(revoke(&server, &format!("token={eternal}")).status, 200);
    assert_eq!(server.auth(&eternal).status, 401);
    assert_eq!(server.auth(&token(json!({ "exp": null, "sub": "another" }))).status, 200);
    let (input, _) = eternal.rsplit_once('.').unwrap();
    let digest: String = digest(&SHA256, input.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(std::fs::read_to_string(file(&sandbox)).unwrap().contains(&digest));
}

fn file(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.path().join(".local/state/countersign/revocations")
}

#[test]
fn subjects_keys_and_everything_before_a_moment_are_revoked() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let (before, after) = (now() - 100, now() - 10);
    let of = |subject: &str, issued_at: u64| token(json!({ "sub": subject, "iat": issued_at }));
    let status = |token: &str| server.auth(token).status;

    let body = json!({ "issuer": ISSUER, "subject": "bob", "issued_before": now() - 50 }).to_string();
    assert_eq!(revoke(&server, &body).status, 200);
    assert_eq!(status(&of("bob", before)), 401);
    assert_eq!(status(&token(json!({ "sub": "bob" }))), 401, "without iat: older than everything");
    assert_eq!((status(&of("bob", after)), status(&of("eve", before))), (200, 200));

    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&subject=eve")).status, 200);
    assert_eq!(status(&of("eve", after)), 401, "without a moment: until now");

    let header = json!({ "alg": "HS256", "kid": "leaked" });
    let by_key = given::token_with_header(&header, &given::claims(json!({ "sub": "carol" })));
    assert_eq!(status(&by_key), 200);
    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&kid=leaked")).status, 200);
    assert_eq!((status(&by_key), status(&of("carol", before))), (401, 200));

    assert_eq!(revoke(&server, &format!("issued_before={}", now() - 50)).status, 200);
    assert_eq!((status(&of("carol", before)), status(&of("carol", after))), (401, 200));
}

#[test]
fn only_clients_with_their_secret_may_revoke() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let leaked = token(json!({ "jti": "1" }));
    let body = format!("token={leaked}");
    for lines in [
        String::new(),
        basic("CI-bot", "wrong"),
        basic("ci-bot", SECRET),
        basic("", ""),
        format!("Authorization: Bearer {leaked}\r\n"),
        basic("CI-bot", SECRET).repeat(2),
        "Authorization: Basic %%%\r\n".into(),
    ] {
        let refused = post(&server, &lines, &body);
        assert_eq!((refused.status, &refused.json()["error"]), (401, &json!("invalid_client")), "{lines}");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Basic "));
    }
    let both = format!("{body}&client_id=CI-bot&client_secret={SECRET}");
    assert_eq!(post(&server, &basic("CI-bot", SECRET), &both).status, 401, "RFC 6749 section 2.3: one way, not two");
    assert_eq!(server.auth(&leaked).status, 200);
    assert_eq!(post(&server, "", &both).status, 200);
    assert_eq!(server.auth(&leaked).status, 401);
    assert!(!server.log().contains(SECRET) && !server.log().contains(&leaked));
    assert_eq!(server.request("GET /v1/revoke HTTP/1.1\r\n").status, 405);
}

#[test]
fn what_is_not_clearly_meant_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    for (body, expected) in [
        ("", "say what to revoke"),
        ("token_type_hint=access_token", "say what to revoke"),
        ("token=a.b.c&jti=1", "nothing goes with it"),
        ("token=a&token=b", "duplicate field"),
        (r#"{"token":"a","token":"b"}"#, "duplicate field"),
        (r#"{"token":5}"#, "invalid type"),
        ("{", "cannot be read"),
        ("issuer=https://unknown/&subject=bob", "is not configured"),
        ("issuer=https://localhost:8888/&subjct=bob&issued_before=1", "unknown field"),
        ("issuer=https://localhost:8888/", "say what to revoke"),
        ("jti=1", "issuer is missing"),
        ("issued_before=soon", "invalid digit"),
    ] {
        let refused = revoke(&server, body);
        assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("invalid_request")), "{body}");
        assert!(refused.json()["error_description"].as_str().unwrap().contains(expected), "{body}: {refused:?}");
    }
    // RFC 7009 section 2.2: a token that is none needs no revoking.
    let forged = format!("{}x", token(json!({ "jti": "1" })));
    let expired = token(json!({ "jti": "1", "exp": 1 }));
    for worthless in ["abc", "", &forged, &expired] {
        assert_eq!(revoke(&server, &format!("token={worthless}")).status, 200, "{worthless}");
    }
    assert_eq!(server.operations("/ready").json()["revocations"]["count"], 0);
}

#[test]
fn revocations_survive_being_killed_at_any_moment() {
    let sandbox = Sandbox::new();
    let tokens: Vec<_> = (0..8).map(|id| token(json!({ "jti": id.to_string() }))).collect();
    for (round, token) in tokens.iter().enumerate() {
        let server = sandbox.serve(&configuration());
        for earlier in &tokens[..round] {
            assert_eq!(server.auth(earlier).status, 401, "round {round}");
        }
        assert_eq!(server.auth(token).status, 200);
        assert_eq!(revoke(&server, &format!("token={token}")).status, 200);
        // In the middle of the next one. It may be kept or not: nobody was told.
        let mut connection = http::Connection::open(server.address);
        let body = format!("issuer={ISSUER}&jti=unanswered-{round}");
        connection.send(&format!("POST /v1/revoke HTTP/1.1\r\n{}", basic("CI-bot", SECRET)), body.as_bytes());
        server.stop("KILL");
    }
}

#[test]
fn a_server_that_cannot_read_its_revocations_answers_no_token_and_is_not_ready() {
    let sandbox = Sandbox::new();
    let leaked = token(json!({ "jti": "1" }));
    {
        let server = sandbox.serve(&configuration());
        assert_eq!(revoke(&server, &format!("token={leaked}")).status, 200);
    }
    let kept = std::fs::read_to_string(file(&sandbox)).unwrap();
    std::fs::write(file(&sandbox), kept.replace("\"jti\":\"1\"", "\"jti\":\"2\"")).unwrap();
    let config = sandbox.file("c.cfg", format!("{}[server]\nbind_port=0\n[metrics]\nbind_port=0\n", configuration()));
    let server = sandbox.start(["--config", config.to_str().unwrap()]);
    let unavailable = server.auth(&given::good_token());
    assert_eq!((unavailable.status, unavailable.body.as_str()), (503, ""));
    assert_eq!(unavailable.header("x-auth-error"), Some("revocations_unavailable"));
    let ready = server.operations("/ready");
    assert_eq!((ready.status, &ready.json()["revocations"]["known"]), (503, &json!(false)));
    let fault = ready.json()["revocations"]["fault"].as_str().unwrap().to_owned();
    assert!(fault.contains("is damaged in line 2") && fault.contains("move it away"), "{fault}");
    let refused = revoke(&server, &format!("token={}", given::good_token()));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    // The remedy, without a restart.
    std::fs::write(file(&sandbox), kept).unwrap();
    server.wait_until_ready();
    assert_eq!((server.auth(&given::good_token()).status, server.auth(&leaked).status), (200, 401));
}

#[test]
fn the_capacity_is_a_loud_error() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}[revocation]\ncapacity=2\n", configuration()));
    for (id, status) in [("1", 200), ("2", 200), ("3", 503), ("2", 200)] {
        assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti={id}")).status, status, "{id}");
    }
    assert_eq!(server.auth(&token(json!({ "jti": "3" }))).status, 200, "not entered, and not said to be");
    assert!(server.log().contains("there are 2 revocations already"), "{}", server.log());
    let metrics = server.operations("/metrics").body;
    for line in ["countersign_revocations 2", "countersign_revocations_capacity 2", "countersign_revocations_known 1"] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
    drop(server);
    // A capacity below what is kept drops nothing either.
    let config = sandbox
        .file("c.cfg", format!("{}[revocation]\ncapacity=1\n[server]\nbind_port=0\n[metrics]\nbind_port=0\n", configuration()));
    let server = sandbox.start(["--config", config.to_str().unwrap()]);
    assert_eq!(server.auth(&given::good_token()).status, 503);
    assert_eq!(server.operations("/ready").status, 503);
}

#[test]
fn the_command_line_revokes_for_every_server_on_the_state_directory() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration());
    let config = sandbox.path().join("server.cfg");
    let run = |arguments: &[&str]| {
        sandbox.run(["token", "revoke", "--config", config.to_str().unwrap()].iter().chain(arguments).copied())
    };
    let leaked = token(json!({ "jti": "1" }));
    assert_eq!(server.auth(&leaked).status, 200);
    let output = run(&[&leaked]);
    assert!(output.text().starts_with("Revoked."), "{output:?}");
    eventually(|| server.auth(&leaked).status == 401);
    assert!(run(&["--issuer", ISSUER, "--subject", "bob"]).status.success());
    eventually(|| server.auth(&token(json!({ "iat": 5 }))).status == 401);
    // And what the server enters meanwhile is not lost by it.
    assert_eq!(revoke(&server, &format!("issuer={ISSUER}&jti=2")).status, 200);
    assert!(run(&["--issuer", ISSUER, "--jti", "3"]).status.success());
    eventually(|| server.operations("/ready").json()["revocations"]["count"] == 4);

    let verified = sandbox.run_with_input(["token", "verify", "--config", config.to_str().unwrap()], leaked.as_bytes());
    assert_eq!(verified.json_lines()[0]["code"], "revoked");
    for (arguments, expected) in [
        (&["--issuer", "https://unknown/", "--jti", "1"][..], "is not configured"),
        (&["--jti", "1"], "issuer is missing"),
        (&[], "say what to revoke"),
        (&["abc"], "none of ours"),
    ] {
        let output = run(arguments);
        assert_eq!(output.code(), 1);
        assert!(output.stderr.contains(expected), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_second_valid_signature_of_the_same_token_is_revoked_with_it() {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::new();
    let jwks = sandbox.file("jwks.json", json!({ "keys": [key.jwk()] }).to_string());
    let server = sandbox.serve(&format!(
        "{}[auth_jwt_idp]\nalgorithms=ES256\nclient_types=api\nissuer=https://idp/\naudience=a\njwks_uri=file://{}\n",
        configuration(),
        jwks.display()
    ));
    let claims = json!({ "iss": "https://idp/", "aud": "a", "sub": "bob" });
    // ECDSA draws a number for every signature: two tokens, one signing input.
    let (one, other) = (key.token(&claims), key.token(&claims));
    assert_ne!(one, other);
    assert_eq!((server.auth(&one).status, server.auth(&other).status), (200, 200));
    assert_eq!(revoke(&server, &format!("token={one}")).status, 200);
    assert_eq!((server.auth(&one).status, server.auth(&other).status), (401, 401));
}

#[test]
fn a_token_is_revoked_even_before_its_key_is_known() {
    let key = SigningKey::generate("ES256", "later");
    let sandbox = Sandbox::new();
    let jwks = sandbox.file("jwks.json", r#"{"keys":[]}"#);
    let server = sandbox.serve(&format!(
        "{}[auth_jwt_idp]\nalgorithms=ES256\nclient_types=api\nissuer=https://idp/\naudience=a\njwks_uri=file://{}\n",
        configuration(),
        jwks.display()
    ));
    let named = |id: &str| key.token(&json!({ "iss": "https://idp/", "aud": "a", "jti": id }));
    let (leaked, other) = (named("1"), named("2"));
    assert_eq!(server.auth(&leaked).status, 503);
    assert_eq!(revoke(&server, &format!("token={leaked}")).status, 200);
    sandbox.file("jwks.json", json!({ "keys": [key.jwk()] }).to_string());
    eventually(|| server.auth(&other).status == 200);
    assert_eq!(server.auth(&leaked).status, 401);
    // What nobody has vouched for revokes no more than itself.
    assert_eq!(server.auth(&key.token(&json!({ "iss": "https://idp/", "aud": "a", "jti": "1", "sub": "s" }))).status, 200);
}

#[test]
fn a_client_made_on_the_command_line_works_as_printed() {
    let sandbox = Sandbox::new();
    let printed = sandbox.run(["key", "client", "deployer"]).text().to_owned();
    let line = |start: &str| printed.lines().skip_while(move |line| !line.starts_with(start)).nth(2).unwrap();
    let (secret, section) = (line("The secret"), printed.split_once("For the configuration:\n").unwrap().1);
    let server = sandbox.serve(&format!("{SIGNING}{section}\n"));
    assert_eq!(post(&server, &basic("deployer", secret), &format!("issuer={ISSUER}&jti=1")).status, 200);
}

#[test]
fn a_secret_that_is_not_hashed_is_refused_and_not_shown() {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", format!("{SIGNING}[api_clients]\nci = {SECRET}\n"));
    let output = sandbox.run(["config", "check", "--config", config.to_str().unwrap()]);
    assert_eq!(output.code(), 2);
    assert!(output.stderr.contains("countersign key client") && !output.stderr.contains(SECRET), "{output:?}");
}
