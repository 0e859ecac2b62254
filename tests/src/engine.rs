//! The engine as the tests configure it, and tokens for it made in this process.
//!
//! This is the one place that spells out the configuration of an issuer. A test
//! that needs another says what differs: `Rules { leeway: 5, ..config.rules }`.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, AlgorithmSet, ClientTypes, Issuer, IssuerConfig, KeyMaterial, KeySet, Rules,
    Snapshot, UnixTime, VerificationKey, Verifier,
    jwks::{Origin, Policy, SkippedKey},
};
use serde_json::Value;

/// The moment tokens are judged at. A token without times, or with an `exp` far
/// off, is judged alike by a server with the real clock.
pub const NOW: UnixTime = UnixTime(1_700_000_000);
/// The issuer of [`config`].
pub const ISSUER: &str = "https://idp/";
/// The audience of [`config`].
pub const AUDIENCE: &str = "us";
/// The secret of [`secret_verifier`].
pub const SECRET: &[u8; 32] = b"what the tests know, nobody else";
/// The header of an ordinary token signed with the secret.
pub const HEADER: &str = r#"{"alg":"HS256"}"#;

/// An issuer that demands nothing unusual, in Inmanta's names for claims.
pub fn config(algorithms: impl IntoIterator<Item = Algorithm>) -> IssuerConfig {
    IssuerConfig {
        name: ISSUER.into(),
        section: "auth_jwt_test".into(),
        algorithms: algorithms.into_iter().collect(),
        kid_required: false,
        rules: Rules {
            audience: AUDIENCE.into(),
            token_types: None,
            max_lifetime: None,
            leeway: 0,
            username_claim: "sub".into(),
            lists_of_strings: true,
            client_types: ClientTypes {
                claim: "urn:inmanta:ct".into(),
                when_absent: Some("api".into()),
                allowed: None,
            },
            environment_claim: "urn:inmanta:env".into(),
            constraints: Box::new([]),
        },
    }
}

/// The issuer of [`config`] with its rules changed, for tokens signed with a secret.
pub fn config_with(change: impl FnOnce(&mut Rules)) -> IssuerConfig {
    let mut config = config([Algorithm::Hs256]);
    change(&mut config.rules);
    config
}

/// A set of one HS256 secret.
pub fn secret_keys(kid: Option<&str>, secret: &[u8]) -> Arc<KeySet> {
    Arc::new(KeySet::new(vec![
        VerificationKey::new(kid, Algorithm::Hs256, KeyMaterial::Secret(secret)).unwrap(),
    ]))
}

/// Reads a published key set, as from a provider.
pub fn published(jwks: &Value, algorithms: AlgorithmSet) -> (Arc<KeySet>, Vec<SkippedKey>) {
    let policy = Policy { origin: Origin::Published, algorithms: Some(algorithms) };
    let (keys, skipped) = KeySet::from_jwks(jwks.to_string().as_bytes(), policy).unwrap();
    (Arc::new(keys), skipped)
}

/// A verifier with a cache, as every server has one.
#[must_use]
pub fn remembering(snapshot: Snapshot) -> Verifier {
    Verifier::new(snapshot).with_cache(1 << 20).unwrap()
}

/// A verifier of these issuers.
pub fn verifier(issuers: impl IntoIterator<Item = (IssuerConfig, Arc<KeySet>)>) -> Verifier {
    remembering(snapshot(issuers))
}

/// A snapshot of these issuers.
pub fn snapshot(issuers: impl IntoIterator<Item = (IssuerConfig, Arc<KeySet>)>) -> Snapshot {
    Snapshot::new(
        issuers.into_iter().map(|(config, keys)| Issuer::new(Arc::new(config), Some(keys))),
    )
    .unwrap()
}

/// A verifier of one issuer, that of [`config`], with [`SECRET`] as its only key.
pub fn secret_verifier() -> Verifier {
    verifier([(config([Algorithm::Hs256]), secret_keys(None, SECRET))])
}

/// Header and payload, whatever bytes they are, encoded and joined.
pub fn signing_input(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

/// Ends a signing input with its HS256 tag by [`SECRET`].
pub fn sign(signing_input: &str) -> String {
    sign_with(SECRET, signing_input)
}

/// Ends a signing input with its HS256 tag by a secret, however short.
pub fn sign_with(secret: &[u8], signing_input: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signing_input.as_bytes());
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// A token over exactly these bytes, its signature right by [`SECRET`].
pub fn token(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    sign(&signing_input(header, payload))
}

/// The claims every honest token has, as JSON, with these members added.
pub fn claims(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"bob"{comma}{members}}}"#)
}
