use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use countersign_tests::{binary::Sandbox, openssl::SigningKey};
use serde_json::{Value, json};

use super::{accepted, claiming, headed, refused, without};
use crate::{
    given::{self, ISSUER, SIGNING},
    users::configuration,
};

const UNREADABLE: &str = "Unable to decode provided JWT bearer token.";
const IDP: &str = "https://idp/";

/// Has the guide's section refuse tokens.
#[track_caller]
fn each(tokens: &[String], text: &str) {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    for token in tokens {
        refused(&server, token, text);
    }
}

/// What `token verify` prints about a token of the guide's section.
fn verdict(token: &str) -> Value {
    let sandbox = Sandbox::new();
    let config = sandbox.file("c.cfg", SIGNING);
    sandbox.run_with_input(["token", "verify", "-c", config.to_str().unwrap()], token).json_lines()
        [0]
    .clone()
}

/// The client types that a claim means.
fn client_types(token: &str) -> Value {
    verdict(token)["claims"]["urn:inmanta:ct"].clone()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn c01_what_is_no_token_is_refused() {
    let good = given::good_token();
    each(&["abc".into(), "a.b".into(), format!("{good}.x"), format!("{good}.")], UNREADABLE);
    for odd in [String::new(), format!("{good} "), format!(" {good}")] {
        assert_eq!(
            verdict(&format!("{odd}\n"))["message"],
            format!("Access denied: {UNREADABLE}"),
            "{odd:?}"
        );
    }
}

#[test]
fn c02_a_payload_is_an_object() {
    each(
        &[given::token(&json!([1])), given::token(&json!("iss")), given::token(&Value::Null)],
        UNREADABLE,
    );
}

#[test]
fn c03_a_token_names_its_issuer() {
    each(&[without("iss")], "Issuer is required in token to validate.");
}

#[test]
fn c04_an_issuer_is_named_to_the_last_slash() {
    each(&[claiming("iss", json!("https://localhost:8888"))], "Unknown issuer for token");
}

#[test]
fn c05_an_issuer_is_a_text() {
    each(
        &[claiming("iss", json!([ISSUER])), claiming("iss", json!(5))],
        "Unknown issuer for token",
    );
}

#[test]
fn c06_an_audience_is_ours_or_a_list_with_it() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    for audience in [json!(ISSUER), json!([ISSUER]), json!(["a", ISSUER])] {
        accepted(&server, &claiming("aud", audience));
    }
}

#[test]
fn c07_a_token_for_others_is_refused() {
    each(
        &[claiming("aud", json!("a")), claiming("aud", json!(["a", "b"]))],
        "Audience doesn't match",
    );
}

#[test]
fn c08_a_token_for_nobody_is_refused() {
    each(&[without("aud"), claiming("aud", json!([]))], "aud");
}

#[test]
fn c09_an_audience_is_a_text() {
    each(
        &[claiming("aud", json!(5)), claiming("aud", json!([ISSUER, 5]))],
        "Invalid claim format in token",
    );
}

/// A token that another key has signed.
fn forged(changes: Value) -> String {
    countersign_tests::openssl::hs256(&[7; 32], &json!({ "alg": "HS256" }), &given::claims(changes))
}

#[test]
fn c10_another_key_is_not_ours() {
    each(&[forged(json!({}))], "Signature verification failed");
}

#[test]
fn c11_the_signature_comes_before_the_claims() {
    each(
        &[forged(json!({ "exp": 1 })), forged(json!({ "sub": 5 }))],
        "Signature verification failed",
    );
}

#[test]
fn c12_a_token_is_dead_in_the_second_of_its_exp() {
    let expired = [0, 1, now() - 1, now()].map(|exp| claiming("exp", json!(exp)));
    each(&expired, "Signature has expired");
}

#[test]
fn c13_the_time_comes_before_the_audience() {
    each(&[given::token(&given::claims(json!({ "exp": 1, "aud": "a" })))], "Signature has expired");
}

const NO_NUMBER: &str = "Expiration Time claim (exp) must be an integer.";

#[test]
fn c14_a_time_in_quotes_is_none() {
    each(&[claiming("exp", json!("9999999999"))], NO_NUMBER);
}

#[test]
fn c15_a_word_is_no_time() {
    each(
        &[claiming("exp", json!("abc")), claiming("exp", Value::Null), claiming("exp", json!([1]))],
        NO_NUMBER,
    );
}

#[test]
fn c16_a_token_is_not_good_before_its_nbf() {
    each(&[claiming("nbf", json!(now() + 600))], "The token is not yet valid (nbf)");
}

#[test]
fn c17_a_token_was_issued_before_now() {
    each(&[claiming("iat", json!(now() + 600))], "The token is not yet valid (iat)");
}

#[test]
fn c18_a_subject_is_a_text() {
    each(&[claiming("sub", json!(5)), claiming("sub", Value::Null)], "Subject must be a string");
}

