//! Scenarios whose instructions are counted.

use std::{hint::black_box, net::Ipv4Addr, sync::Arc};

use countersign_bench::{
    ISSUER, NOW, accepts, cache_bytes, cached_verifier,
    counts::{CALLS, Scenario, Work, http2},
    hundred_keys,
    routes::RoutedRequest,
    tenant,
};
use countersign_engine::{Algorithm, Issuer, KeySet};
use countersign_front::{
    ConnectionContext, Peer,
    http1::{pipeline::answer_requests, response::ResponseBuffer},
};
use countersign_server::app::AppService;
use serde_json::json;

use crate::fixture::{Fixture, POLICY, encode};

/// All scenarios.
pub(crate) const SCENARIOS: [Scenario<Fixture>; 20] = [
    ("parse", parse),
    ("parse 150 members", |given| parse_members(given, 150)),
    ("parse 1,500 members", |given| parse_members(given, 1_500)),
    ("cold HS256", |given| cold(given, Algorithm::Hs256)),
    ("cold RS256", |given| cold(given, Algorithm::Rs256)),
    ("cold ES256", |given| cold(given, Algorithm::Es256)),
    ("cold EdDSA", |given| cold(given, Algorithm::EdDsa)),
    ("cached RS256, 1 token", cached),
    ("decide among 1,000 routes", route),
    ("refuse what is not base64url", malformed),
    ("refuse a bad HS256 signature", bad_signature),
    ("/auth, cached RS256", |given| answer(given, "", "200 OK", |token| format!("Bearer {token}"))),
    ("/auth, cached RS256, five claims", |given| {
        answer(given, FIVE_CLAIMS, "200 OK", |token| format!("Bearer {token}"))
    }),
    ("/auth, cached RS256, policy", |given| {
        answer(given, &policy_options(given), "200 OK", |token| format!("Bearer {token}"))
    }),
    ("/auth, cached RS256, routes", |given| {
        answer(given, &format!("{DESCRIBED}authorization=routes\n{ROUTES}"), "200 OK", |token| {
            format!("Bearer {token}")
        })
    }),
    ("/auth, a malformed token", |given| {
        answer(given, "", "401 Unauthorized", |_| "Bearer a.b.c".into())
    }),
    ("/auth without a token", |given| {
        answer(given, "", "401 Unauthorized", |_| "Basic Ym9iOnB3".into())
    }),
    ("16 x /auth over HTTP/2, cached RS256", together),
    ("replace 100 keys", replace),
    ("read a set of 100 keys", read),
];

/// Options that pass five claims on to the application.
const FIVE_CLAIMS: &str = "[identity_headers]\nclaim.email=X-Auth-Email\nclaim.scope=X-Auth-Scope\n\
    claim.preferred_username=X-Auth-Name\nclaim.iat=X-Auth-Issued\nclaim.exp=X-Auth-Expires\n";

/// Options of a listener whose proxy describes the request.
const DESCRIBED: &str = "[listen]\ntrusted_proxies=127.0.0.1\ndialect=nginx\n";
const ROUTES: &str = "[route_page]\nmatch=GET /page\nissuers=bench\n";

/// Options that ask the default policy about a request that it allows.
fn policy_options(given: &Fixture) -> String {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/policies/inmanta.rego");
    let endpoints = given.endpoints();
    format!(
        "{DESCRIBED}authorization=policy-engine\n[endpoints]\nfile={}\n[policy_engine]\n\
         policy_file={policy}\nlog_file=/dev/null\n",
        endpoints.display()
    )
}

fn parse(given: &Fixture) -> Work<'_> {
    let (verifier, tokens) = (given.verifier(Algorithm::Rs256), given.tokens(Algorithm::Rs256));
    Box::new(move |call| verifier.claimed_issuer(tokens[call].as_bytes()).is_some())
}

/// Ten times the members have to cost ten times as much, also where names are long alike.
fn parse_members(given: &Fixture, count: usize) -> Work<'_> {
    let verifier = given.verifier(Algorithm::Rs256);
    let members: String = (0..count).map(|member| format!(r#","{member:x}":1"#)).collect();
    let claims = format!(r#"{{"iss":"{ISSUER}"{members}}}"#);
    let token = format!("{}.{}.", encode(br#"{"alg":"RS256"}"#), encode(claims.as_bytes()));
    Box::new(move |_| verifier.claimed_issuer(token.as_bytes()).is_some())
}

fn cold(given: &Fixture, algorithm: Algorithm) -> Work<'_> {
    let (verifier, tokens) = (given.verifier(algorithm), given.tokens(algorithm));
    Box::new(move |call| accepts(&verifier, tokens[call].as_bytes()))
}

fn cached(given: &Fixture) -> Work<'_> {
    let verifier =
        cached_verifier(Algorithm::Rs256, given.keys(Algorithm::Rs256), cache_bytes(1_000));
    let tokens = given.tokens(Algorithm::Rs256);
    Box::new(move |_| accepts(&verifier, tokens[0].as_bytes()))
}

fn route(_: &Fixture) -> Work<'_> {
    let given = RoutedRequest::new(1_000, cache_bytes(1_000));
    Box::new(move |_| {
        let verified = given.verifier.verify(given.token.as_bytes(), NOW);
        verified.is_ok_and(|verified| given.allows(&given.target, &verified))
    })
}

/// One character of the payload is from the standard base64 alphabet.
fn malformed(given: &Fixture) -> Work<'_> {
    let (verifier, mut tokens) = (given.verifier(Algorithm::Rs256), given.tokens(Algorithm::Rs256));
    tokens.iter_mut().for_each(|token| token.replace_range(400..401, "+"));
    Box::new(move |call| !accepts(&verifier, tokens[call].as_bytes()))
}

