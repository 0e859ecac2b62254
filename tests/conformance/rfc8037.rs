use countersign_engine::{
    Algorithm, KeyError, KeySet,
    jwks::{Origin, Policy},
};

use crate::example::assert_genuine;

/// Keys of appendices A.1, with a private part that a verifier ignores, and A.2.
const PRIVATE_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const PUBLIC_KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

#[test]
fn a_4_and_a_5_ed25519_signature_verifies() {
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
        hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    for jwk in [PRIVATE_KEY, PUBLIC_KEY] {
        assert_genuine(jwk, Algorithm::EdDsa, token, "Example of Ed25519 signing");
    }
}

#[test]
fn a_6_and_a_7_key_agreement_keys_are_skipped() {
    for jwk in [
        r#"{"kty":"OKP","crv":"X25519","kid":"Bob","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}"#,
        r#"{"kty":"OKP","crv":"X448","kid":"Dave","x":"PreoKbDNIPW8_AtZm2_sz22kYnEHvbDU80W0MCfYuXL8PjT7QjKhPKcG3LV67D2uB73BxnvzNgk"}"#,
    ] {
        for origin in [Origin::Static, Origin::Published] {
            let policy =
                Policy { origin, algorithms: Some([Algorithm::EdDsa].into_iter().collect()) };
            let keys = KeySet::from_jwks(jwk.as_bytes(), policy).unwrap();
            assert_eq!((keys.len(), keys.skipped()[0].error), (0, KeyError::WrongCurve), "{jwk}");
        }
    }
}
