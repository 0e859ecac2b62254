//! What the benchmarks share: tokens as an identity provider issues them, keys
//! for every verifier, and a verifier of ours that knows them.

use std::sync::Arc;

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
        let header = json!({ "alg": algorithm.name(), "typ": "JWT", "kid": "bench" });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signing_input = format!("{}.{}", encode(&header), encode(&claims(index)));
        let message = signing_input.as_bytes();
        let signature = match algorithm {
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), message, &mut signature).expect("a signature");
                signature
            }
            Algorithm::Es256 => self.ecdsa.sign(&rand::SystemRandom::new(), message).expect("a signature").as_ref().to_vec(),
            Algorithm::EdDsa => self.ed25519.sign(message).as_ref().to_vec(),
            _ => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), message).as_ref().to_vec(),
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

fn claims(index: usize) -> Value {
    json!({
        "iss": ISSUER,
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
