use countersign_tests::{
    binary::Sandbox, client::Protocol, eventually, openssl::SigningKey, over_every_protocol,
};
use serde_json::json;

use super::tier::{API_KEY, AUDIENCE, NAMESPACE, outcome, sandbox, with_tier};
use crate::fixture::{self, key_set};

over_every_protocol!(
    auth0_token_is_accepted_as_issued,
    auth0_keys_rotate_without_a_restart,
    missing_slash_is_named_in_body_and_log,
);

const ALICE: &str = "foo; _,foo; alice";

fn auth0_token_is_accepted_as_issued(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let token = tier.provider.token("foo");
        let claims = tier.provider.claims(json!({ "tenant_id": "foo" }));
        let userinfo = format!("{}userinfo", tier.provider.issuer());
        assert_eq!(claims["aud"], json!([AUDIENCE, userinfo]));
        for name in ["azp", "scope", NAMESPACE] {
            assert!(!claims[name].is_null(), "{name}");
        }
        assert_eq!(tier.ask_with(&token), ALICE);
        assert!(!tier.server.log().contains(&token));
    });
}

/// The next key is published beside the old one, signs, and then the old one is withdrawn.
fn auth0_keys_rotate_without_a_restart(protocol: Protocol) {
    let often = [
        ("INMANTA_AUTH_JWT_ORCHESTRATE_JWKS_REFRESH_INTERVAL", "2"),
        ("INMANTA_AUTH_JWT_ORCHESTRATE_JWKS_COOL_DOWN", "1"),
    ];
    with_tier(protocol, &often, |tier| {
        let (old, next) = (tier.provider.key, SigningKey::generate("RS256", "k2"));
        let claims = tier.provider.claims(json!({ "tenant_id": "foo", "username": "alice" }));
        let [old_token, next_token] = [old, &next].map(|key| key.token(&claims));
        assert_eq!(tier.ask_with(&old_token), ALICE);
        tier.provider.server.publish(&key_set(&[old, &next]));
        // At once: the first token that names the key causes the fetch.
        assert_eq!([&next_token, &old_token].map(|token| tier.ask_with(token)), [ALICE; 2]);
        tier.provider.server.publish(&key_set(&[&next]));
        eventually(|| tier.server.auth(&old_token).status == 401);
        let refusal = tier.ask_with(&old_token);
        assert!(refusal.starts_with("error getting the keys from the key func: "), "{refusal}");
        assert_eq!(tier.ask_with(&next_token), ALICE);
    });
}

fn missing_slash_is_named_in_body_and_log(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let log = "a token was refused because its issuer (iss) differs from a configured one";
        assert!(!tier.server.log().contains(log));
        let without_slash = json!(tier.provider.server.origin());
        let token = tier.provider.token_with(json!({}), &[("iss", without_slash)]);
        let refusal = "expected claims not validated: the issuer (iss) differs from a configured \
                       one only by a trailing slash";
        let bearer = format!("Bearer {token}");
        for _ in 0..3 {
            assert_eq!(outcome(&tier.ask(&[("Authorization", &bearer)])), refusal);
        }
        eventually(|| tier.server.log().contains(log));
        // Once, since any client can cause it; and without the token.
        assert_eq!(tier.server.log().matches(log).count(), 1);
        assert!(!tier.server.log().contains(&token));
    });
}

/// Returns the warnings of `config check` for this issuer.
fn warnings(issuer: &str) -> String {
    let variables = [("AUTH_JWT_ISSUER_URL", issuer), ("AUTH_JWT_AUDIENCE", AUDIENCE)];
    let output = sandbox(None, variables.iter()).run(["config", "check"]);
    assert_eq!(output.code(), 0, "{output:?}");
    output.stderr
}

#[test]
fn config_check_knows_the_slash_of_auth0() {
    let warned = warnings("https://example.eu.auth0.com");
    let expected = "AUTH_JWT_ISSUER_URL: the issuer (iss) of tokens of Auth0 ends with a slash";
    assert!(warned.contains(expected), "{warned}");
    assert!(warned.contains("help: write https://example.eu.auth0.com/"), "{warned}");
    for other in [
        "https://example.eu.auth0.com/",
        "https://auth0.com.example",
        "https://notauth0.com",
        "https://accounts.google.com",
    ] {
        assert_eq!(warnings(other), "", "{other}");
    }
    let both = "[auth_jwt_a]\nalgorithms=RS256\nclient_types=api\naudience=x\n\
                issuer=https://example.auth0.com, https://example.auth0.com/\n\
                jwks_uri=https://example.auth0.com/.well-known/jwks.json\n";
    let sandbox = Sandbox::new();
    let file = sandbox.file("c.cfg", both);
    let output = sandbox.run(["config", "check", "--config", file.to_str().unwrap()]);
    assert!(!output.stderr.contains("slash"), "{output:?}");
}

/// `orchestrate utils generate-jwt` has a replacement for tests.
#[test]
fn token_sign_makes_tokens_of_tenants() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!(
        "{}[listen]\nsurface=orchestrate\n[multi_tenancy]\nclaims_namespace={NAMESPACE}\n\
         api_key={API_KEY}\nerror_body=true\n",
        fixture::SIGNING
    ));
    let config = sandbox.path().join("server.cfg");
    let sign = |claims: &[&str]| {
        let usual = ["token", "sign", "--client-type", "api", "--expire", "60", "--config"];
        sandbox.run([&usual[..], &[config.to_str().unwrap()], claims].concat())
    };
    let ask = |token: &str| {
        let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        outcome(&server.request(&head))
    };
    let claim = format!(r#"{NAMESPACE}={{"tenant_id":"foo","username":"alice"}}"#);
    assert_eq!(ask(sign(&["--claim-json", &claim]).text()), ALICE);
    let text = "could not get token claims: invalid custom claims format";
    assert_eq!(ask(sign(&["--claim", &claim]).text()), text);
    let twice = sign(&["--claim-json", &claim, "--claim", &claim]);
    assert!(twice.stderr.contains("is given twice"), "{twice:?}");
    for invalid in ["a", "a={", "a=b", "a=1 2", "exp=1"] {
        assert_eq!(sign(&["--claim-json", invalid]).code(), 2, "{invalid}");
    }
}
