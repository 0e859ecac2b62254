use std::{
    thread::{self, sleep},
    time::Duration,
};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    openssl::SigningKey,
    providers::{Answer, JwksServer},
};
use serde_json::json;

use super::{SECOND, take_over};
use crate::given::{self, SIGNING, key_set};

const ISSUER: &str = "https://idp/";
/// Where nobody listens.
const DOWN: &str = "http://127.0.0.1:9/jwks";

/// The guide's section, and one for an issuer with keys at this URI.
fn configuration(uri: &str, options: &str) -> String {
    given::with_idp("ES256", &format!("jwks_uri={uri}\n{options}"))
}

/// A key with a token that it signed.
fn key(kid: &str) -> (SigningKey, String) {
    let key = SigningKey::generate("ES256", kid);
    let token = key.token(&given::claims_of(ISSUER));
    (key, token)
}

fn is_ready(server: &Server<'_>) -> bool {
    server.operations("/ready").status == 200
}

#[test]
fn an_issuer_that_did_not_change_is_not_asked_again() {
    let (key, token) = key("k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider.uri(), ""));
    assert_eq!(server.auth(&token).status, 200);
    provider.behave(Answer::hang_up());
    let idp = configuration(&provider.uri(), "");
    for next in [format!("{idp}{SECOND}"), format!("{SECOND}{idp}"), idp] {
        take_over(&sandbox, &server, &next);
        assert_eq!((server.auth(&token).status, is_ready(&server)), (200, true));
    }
    assert_eq!(provider.requests(), 1);
    assert_eq!(
        server.metric(
            r#"countersign_issuer_keys_fetches_total{section="auth_jwt_oidc",cause="start"}"#
        ),
        1
    );
}

#[test]
fn a_new_issuers_keys_are_fetched_and_a_gone_ones_are_not_asked_for() {
    let (key, token) = key("k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let options = "jwks_refresh_interval=2\njwks_cool_down=1";
    take_over(&sandbox, &server, &configuration(&provider.uri(), options));
    eventually(|| server.auth(&token).status == 200);
    provider.wait_for_requests(1);
    take_over(&sandbox, &server, SIGNING);
    assert_eq!(server.auth(&token).status, 401);
    // One may be under way.
    sleep(Duration::from_millis(100));
    let asked = provider.requests();
    sleep(Duration::from_millis(2500));
    assert_eq!(provider.requests(), asked);
}

#[test]
fn a_server_that_was_ready_stays_so_whatever_a_new_provider_does() {
    let provider = JwksServer::start_with(Answer::silence());
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    take_over(&sandbox, &server, &configuration(&provider.uri(), ""));
    eventually(|| provider.requests() == 1);
    assert!(is_ready(&server), "all servers of a fleet would be out at once");
    assert_eq!(server.auth(&key("k").1).status, 503);
}

#[test]
fn the_keys_of_another_uri_never_serve_again() {
    let [(old_key, old), (new_key, new)] = ["old", "new"].map(key);
    let provider = JwksServer::start(&key_set(&[&old_key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider.uri(), ""));
    for _ in 0..3 {
        assert_eq!(server.auth(&old).status, 200);
    }
    take_over(&sandbox, &server, &configuration(DOWN, ""));
    for _ in 0..20 {
        let answers =
            [server.auth(&old).status, server.verify(&old).status, server.auth(&new).status];
        assert_eq!(
            answers, [503; 3],
            "the new one is down, which is no reason to believe the old one"
        );
    }
    let next = JwksServer::start(&key_set(&[&new_key]));
    take_over(&sandbox, &server, &configuration(&next.uri(), ""));
    eventually(|| server.auth(&new).status == 200);
    assert_eq!(server.auth(&old).status, 401);
}

#[test]
fn an_answer_of_the_old_uri_that_comes_late_is_not_heard() {
    let [(old_key, old), (new_key, new)] = ["old", "new"].map(key);
    let late = Answer::json(&key_set(&[&old_key])).late(Duration::from_secs(2));
    let next = JwksServer::start(&key_set(&[&new_key]));
    thread::scope(|scope| {
        for (uri, expected) in [(DOWN.into(), 503), (next.uri(), 401)] {
            let (late, old, new) = (late.clone(), &old, &new);
            scope.spawn(move || {
                let provider = JwksServer::start_with(late);
                let sandbox = Sandbox::new();
                let server = sandbox.listen(&configuration(&provider.uri(), ""));
                eventually(|| provider.requests() == 1);
                take_over(&sandbox, &server, &configuration(&uri, ""));
                eventually(|| server.auth(new).status == if expected == 401 { 200 } else { 503 });
                for _ in 0..30 {
                    assert_eq!(server.auth(old).status, expected);
                    sleep(Duration::from_millis(100));
                }
            });
        }
    });
}

#[test]
fn rules_that_change_do_not_make_anybody_wait_for_the_same_keys() {
    let (key, token) = key("k");
    let other = key.token(&json!({ "iss": ISSUER, "aud": "other", "sub": "bob" }));
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider.uri(), ""));
    provider.behave(Answer::silence());
    let changed = configuration(&provider.uri(), "").replace("audience=inm", "audience=other");
    take_over(&sandbox, &server, &changed);
    assert_eq!(
        (server.auth(&other).status, server.auth(&token).status, is_ready(&server)),
        (200, 401, true)
    );
    // Nor does it matter how often they are asked for, or that an algorithm is added.
    for options in ["jwks_refresh_interval=600", "jwks_stale=60", "jwks_request_timeout=5"] {
        take_over(&sandbox, &server, &configuration(&provider.uri(), options));
        assert_eq!(server.auth(&token).status, 200, "{options}");
    }
    take_over(
        &sandbox,
        &server,
        &configuration(&provider.uri(), "").replace("algorithms=ES256", "algorithms=ES256,RS256"),
    );
    assert_eq!(server.auth(&token).status, 200);
    take_over(
        &sandbox,
        &server,
        &configuration(&provider.uri(), "").replace("algorithms=ES256", "algorithms=RS256"),
    );
    assert_eq!(server.auth(&token).status, 401, "an algorithm that is gone");
}

#[test]
fn keys_that_were_had_on_trust_are_not_kept_by_who_trusts_no_longer() {
    let (key, token) = key("k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider.uri(), "validate_cert=false"));
    assert_eq!(server.auth(&token).status, 200);
    provider.behave(Answer::silence());
    take_over(&sandbox, &server, &configuration(&provider.uri(), "validate_cert=true"));
    assert_eq!(server.auth(&token).status, 503);
}

#[test]
fn keys_that_are_taken_over_grow_no_younger() {
    let (key, token) = key("k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let configuration = |leeway: u32| {
        let options =
            format!("jwks_refresh_interval=2\njwks_cool_down=1\njwks_stale=2\nleeway={leeway}\n");
        configuration(&provider.uri(), &options)
    };
    let server = sandbox.serve(&configuration(0));
    assert_eq!(server.auth(&token).status, 200);
    provider.behave(Answer::hang_up());
    // Each time the section is another one, and its keys those of the one before.
    let mut leeway = 0;
    eventually(|| {
        leeway += 1;
        take_over(&sandbox, &server, &configuration(leeway));
        server.auth(&token).status == 503
    });
    provider.publish(&key_set(&[&key]));
    eventually(|| server.auth(&token).status == 200);
}
