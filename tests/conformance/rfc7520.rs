use countersign_engine::{
    Algorithm, KeyError, KeySet, Reject,
    jwks::{Origin, Policy},
};

use crate::example::{assert_genuine, assert_signs, verify};

/// Sections 3.1, 3.3, 3.5 and 3.6.
const P_521_KEY: &str = r#"{"kty":"EC","kid":"bilbo.baggins@hobbiton.example","use":"sig","crv":"P-521","x":"AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt","y":"AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"}"#;
const RSA_KEY: &str = r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw","e":"AQAB"}"#;
const SECRET_KEY: &str = r#"{"kty":"oct","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037","use":"sig","alg":"HS256","k":"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}"#;
const ENCRYPTION_KEY: &str = r#"{"kty":"oct","kid":"1e571774-2e08-40da-8308-e8d68773842d","use":"enc","alg":"A256GCM","k":"AAPapAv4LbFbiVawEjagUBluYqN5rhna-8nuldDvOx8"}"#;

/// Payload of all examples of section 4.
const PAYLOAD: &str = "It\u{2019}s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't \
    keep your feet, there\u{2019}s no knowing where you might be swept off to.";
const PAYLOAD_ENCODED: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUg\
    cm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0\
    IGJlIHN3ZXB0IG9mZiB0by4";

/// The protected header of sections 4.4 and 4.5, and its signature.
const HS256_HEADER: &str =
    "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9";
const HS256_SIGNATURE: &str = "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0";

/// First and second of the three signatures of section 4.8. The second has no protected header.
const FIRST_OF_THREE: &str = "MIsjqtVlOpa71KE-Mss8_Nq2YH4FGhiocsqrgi5NvyG53uoimic1tcMdSg-qptrzZc7CG6Svw2Y13TDIqHzTUrL_lR2ZFcryNFiH\
    kSw129EghGpwkpxaTn_THJTCglNbADko1MZBCdwzJxwqZc-1RlpO2HibUYyXSwO97BSe0_evZKdjvvKSgsIqjytKSeAMbhMBdMma\
    622_BG5t4sdbuCHtFjp9iJmkio47AIwqkZV1aIZsv33uPUqBBCXbYoQJwt7mxPftHmNlGoOSMxR_3thmXTCm4US-xiNOyhbm8afK\
    K64jU6_TPtQHiJeQJxz9G3Tx-083B745_AfYOnlC9w";
const SECOND_OF_THREE: &str = "ARcVLnaJJaUWG8fG-8t5BREVAuTY8n8YHjwDO1muhcdCoFZFFjfISu0Cdkn9Ybdlmi54ho0x924DUz8sK7ZXkhc7AFM8ObLfTvNC\
    rqcI3Jkl2U5IX3utNhODH6v7xgy1Qahsn0fyb4zSAkje8bAWz4vIfj5pCMYxxm4fgV3q7ZYhm5eD";

#[test]
fn section_4_1_rs256() {
    let header = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
    let signature = "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi8\
        4wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocS\
        adnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJu\
        shZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg";
    assert_genuine(
        RSA_KEY,
        Algorithm::Rs256,
        &format!("{header}.{PAYLOAD_ENCODED}.{signature}"),
        PAYLOAD,
    );
}

#[test]
fn section_4_2_ps384() {
    let header = "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
    let signature = "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItl\
        lVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0\
        TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0\
        uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw";
    assert_genuine(
        RSA_KEY,
        Algorithm::Ps384,
        &format!("{header}.{PAYLOAD_ENCODED}.{signature}"),
        PAYLOAD,
    );
}

#[test]
fn section_4_3_es512() {
    let header = "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
    let signature = "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_\
        sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2";
    assert_genuine(
        P_521_KEY,
        Algorithm::Es512,
        &format!("{header}.{PAYLOAD_ENCODED}.{signature}"),
        PAYLOAD,
    );
}

#[test]
fn section_4_4_hs256() {
    let token = format!("{HS256_HEADER}.{PAYLOAD_ENCODED}.{HS256_SIGNATURE}");
    assert_genuine(SECRET_KEY, Algorithm::Hs256, &token, PAYLOAD);
}

