//! Property tests of token verification, of rules by route, and of SPOP.

#[path = "property/routes.rs"]
mod routes;
#[path = "property/spop.rs"]
mod spop;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{CertificateThumbprint, Presentation, Reject, UnixTime, limits};
use countersign_tests::engine::{HEADER, NOW, claims, secret_verifier as verifier, token};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Any JSON within the limits.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(".{0,6}".prop_map(Value::from), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn signed(claims: &Value) -> String {
    token(HEADER, claims.to_string())
}

fn good_claims() -> impl Strategy<Value = Value> {
    (
        ".{0,20}",
        prop::collection::btree_map("x[a-z]{1,8}", any_json(), 0..8),
        NOW.0 + 1..=4_000_000_000,
    )
        .prop_map(|(subject, extra, exp)| {
            let mut claims =
                json!({ "iss": "https://idp/", "aud": "us", "sub": subject, "exp": exp });
            claims.as_object_mut().unwrap().extend(extra);
            claims
        })
}

proptest! {
    #[test]
    fn token_valid_is_accepted_with_its_claims(claims in good_claims()) {
        let token = signed(&claims);
        let verified = verifier().verify(token.as_bytes(), NOW).unwrap();
        prop_assert_eq!(verified.claims().subject(), claims["sub"].as_str());
        prop_assert_eq!(verified.claims().expires_at(), claims["exp"].as_u64().map(UnixTime));
        prop_assert_eq!(serde_json::from_slice::<Value>(&verified.claims().json()).unwrap(), claims);
    }

    #[test]
    fn token_with_any_flipped_byte_is_refused(claims in good_claims(), index in any::<prop::sample::Index>(), flip in 1u8..) {
        let verifier = verifier();
        let mut bytes = signed(&claims).into_bytes();
        prop_assert!(verifier.verify(&bytes, NOW).is_ok(), "accepted, and cached from now on");
        *index.get_mut(&mut bytes) ^= flip;
        prop_assert!(verifier.verify(&bytes, NOW).is_err());
    }

    #[test]
    fn token_cut_or_extended_is_refused(claims in good_claims(), cut in any::<prop::sample::Index>(), tail in "[A-Za-z0-9_.=-]{1,4}") {
        let (verifier, token) = (verifier(), signed(&claims));
        prop_assert!(verifier.verify(token.as_bytes(), NOW).is_ok(), "accepted, and cached from now on");
        prop_assert!(verifier.verify(&token.as_bytes()[..cut.index(token.len())], NOW).is_err());
        let longer = [token, tail].concat();
        prop_assert!(verifier.verify(longer.as_bytes(), NOW).is_err());
    }

    #[test]
    fn random_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(verifier().verify(&bytes, NOW).is_err());
    }

    #[test]
    fn token_is_valid_exactly_until_exp(claims in good_claims(), now in 0u64..5_000_000_000) {
        let is_valid = now < claims["exp"].as_u64().unwrap();
        let (verifier, token) = (verifier(), signed(&claims));
        for now in [NOW, UnixTime(now), NOW, UnixTime(now)] {
            let is_valid = is_valid || now == NOW;
            prop_assert_eq!(verifier.verify(token.as_bytes(), now).is_ok(), is_valid);
        }
    }

    #[test]
    fn expiry_is_accepted_within_a_century(ahead in 1..3 * limits::MAX_TIME_TO_EXPIRY) {
        let exp = NOW.0 + ahead;
        let token = token(HEADER, claims(&format!(r#""exp":{exp}"#)));
        let result = verifier().verify(token.as_bytes(), NOW).map(drop);
        let is_near = ahead <= limits::MAX_TIME_TO_EXPIRY;
        prop_assert_eq!(result, if is_near { Ok(()) } else { Err(Reject::ExpiryFormat) });
    }

    #[test]
    fn bound_token_is_accepted_with_its_certificate_only(
        certificates in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 3),
        presented in prop::collection::vec(0usize..4, 1..12),
    ) {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificates[0]);
        let thumbprint = URL_SAFE_NO_PAD.encode(digest);
        let token = token(HEADER, claims(&format!(r#""cnf":{{"x5t#S256":"{thumbprint}"}}"#)));
        let verifier = verifier();
        for index in presented {
            let certificate = || certificates.get(index).map(|one| CertificateThumbprint::of(one));
            let presentation =
                Presentation { certificate: Some(&certificate), ..Presentation::default() };
            let result = verifier.verify_if(token.as_bytes(), NOW, presentation, |_| true);
            let is_right = certificates.get(index) == certificates.first();
            prop_assert_eq!(result.map(drop).err(), (!is_right).then_some(Reject::Bound));
        }
    }
}

/// The same exhaustively for one token: every byte with every other value.
#[test]
fn token_with_any_changed_byte_is_refused() {
    let verifier = verifier();
    let good = token(HEADER, claims("")).into_bytes();
    assert!(verifier.verify(&good, NOW).is_ok());
    let mut changed = good.clone();
    for index in 0..good.len() {
        for value in (0..=u8::MAX).filter(|value| *value != good[index]) {
            changed[index] = value;
            assert!(verifier.verify(&changed, NOW).is_err(), "byte {index} as {value}");
        }
        changed[index] = good[index];
    }
}

/// Parsed headers are cached between tokens. Earlier tokens must not affect the result.
#[test]
fn token_result_is_independent_of_earlier_tokens() {
    let headers = [
        "",
        "{}",
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","kid":5}"#,
        "[]",
    ];
    let tokens = headers.map(|header| token(header, claims("")));
    let alone = tokens.each_ref().map(|token| {
        let token = token.clone();
        std::thread::spawn(move || verifier().verify(token.as_bytes(), NOW).err()).join().unwrap()
    });
    assert_eq!(alone.iter().filter(|refused| refused.is_none()).count(), 1, "{alone:?}");
    for before in &tokens {
        for (token, expected) in tokens.iter().zip(&alone) {
            let verifier = verifier();
            drop(verifier.verify(before.as_bytes(), NOW));
            assert_eq!(
                verifier.verify(token.as_bytes(), NOW).err(),
                *expected,
                "{token} after {before}"
            );
        }
    }
}
