use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::{
    binary::{NO_BUDGETS, Sandbox, Server},
    client::Protocol,
    eventually,
    http::{Connection, Response},
    openssl::{SigningKey, signing_input},
    over_every_protocol,
    providers::{CannedResponse, JwksServer},
};
use serde_json::json;

use crate::fixture::{self, key_set};

over_every_protocol!(
    new_key_serves_the_first_token_that_names_it,
    concurrent_unknown_kids_share_one_fetch,
    unknown_kid_does_not_wait_for_a_hanging_provider,
);

const ISSUER: &str = "https://idp/";

fn serve<'s>(sandbox: &'s Sandbox, provider: &JwksServer, options: &str) -> Server<'s> {
    sandbox.serve(
        &(fixture::with_idp("ES256", &format!("jwks_uri={}\n{options}", provider.uri()))
            + NO_BUDGETS),
    )
}

/// Returns two keys, each with a token signed by it.
fn two_keys() -> [(SigningKey, String); 2] {
    ["old", "new"].map(|kid| {
        let key = SigningKey::generate("ES256", kid);
        let token = key.token(&fixture::claims_of(ISSUER));
        (key, token)
    })
}

/// Returns a token with this header and an invalid signature.
fn forged(header: &serde_json::Value) -> String {
    format!(
        "{}.{}",
        signing_input(header, &fixture::claims_of(ISSUER)),
        URL_SAFE_NO_PAD.encode([1; 64])
    )
}

fn unknown_kid(number: u32) -> String {
    forged(&json!({ "alg": "ES256", "kid": format!("unknown-{number}") }))
}

fn new_key_serves_the_first_token_that_names_it(protocol: Protocol) {
    let [(old, _), (new, token)] = two_keys();
    let ways: [fn(&Server<'_>, &str) -> Response; 2] =
        [|server, token| server.auth(token), |server, token| server.verify(token)];
    for present in ways {
        let provider = JwksServer::start(&key_set(&[&old]));
        let sandbox = Sandbox::over(protocol);
        let server = serve(&sandbox, &provider, "");
        provider.publish(&key_set(&[&old, &new]));
        assert_eq!(present(&server, &token).status, 200, "{}", server.log());
        assert_eq!(provider.requests(), 2);
    }
}

fn concurrent_unknown_kids_share_one_fetch(protocol: Protocol) {
    let [(old, _), (new, token)] = two_keys();
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &provider, "");
    // Delayed, so that most requests arrive during the fetch.
    provider.respond_with(
        CannedResponse::json(&key_set(&[&old, &new])).delayed(Duration::from_millis(300)),
    );
    let auth = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    let requests = [(&*auth, &b""[..]), ("POST /v1/verify HTTP/1.1\r\n", token.as_bytes())];
    std::thread::scope(|scope| {
        // Some requests wait on separate connections, and some together on one connection.
        let send = |_| scope.spawn(|| server.client().request_all(&requests.repeat(5)));
        let clients: Vec<_> = (0..5).map(send).collect();
        for answer in clients.into_iter().flat_map(|answers| answers.join().unwrap()) {
            assert_eq!(answer.status, 200, "{}", server.log());
        }
    });
    assert_eq!(provider.requests(), 2);
}

#[test]
fn key_published_during_a_fetch_is_fetched_at_once() {
    let [(old, _), (new, token)] = two_keys();
    let provider = JwksServer::start_with(
        CannedResponse::json(&key_set(&[&old])).header("Cache-Control", "max-age=2"),
    );
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider, "jwks_refresh_interval=3600\njwks_cool_down=1");
    // A scheduled fetch whose answer predates the new key.
    provider
        .respond_with(CannedResponse::json(&key_set(&[&old])).delayed(Duration::from_millis(300)));
    eventually(|| provider.requests() == 2);
    provider.publish(&key_set(&[&old, &new]));
    assert_eq!(server.auth(&token).status, 200, "{}", server.log());
    assert_eq!(provider.requests(), 3);
}

/// Sends tokens on several connections until `enough`, and returns the duration.
fn flood(
    server: &Server<'_>,
    token: impl Fn(u32) -> String + Sync,
    enough: impl Fn(Duration) -> bool + Sync,
) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for connection in 0..4 {
            let (token, enough) = (&token, &enough);
            scope.spawn(move || {
                let mut sender = Connection::open(server.address);
                for number in 0.. {
                    if enough(started.elapsed()) {
                        break;
                    }
                    let token = token(number * 4 + connection);
                    sender.send(
                        &format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"),
                        b"",
                    );
                    // 503 if the token could not be judged.
                    assert!(matches!(sender.receive(false).status, 401 | 503));
                }
            });
        }
    });
    started.elapsed()
}