#[test]
fn c19_an_id_is_a_text() {
    each(&[claiming("jti", json!(5))], "JWT ID must be a string");
}

#[test]
fn c20_a_token_without_client_types_is_for_the_api() {
    assert_eq!(client_types(&without("urn:inmanta:ct")), json!(["api"]));
}

#[test]
fn c21_client_types_are_divided_by_commas() {
    assert_eq!(
        client_types(&claiming("urn:inmanta:ct", json!("api, compiler"))),
        json!(["api", "compiler"])
    );
}

#[test]
fn c22_client_types_may_be_a_list() {
    for list in [json!(["api"]), json!(["api", "agent"])] {
        assert_eq!(client_types(&claiming("urn:inmanta:ct", list.clone())), list);
    }
}

#[test]
fn c23_client_types_that_cannot_be_read_are_not_absent() {
    for unreadable in [Value::Null, json!(""), json!(5), json!([]), json!(["api", 5])] {
        let verdict = verdict(&claiming("urn:inmanta:ct", unreadable.clone()));
        assert_eq!(
            (&verdict["ok"], &verdict["status"]),
            (&json!(false), &json!(403)),
            "{unreadable}: {verdict}"
        );
    }
}

#[test]
fn c24_a_list_has_texts_in_it() {
    each(&[claiming("groups", json!(["a", 5])), claiming("groups", json!([{}]))], "");
}

#[test]
fn c25_numbers_and_nulls_are_not_handed_on() {
    for value in [json!(5), json!(1.5), Value::Null] {
        assert_eq!(verdict(&claiming("x", value))["claims"].get("x"), None);
    }
    for value in [json!("a"), json!(true), json!({ "a": 5 }), json!(["a"])] {
        assert_eq!(verdict(&claiming("x", value.clone()))["claims"]["x"], value);
    }
}

/// What the provider publishes, one key `k1`, and a token signed by it.
fn provider() -> &'static (String, String) {
    static PROVIDER: OnceLock<(String, String)> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let key = SigningKey::generate("RS256", "k1");
        (given::key_set(&[&key]), key.token(&given::claims_of(IDP)))
    })
}

/// Has tokens with these headers, signed by the guide's key, refused as of an issuer.
#[track_caller]
fn headers(issuer: &str, headers: &[Value], text: &str) {
    let sandbox = Sandbox::new();
    let (published, good) = provider();
    let keys = sandbox.file("jwks.json", published);
    let idp = given::with_idp("RS256", &format!("jwks_uri=file://{}", keys.display()));
    let server = sandbox.serve(&format!("{idp}[server]\nauth=true\n"));
    accepted(&server, good);
    for header in headers {
        refused(&server, &headed(header.clone(), issuer), text);
    }
}

#[test]
fn c26_unsigned_tokens_are_refused() {
    headers(
        ISSUER,
        &[json!({ "alg": "none" }), json!({ "alg": "NONE" })],
        "Algorithm none is not supported.",
    );
    headers(IDP, &[json!({ "alg": "none", "kid": "k1" })], "Algorithm none is not supported.");
}

#[test]
fn c27_an_algorithm_that_no_section_has_is_named() {
    for algorithm in ["HS512", "RS512", "PS256"] {
        let text = format!("Algorithm {} is not supported.", algorithm.to_lowercase());
        headers(IDP, &[json!({ "alg": algorithm, "kid": "k1" })], &text);
    }
}

#[test]
fn c28_an_algorithm_is_written_as_it_is() {
    headers(
        ISSUER,
        &[json!({ "alg": "hs256" }), json!({ "alg": "Hs256" })],
        "The specified alg value is not allowed",
    );
}

#[test]
fn c29_a_published_key_is_named() {
    let text = "kid is missing in jwt header or is not a valid string";
    headers(IDP, &[json!({ "alg": "RS256" })], text);
}

const KID_UNKNOWN: &str = "The kid provided in the token does not match a known key. Check the jwks_uri or try restarting the server to \
                           load any new keys.";

/// That keys are fetched again, unlike there, is in `rotation`.
#[test]
fn c30_a_key_that_nobody_publishes_is_unknown() {
    headers(IDP, &[json!({ "alg": "RS256", "kid": "k2" })], KID_UNKNOWN);
}

#[test]
fn c31_a_section_with_a_secret_knows_no_published_key() {
    headers(ISSUER, &[json!({ "alg": "RS256", "kid": "k1" })], KID_UNKNOWN);
}

#[test]
fn c32_a_secret_is_no_key_of_a_section_with_published_ones() {
    headers(
        IDP,
        &[json!({ "alg": "HS256" }), json!({ "alg": "HS256", "kid": "k1" })],
        "The specified alg value is not allowed",
    );
}

#[test]
fn c33_naming_a_key_is_not_having_it() {
    headers(IDP, &[json!({ "alg": "RS256", "kid": "k1" })], "Signature verification failed");
}
