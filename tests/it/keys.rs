use std::time::Duration;

use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    eventually,
    openssl::{SigningKey, openssl},
    over_every_protocol,
    providers::{CannedResponse, JwksServer, TlsProvider},
};
use serde_json::{Value, json};

use crate::fixture;

over_every_protocol!(
    tokens_signed_by_openssl_verify_with_every_algorithm,
    unreachable_provider_affects_only_its_tokens,
);

const ALL: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

fn oidc(algorithms: &str, uri: &str, options: &str) -> String {
    fixture::with_idp(algorithms, &format!("jwks_uri={uri}\n{options}"))
}

fn claims() -> Value {
    fixture::claims_of("https://idp/")
}

fn tokens_signed_by_openssl_verify_with_every_algorithm(protocol: Protocol) {
    let keys: Vec<_> = ALL
        .iter()
        .map(|algorithm| SigningKey::generate(algorithm, &format!("key-{algorithm}")))
        .collect();
    let jwks: Vec<_> = keys.iter().map(SigningKey::jwk).collect();
    let sandbox = Sandbox::over(protocol);
    let file = sandbox.file("jwks.json", json!({ "keys": jwks }).to_string());
    let server = sandbox.serve(&oidc(
        &ALL.join(","),
        &format!("file://{}", file.display()),
        "jwt_username_claim=preferred_username",
    ));
    for (key, algorithm) in keys.iter().zip(ALL) {
        let token = key.token(&claims());
        assert_eq!(server.auth(&token).header("x-auth-user"), Some("Bob"), "{algorithm}");
        // A16: the same key with the name of any other algorithm.
        for other in ALL.iter().filter(|other| **other != algorithm) {
            let header = json!({ "alg": other, "kid": format!("key-{algorithm}") });
            assert_eq!(
                server.auth(&key.token_with_header(&header, &claims())).status,
                401,
                "{algorithm} as {other}"
            );
        }
    }
}

#[test]
fn published_key_without_kid_serves_no_named_kid() {
    let key = SigningKey::generate("RS256", "named");
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().remove("kid");
    let provider = JwksServer::start(&json!({ "keys": [jwk] }).to_string());
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&oidc("RS256", &provider.uri(), ""));
    assert_eq!(server.auth(&key.token(&claims())).status, 401);
}

#[test]
fn published_map_of_pem_is_a_key_set() {
    let keys = ["one", "two"].map(|kid| SigningKey::generate("ES256", kid));
    let pem = |key: &SigningKey| {
        let pem = openssl(&["pkey", "-in", key.path().to_str().unwrap(), "-pubout"], b"");
        String::from_utf8(pem).unwrap()
    };
    let damaged = "-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----\n";
    let map = json!({ "one": pem(&keys[0]), "bad": damaged, "two": pem(&keys[1]) }).to_string();
    let provider = JwksServer::start(&map);
    let sandbox = Sandbox::new();
    let file = sandbox.file("map.json", format!("\u{feff}{map}"));
    for uri in [provider.uri(), format!("file://{}", file.display())] {
        let server = sandbox.serve(&oidc("ES256", &uri, ""));
        for key in &keys {
            assert_eq!(server.auth(&key.token(&claims())).status, 200, "{}", server.log());
            let other = json!({ "alg": "ES256", "kid": "other" });
            assert_eq!(server.auth(&key.token_with_header(&other, &claims())).status, 401);
        }
        let skipped = r#"key skipped: kid \"bad\", in PEM: it is damaged"#;
        assert!(server.log().contains(skipped), "{}", server.log());
    }
    // The converted set is kept for a start without the provider.
    provider.respond_with(CannedResponse::status("500 Internal Server Error"));
    let server = sandbox.listen(&oidc("ES256", &provider.uri(), ""));
    eventually(|| server.auth(&keys[1].token(&claims())).status == 200);
}

#[test]
fn c39_bad_key_does_not_invalidate_the_set() {
    let key = SigningKey::generate("RS256", "good");
    let keys = json!({ "keys": [{ "kty": "EC", "kid": "x", "crv": "P-256" }, { "kty": "oct", "k": "AAAA", "alg": "HS256" }, key.jwk(), 5, { "use": "enc" }] });
    let provider = JwksServer::start(&keys.to_string());
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&oidc("RS256", &provider.uri(), ""));
    assert_eq!(server.auth(&key.token(&claims())).status, 200);
    assert!(
        server.log().contains("a shared secret (oct) must not be in a published key set"),
        "{}",
        server.log()
    );
}

fn unreachable_provider_affects_only_its_tokens(protocol: Protocol) {
    let key = SigningKey::generate("RS256", "k");
    let sandbox = Sandbox::over(protocol);
    let started = std::time::Instant::now();
    // No server listens on this port.
    let server = sandbox.serve(&oidc("RS256", "http://127.0.0.1:9/jwks", ""));
    assert!(started.elapsed() < Duration::from_secs(20), "startup must not wait for the provider");
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    let unavailable = server.auth(&key.token(&claims()));
    assert_eq!((unavailable.status, unavailable.body.as_str()), (503, ""));
    assert!(
        unavailable.header("retry-after").is_some()
            && unavailable.header("www-authenticate").is_none()
    );
    let problem = server.verify(&key.token(&claims()));
    assert_eq!((problem.status, &problem.json()["code"]), (503, &json!("keys_unavailable")));
    assert!(
        server.log().contains(
            "Unable to load key data for auth_jwt_oidc using the provided jwks_uri http://127.0.0.1:9/jwks. Got error: "
        ),
        "{}",
        server.log()
    );
    let ready = server.operations("/ready").json();
    assert_eq!(
        ready["issuers"],
        json!([{ "section": "auth_jwt_default", "keys": 1 }, { "section": "auth_jwt_oidc", "keys": 0 }])
    );
}

#[test]
fn provider_certificate_check_can_be_disabled() {
    let key = SigningKey::generate("RS256", "k");
    let (sandbox, provider) = (Sandbox::new(), TlsProvider::start());
    let uri = provider.serve("jwks.json", &json!({ "keys": [key.jwk()] }));
    {
        let server = sandbox.serve(&oidc("RS256", &uri, ""));
        assert_eq!(server.auth(&key.token(&claims())).status, 503);
        assert!(
            server.log().contains("UnknownIssuer") || server.log().contains("certificate"),
            "{}",
            server.log()
        );
    }
    let server = sandbox.serve(&oidc("RS256", &uri, "validate_cert=false"));
    assert_eq!(server.auth(&key.token(&claims())).status, 200, "{}", server.log());
}
