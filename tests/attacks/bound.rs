use std::sync::Arc;

use countersign_engine::{
    CertificateThumbprint, KeyMaterial, KeySet, Presentation, Reject, UnixTime, UsernameRule,
    VerificationKey, Verifier,
};
use countersign_tests::engine::{
    HEADER, ISSUER, NOW, SECRET, cached_verifier, claims, config_with, replace, secret_keys,
    secret_verifier, set_keys, snapshot, token,
};

/// Stand for two certificates in DER.
const RIGHT: &[u8] = b"right";
const OTHER: &[u8] = b"other";
/// The confirmation of [`RIGHT`].
const X5T: &str = r#""x5t#S256":"JwQvTm7KfQsqfuQCbfLs-lHTM55tEiqgmRGOzYVjutk""#;

/// Verifies a token as presented over a connection with this client certificate.
fn present(verifier: &Verifier, token: &str, certificate: Option<&[u8]>) -> Result<bool, Reject> {
    let certificate = || certificate.map(CertificateThumbprint::of);
    let presentation = Presentation { certificate: Some(&certificate), ..Presentation::default() };
    let verified = verifier.verify_if(token.as_bytes(), NOW, presentation, |_| true)?;
    Ok(verified.is_cached())
}

fn bound(members: &str) -> String {
    token(HEADER, claims(&format!(r#""cnf":{{{members}}}"#)))
}

#[test]
fn e9_cached_bound_token_needs_its_certificate() {
    let verifier = secret_verifier();
    let (bound, free) = (bound(X5T), token(HEADER, claims("")));
    for _ in 0..4 {
        assert_eq!(present(&verifier, &bound, Some(RIGHT)), Ok(false), "accepted, never a hit");
        assert_eq!(present(&verifier, &bound, Some(OTHER)), Err(Reject::Bound));
        assert_eq!(present(&verifier, &bound, None), Err(Reject::Bound));
        assert_eq!(verifier.verify(bound.as_bytes(), NOW).err(), Some(Reject::Bound));
        assert!(present(&verifier, &free, Some(OTHER)).is_ok());
    }
    assert_eq!(present(&verifier, &free, None), Ok(true), "other tokens are cached as ever");
}

#[test]
fn e9_signature_of_bound_token_is_checked_once() {
    let verifier = secret_verifier();
    let bound = bound(X5T);
    let certificate = || Some(CertificateThumbprint::of(RIGHT));
    let presentation = Presentation { certificate: Some(&certificate), ..Presentation::default() };
    let mut checks = 0;
    for _ in 0..5 {
        let result = verifier.verify_if(bound.as_bytes(), NOW, presentation, |_| {
            checks += 1;
            true
        });
        assert!(result.is_ok());
    }
    assert_eq!(checks, 1);
    let key = KeyMaterial::Secret(&[7; 32]);
    let algorithm = config_with(|_| {}).algorithms.iter().next().unwrap();
    let rotated = KeySet::new(vec![VerificationKey::new(None, algorithm, key).unwrap()]);
    set_keys(&verifier, ISSUER, Some(&Arc::new(rotated)));
    assert_eq!(present(&verifier, &bound, Some(RIGHT)), Err(Reject::Signature));
}

#[test]
fn e9_every_confirmation_must_hold() {
    let verifier = secret_verifier();
    assert_eq!(present(&verifier, &bound(X5T), Some(RIGHT)), Ok(false));
    for members in [
        String::new(),
        r#""jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I""#.into(),
        format!(r#"{X5T},"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I""#),
        format!(r#""jwk":{{"kty":"oct"}},{X5T}"#),
        format!(r#"{X5T},"kid":"k""#),
        format!(r#"{X5T},"x5u":"https://idp/c""#),
    ] {
        assert_eq!(present(&verifier, &bound(&members), Some(RIGHT)), Err(Reject::Bound));
    }
    assert_eq!(present(&verifier, &bound(&format!("{X5T},{X5T}")), Some(RIGHT)), {
        Err(Reject::DuplicateMember)
    });
}

#[test]
fn e9_reload_decides_anew_about_bound_tokens() {
    let keys = secret_keys(None, SECRET);
    let rules = |verify: bool| config_with(|rules| rules.verify_confirmation = verify);
    let [verifying, ignoring] = [true, false].map(|is| snapshot([(rules(is), Arc::clone(&keys))]));
    let verifier = cached_verifier(ignoring.clone());
    let bound = bound(X5T);
    for _ in 0..2 {
        replace(&verifier, ignoring.clone());
        assert_eq!(present(&verifier, &bound, None), Ok(false));
        assert_eq!(present(&verifier, &bound, None), Ok(true), "as any other token");
        replace(&verifier, verifying.clone());
        assert_eq!(present(&verifier, &bound, None), Err(Reject::Bound));
        assert_eq!(present(&verifier, &bound, Some(RIGHT)), Ok(false));
        assert_eq!(present(&verifier, &bound, None), Err(Reject::Bound));
    }
}

#[test]
fn e9_bound_token_expires_and_starts_as_others() {
    let verifier = secret_verifier();
    let at = NOW.0;
    let token = token(HEADER, claims(&format!(r#""exp":{},"cnf":{{{X5T}}}"#, at + 10)));
    let certificate = || Some(CertificateThumbprint::of(RIGHT));
    let presentation = Presentation { certificate: Some(&certificate), ..Presentation::default() };
    for (now, expected) in [(at, None), (at + 9, None), (at + 10, Some(Reject::Expired))] {
        let result =
            verifier.verify_if(token.as_bytes(), UnixTime(now), presentation, |_| true).map(drop);
        assert_eq!(result.err(), expected);
    }
}

/// A token that `/api/v2` takes without a username must not become acceptable elsewhere.
#[test]
fn missing_username_is_judged_for_every_request() {
    let required = config_with(|rules| {
        rules.username = UsernameRule {
            claims: ["name".into()].into(),
            required: true,
            ..rules.username.clone()
        };
    });
    let verifier = cached_verifier(snapshot([(required, secret_keys(None, SECRET))]));
    let (nameless, named) = (token(HEADER, claims("")), token(HEADER, claims(r#""name":"bob""#)));
    let lenient = Presentation { username_optional: true, ..Presentation::default() };
    let accepts =
        |token: &str| verifier.verify_if(token.as_bytes(), NOW, lenient, |_| true).is_ok();
    for _ in 0..3 {
        assert!(accepts(&nameless) && accepts(&named));
        assert_eq!(verifier.verify(nameless.as_bytes(), NOW).err(), Some(Reject::Username));
        assert!(verifier.verify(named.as_bytes(), NOW).is_ok());
    }
    let odd = token(HEADER, claims(r#""name":["bob"]"#));
    assert!(!accepts(&odd), "present, and of another type");
}