/// Returns the maximum number of fetches that a [`flood`] of unknown `kid`s may cause.
fn max_fetches(cool_down: u64, lasted: Duration) -> usize {
    3 + usize::try_from(lasted.as_secs() / cool_down + 1).unwrap()
}

#[test]
fn d9_unknown_kid_flood_causes_three_fetches() {
    let [(key, token), _] = two_keys();
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider, "");
    let lasted = flood(&server, unknown_kid, |lasted| lasted > Duration::from_secs(3));
    let fetches = provider.requests() - 1;
    assert!((3..=max_fetches(30, lasted)).contains(&fetches), "{fetches} fetches in {lasted:?}");
    assert_eq!(server.auth(&token).status, 200);
}

#[test]
fn d9_unknown_kid_flood_causes_a_fetch_per_cool_down() {
    let [(key, _), _] = two_keys();
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider, "jwks_refresh_interval=3600\njwks_cool_down=1");
    let lasted = flood(&server, unknown_kid, |_| provider.requests() >= 6);
    let fetches = provider.requests() - 1;
    assert!(fetches <= max_fetches(1, lasted), "{fetches} fetches in {lasted:?}");
}

#[test]
fn d9_only_an_unknown_kid_causes_a_fetch() {
    let [(key, _), _] = two_keys();
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider, "jwks_refresh_interval=3600\njwks_cool_down=1");
    let bad = [
        forged(&json!({ "alg": "ES256", "kid": "old" })),
        forged(&json!({ "alg": "ES256" })),
        forged(&json!({ "alg": "RS256", "kid": "old" })),
        forged(&json!({ "alg": "ES384", "kid": "old" })),
        forged(&json!({ "alg": "none", "kid": "other" })),
        forged(&json!({ "alg": "ES256", "kid": 5 })),
        key.token(&json!({ "iss": ISSUER, "aud": "inm", "exp": 1 })),
        key.token(&fixture::claims_of("https://nobody/")),
    ];
    flood(
        &server,
        |number| bad[number as usize % bad.len()].clone(),
        |lasted| lasted > Duration::from_secs(3),
    );
    assert_eq!(provider.requests(), 1);
}

fn unknown_kid_does_not_wait_for_a_hanging_provider(protocol: Protocol) {
    let [(key, token), _] = two_keys();
    let provider = JwksServer::start(&key_set(&[&key]));
    let sandbox = Sandbox::over(protocol);
    let server = serve(&sandbox, &provider, "jwks_request_timeout=600");
    provider.respond_with(CannedResponse::hang());
    std::thread::scope(|scope| {
        let started = Instant::now();
        let waiting = scope.spawn(|| {
            let auth =
                format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", unknown_kid(0));
            let auth = server.client().request(&auth, b"");
            (
                auth,
                server.client().request("POST /v1/verify HTTP/1.1\r\n", unknown_kid(1).as_bytes()),
            )
        });
        eventually(|| provider.requests() == 2);
        assert_eq!(
            server.auth(&fixture::good_token()).status,
            200,
            "another issuer is not affected"
        );
        assert_eq!(server.auth(&token).status, 200, "known keys are not affected");
        let (auth, verify) = waiting.join().unwrap();
        assert_eq!(
            (auth.status, verify.status, &verify.json()["code"]),
            (503, 503, &json!("kid_undecided"))
        );
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "each request waits for at most one second"
        );
    });
    assert_eq!(provider.requests(), 2);
}

#[test]
fn keys_are_refreshed_on_schedule() {
    let [(old, old_token), (new, new_token)] = two_keys();
    let provider = JwksServer::start(&key_set(&[&old]));
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider, "jwks_refresh_interval=2\njwks_cool_down=1");
    provider.publish(&key_set(&[&old, &new]));
    // The second request of two starts after the first has taken effect.
    provider.wait_for_requests(2);
    provider.respond_with(CannedResponse::status("500 Oops"));
    assert_eq!(
        [&old_token, &new_token].map(|token| server.auth(token).status),
        [200; 2],
        "the new key was added"
    );
    provider.publish(&key_set(&[&new]));
    // No unknown kid is sent before the key is withdrawn.
    eventually(|| server.auth(&old_token).status == 401);
    assert_eq!(server.auth(&new_token).status, 200, "the other keys are kept");
    provider.publish(&key_set(&[&old]));
    eventually(|| server.auth(&new_token).status == 401);
    assert_eq!(server.auth(&old_token).status, 200, "the set was replaced");
}

