//! Engine configuration of the tests, and tokens made in this process.
//!
//! [`config`] is the configuration of an issuer as the server has it by default. A test with other
//! settings changes the difference: `Rules { leeway: 5, ..config.rules }`.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, AlgorithmSet, ClientTypes, Issuer, IssuerConfig, KeyMaterial, KeySet, Rules,
    Snapshot, UnixTime, VerificationKey, Verifier, VerifierBuilder,
    jwks::{Origin, Policy},
};
use serde_json::Value;

/// Verification time. A server on the real clock agrees with the engine about tokens
/// without times, or with an `exp` in the far future.
pub const NOW: UnixTime = UnixTime(1_700_000_000);
/// Issuer of [`config`].
pub const ISSUER: &str = "https://idp/";
/// Audience of [`config`].
pub const AUDIENCE: &str = "us";
/// Secret of [`secret_verifier`].
pub const SECRET: &[u8; 32] = b"a secret that only the tests use";
/// Header of an ordinary token signed with [`SECRET`].
pub const HEADER: &str = r#"{"alg":"HS256"}"#;

/// Issuer configuration with default rules and Inmanta's claim names.
pub fn config(algorithms: impl IntoIterator<Item = Algorithm>) -> IssuerConfig {
    let rules = Rules::new(AUDIENCE);
    let client_types = ClientTypes { when_absent: Some("api".into()), ..rules.client_types };
    IssuerConfig {
        section: "auth_jwt_test".into(),
        rules: Rules { client_types, ..rules },
        ..IssuerConfig::new(ISSUER, AUDIENCE, algorithms)
    }
}

/// [`config`] for HS256, with changed rules.
pub fn config_with(change: impl FnOnce(&mut Rules)) -> IssuerConfig {
    let mut config = config([Algorithm::Hs256]);
    change(&mut config.rules);
    config
}

/// Key set of one HS256 secret.
pub fn secret_keys(kid: Option<&str>, secret: &[u8]) -> Arc<KeySet> {
    Arc::new(KeySet::new(vec![
        VerificationKey::new(kid, Algorithm::Hs256, KeyMaterial::Secret(secret)).unwrap(),
    ]))
}

/// Parses a key set as one published by a provider.
#[must_use]
pub fn published_keys(jwks: &Value, algorithms: AlgorithmSet) -> Arc<KeySet> {
    let policy = Policy { origin: Origin::Published, algorithms: Some(algorithms) };
    Arc::new(KeySet::from_jwks(jwks.to_string().as_bytes(), policy).unwrap())
}

/// Creates a verifier with a cache, as in every server.
#[must_use]
pub fn cached_verifier(snapshot: Snapshot) -> Verifier {
    verifier_of(snapshot, Verifier::builder().cache_bytes(1 << 20))
}

/// Builds a verifier with this snapshot, which may have issuers that a builder refuses.
#[must_use]
pub fn verifier_of(snapshot: Snapshot, builder: VerifierBuilder) -> Verifier {
    let verifier = builder.build().unwrap();
    replace(&verifier, snapshot);
    verifier
}

/// Replaces the whole snapshot.
pub fn replace(verifier: &Verifier, snapshot: Snapshot) {
    verifier.update(|current| *current = snapshot.clone());
}

/// Replaces or withdraws the keys of an issuer.
pub fn set_keys(verifier: &Verifier, issuer: &str, keys: Option<&Arc<KeySet>>) {
    verifier.update(|snapshot| snapshot.set_keys(issuer, keys)).unwrap();
}

/// Creates a [`cached_verifier`] of these issuers.
pub fn verifier(issuers: impl IntoIterator<Item = (IssuerConfig, Arc<KeySet>)>) -> Verifier {
    cached_verifier(snapshot(issuers))
}

/// Creates a snapshot of these issuers.
pub fn snapshot(issuers: impl IntoIterator<Item = (IssuerConfig, Arc<KeySet>)>) -> Snapshot {
    Snapshot::new(
        issuers.into_iter().map(|(config, keys)| Issuer::new(Arc::new(config), Some(keys))),
    )
    .unwrap()
}

/// Creates a [`verifier`] of one issuer, that of [`config`], with [`SECRET`] as its only key.
pub fn secret_verifier() -> Verifier {
    verifier([(config([Algorithm::Hs256]), secret_keys(None, SECRET))])
}

/// Encodes and joins a header and a payload of any bytes.
pub fn signing_input(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

/// Appends the HS256 tag by [`SECRET`] to a signing input.
pub fn sign(signing_input: &str) -> String {
    sign_with(SECRET, signing_input)
}

/// Appends the HS256 tag by a secret of any length to a signing input.
pub fn sign_with(secret: &[u8], signing_input: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signing_input.as_bytes());
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Makes a token over exactly these bytes, signed with [`SECRET`].
pub fn token(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    sign(&signing_input(header, payload))
}

/// Claims of a valid token as JSON, with additional members.
pub fn claims(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"bob"{comma}{members}}}"#)
}
