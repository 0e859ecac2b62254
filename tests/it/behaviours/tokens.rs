use std::sync::OnceLock;

use countersign_tests::{binary::Sandbox, openssl::SigningKey};
use serde_json::{Value, json};

use super::{accepted, refused, with_claim, with_header, without_claim};
use crate::{
    fixture::{self, ISSUER, SIGNING},
    users::configuration,
};

const UNREADABLE: &str = "Unable to decode provided JWT bearer token.";
const IDP: &str = "https://idp/";

/// Checks that the guide's section, [`SIGNING`], refuses each token with this text.
#[track_caller]
fn assert_each_refused(tokens: &[String], text: &str) {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    for token in tokens {
        refused(&server, token, text);
    }
}

/// Returns the line that `token verify` prints for a token of the guide's section.
fn verdict(token: &str) -> Value {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING);
    sandbox
        .run_with_input(
            ["token", "verify", "--surface", "inmanta", "-c", config.to_str().unwrap()],
            token,
        )
        .json_lines()[0]
        .clone()
}

/// Returns the client types that `token verify` derives from a token's claim.
fn client_types(token: &str) -> Value {
    verdict(token)["claims"]["urn:inmanta:ct"].clone()
}

#[test]
fn c01_malformed_tokens_are_refused() {
    let good = fixture::good_token();
    assert_each_refused(
        &["abc".into(), "a.b".into(), format!("{good}.x"), format!("{good}.")],
        UNREADABLE,
    );
    for odd in [String::new(), format!("{good} "), format!(" {good}")] {
        assert_eq!(
            verdict(&format!("{odd}\n"))["message"],
            format!("Access denied: {UNREADABLE}"),
            "{odd:?}"
        );
    }
}

#[test]
fn c02_payload_must_be_an_object() {
    assert_each_refused(
        &[fixture::token(&json!([1])), fixture::token(&json!("iss")), fixture::token(&Value::Null)],
        UNREADABLE,
    );
}

#[test]
fn c03_issuer_is_required() {
    assert_each_refused(&[without_claim("iss")], "Issuer is required in token to validate.");
}

#[test]
fn c04_issuer_match_includes_the_trailing_slash() {
    assert_each_refused(
        &[with_claim("iss", json!("https://localhost:8888"))],
        "Unknown issuer for token",
    );
}

#[test]
fn c05_issuer_must_be_a_string() {
    assert_each_refused(
        &[with_claim("iss", json!([ISSUER])), with_claim("iss", json!(5))],
        "Unknown issuer for token",
    );
}

#[test]
fn c06_audience_may_be_a_list() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    for audience in [json!(ISSUER), json!([ISSUER]), json!(["a", ISSUER])] {
        accepted(&server, &with_claim("aud", audience));
    }
}

#[test]
fn c07_other_audiences_are_refused() {
    assert_each_refused(
        &[with_claim("aud", json!("a")), with_claim("aud", json!(["a", "b"]))],
        "Audience doesn't match",
    );
}

#[test]
fn c08_missing_audience_is_refused() {
    assert_each_refused(&[without_claim("aud"), with_claim("aud", json!([]))], "aud");
}

#[test]
fn c09_audience_must_be_a_string() {
    assert_each_refused(
        &[with_claim("aud", json!(5)), with_claim("aud", json!([ISSUER, 5]))],
        "Invalid claim format in token",
    );
}

/// Returns a token signed with another key.
fn forged(changes: Value) -> String {
    countersign_tests::openssl::hs256(
        &[7; 32],
        &json!({ "alg": "HS256" }),
        &fixture::claims(changes),
    )
}

#[test]
fn c10_signature_of_another_key_is_refused() {
    assert_each_refused(&[forged(json!({}))], "Signature verification failed");
}

#[test]
fn c11_signature_is_checked_before_claims() {
    assert_each_refused(
        &[forged(json!({ "exp": 1 })), forged(json!({ "sub": 5 }))],
        "Signature verification failed",
    );
}

#[test]
fn c12_token_expires_in_the_second_of_its_exp() {
    let expired =
        [0, 1, fixture::now() - 1, fixture::now()].map(|exp| with_claim("exp", json!(exp)));
    assert_each_refused(&expired, "Signature has expired");
}

#[test]
fn c13_expiry_is_checked_before_the_audience() {
    assert_each_refused(
        &[fixture::token(&fixture::claims(json!({ "exp": 1, "aud": "a" })))],
        "Signature has expired",
    );
}

const EXP_NOT_INTEGER: &str = "Expiration Time claim (exp) must be an integer.";

#[test]
fn c14_quoted_exp_is_refused() {
    assert_each_refused(&[with_claim("exp", json!("9999999999"))], EXP_NOT_INTEGER);
}

#[test]
fn c15_non_numeric_exp_is_refused() {
    assert_each_refused(
        &[
            with_claim("exp", json!("abc")),
            with_claim("exp", Value::Null),
            with_claim("exp", json!([1])),
        ],
        EXP_NOT_INTEGER,
    );
}

#[test]
fn c16_nbf_in_the_future_is_refused() {
    assert_each_refused(
        &[with_claim("nbf", json!(fixture::now() + 600))],
        "The token is not yet valid (nbf)",
    );
}

#[test]
fn c17_iat_in_the_future_is_refused() {
    assert_each_refused(
        &[with_claim("iat", json!(fixture::now() + 600))],
        "The token is not yet valid (iat)",
    );
}

