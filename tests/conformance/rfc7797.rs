use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Algorithm, Reject};
use countersign_tests::openssl;
use serde_json::json;

use crate::example::{assert_genuine, assert_signs, verify};

const SECRET: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
/// `$.02`, encoded.
const PAYLOAD_ENCODED: &str = "JC4wMg";

fn jwk() -> String {
    format!(r#"{{"kty":"oct","k":"{SECRET}"}}"#)
}

#[test]
fn section_4_1_control_is_an_ordinary_token() {
    let token = format!(
        "eyJhbGciOiJIUzI1NiJ9.{PAYLOAD_ENCODED}.5mvfOroL-g7HyqJoozehmsaqmvTYGEq5jTI1gVvoEoQ"
    );
    assert_genuine(&jwk(), Algorithm::Hs256, &token, "$.02");
}

/// Section 4.2: `{"alg":"HS256","b64":false,"crit":["b64"]}`.
#[test]
fn section_4_2_unencoded_payload_is_refused() {
    assert_refused_in_every_form(
        "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19",
        "A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY",
    );
}

/// Section 6 requires `crit`, which `{"alg":"HS256","b64":false}` omits.
#[test]
fn section_6_b64_without_crit_is_refused() {
    assert_refused_in_every_form(
        "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2V9",
        "GsyM6AQJbQHY8aQKCbZSPJHzMRWo3HKIlcDuXof7nqs",
    );
}

/// A verifier that ignores `b64` would accept these: the signature covers the encoded payload, as
/// if `b64` were absent.
#[test]
fn section_6_b64_is_not_ignored() {
    let secret = URL_SAFE_NO_PAD.decode(SECRET).unwrap();
    let sign = |header| openssl::hs256(&secret, &header, &json!({ "sub": "bob" }));
    let result = |header| verify(&jwk(), Algorithm::Hs256, &sign(header));
    assert_eq!(result(json!({ "alg": "HS256" })).as_deref(), Ok(br#"{"sub":"bob"}"#.as_slice()));
    assert_eq!(result(json!({ "alg": "HS256", "b64": false })), Err(Reject::Unencoded));
    assert_eq!(
        result(json!({ "alg": "HS256", "b64": false, "crit": ["b64"] })),
        Err(Reject::Unencoded)
    );
    // The first of the two members determines the reason.
    assert_eq!(
        result(json!({ "alg": "HS256", "crit": ["b64"], "b64": false })),
        Err(Reject::Critical)
    );
}

#[track_caller]
fn assert_refused_in_every_form(header: &str, signature: &str) {
    assert_signs(&jwk(), Algorithm::Hs256, &format!("{header}.$.02"), signature);
    for (payload, form) in [("$.02", "as it is"), ("", "detached"), (PAYLOAD_ENCODED, "encoded")] {
        let result = verify(&jwk(), Algorithm::Hs256, &format!("{header}.{payload}.{signature}"));
        assert_eq!(result, Err(Reject::Unencoded), "{form}");
    }
    let json = format!(r#"{{"protected":"{header}","payload":"$.02","signature":"{signature}"}}"#);
    assert_eq!(verify(&jwk(), Algorithm::Hs256, &json), Err(Reject::Segments));
}
