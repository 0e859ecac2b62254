use std::{cell::Cell, time::Duration};

use countersign_engine::{Presentation, Reject, UnixTime};
use countersign_server::{auth::Authenticator, keys::refresh};
use countersign_tests::{
    binary::{NO_BUDGETS, Sandbox, Server},
    client::Protocol,
    eventually, front,
    grpc::{CheckOutcome, Envoy, check_request},
    http::Response,
    openssl::SigningKey,
    over_every_protocol,
    providers::{CannedResponse, JwksServer},
};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::fixture::{self, key_set, now};

over_every_protocol!(
    s18_failing_provider_leaves_an_unknown_kid_undecided,
    s18_slow_provider_leaves_an_unknown_kid_undecided,
    new_token_is_undecided_in_the_cool_down,
    absent_kid_is_unknown_until_the_next_fetch,
);

const ISSUER: &str = "https://idp/";
const VERIFICATIONS: &str = "countersign_verifications_total{outcome=\"rejected\",code=";

fn configuration(provider: &JwksServer, options: &str) -> String {
    let provider = format!("jwks_uri={}\n{options}", provider.uri());
    fixture::with_idp("ES256", &provider) + NO_BUDGETS
}

/// Returns a token that was issued at this time, or does not say when.
fn token(key: &SigningKey, issued_at: Option<u64>) -> String {
    let mut claims = fixture::claims_of(ISSUER);
    if let Some(issued_at) = issued_at {
        claims["iat"] = issued_at.into();
    }
    key.token(&claims)
}

/// Returns an old token of a key that is not published.
fn made_up(number: u32) -> String {
    token(&SigningKey::generate("ES256", &format!("made-up-{number}")), Some(1_700_000_000))
}

fn assert_undecided(response: &Response) {
    let error = response.header("x-auth-error");
    assert_eq!((response.status, error), (503, Some("kid_undecided https://idp/")), "{response:?}");
    let retry_after: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&retry_after), "{retry_after}");
    assert_eq!(response.header("www-authenticate"), None);
}

fn undecided(server: &Server<'_>) -> u64 {
    server.metric("countersign_issuer_undecided_kids_total{section=\"auth_jwt_oidc\"}")
}

fn s18_failing_provider_leaves_an_unknown_kid_undecided(protocol: Protocol) {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let issued_long_ago = token(&new, Some(1_700_000_000));
    for surface in ["generic", "inmanta"] {
        let provider = JwksServer::start(&key_set(&[&old]));
        let sandbox = Sandbox::over(protocol);
        let surface = format!("[listen]\nsurface={surface}\n");
        let server = sandbox.serve(&(configuration(&provider, "") + &surface));
        provider.respond_with(CannedResponse::status("500 Oops"));
        // The first one is refused after a fetch, the fifth without one.
        for _ in 0..5 {
            assert_undecided(&server.auth(&issued_long_ago));
        }
        let problem = server.verify(&issued_long_ago);
        assert_undecided(&problem);
        assert_eq!(problem.json()["code"], "kid_undecided");
        let call = format!(
            "GET /api/v2/environment_auth HTTP/1.1\r\nAuthorization: Bearer {issued_long_ago}\r\n"
        );
        let call = server.request(&call);
        assert_undecided(&call);
        let text = "the key id (kid) is unknown, and the keys of the issuer https://idp/ cannot be \
                    fetched";
        assert_eq!(
            (&problem.json()["detail"], &call.json()["message"]),
            (&json!(text), &json!(text))
        );
        assert_eq!(server.auth(&token(&old, None)).status, 200, "known keys are not affected");
        assert_eq!(server.operations("/ready").status, 200);
        assert_eq!(
            (undecided(&server), server.metric(&format!("{VERIFICATIONS}\"kid_undecided\"}}"))),
            (7, 7)
        );
        assert_eq!(server.metric(&format!("{VERIFICATIONS}\"kid_unknown\"}}")), 0);
        assert_eq!(provider.requests(), 4, "the burst");
    }
}

fn s18_slow_provider_leaves_an_unknown_kid_undecided(protocol: Protocol) {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&provider, ""));
    let slow = CannedResponse::json(&key_set(&[&old, &new])).delayed(Duration::from_secs(2));
    provider.respond_with(slow);
    let token = token(&new, Some(1_700_000_000));
    assert_undecided(&server.auth(&token));
    eventually(|| server.auth(&token).status == 200);
    assert_eq!(provider.requests(), 2);
}

fn new_token_is_undecided_in_the_cool_down(protocol: Protocol) {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&provider, "jwks_cool_down=30\nleeway=5"));
    for number in 0..3 {
        assert_eq!(server.auth(&made_up(number)).status, 401);
    }
    provider.publish(&key_set(&[&old, &new]));
    for issued_at in [None, Some(now()), Some(now() - 4)] {
        assert_undecided(&server.auth(&token(&new, issued_at)));
    }
    assert_eq!(server.auth(&token(&new, Some(now() - 60))).status, 401, "older than the fetch");
    assert_eq!((provider.requests(), undecided(&server)), (4, 3));
}

fn absent_kid_is_unknown_until_the_next_fetch(protocol: Protocol) {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&provider, "jwks_cool_down=2"));
    for _ in 0..10 {
        assert_eq!(server.auth(&token(&new, Some(now()))).status, 401);
    }
    assert_eq!(provider.requests(), 2, "it causes one fetch");
    provider.publish(&key_set(&[&old, &new]));
    eventually(|| server.auth(&token(&new, None)).status == 200);
    assert_eq!(provider.requests(), 3);
    // A withdrawn kid was seen before the fetch that withdraws it.
    provider.publish(&key_set(&[&new]));
    assert_eq!(server.auth(&made_up(0)).status, 401);
    assert_eq!(server.auth(&token(&old, Some(now()))).status, 401);
    assert_eq!(provider.requests(), 4);
}