#[test]
fn c18_subject_must_be_a_string() {
    assert_each_refused(
        &[with_claim("sub", json!(5)), with_claim("sub", Value::Null)],
        "Subject must be a string",
    );
}

#[test]
fn c19_jti_must_be_a_string() {
    assert_each_refused(&[with_claim("jti", json!(5))], "JWT ID must be a string");
}

#[test]
fn c20_missing_client_types_default_to_api() {
    assert_eq!(client_types(&without_claim("urn:inmanta:ct")), json!(["api"]));
}

#[test]
fn c21_client_types_are_comma_separated() {
    assert_eq!(
        client_types(&with_claim("urn:inmanta:ct", json!("api, compiler"))),
        json!(["api", "compiler"])
    );
}

#[test]
fn c22_client_types_may_be_a_list() {
    for list in [json!(["api"]), json!(["api", "agent"])] {
        assert_eq!(client_types(&with_claim("urn:inmanta:ct", list.clone())), list);
    }
}

#[test]
fn c23_malformed_client_types_are_refused() {
    for unreadable in [Value::Null, json!(""), json!(5), json!([]), json!(["api", 5])] {
        let verdict = verdict(&with_claim("urn:inmanta:ct", unreadable.clone()));
        assert_eq!(
            (&verdict["ok"], &verdict["status"]),
            (&json!(false), &json!(403)),
            "{unreadable}: {verdict}"
        );
    }
}

#[test]
fn c24_list_claims_must_hold_strings() {
    assert_each_refused(
        &[with_claim("groups", json!(["a", 5])), with_claim("groups", json!([{}]))],
        "",
    );
}

#[test]
fn c25_numbers_and_nulls_are_dropped() {
    for value in [json!(5), json!(1.5), Value::Null] {
        assert_eq!(verdict(&with_claim("x", value))["claims"].get("x"), None);
    }
    for value in [json!("a"), json!(true), json!({ "a": 5 }), json!(["a"])] {
        assert_eq!(verdict(&with_claim("x", value.clone()))["claims"]["x"], value);
    }
}

/// The provider's key set with one key `k1`, and a token signed with that key.
fn provider() -> &'static (String, String) {
    static PROVIDER: OnceLock<(String, String)> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let key = SigningKey::generate("RS256", "k1");
        (fixture::key_set(&[&key]), key.token(&fixture::claims_of(IDP)))
    })
}

/// Checks that each header is refused with this text. The tokens name `issuer` and are signed with
/// the guide's key.
#[track_caller]
fn assert_headers_refused(issuer: &str, assert_headers_refused: &[Value], text: &str) {
    let sandbox = Sandbox::new();
    let (published, good) = provider();
    let keys = sandbox.file("jwks.json", published);
    let idp = fixture::with_idp("RS256", &format!("jwks_uri=file://{}", keys.display()));
    let server = sandbox.serve(&format!("{idp}[server]\nauth=true\n"));
    accepted(&server, good);
    for header in assert_headers_refused {
        refused(&server, &with_header(header.clone(), issuer), text);
    }
}

#[test]
fn c26_unsigned_tokens_are_refused() {
    assert_headers_refused(
        ISSUER,
        &[json!({ "alg": "none" }), json!({ "alg": "NONE" })],
        "Algorithm none is not supported.",
    );
    assert_headers_refused(
        IDP,
        &[json!({ "alg": "none", "kid": "k1" })],
        "Algorithm none is not supported.",
    );
}

#[test]
fn c27_unconfigured_algorithm_is_named() {
    for algorithm in ["HS512", "RS512", "PS256"] {
        let text = format!("Algorithm {} is not supported.", algorithm.to_lowercase());
        assert_headers_refused(IDP, &[json!({ "alg": algorithm, "kid": "k1" })], &text);
    }
}

#[test]
fn c28_algorithm_names_are_case_sensitive() {
    assert_headers_refused(
        ISSUER,
        &[json!({ "alg": "hs256" }), json!({ "alg": "Hs256" })],
        "The specified alg value is not allowed",
    );
}

#[test]
fn c29_kid_is_required_for_published_keys() {
    let text = "kid is missing in jwt header or is not a valid string";
    assert_headers_refused(IDP, &[json!({ "alg": "RS256" })], text);
}

const KID_UNKNOWN: &str = "The kid provided in the token does not match a known key. Check the jwks_uri or try restarting the server to \
                           load any new keys.";

/// Unlike the real system, Countersign then fetches the keys again; see
/// [`rotation`](crate::rotation).
#[test]
fn c30_unpublished_kid_is_unknown() {
    assert_headers_refused(IDP, &[json!({ "alg": "RS256", "kid": "k2" })], KID_UNKNOWN);
}

#[test]
fn c31_secret_section_ignores_published_keys() {
    assert_headers_refused(ISSUER, &[json!({ "alg": "RS256", "kid": "k1" })], KID_UNKNOWN);
}

#[test]
fn c32_published_keys_section_ignores_secrets() {
    assert_headers_refused(
        IDP,
        &[json!({ "alg": "HS256" }), json!({ "alg": "HS256", "kid": "k1" })],
        "The specified alg value is not allowed",
    );
}

#[test]
fn c33_known_kid_with_a_bad_signature_is_refused() {
    assert_headers_refused(
        IDP,
        &[json!({ "alg": "RS256", "kid": "k1" })],
        "Signature verification failed",
    );
}
