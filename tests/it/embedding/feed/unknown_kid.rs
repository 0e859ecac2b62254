//! Tokens that name a key which the server does not have, or cannot use.

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    grpc::{CheckOutcome, Envoy, check_request},
    openssl::{SigningKey, signing_input},
    providers::{CannedResponse, JwksServer},
};
use serde_json::json;

use super::{
    ComparedDecision, bearer, check_token, configuration, decide, nginx, socket, start, with_feed,
};
use crate::fixture::{self, key_set};

/// Long enough that no fetch of the schedule is in a test.
const LONG: &str = "jwks_refresh_interval=86400";

/// Returns a configuration with this provider, for a server that is asked over gRPC, too.
fn with_provider(sandbox: &Sandbox, provider: &JwksServer, options: &str) -> String {
    let options = format!("jwks_uri={}\n{LONG}\n{options}", provider.uri());
    let section = fixture::issuer_section("oidc", "ES256", "https://idp/", &options);
    let grpc = "[listen]\nprotocols=http/1.1, h2\ntrusted_proxies=127.0.0.1\n";
    with_feed(sandbox, &format!("{}{section}{grpc}", configuration()))
}

fn keys<const N: usize>(kids: [&str; N]) -> [SigningKey; N] {
    kids.map(|kid| SigningKey::generate("ES256", kid))
}

fn token_of(key: &SigningKey) -> String {
    key.token(&fixture::claims_of("https://idp/"))
}

/// Returns a token of a key that is not published, which was issued just now.
fn made_up(number: usize) -> String {
    let mut claims = fixture::claims_of("https://idp/");
    claims["iat"] = fixture::now().into();
    let header = json!({ "alg": "ES256", "kid": format!("made-up-{number}") });
    format!("{}.{}", signing_input(&header, &claims), URL_SAFE_NO_PAD.encode([1; 64]))
}

/// Returns the decision of the server.
fn of_server(server: &Server<'_>, token: &str) -> ComparedDecision {
    let authorization = format!("Bearer {token}");
    let request = check_request(&[("authorization", &authorization)]);
    CheckOutcome::of(Envoy::plain(server.address).check(request).unwrap()).into()
}

#[test]
fn new_key_works_with_its_first_token_in_nginx() {
    let [old, new] = keys(["old", "new"]);
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&key_set(&[&old])));
    let configuration = with_provider(&sandbox, &provider, "");
    let server = sandbox.serve(&configuration);
    let nginx = nginx::start(
        &configuration,
        "location / { countersign_check on; proxy_pass http://APPLICATION; }",
    );
    let status = |key: &SigningKey| nginx.status("/", &bearer(&token_of(key)));
    assert_eq!(status(&old), 200);
    provider.publish(&key_set(&[&new]));
    assert_eq!(status(&new), 200, "{}", server.log());
    assert_eq!(server.metric("countersign_feed_requests_total"), 1);
    // The other worker has the key, too.
    for _ in 0..8 {
        assert_eq!([status(&new), status(&old)], [200, 401]);
    }
    assert_eq!(provider.requests(), 2);
}

#[test]
fn tier_answers_an_unknown_kid_as_its_server() {
    let [old] = keys(["old"]);
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&key_set(&[&old])));
    let configuration = with_provider(&sandbox, &provider, "");
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    assert_eq!(check_token(&tier, &token_of(&old)), 200);
    let (first, second, third) = (made_up(0), made_up(1), made_up(2));
    let of_tier = decide(&tier, &first);
    assert_eq!((of_tier.status, provider.requests()), (401, 2));
    assert_eq!(of_server(&server, &first), of_tier);
    // It is known not to exist, for both.
    assert_eq!((decide(&tier, &first), provider.requests()), (of_tier, 3));
    provider.respond_with(CannedResponse::status("500 Oops"));
    for undecided in [&second, &third] {
        // A fetch that fails, and one that is not made any more.
        let of_tier = decide(&tier, undecided);
        assert_eq!((of_tier.status, provider.requests()), (503, 4), "{of_tier:?}");
        let of_server = of_server(&server, undecided);
        assert_eq!(of_server.status, 503);
        let lines = |decision: &ComparedDecision| {
            let is_time = |name: &str| name == "retry-after";
            let (times, lines): (Vec<_>, Vec<_>) =
                decision.set.iter().cloned().partition(|(name, _)| is_time(name));
            assert!((1..=31).contains(&times[0].1.parse::<u64>().unwrap()), "{times:?}");
            lines
        };
        assert_eq!(lines(&of_tier), lines(&of_server));
        assert_eq!(of_tier.body, of_server.body);
    }
}

