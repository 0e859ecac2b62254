use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_tests::{
    client::Protocol,
    openssl::{self, SigningKey, signing_input},
    over_every_protocol,
    providers::CannedResponse,
};
use serde_json::{Value, json};

use super::tier::{AUDIENCE, NAMESPACE, outcome, with_tier};
use crate::fixture::{self, now};

over_every_protocol!(
    c13_token_of_another_key_is_refused,
    c14_expired_token_is_refused_without_leeway,
    c15_token_of_the_future_is_refused,
    c16_token_without_exp_is_refused_by_default,
    c17_claim_of_another_namespace_is_refused,
    c18_claim_of_another_type_is_refused,
    c19_empty_tenant_is_refused,
    c33_other_algorithms_are_refused,
    c34_issuer_is_compared_with_its_slash,
    c35_every_audience_is_required,
    c36_key_id_is_required_and_known,
    c37_keys_outlive_an_outage_of_the_provider,
    c38_claims_belong_to_one_request,
    certificate_verifies_tokens_of_the_issuer,
);

const ALICE: &str = "foo; _,foo; alice";

fn tenancy() -> Value {
    json!({ "tenant_id": "foo", "username": "alice" })
}

fn c13_token_of_another_key_is_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let forger = SigningKey::generate("RS256", "k1");
        let forged = forger.token(&tier.provider.claims(tenancy()));
        let expected = "could not get token claims: the signature does not verify";
        assert_eq!(tier.ask_with(&forged), expected);
    });
}

fn c14_expired_token_is_refused_without_leeway(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for seconds in [10, 0] {
            let token = tier.provider.token_with(tenancy(), &[("exp", json!(now() - seconds))]);
            let expected = "expected claims not validated: the token has expired (exp)";
            assert_eq!(tier.ask_with(&token), expected, "{seconds}");
        }
    });
}

fn c15_token_of_the_future_is_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for claim in ["nbf", "iat"] {
            let token = tier.provider.token_with(tenancy(), &[(claim, json!(now() + 20))]);
            let refusal = tier.ask_with(&token);
            assert!(refusal.starts_with("expected claims not validated: "), "{claim}: {refusal}");
        }
    });
}

fn c16_token_without_exp_is_refused_by_default(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let token = tier.provider.token_with(tenancy(), &[("exp", Value::Null)]);
        let expected = "expected claims not validated: the token has no expiry time (exp)";
        assert_eq!(tier.ask_with(&token), expected);
    });
    with_tier(protocol, &[("AUTH_JWT_REQUIRE_EXP", "false")], |tier| {
        let token = tier.provider.token_with(tenancy(), &[("exp", Value::Null)]);
        assert_eq!(tier.ask_with(&token), ALICE);
    });
}

fn c17_claim_of_another_namespace_is_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for name in ["http://tenant.info", "HTTP://tenant.info/", "tenant_id", "other"] {
            let changes = [(NAMESPACE, Value::Null), (name, tenancy())];
            let token = tier.provider.token_with(tenancy(), &changes);
            let expected = "could not get token claims: missing custom claims data";
            assert_eq!(tier.ask_with(&token), expected, "{name}");
        }
    });
    // A name with dots is not a path.
    let variables = [("AUTH_JWT_CLAIMS_NAMESPACE", ""), ("AUTH_JWT_ORCHESTRATE_CLAIMS", "a.b")];
    with_tier(protocol, &variables, |tier| {
        let path = tier.provider.token_with(tenancy(), &[("a", json!({ "b": tenancy() }))]);
        let expected = "could not get token claims: missing custom claims data";
        assert_eq!(tier.ask_with(&path), expected);
        let named = tier.provider.token_with(tenancy(), &[("a.b", tenancy())]);
        assert_eq!(tier.ask_with(&named), ALICE);
    });
}

