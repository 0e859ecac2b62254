use std::{
    thread::{self, sleep},
    time::Duration,
};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
};
use serde_json::json;

use super::{SECOND, reload_completely};
use crate::fixture::{self, SIGNING, key_set};

const ISSUER: &str = "https://idp/";
/// A URI on which no server listens.
const DOWN: &str = "http://127.0.0.1:9/jwks";

/// Returns the guide's section, and one for an issuer with keys at this URI.
fn configuration(uri: &str, options: &str) -> String {
    fixture::with_idp("ES256", &format!("jwks_uri={uri}\n{options}"))
}

/// Returns a key and a token signed with it.
fn key(kid: &str) -> (SigningKey, String) {
    let key = SigningKey::generate("ES256", kid);
    let token = key.token(&fixture::claims_of(ISSUER));
    (key, token)
}

fn is_ready(server: &Server<'_>) -> bool {
    server.operations("/ready").status == 200
}

#[test]
fn unchanged_issuer_is_not_fetched_again() {
    let (key, token) = key("k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider.uri(), ""));
    assert_eq!(server.auth(&token).status, 200);
    provider.respond_with(CannedResponse::close());
    let idp = configuration(&provider.uri(), "");
    for next in [format!("{idp}{SECOND}"), format!("{SECOND}{idp}"), idp] {
        reload_completely(&sandbox, &server, &next);
        assert_eq!((server.auth(&token).status, is_ready(&server)), (200, true));
    }
    // SIGHUP requests fetches, and does not start the section anew.
    let fetches = |cause: &str| {
        let family = "countersign_issuer_keys_fetches_total";
        server.metric(&format!(r#"{family}{{section="auth_jwt_oidc",cause="{cause}"}}"#))
    };
    assert_eq!(fetches("start"), 1);
    assert!((1..=3).contains(&fetches("request")), "{}", fetches("request"));
}

#[test]
fn reload_starts_and_stops_key_fetches() {
    let (key, token) = key("k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let options = "jwks_refresh_interval=2\njwks_cool_down=1";
    reload_completely(&sandbox, &server, &configuration(&provider.uri(), options));
    eventually(|| server.auth(&token).status == 200);
    provider.wait_for_requests(1);
    reload_completely(&sandbox, &server, SIGNING);
    assert_eq!(server.auth(&token).status, 401);
    // A request may be in flight.
    sleep(Duration::from_millis(100));
    let before = provider.requests();
    sleep(Duration::from_millis(2500));
    assert_eq!(provider.requests(), before);
}

#[test]
fn ready_server_stays_ready_after_a_reload() {
    let provider = JwksServer::start_with(CannedResponse::hang());
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    reload_completely(&sandbox, &server, &configuration(&provider.uri(), ""));
    eventually(|| provider.requests() == 1);
    assert!(is_ready(&server), "a fleet must not become unready at once");
    assert_eq!(server.auth(&key("k").1).status, 503);
}

#[test]
fn keys_of_the_old_uri_are_dropped() {
    let [(old_key, old), (new_key, new)] = ["old", "new"].map(key);
    let provider = JwksServer::start(&key_set(&[&old_key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider.uri(), ""));
    for _ in 0..3 {
        assert_eq!(server.auth(&old).status, 200);
    }
    reload_completely(&sandbox, &server, &configuration(DOWN, ""));
    for _ in 0..20 {
        let answers =
            [server.auth(&old).status, server.verify(&old).status, server.auth(&new).status];
        assert_eq!(
            answers, [503; 3],
            "keys of the old URI must not be used while the new URI is down"
        );
    }
    let next = JwksServer::start(&key_set(&[&new_key]));
    reload_completely(&sandbox, &server, &configuration(&next.uri(), ""));
    eventually(|| server.auth(&new).status == 200);
    assert_eq!(server.auth(&old).status, 401);
}

#[test]
fn late_answer_of_the_old_uri_is_ignored() {
    let [(old_key, old), (new_key, new)] = ["old", "new"].map(key);
    let late = CannedResponse::json(&key_set(&[&old_key])).delayed(Duration::from_secs(2));
    let next = JwksServer::start(&key_set(&[&new_key]));
    thread::scope(|scope| {
        for (uri, expected) in [(DOWN.into(), 503), (next.uri(), 401)] {
            let (late, old, new) = (late.clone(), &old, &new);
            scope.spawn(move || {
                let provider = JwksServer::start_with(late);
                let sandbox = Sandbox::new();
                let server = sandbox.listen(&configuration(&provider.uri(), ""));
                eventually(|| provider.requests() == 1);
                reload_completely(&sandbox, &server, &configuration(&uri, ""));
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
fn changed_rules_keep_the_fetched_keys() {
    let (key, token) = key("k");
    let mut claims = fixture::claims_of(ISSUER);
    claims["aud"] = json!("other");
    let other = key.token(&claims);
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider.uri(), ""));
    provider.respond_with(CannedResponse::hang());
    let changed = configuration(&provider.uri(), "").replace("audience=inm", "audience=other");
    reload_completely(&sandbox, &server, &changed);
    assert_eq!(
        (server.auth(&other).status, server.auth(&token).status, is_ready(&server)),
        (200, 401, true)
    );
    // Other refresh settings and another algorithm do not cause a fetch either.
    for options in ["jwks_refresh_interval=600", "jwks_stale=60", "jwks_request_timeout=5"] {
        reload_completely(&sandbox, &server, &configuration(&provider.uri(), options));
        assert_eq!(server.auth(&token).status, 200, "{options}");
    }
    reload_completely(
        &sandbox,
        &server,
        &configuration(&provider.uri(), "").replace("algorithms=ES256", "algorithms=ES256,RS256"),
    );
    assert_eq!(server.auth(&token).status, 200);
    reload_completely(
        &sandbox,
        &server,
        &configuration(&provider.uri(), "").replace("algorithms=ES256", "algorithms=RS256"),
    );
    assert_eq!(server.auth(&token).status, 401, "the algorithm was removed");
}

#[test]
fn unverified_keys_are_dropped_with_validate_cert() {
    let (key, token) = key("k");
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(&provider.uri(), "validate_cert=false"));
    assert_eq!(server.auth(&token).status, 200);
    provider.respond_with(CannedResponse::hang());
    reload_completely(&sandbox, &server, &configuration(&provider.uri(), "validate_cert=true"));
    assert_eq!(server.auth(&token).status, 503);
}

#[test]
fn carried_over_keys_keep_their_age() {
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
    provider.respond_with(CannedResponse::close());
    // Every reload changes the section, and the keys are carried over each time.
    let mut leeway = 0;
    eventually(|| {
        leeway += 1;
        reload_completely(&sandbox, &server, &configuration(leeway));
        server.auth(&token).status == 503
    });
    provider.publish(&key_set(&[&key]));
    eventually(|| server.auth(&token).status == 200);
}
