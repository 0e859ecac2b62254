//! What the benchmarks share: tokens as an identity provider issues them, keys
//! for every verifier, and a verifier of ours that knows them.

pub mod paired;

use std::{iter, sync::Arc};

use aws_lc_rs::{
    hmac, rand,
    rsa::KeySize,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, ClientTypes, Issuer, IssuerConfig, KeyMaterial, KeySet, Rules, Snapshot, UnixTime, VerificationKey, Verifier,
};
use serde_json::{Value, json};

/// The moment every benchmark verifies at.
pub const NOW: UnixTime = UnixTime(1_700_000_000);
/// The secret of the HS256 tokens.
pub const SECRET: [u8; 32] = [7; 32];
const ISSUER: &str = "https://corpus.countersign.example/";
const AUDIENCE: &str = "https://service.countersign.example/";

/// The keys of one run.
pub struct Keys {
    /// For RS256, 2048 bits.
    pub rsa: RsaKeyPair,
    /// For ES256.
    pub ecdsa: EcdsaKeyPair,
    /// For EdDSA.
    pub ed25519: Ed25519KeyPair,
}

impl Keys {
    /// Fresh keys: no figure depends on which.
    ///
    /// # Panics
    /// The system has no randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key"),
            ecdsa: EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key"),
            ed25519: Ed25519KeyPair::generate().expect("an Ed25519 key"),
        }
    }

    /// The `index`-th token; of RS256 it has 822 bytes.
    ///
    /// # Panics
    /// Signing fails.
    #[must_use]
    pub fn token(&self, algorithm: Algorithm, index: usize) -> String {
        let signing_input = signing_input(algorithm, ISSUER, index);
        let message = signing_input.as_bytes();
        let signature = match algorithm {
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), message, &mut signature).expect("a signature");
                signature
            }
            Algorithm::Es256 => self.ecdsa.sign(&rand::SystemRandom::new(), message).expect("a signature").as_ref().to_vec(),
            Algorithm::EdDsa => self.ed25519.sign(message).as_ref().to_vec(),
            _ => return secret_token(ISSUER, index),
        };
        format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A verifier of ours for tokens of this algorithm.
    ///
    /// # Panics
    /// The engine refuses a key.
    #[must_use]
    pub fn verifier(&self, algorithm: Algorithm) -> Verifier {
        let rsa = self.rsa.public_key();
        let (n, e) = (rsa.modulus().big_endian_without_leading_zero(), rsa.exponent().big_endian_without_leading_zero());
        let material = match algorithm {
            Algorithm::Rs256 => KeyMaterial::Rsa { n, e },
            Algorithm::Es256 => {
                let (x, y) = self.ecdsa.public_key().as_ref()[1..].split_at(32);
                KeyMaterial::EllipticCurve { curve: "P-256", x, y }
            }
            Algorithm::EdDsa => KeyMaterial::OctetKeyPair { curve: "Ed25519", x: self.ed25519.public_key().as_ref() },
            _ => KeyMaterial::Secret(&SECRET),
        };
        let key = VerificationKey::new(Some("bench"), algorithm, material).expect("a key");
        verifier(algorithm, KeySet::new(vec![key]))
    }
}

/// A verifier of ours for tokens of this algorithm, by these keys.
///
/// # Panics
/// Never: there is one issuer.
#[must_use]
pub fn verifier(algorithm: Algorithm, keys: KeySet) -> Verifier {
    let issuer = Issuer::new(Arc::new(issuer(algorithm)), Some(Arc::new(keys)));
    Verifier::new(Snapshot::new([issuer]).expect("one issuer"))
}

/// How many issuers [`many_issuers`] has.
pub const MANY: usize = 1000;

/// A verifier of [`MANY`] issuers that share the secret, the usual one among them.
///
/// # Panics
/// Never: their names differ.
#[must_use]
pub fn many_issuers() -> Verifier {
    let key = || VerificationKey::new(Some("bench"), Algorithm::Hs256, KeyMaterial::Secret(&SECRET)).expect("a key");
    let named = |name: String| IssuerConfig { name: name.into(), ..issuer(Algorithm::Hs256) };
    let issuers = (0..MANY).map(|number| Issuer::new(Arc::new(named(tenant(number))), Some(Arc::new(KeySet::new(vec![key()])))));
    Verifier::new(Snapshot::new(issuers).expect("different names"))
}

/// The name of one of [`many_issuers`]; the first is the usual issuer.
#[must_use]
pub fn tenant(number: usize) -> String {
    // As long as the others, so that only their number matters.
    if number == 0 { ISSUER.into() } else { format!("https://tenant-{number:04}.countersign.example/") }
}

/// An HS256 token of this issuer.
#[must_use]
pub fn secret_token(issuer: &str, index: usize) -> String {
    let signing_input = signing_input(Algorithm::Hs256, issuer, index);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), signing_input.as_bytes());
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn signing_input(algorithm: Algorithm, issuer: &str, index: usize) -> String {
    let header = json!({ "alg": algorithm.name(), "typ": "JWT", "kid": "bench" });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(&header), encode(&claims(issuer, index)))
}

/// Two sets of 100 secrets that have all but one in common, the one of the tokens
/// among those: an issuer's set before and after a rotation.
///
/// # Panics
/// The engine refuses a key.
#[must_use]
pub fn hundred_keys() -> [KeySet; 2] {
    let key = |number: u8| {
        let (kid, secret) = if number == 0 { ("bench".to_owned(), SECRET) } else { (format!("key-{number}"), [number; 32]) };
        VerificationKey::new(Some(&kid), Algorithm::Hs256, KeyMaterial::Secret(&secret)).expect("a key")
    };
    [1..=99, 2..=100].map(|others| KeySet::new(iter::once(0).chain(others).map(key).collect()))
}

fn issuer(algorithm: Algorithm) -> IssuerConfig {
    IssuerConfig {
        name: ISSUER.into(),
        section: "auth_jwt_bench".into(),
        algorithms: [algorithm].into_iter().collect(),
        kid_required: true,
        rules: Rules {
            audience: AUDIENCE.into(),
            token_types: None,
            max_lifetime: None,
            leeway: 0,
            username_claim: "preferred_username".into(),
            lists_of_strings: true,
            client_types: ClientTypes {
                claim: "urn:inmanta:ct".into(),
                when_absent: Some("api".into()),
                allowed: Some(Box::new(["api".into()])),
            },
            environment_claim: "urn:inmanta:env".into(),
            constraints: Box::new([]),
        },
    }
}

fn claims(issuer: &str, index: usize) -> Value {
    json!({
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": format!("9f1c7a52-0d4e-4b1e-8a56-{index:012x}"),
        "iat": NOW.0 - 60,
        "exp": NOW.0 + 3600,
        "scope": "openid profile",
        "preferred_username": format!("user-{index:06}"),
        "email": format!("user-{index:06}@corpus.countersign.example"),
        "urn:inmanta:ct": "api",
    })
}

/// What a program that uses jsonwebtoken deserializes: the same claims we hand on.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "filled and dropped, as a program would use them")]
pub struct PeerClaims {
    sub: String,
    exp: u64,
    preferred_username: String,
    #[serde(rename = "urn:inmanta:ct")]
    client_types: String,
}

/// jsonwebtoken configured to check what we check.
#[must_use]
pub fn peer_validation(algorithm: jsonwebtoken::Algorithm) -> jsonwebtoken::Validation {
    let mut validation = jsonwebtoken::Validation::new(algorithm);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    // The tokens live at a fixed time; its own clock would find them expired.
    validation.validate_exp = false;
    validation
}
