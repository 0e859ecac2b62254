use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::{
    engine::{sign_with, signing_input},
    openssl,
};
use serde_json::{Value, json};

/// The guide's example key.
pub(crate) const KEY: &str = "rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs";
pub(crate) const ISSUER: &str = "https://localhost:8888/";

/// The guide's example section.
pub(crate) const SIGNING: &str = "\
[auth_jwt_default]
algorithm=HS256
sign=true
client_types=agent,compiler,api
key=rID3kG4OwGpajIsxnGDhat4UFcMkyFZQc1y3oKQTPRs
expire=0
issuer=https://localhost:8888/
audience=https://localhost:8888/
";

/// The shipped access policy.
pub(crate) const DEFAULT_POLICY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../server/policies/inmanta.rego");

/// Returns the section that makes a policy decide.
pub(crate) fn policy_engine(policy: &str) -> String {
    format!("[policy_engine]\npolicy-file={policy}\nlog_file=policy_engine.log\n")
}

/// Returns a token of the guide's section, [`SIGNING`], signed by openssl.
pub(crate) fn token(claims: &Value) -> String {
    token_with_header(&json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

pub(crate) fn token_with_header(header: &Value, claims: &Value) -> String {
    openssl::hs256(&URL_SAFE_NO_PAD.decode(KEY).unwrap(), header, claims)
}

/// Returns a token with acceptable claims and these further members, as they are spelled.
pub(crate) fn token_with_members(members: &str) -> String {
    let claims = claims(json!({})).to_string();
    let payload = format!("{},{members}}}", claims.trim_end_matches('}'));
    sign_with(&URL_SAFE_NO_PAD.decode(KEY).unwrap(), &signing_input(r#"{"alg":"HS256"}"#, payload))
}

/// Returns acceptable claims, with some replaced or, by null, removed.
pub(crate) fn claims(changes: Value) -> Value {
    let mut claims =
        json!({ "iss": ISSUER, "aud": [ISSUER], "sub": "bob", "exp": 4_102_444_800u64 });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// Returns the time in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn good_token() -> String {
    token(&claims(json!({})))
}

/// Returns [`SIGNING`] and a second issuer with these algorithms and further options.
pub(crate) fn with_idp(algorithms: &str, options: &str) -> String {
    format!("{SIGNING}{}", issuer_section("oidc", algorithms, "https://idp/", options))
}

/// Returns a section for an external issuer.
pub(crate) fn issuer_section(name: &str, algorithms: &str, issuer: &str, options: &str) -> String {
    format!(
        "[auth_jwt_{name}]\nalgorithms={algorithms}\nclient_types=api\nissuer={issuer}\naudience=inm\n{options}\n"
    )
}

/// Returns the claims of an external issuer.
pub(crate) fn claims_of(issuer: &str) -> Value {
    json!({
        "iss": issuer,
        "aud": "inm",
        "sub": "bob",
        "preferred_username": "Bob",
        "exp": 4_102_444_800u64,
    })
}

/// Returns the key set that a provider with these keys publishes.
pub(crate) fn key_set(keys: &[&openssl::SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}
