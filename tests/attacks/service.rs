use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use countersign_engine::{Algorithm, KeySetError, Reject, jwks, limits};
use countersign_tests::{
    answers::{assert_no_identity, assert_refused, invalid_token},
    binary::{NO_BUDGETS, Sandbox, Server},
    client::Protocol,
    engine::{HEADER, claims, published_keys, signing_input, token},
    openssl::SigningKey,
    over_every_protocol,
    providers::JwksServer,
};
use serde_json::{Value, json};

use crate::fronts::{Fronts, public_claims, public_section, secret_section};

over_every_protocol!(
    d9_bad_tokens_do_not_flood_the_provider,
    d10_invalid_entry_keeps_the_other_keys,
    d10_slow_provider_delays_no_other_issuer,
);

fn d9_bad_tokens_do_not_flood_the_provider(protocol: Protocol) {
    let key = SigningKey::generate("EdDSA", "k");
    let provider = JwksServer::start(&json!({ "keys": [key.jwk()] }).to_string());
    let sandbox = Sandbox::over(protocol);
    let server =
        sandbox.serve(&(secret_section() + &public_section("EdDSA", &provider.uri()) + NO_BUDGETS));
    let valid = key.token(&public_claims());
    assert_eq!(server.auth(&valid).status, 200);
    let requests_before = provider.requests();
    let hostile = |header: Value, claims: Value| {
        format!("{}.{}", signing_input(header.to_string(), claims.to_string()), "A".repeat(86))
    };
    let numbered = |number: usize| {
        let mut claims = public_claims();
        claims["jti"] = json!(number.to_string());
        claims
    };

    // A wrong signature or an unknown issuer causes no key request.
    flood(&server, Reject::Signature, |number| {
        hostile(json!({ "alg": "EdDSA", "kid": "k" }), numbered(number))
    });
    flood(&server, Reject::IssuerUnknown, |number| {
        hostile(
            json!({ "alg": "EdDSA", "kid": "k" }),
            json!({ "iss": format!("{}/{number}", provider.uri()), "aud": "us" }),
        )
    });
    assert_eq!(provider.requests(), requests_before);
    // An unknown kid may be a new key, so it causes rate-limited requests.
    let mut old = public_claims();
    old["iat"] = json!(1_700_000_000);
    flood(&server, Reject::KidUnknown, |number| {
        hostile(json!({ "alg": "EdDSA", "kid": format!("k{number}") }), old.clone())
    });
    assert!(
        provider.requests() <= requests_before + 4,
        "{} more requests",
        provider.requests() - requests_before
    );
    assert_eq!(server.auth(&valid).status, 200);
}