#[test]
fn kid_of_a_key_file_is_never_undecided() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let sandbox = Sandbox::new();
    let file = sandbox.file("jwks.json", key_set(&[&old]));
    let options = format!("jwks_uri=file://{}", file.display());
    let server = sandbox.serve(&fixture::with_idp("ES256", &options));
    std::fs::remove_file(file).unwrap();
    for _ in 0..5 {
        assert_eq!(server.auth(&token(&new, None)).status, 401);
    }
    eventually(|| server.operations("/keys").json()["issuers"][1]["failing"] == json!(true));
    assert_eq!(server.auth(&token(&new, None)).status, 401);
    let unknown = fixture::token_with_header(
        &json!({ "alg": "HS256", "kid": "any" }),
        &fixture::claims(json!({})),
    );
    assert_eq!(server.auth(&unknown).status, 200, "a static key without kid serves every kid");
}

#[test]
fn grpc_check_of_an_undecided_kid_is_denied() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::new();
    let h2 = "[listen]\nprotocols=http/1.1, h2\n";
    let server = sandbox.serve(&(configuration(&provider, "") + h2));
    provider.respond_with(CannedResponse::close());
    let authorization = format!("Bearer {}", token(&new, None));
    let check = check_request(&[("authorization", &authorization)]);
    for _ in 0..5 {
        let response = Envoy::plain(server.address).check(check.clone()).unwrap();
        let outcome = CheckOutcome::of(response);
        assert_eq!(outcome.status, 503);
        assert_eq!(outcome.header("x-auth-error"), Some("kid_undecided https://idp/"));
        assert!(outcome.header("retry-after").is_some());
    }
}

#[test]
fn token_verify_reports_an_undecided_kid() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    for (then, code, status) in [
        (CannedResponse::status("500 Oops"), json!("kid_undecided"), 503),
        (CannedResponse::json(&key_set(&[&old])), json!("kid_unknown"), 401),
        (CannedResponse::json(&key_set(&[&old, &new])), Value::Null, 0),
    ] {
        let good = CannedResponse::json(&key_set(&[&old]));
        let provider = JwksServer::start_with(good.delayed(Duration::from_millis(500)));
        let sandbox = Sandbox::new();
        let config = sandbox.file("a.cfg", configuration(&provider, ""));
        let verify = ["token", "verify", "--config", config.to_str().unwrap()];
        let lines = format!("{}\n{}\n", token(&old, None), token(&new, None));
        let output = std::thread::scope(|scope| {
            let running = scope.spawn(|| sandbox.run_with_input(verify, lines));
            eventually(|| provider.requests() == 1);
            provider.respond_with(then);
            running.join().unwrap()
        });
        let lines = output.json_lines();
        assert_eq!((&lines[0]["ok"], &lines[1]["code"]), (&json!(true), &code), "{output:?}");
        assert_eq!(lines[1]["status"].as_u64().unwrap_or_default(), status, "{output:?}");
        assert_eq!(provider.requests(), 2);
    }
}

#[test]
fn empty_key_set_is_reported_and_keeps_the_keys_at_first() {
    let key = SigningKey::generate("ES256", "old");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let options = "jwks_refresh_interval=2\njwks_cool_down=1";
    let server = sandbox.serve(&configuration(&provider, options));
    provider.publish(&key_set(&[]));
    provider.wait_for_requests(3);
    let status = &server.operations("/keys").json()["issuers"][1];
    assert_eq!(
        (&status["last_failure"]["reason"], &status["failing"]),
        (&json!("empty"), &json!(true))
    );
    assert_eq!(server.auth(&token(&key, None)).status, 200);
    assert!(server.log().contains("if it stays so for 60 s, its tokens are answered with 503"));
    let gauge = "countersign_issuer_keys_failing{section=\"auth_jwt_oidc\",reason=\"empty\"}";
    assert_eq!(server.metric(gauge), 1);
}

#[test]
fn unknown_kid_costs_one_parse() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&key_set(&[&old]));
    let app = front::app(&configuration(&provider, ""));
    let Authenticator { verifier, keys, .. } = &app.authenticator;
    refresh::spawn(verifier, keys, None).unwrap();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(keys.first_fetches());
    let parse = |token: &str| {
        let parses = Cell::new(0);
        let verify = || {
            parses.set(parses.get() + 1);
            let (mut unknown, presentation) = (None, Presentation::default());
            let report = |found| unknown = Some(found);
            let token = token.as_bytes();
            let verified =
                verifier.verify_with(token, UnixTime(now()), presentation, |_| true, report);
            unknown.map_or_else(|| Ok(verified.map(drop)), |unknown| Err(Box::new(unknown)))
        };
        let answer = runtime.block_on(app.authenticator.resolve(verify));
        (parses.get(), answer.map_err(|answer| answer.reject()))
    };
    for number in 0..2 {
        // Unknown after a fetch that brings the same keys.
        assert_eq!(parse(&made_up(number)), (1, Err(Reject::KidUnknown)));
    }
    provider.publish(&key_set(&[&old, &new]));
    assert_eq!(parse(&token(&new, None)), (2, Ok(Ok(()))));
    assert_eq!(provider.requests(), 4);
    let newer = SigningKey::generate("ES256", "newer");
    assert_eq!(parse(&token(&newer, None)), (1, Err(Reject::KidUndecided)));
    assert_eq!(parse(&made_up(9)), (1, Err(Reject::KidUnknown)));
    assert_eq!(provider.requests(), 4);
}
