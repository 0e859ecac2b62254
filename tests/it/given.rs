use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_tests::openssl;
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

/// A token of the guide's section, by openssl.
pub(crate) fn token(claims: &Value) -> String {
    token_with_header(&json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

pub(crate) fn token_with_header(header: &Value, claims: &Value) -> String {
    openssl::hs256(&URL_SAFE_NO_PAD.decode(KEY).unwrap(), header, claims)
}

/// Claims that are accepted, with some replaced or, by null, removed.
pub(crate) fn claims(changes: Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": [ISSUER], "sub": "bob", "exp": 4_102_444_800u64 });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

pub(crate) fn good_token() -> String {
    token(&claims(json!({})))
}