/// Every token has the signature of the next one.
fn bad_signature(given: &Fixture) -> Work<'_> {
    let (verifier, tokens) = (given.verifier(Algorithm::Hs256), given.tokens(Algorithm::Hs256));
    let parts: Vec<_> =
        tokens.iter().map(|token| token.rsplit_once('.').unwrap_or_default()).collect();
    let others = parts.iter().cycle().skip(1);
    let forged: Vec<_> = parts
        .iter()
        .zip(others)
        .map(|((input, _), (_, other))| format!("{input}.{other}"))
        .collect();
    Box::new(move |call| !accepts(&verifier, forged[call].as_bytes()))
}

/// Answers a proxy's request, from the request bytes to the response bytes.
fn answer<'g>(
    given: &'g Fixture,
    options: &str,
    expected: &'static str,
    authorization: fn(&str) -> String,
) -> Work<'g> {
    let request = |token: &String| {
        let lines = "Host: countersign\r\nX-Original-Method: GET\r\nX-Original-URI: /page?x=1\r\nX-Forwarded-For: 192.0.2.7\r\n\
                     User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n";
        format!("GET /auth HTTP/1.1\r\n{lines}Authorization: {}\r\n\r\n", authorization(token))
            .into_bytes()
    };
    let requests: Vec<_> = given.tokens(Algorithm::Rs256).iter().map(request).collect();
    let worker = AppService::worker(given.app(options), 0);
    Box::new(move |call| {
        let peer =
            Peer { address: Ipv4Addr::LOCALHOST.into(), listener: 0, certificates: &[], tls: None };
        let mut answers = ResponseBuffer(Vec::with_capacity(1024));
        let taken = answer_requests(
            ConnectionContext { worker: &worker, peer },
            &requests[call],
            0,
            &mut answers,
        );
        taken.bytes == requests[call].len()
            && taken.action.is_none()
            && answers.0[9..].starts_with(expected.as_bytes())
    })
}

/// Answers HTTP/2 requests that arrive together, as from a proxy.
fn together(given: &Fixture) -> Work<'_> {
    const REQUESTS: usize = 16;
    let heads = |is_first| {
        let tokens = given.tokens(Algorithm::Rs256);
        tokens
            .iter()
            .map(|token| http2::head(&format!("Bearer {token}"), is_first))
            .collect::<Vec<_>>()
    };
    let (first, heads) = (heads(true), heads(false));
    let mut connection =
        http2::Connection::new(AppService::worker(given.app(""), 0)).expect("a connection");
    // Warm up: fill the dynamic table, and cache every token.
    let mut warm = connection.ask(&[&first[0]]) == 1;
    warm &= heads.iter().all(|head| connection.ask(&[head]) == 1);
    Box::new(move |call| {
        let heads: Vec<_> = (0..REQUESTS).map(|nth| &*heads[(call + nth) % CALLS]).collect();
        warm && connection.ask(&heads) == REQUESTS
    })
}

fn replace(given: &Fixture) -> Work<'_> {
    let (sets, issuer) = (hundred_keys().map(Arc::new), tenant(0));
    let verifier = given.verifier(Algorithm::Hs256);
    Box::new(move |call| {
        let replaced =
            verifier.update(|snapshot| snapshot.set_keys(&issuer, Some(&sets[call % 2])));
        let snapshot = verifier.snapshot();
        let keys = snapshot.issuer(&issuer).and_then(Issuer::keys);
        replaced.is_ok() && keys.is_some_and(|keys| Arc::ptr_eq(keys, &sets[call % 2]))
    })
}

fn read(_: &Fixture) -> Work<'_> {
    let key = |number: u8| json!({ "kty": "oct", "kid": format!("key-{number}"), "alg": "HS256", "k": encode(&[number; 32]) });
    let set = json!({ "keys": (1..=100).map(key).collect::<Vec<_>>() }).to_string();
    Box::new(move |_| {
        KeySet::from_jwks(set.as_bytes(), POLICY).is_ok_and(|keys| black_box(keys).len() == 100)
    })
}