fn c18_claim_of_another_type_is_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let invalid = "could not get token claims: invalid custom claims format";
        for claim in [
            json!("foo"),
            json!(["foo"]),
            json!(7),
            json!(true),
            json!({ "tenant_id": 7 }),
            json!({ "tenant_id": ["foo"] }),
            json!({ "tenant_id": { "a": 1 } }),
            json!({ "tenant_id": "foo", "username": 7 }),
            json!({ "tenant_id": "*:x" }),
            json!({ "tenant_id": "a::b" }),
            json!({ "tenant_id": "a:" }),
            json!({ "tenant_id": ":a" }),
            json!({ "tenant_id": "a:_" }),
        ] {
            let token = tier.provider.token_with(claim.clone(), &[]);
            assert_eq!(tier.ask_with(&token), invalid, "{claim}");
        }
        let mut claims = tier.provider.claims(tenancy());
        claims[NAMESPACE] = Value::Null;
        let null = tier.provider.key.token(&claims);
        assert_eq!(tier.ask_with(&null), "expected custom claims not found");
    });
}

fn c19_empty_tenant_is_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        for claim in [
            json!({ "tenant_id": "" }),
            json!({ "tenant_id": null, "username": "alice" }),
            json!({}),
            json!({ "username": "alice" }),
            json!({ "Tenant_ID": "foo" }),
            json!({ "TENANT_ID": "foo" }),
        ] {
            let token = tier.provider.token_with(claim.clone(), &[]);
            assert_eq!(tier.ask_with(&token), "empty tenant in Access Token", "{claim}");
        }
    });
}

fn c33_other_algorithms_are_refused(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let claims = tier.provider.claims(tenancy());
        let header = |algorithm: &str| json!({ "alg": algorithm, "typ": "JWT", "kid": "k1" });
        let none = format!("{}.", signing_input(&header("none"), &claims));
        let hs256 = openssl::hs256(b"secret", &header("HS256"), &claims);
        let es256 = SigningKey::generate("ES256", "k1").token(&claims);
        let rs512 = tier.provider.key.token_with_header(&header("RS512"), &claims);
        for (algorithm, token) in
            [("none", none), ("HS256", hs256), ("ES256", es256), ("RS512", rs512)]
        {
            let expected =
                format!(r#"expected "RS256" signing algorithm but token specified "{algorithm}""#);
            assert_eq!(tier.ask_with(&token), expected);
        }
    });
}

fn c34_issuer_is_compared_with_its_slash(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let issuer = tier.provider.server.origin();
        let token = tier.provider.token_with(tenancy(), &[("iss", json!(issuer))]);
        assert_eq!(
            tier.ask_with(&token),
            "expected claims not validated: the issuer (iss) differs from a configured one only by \
             a trailing slash"
        );
        let token = tier.provider.token_with(tenancy(), &[("iss", json!("https://other/"))]);
        assert_eq!(
            tier.ask_with(&token),
            "expected claims not validated: the issuer (iss) is not configured"
        );
    });
}

fn c35_every_audience_is_required(protocol: Protocol) {
    let token = |tier: &super::tier::OrchestrateTier<'_>, audience: Value| {
        tier.ask_with(&tier.provider.token_with(tenancy(), &[("aud", audience)]))
    };
    let refused = "expected claims not validated: the token is meant for another audience (aud)";
    for both in ["https://a https://b", "https://a,https://b"] {
        with_tier(protocol, &[("AUTH_JWT_AUDIENCE", both)], |tier| {
            assert_eq!(token(tier, json!(["https://b", "x", "https://a"])), ALICE);
            assert_eq!(token(tier, json!(["https://a", "x"])), refused);
            assert_eq!(token(tier, json!("https://b")), refused);
        });
    }
    with_tier(protocol, &[("AUTH_JWT_AUDIENCE", "")], |tier| {
        for audience in [json!("x"), json!(["x", "y"]), Value::Null] {
            assert_eq!(token(tier, audience), ALICE);
        }
    });
    with_tier(protocol, &[], |tier| assert_eq!(token(tier, json!(AUDIENCE)), ALICE));
}