#[test]
fn section_4_5_detached_content_is_refused() {
    let compact = format!("{HS256_HEADER}..{HS256_SIGNATURE}");
    assert_eq!(verify(SECRET_KEY, Algorithm::Hs256, &compact), Err(Reject::Signature));
    let general = format!(
        r#"{{"signatures":[{{"protected":"{HS256_HEADER}","signature":"{HS256_SIGNATURE}"}}]}}"#
    );
    let flattened = format!(r#"{{"protected":"{HS256_HEADER}","signature":"{HS256_SIGNATURE}"}}"#);
    assert_json_is_refused(&[general, flattened]);
}

#[test]
fn section_4_6_unprotected_kid_is_refused() {
    let (header, signature) =
        ("eyJhbGciOiJIUzI1NiJ9", "bWUSVaxorn7bEF1djytBd0kHv70Ly5pvbomzMWSOr20");
    assert_genuine(
        SECRET_KEY,
        Algorithm::Hs256,
        &format!("{header}.{PAYLOAD_ENCODED}.{signature}"),
        PAYLOAD,
    );
    let unprotected = r#""header":{"kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037"}"#;
    let signature = format!(r#""protected":"{header}",{unprotected},"signature":"{signature}""#);
    assert_json_is_refused(&general_and_flattened(&signature));
}

#[test]
fn section_4_7_unprotected_header_is_refused() {
    let signature = "xuLifqLGiblpv9zBpuZczWhNj1gARaLV3UxvxhJxZuk";
    assert_unprotected_is_refused(SECRET_KEY, Algorithm::Hs256, signature);
    let unprotected = r#""header":{"alg":"HS256","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037"}"#;
    assert_json_is_refused(&general_and_flattened(&format!(
        r#"{unprotected},"signature":"{signature}""#
    )));
}

#[test]
fn section_4_8_multiple_signatures_are_refused() {
    let first = format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD_ENCODED}.{FIRST_OF_THREE}");
    assert_genuine(RSA_KEY, Algorithm::Rs256, &first, PAYLOAD);
    assert_unprotected_is_refused(P_521_KEY, Algorithm::Es512, SECOND_OF_THREE);
    let signatures = [
        format!(
            r#"{{"protected":"eyJhbGciOiJSUzI1NiJ9","header":{{"kid":"bilbo.baggins@hobbiton.example"}},"signature":"{FIRST_OF_THREE}"}}"#
        ),
        format!(
            r#"{{"header":{{"alg":"ES512","kid":"bilbo.baggins@hobbiton.example"}},"signature":"{SECOND_OF_THREE}"}}"#
        ),
        format!(r#"{{"protected":"{HS256_HEADER}","signature":"{HS256_SIGNATURE}"}}"#),
    ];
    assert_json_is_refused(&[format!(
        r#"{{"payload":"{PAYLOAD_ENCODED}","signatures":[{}]}}"#,
        signatures.join(",")
    )]);
}

#[test]
fn section_3_6_encryption_key_is_skipped() {
    let policy = Policy { origin: Origin::Static, algorithms: None };
    let keys = KeySet::from_jwks(ENCRYPTION_KEY.as_bytes(), policy).unwrap();
    assert_eq!((keys.len(), keys.skipped()[0].error), (0, KeyError::NotForSignatures));
}

/// Returns one signature in both JSON serializations of RFC 7515 section 7.2.
fn general_and_flattened(signature: &str) -> [String; 2] {
    [
        format!(r#"{{"payload":"{PAYLOAD_ENCODED}","signatures":[{{{signature}}}]}}"#),
        format!(r#"{{"payload":"{PAYLOAD_ENCODED}",{signature}}}"#),
    ]
}

/// Asserts that every key of section 4 refuses the documents.
#[track_caller]
fn assert_json_is_refused(documents: &[String]) {
    for json in documents {
        for (jwk, algorithm) in [
            (RSA_KEY, Algorithm::Rs256),
            (P_521_KEY, Algorithm::Es512),
            (SECRET_KEY, Algorithm::Hs256),
        ] {
            assert_eq!(verify(jwk, algorithm, json), Err(Reject::Segments), "{algorithm}: {json}");
        }
    }
}

/// Asserts that a signature without a protected header is refused. It covers an empty header, so it
/// is valid for the compact form, which is not a JWT.
#[track_caller]
fn assert_unprotected_is_refused(jwk: &str, algorithm: Algorithm, signature: &str) {
    assert_signs(jwk, algorithm, &format!(".{PAYLOAD_ENCODED}"), signature);
    assert_eq!(
        verify(jwk, algorithm, &format!(".{PAYLOAD_ENCODED}.{signature}")),
        Err(Reject::HeaderJson)
    );
}