#[test]
fn several_tiers_share_the_fetches_of_the_server() {
    let [old] = keys(["old"]);
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&key_set(&[&old])));
    let configuration = with_provider(&sandbox, &provider, "");
    let server = sandbox.serve(&configuration);
    let nginx = nginx::start(
        &configuration,
        "location / { countersign_check on; proxy_pass http://APPLICATION; }",
    );
    let good = bearer(&token_of(&old));
    assert_eq!(nginx.status("/", &good), 200);
    let tokens: Vec<_> = (0..200).map(|number| bearer(&made_up(number))).collect();
    let started = Instant::now();
    thread::scope(|scope| {
        for part in tokens.chunks(25) {
            let nginx = &nginx;
            scope.spawn(move || {
                for token in part.iter().chain(part) {
                    let status = nginx.status("/", token);
                    assert!(matches!(status, 401 | 503), "{status}");
                }
            });
        }
    });
    let allowed = 3 + usize::try_from(started.elapsed().as_secs() / 30 + 1).unwrap();
    let fetches = provider.requests() - 1;
    assert!((3..=allowed).contains(&fetches), "{fetches} fetches");
    let requests = server.metric("countersign_feed_requests_total");
    assert!(requests <= 100, "{requests} requests for 400 tokens");
    assert_eq!(nginx.status("/", &good), 200);
}

#[test]
fn server_that_is_down_leaves_a_kid_undecided() {
    let [old, new] = keys(["old", "new"]);
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&key_set(&[&old])));
    let configuration = with_provider(&sandbox, &provider, "");
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    assert_eq!(check_token(&tier, &token_of(&old)), 200);
    provider.publish(&key_set(&[&old, &new]));
    server.signal("KILL");
    // The one is still current, and the other has to be asked for.
    assert_eq!([&old, &new].map(|key| check_token(&tier, &token_of(key))), [200, 503]);
    drop(server);
    eventually(|| check_token(&tier, &token_of(&old)) == 503);
    let _server = sandbox.serve(&configuration);
    eventually(|| check_token(&tier, &token_of(&new)) == 200);
}

#[test]
fn key_that_the_server_skips_has_its_answer() {
    let [good, odd, private] = keys(["good", "odd", "private"]);
    let set = json!({ "keys": [
        { "kty": "EC", "crv": "secp256k1", "alg": "ES256K", "kid": "odd", "x": "AQ", "y": "AQ" },
        { "kty": "EC", "crv": "P-256", "kid": "private", "x": "AQ", "y": "AQ", "d": "secret" },
        { "kty": "oct", "kid": "shared", "k": "c2VjcmV0" },
        good.jwk(),
    ]});
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&set.to_string()));
    let configuration = with_provider(&sandbox, &provider, "");
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    assert_eq!(check_token(&tier, &token_of(&good)), 200);
    let shared = SigningKey::generate("ES256", "shared");
    for (key, reason) in
        [(&odd, "ES256K is not supported"), (&private, "private key"), (&shared, "(oct)")]
    {
        let of_tier = decide(&tier, &token_of(key));
        let has_reason = of_tier.set.iter().any(|(_, value)| value.contains(reason));
        assert!(of_tier.status == 401 && has_reason, "{of_tier:?}");
        assert_eq!(of_server(&server, &token_of(key)), of_tier);
    }
    assert_eq!(provider.requests(), 1, "such a token causes no fetch");
}

#[test]
fn flood_of_requests_waits_in_the_socket() {
    let [old] = keys(["old"]);
    let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&key_set(&[&old])));
    let configuration = with_provider(&sandbox, &provider, "");
    let server = sandbox.serve(&configuration);
    let tier = start(&sandbox, &configuration);
    assert_eq!(check_token(&tier, &token_of(&old)), 200);
    let mut client = UnixStream::connect(socket(&sandbox)).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // The first section, after any number of fetches.
    let request = [[0; 4], [0xff; 4], [0xff; 4]].concat();
    let (requests, mut written) = (request.repeat(300), 0);
    while let Ok(bytes) = client.write(&requests) {
        written += bytes / request.len();
    }
    let read = || usize::try_from(server.metric("countersign_feed_requests_total")).unwrap();
    eventually(|| read() >= 32);
    assert!(read() < written / 4, "{written}");
    assert_eq!(server.metric("countersign_feed_clients"), 2);
    assert_eq!(check_token(&tier, &token_of(&old)), 200);
    assert!(provider.requests() <= 4, "as many as unknown kids of the server cause");
}