#[test]
fn unchanged_set_is_confirmed_by_etag() {
    let [(key, token), _] = two_keys();
    let provider = JwksServer::start_with(CannedResponse::json(&key_set(&[&key])).etag("\"a\""));
    let sandbox = Sandbox::new();
    let server =
        serve(&sandbox, &provider, "jwks_refresh_interval=2\njwks_cool_down=1\njwks_stale=0");
    // Without the 304 answers, the keys would have been withdrawn by now.
    eventually(|| provider.requests() >= 4);
    eventually(|| server.auth(&token).status == 200);
    let sent = provider.header_values("if-none-match");
    assert_eq!(sent[0], None);
    assert!(sent[1..].iter().all(|etag| etag.as_deref() == Some("\"a\"")), "{sent:?}");
}

#[test]
fn etag_of_a_rejected_set_is_not_sent() {
    let [(old, old_token), (new, new_token)] = two_keys();
    let provider = JwksServer::start_with(CannedResponse::json(&key_set(&[&old])).etag("\"a\""));
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider, "jwks_refresh_interval=2\njwks_cool_down=1");
    provider.respond_with(CannedResponse::json(&key_set(&[])).etag("\"b\""));
    provider.wait_for_requests(3);
    assert_eq!(server.auth(&old_token).status, 200);
    let sent = provider.header_values("if-none-match");
    assert!(sent[1..].iter().all(|etag| etag.as_deref() == Some("\"a\"")), "{sent:?}");
    // If the server had kept this ETag, it would receive 304 forever.
    provider.respond_with(CannedResponse::json(&key_set(&[&new])).etag("\"b\""));
    eventually(|| server.auth(&new_token).status == 200);
}

#[test]
fn cache_control_can_only_shorten_the_refresh() {
    let [(key, token), _] = two_keys();
    let cases = [("public, max-age=2", 3600), ("no-store", 3600), ("max-age=86400", 2)];
    let providers = cases.map(|(cache_control, _)| {
        JwksServer::start_with(
            CannedResponse::json(&key_set(&[&key])).header("Cache-Control", cache_control),
        )
    });
    let sandboxes = cases.map(|_| Sandbox::new());
    let servers: [_; 3] = std::array::from_fn(|index| {
        let options = format!("jwks_refresh_interval={}\njwks_cool_down=1", cases[index].1);
        serve(&sandboxes[index], &providers[index], &options)
    });
    for (provider, server) in providers.iter().zip(&servers) {
        eventually(|| provider.requests() > 2);
        assert_eq!(server.auth(&token).status, 200);
    }
}

#[test]
fn stale_keys_are_used_until_jwks_stale() {
    let [(key, token), _] = two_keys();
    let good = || CannedResponse::json(&key_set(&[&key])).etag("\"a\"");
    let providers = [JwksServer::start_with(good()), JwksServer::start_with(good())];
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let servers: [_; 2] = std::array::from_fn(|index| {
        let options =
            format!("jwks_refresh_interval=2\njwks_cool_down=1\njwks_stale={}", [3600, 0][index]);
        serve(&sandboxes[index], &providers[index], &options)
    });
    let [patient, strict] = &servers;
    for provider in &providers {
        provider.respond_with(CannedResponse::status("500 Oops"));
    }
    eventually(|| strict.auth(&token).status == 503);
    let refused = strict.auth(&token);
    assert!(
        refused.header("retry-after").is_some() && refused.header("www-authenticate").is_none(),
        "{refused:?}"
    );
    assert_eq!(strict.auth(&fixture::good_token()).status, 200, "another issuer");
    assert_eq!(strict.operations("/ready").status, 200, "it was asked");
    assert!(strict.log().contains("keys withdrawn"), "{}", strict.log());
    // This provider has failed as often, and once more.
    providers[0].wait_for_requests(1);
    assert_eq!(patient.auth(&token).status, 200, "{}", patient.log());
    // A 304 answer is enough to restore the keys.
    providers[1].respond_with(good());
    eventually(|| strict.auth(&token).status == 200);
    assert_eq!(providers[1].header_values("if-none-match").pop(), Some(Some("\"a\"".into())));
}

#[test]
fn key_of_a_fetch_in_progress_is_not_fetched_again() {
    let [(old, _), (new, token)] = two_keys();
    let provider = JwksServer::start_with(
        CannedResponse::json(&key_set(&[&old])).header("Cache-Control", "max-age=2"),
    );
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, &provider, "jwks_refresh_interval=3600\njwks_cool_down=1");
    provider.respond_with(
        CannedResponse::json(&key_set(&[&old, &new])).delayed(Duration::from_millis(300)),
    );
    eventually(|| provider.requests() == 2);
    assert_eq!(server.auth(&token).status, 200, "{}", server.log());
    let bad = forged(&json!({ "alg": "ES256", "kid": "new" }));
    flood(&server, |_| bad.clone(), |lasted| lasted > Duration::from_secs(1));
    assert_eq!(provider.requests(), 2);
}