fn c36_key_id_is_required_and_known(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let claims = tier.provider.claims(tenancy());
        for header in [json!({ "alg": "RS256" }), json!({ "alg": "RS256", "kid": "k2" })] {
            let token = tier.provider.key.token_with_header(&header, &claims);
            let refusal = tier.ask_with(&token);
            let step = "error getting the keys from the key func: ";
            assert!(refusal.starts_with(step), "{header}: {refusal}");
        }
        // A rotated key is fetched when a token names it. The request waits for it, and still acts
        // for the tenant that it names.
        let next = SigningKey::generate("RS256", "k3");
        tier.provider.server.publish(&fixture::key_set(&[tier.provider.key, &next]));
        let bearer = format!("Bearer {}", next.token(&claims));
        let lines = [("Authorization", &*bearer), ("X-Tenant-ID", "_")];
        assert_eq!(outcome(&tier.ask(&lines)), "_; _; ");
        assert_eq!(outcome(&tier.ask(&lines[..1])), ALICE);
    });
}

fn c37_keys_outlive_an_outage_of_the_provider(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let down = || CannedResponse::status("503 Service Unavailable");
        tier.provider.server.respond_with(down());
        tier.provider.server.respond_at("/.well-known/openid-configuration", down());
        assert_eq!(tier.ask_as("foo", &[]), ALICE);
        // An unknown key cannot be judged now: this is not the fault of the token.
        let other = SigningKey::generate("RS256", "k9").token(&tier.provider.claims(tenancy()));
        assert_eq!(tier.server.auth(&other).status, 503);
    });
}

fn c38_claims_belong_to_one_request(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let full = tier.provider.token("foo");
        let plain = tier.provider.token_with(json!({ "tenant_id": "bar" }), &[]);
        let bare = tier.provider.token_with(json!({}), &[]);
        for _ in 0..3 {
            assert_eq!(tier.ask_with(&full), ALICE);
            assert_eq!(tier.ask_with(&plain), "bar; _,bar; ");
            assert_eq!(tier.ask_with(&bare), "empty tenant in Access Token");
            assert_eq!(tier.ask_with_key(&[]), "_; *; ");
        }
    });
}

/// Returns a certificate of a key, which has run out.
fn expired_certificate(key: &SigningKey) -> String {
    let path = key.path();
    let key = path.to_str().unwrap();
    let arguments = ["req", "-x509", "-key", key, "-subj", "/CN=orchestrate", "-days", "1"];
    let pem = openssl::openssl(&arguments, b"");
    String::from_utf8(pem).unwrap()
}

fn certificate_verifies_tokens_of_the_issuer(protocol: Protocol) {
    let key = SigningKey::generate("RS256", "k");
    let pem = expired_certificate(&key);
    let body: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let lines = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>();
    for certificate in [&pem, &body, &lines.join("\n"), &STANDARD.encode(&pem)] {
        let variables = [
            ("AUTH_JWT_CERTIFICATE", certificate.as_str()),
            ("AUTH_JWT_ISSUER_URL", "Orchestrate"),
            ("AUTH_JWT_AUDIENCE", ""),
        ];
        with_tier(protocol, &variables, |tier| {
            let claims = json!({
                "iss": "Orchestrate", "exp": now() + 60, NAMESPACE: tenancy(),
            });
            for algorithm in ["RS256", "RS512"] {
                let token = key.token_with_header(&json!({ "alg": algorithm }), &claims);
                // The fixture signs with SHA-256 only.
                let expected = if algorithm == "RS256" { ALICE } else { "refused" };
                let answer = tier.ask_with(&token);
                assert_eq!(answer == ALICE, expected == ALICE, "{algorithm}: {answer}");
            }
            let other = SigningKey::generate("RS256", "k").token(&claims);
            assert_ne!(tier.ask_with(&other), ALICE);
            let secret = URL_SAFE_NO_PAD.encode("secret");
            let forged = openssl::hs256(secret.as_bytes(), &json!({ "alg": "HS256" }), &claims);
            assert_ne!(tier.ask_with(&forged), ALICE);
        });
    }
}