/// Sends a new token after each response, for three seconds.
fn flood(server: &Server<'_>, reject: Reject, token: impl Fn(usize) -> String) {
    let start = Instant::now();
    for number in 0.. {
        assert_refused(&server.auth(&token(number)), &invalid_token(reject));
        if start.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
}

#[test]
fn d10_invalid_key_sets_give_no_keys() {
    let key = SigningKey::generate("ES256", "k");
    let set = json!({ "keys": [key.jwk()] }).to_string();
    let ok = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let elsewhere = JwksServer::start(&set);
    let redirect = |status: &str, target: &str| {
        format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n")
    };
    let codes = [
        verify_with_response(&ok(&set), &key),
        verify_with_response(&ok(&format!(" {set}\n")), &key),
        verify_with_response(&ok(&format!("\u{feff}{set}")), &key),
    ]
    .map(|(code, _)| code);
    assert_eq!(codes, [json!(null), json!(null), json!(null)], "valid responses");
    for (response, reason) in [
        (ok("<html>sorry</html>"), "not a strict JSON object"),
        (ok(""), "not a strict JSON object"),
        (ok("[]"), "not a strict JSON object"),
        (ok(&format!("{set}{set}")), "not a strict JSON object"),
        (ok(&set.replace(r#"{"keys""#, r#"{"keys":[],"keys""#)), "not a strict JSON object"),
        (ok("{}"), "no array called"),
        (ok(r#"{"keys":null}"#), "no array called"),
        (ok("{\"keys\":[]}"), "the published key set is empty"),
        (ok(r#"{"keys":[{"kty":"oct","k":"AAAA","alg":"HS256"}]}"#), "no usable key"),
        (
            ok(&format!(
                "{{\"keys\":[],\"padding\":\"{}\"}}",
                "x".repeat(limits::MAX_KEY_SET_BYTES)
            )),
            "Got error",
        ),
        (ok(&set).replace("Content-Length: ", "Content-Length: 1"), "Got error"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into(), "500"),
        ("HTTP/1.1 204 No Content\r\n\r\n".into(), "204"),
        (ok(&set).replace("200 OK", "201 Created"), "201"),
        (redirect("301", &elsewhere.uri()), "redirects are not followed"),
        (redirect("302", &elsewhere.uri()), "redirects are not followed"),
        (redirect("307", "http://localhost:1/"), "redirects are not followed"),
        (redirect("308", "file:///etc/passwd"), "redirects are not followed"),
        (ok(&set).replace("200 OK", "302 Found"), "redirects are not followed"),
        (String::new(), "Got error"),
        (set.clone(), "Got error"),
    ] {
        let (code, log) = verify_with_response(&response, &key);
        assert_eq!(code, "keys_unavailable", "{response:.200}");
        assert!(log.contains(reason), "{response:.200} should give {reason:?}, but {log:.2000}");
    }
    assert_eq!(elsewhere.requests(), 0, "redirects are not followed");
}

/// Returns the reject code of a valid token if the provider sends this response, and the log.
fn verify_with_response(response: &str, key: &SigningKey) -> (Value, String) {
    let provider = JwksServer::start_raw(response);
    let sandbox = Sandbox::new();
    let config =
        sandbox.file("c.cfg", secret_section() + &public_section("ES256", &provider.uri()));
    let output = sandbox.run_with_input(
        ["token", "verify", "-c", config.to_str().unwrap()],
        key.token(&public_claims()),
    );
    (output.json_lines()[0]["code"].clone(), output.stderr)
}

fn d10_invalid_entry_keeps_the_other_keys(protocol: Protocol) {
    let good = SigningKey::generate("ES256", "good");
    let odd = [
        json!(null),
        json!(5),
        json!([]),
        json!({}),
        json!("key"),
        json!({ "kty": 5 }),
        json!({ "kty": "XYZ", "kid": "x" }),
        json!({ "kty": "oct", "k": "AAAA", "alg": "HS256", "kid": "good" }),
        json!({ "kty": "EC", "crv": "P-256", "kid": "half" }),
        json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "good", "alg": "ES256" }),
        json!({ "kty": "EC", "crv": 5, "x": 5, "y": 5, "kid": 5, "alg": 5 }),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "ES256" }),
        json!({ "kty": "EC", "kid": "k".repeat(100_000) }),
        json!({ "kty": "EC", "use": "enc", "kid": "\u{1b}[2J\r\n" }),
    ];
    let count = |keys: &[Value]| {
        published_keys(&json!({ "keys": keys }), [Algorithm::Es256].into_iter().collect()).len()
    };
    for one in &odd {
        assert_eq!(
            [count(&[one.clone(), good.jwk()]), count(&[good.jwk(), one.clone()])],
            [1, 1],
            "{one:.200}"
        );
    }
    let sandbox = Sandbox::over(protocol);
    let keys = [&odd[..], &[good.jwk()], &odd].concat();
    let fronts = Fronts::of_keys(&sandbox, &keys, &[Algorithm::Es256]);
    fronts.accept(&good.token(&public_claims()));
    // A key set over the limits is rejected as a whole.
    let read = |json: String| {
        countersign_engine::KeySet::from_jwks(
            json.as_bytes(),
            jwks::Policy { origin: jwks::Origin::Published, algorithms: None },
        )
    };
    assert_eq!(
        read(json!({ "keys": vec![good.jwk(); limits::MAX_KEYS + 1] }).to_string()).err(),
        Some(KeySetError::TooManyKeys)
    );
    assert_eq!(
        read(
            json!({ "keys": [good.jwk()], "x": "x".repeat(limits::MAX_KEY_SET_BYTES) }).to_string()
        )
        .err(),
        Some(KeySetError::TooLong)
    );
}

fn d10_slow_provider_delays_no_other_issuer(protocol: Protocol) {
    let slow = SlowProvider::start();
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.listen(&(secret_section() + &public_section("ES256", &slow.uri())));
    slow.started.recv().unwrap();
    let public = SigningKey::generate("ES256", "k").token(&public_claims());
    for _ in 0..20 {
        assert_eq!(server.auth(&token(HEADER, claims(""))).status, 200);
        let unavailable = server.auth(&public);
        assert_eq!(unavailable.status, 503);
        assert_no_identity(&unavailable);
    }
    assert_eq!(server.operations("/live").status, 200);
    assert!(
        !slow.done.load(Ordering::SeqCst),
        "the provider was still sending during all requests"
    );
}

/// Provider that announces a long key set and sends one byte per second.
struct SlowProvider {
    address: SocketAddr,
    /// Receives a message when the provider starts to send.
    started: mpsc::Receiver<()>,
    done: Arc<AtomicBool>,
}

impl SlowProvider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((starting, started), done) = (mpsc::channel(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&done);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(listener.accept().unwrap().0);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let stream = reader.get_mut();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n{").unwrap();
            starting.send(()).unwrap();
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_secs(1));
            }
            flag.store(true, Ordering::SeqCst);
        });
        Self { address, started, done }
    }

    fn uri(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }
}
