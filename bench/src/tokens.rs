//! Tokens with the size and content that an identity provider issues: single ones for every
//! algorithm, and millions of HS256 ones.

use std::ops::Range;

use aws_lc_rs::{
    hmac, rand,
    rsa::KeySize,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Algorithm, KeyMaterial, KeySet, VerificationKey, Verifier};
use serde_json::{Value, json};

use crate::{
    ours::verifier,
    parameters::{AUDIENCE, ISSUER, NOW, SECRET, TOKEN_BYTES},
};

/// The key pairs of one run.
pub struct Keys {
    /// RS256, 2048 bits.
    pub rsa: RsaKeyPair,
    /// ES256.
    pub ecdsa: EcdsaKeyPair,
    /// EdDSA.
    pub ed25519: Ed25519KeyPair,
}

impl Keys {
    /// Generates keys. They differ in every run; no figure depends on their values.
    ///
    /// # Panics
    /// The system's random number generator fails.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key"),
            ecdsa: EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING)
                .expect("a P-256 key"),
            ed25519: Ed25519KeyPair::generate().expect("an Ed25519 key"),
        }
    }

    /// Returns the `index`-th token. An RS256 token has [`TOKEN_BYTES`].
    ///
    /// # Panics
    /// Signing fails.
    #[must_use]
    pub fn token(&self, algorithm: Algorithm, index: usize) -> String {
        let signing_input = signing_input(algorithm, &claims(ISSUER, index));
        let message = signing_input.as_bytes();
        let signature = match algorithm {
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), message, &mut signature)
                    .expect("a signature");
                signature
            }
            Algorithm::Es256 => self
                .ecdsa
                .sign(&rand::SystemRandom::new(), message)
                .expect("a signature")
                .as_ref()
                .to_vec(),
            Algorithm::EdDsa => self.ed25519.sign(message).as_ref().to_vec(),
            _ => return hs256_token(ISSUER, index),
        };
        format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Returns the [`KeySet`] that verifies these tokens.
    ///
    /// # Panics
    /// The engine refuses a key.
    #[must_use]
    pub fn key_set(&self, algorithm: Algorithm) -> KeySet {
        let rsa = self.rsa.public_key();
        let (n, e) = (
            rsa.modulus().big_endian_without_leading_zero(),
            rsa.exponent().big_endian_without_leading_zero(),
        );
        let material = match algorithm {
            Algorithm::Rs256 => KeyMaterial::Rsa { n, e },
            Algorithm::Es256 => {
                let (x, y) = self.ecdsa.public_key().as_ref()[1..].split_at(32);
                KeyMaterial::EllipticCurve { curve: "P-256", x, y }
            }
            Algorithm::EdDsa => KeyMaterial::OctetKeyPair {
                curve: "Ed25519",
                x: self.ed25519.public_key().as_ref(),
            },
            _ => KeyMaterial::Secret(&SECRET),
        };
        KeySet::new(vec![VerificationKey::new(Some("bench"), algorithm, material).expect("a key")])
    }

    /// Returns a [`Verifier`] for tokens of this algorithm, without a cache.
    #[must_use]
    pub fn verifier(&self, algorithm: Algorithm) -> Verifier {
        verifier(algorithm, self.key_set(algorithm))
    }
}

/// Returns an HS256 token of this issuer, signed with [`SECRET`].
#[must_use]
pub fn hs256_token(issuer: &str, index: usize) -> String {
    signed_hs256(&claims(issuer, index))
}

/// Returns the first token of [`ISSUER`] with one more claim.
///
/// # Panics
/// Never: the claims are an object.
#[must_use]
pub fn hs256_token_with(name: &str, value: Value) -> String {
    let mut claims = claims(ISSUER, 0);
    claims[name] = value;
    signed_hs256(&claims)
}

fn signed_hs256(claims: &Value) -> String {
    let signing_input = signing_input(Algorithm::Hs256, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), signing_input.as_bytes());
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn signing_input(algorithm: Algorithm, claims: &Value) -> String {
    format!("{}.{}", header(algorithm), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn header(algorithm: Algorithm) -> String {
    let header = json!({ "alg": algorithm.name(), "typ": "JWT", "kid": "bench" });
    URL_SAFE_NO_PAD.encode(header.to_string())
}

fn claims(issuer: &str, index: usize) -> Value {
    json!({
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": format!("9f1c7a52-0d4e-4b1e-8a56-{index:012x}"),
        "iat": NOW.0 - 60,
        // In the year 2100: a server under test uses the real clock, not `NOW`.
        "exp": 4_102_444_800_u64,
        "scope": "openid profile email analytics",
        "preferred_username": format!("user-{index:06}"),
        "email": format!("user-{index:06}@corpus.countersign.example"),
        "urn:inmanta:ct": "api",
    })
}

/// Length without the last dot and the 32 bytes (43 characters) of an HS256 signature.
const SIGNING_INPUT_BYTES: usize = TOKEN_BYTES - 44;

/// Distinct HS256 tokens, contiguous in memory. One claim pads each to [`TOKEN_BYTES`], the length
/// of an RS256 token. Signing a million with RSA would take ten minutes, and a cache does not
/// depend on how a token was signed.
pub struct Tokens {
    bytes: Vec<u8>,
}

impl Tokens {
    /// Makes the tokens with these numbers. Every run makes the same ones.
    #[must_use]
    pub fn make(numbers: Range<usize>) -> Self {
        let mut builder = PaddedTokenBuilder::new();
        let mut bytes = Vec::with_capacity(numbers.len() * TOKEN_BYTES);
        for number in numbers {
            bytes.extend_from_slice(builder.make(number));
        }
        Self { bytes }
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / TOKEN_BYTES
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the token at this index.
    ///
    /// # Panics
    /// The index is out of range.
    #[must_use]
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[index * TOKEN_BYTES..][..TOKEN_BYTES]
    }

    /// Drops all tokens but the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.bytes.truncate(count * TOKEN_BYTES);
    }

    /// Iterates over all tokens.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(TOKEN_BYTES)
    }
}

/// Returns `token` with the signature of `other`: the hardest forgery for a table that looks tokens
/// up by their ends.
#[must_use]
pub fn forged(token: &[u8], other: &[u8]) -> Vec<u8> {
    [&token[..SIGNING_INPUT_BYTES], &other[SIGNING_INPUT_BYTES..]].concat()
}

/// Builds the padded tokens of [`Tokens`], some hundred thousand a second.
struct PaddedTokenBuilder {
    header: String,
    key: hmac::Key,
    payload_bytes: usize,
    token: String,
}

impl PaddedTokenBuilder {
    fn new() -> Self {
        let header = header(Algorithm::Hs256);
        // Base64url turns three bytes into four characters.
        let payload_bytes = (SIGNING_INPUT_BYTES - header.len() - 1) * 3 / 4;
        Self {
            header,
            key: hmac::Key::new(hmac::HMAC_SHA256, &SECRET),
            payload_bytes,
            token: String::new(),
        }
    }

    fn make(&mut self, number: usize) -> &[u8] {
        let mut payload = claims(ISSUER, number).to_string();
        payload.truncate(payload.len() - 1);
        payload.push_str(",\"nonce\":\"");
        payload.extend(std::iter::repeat_n('n', self.payload_bytes - payload.len() - 2));
        payload.push_str("\"}");
        self.token.clear();
        self.token.push_str(&self.header);
        self.token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut self.token);
        let tag = hmac::sign(&self.key, self.token.as_bytes());
        self.token.push('.');
        URL_SAFE_NO_PAD.encode_string(tag, &mut self.token);
        self.token.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use countersign_engine::Reject;

    use super::*;
    use crate::padded_key;

    #[test]
    fn tokens_verify_and_have_the_length_of_rs256() {
        let keys = Keys::generate();
        let token = keys.token(Algorithm::Rs256, 3);
        assert_eq!(token.len(), TOKEN_BYTES);
        assert!(keys.verifier(Algorithm::Rs256).verify(token.as_bytes(), NOW).is_ok());

        // The longer names of the second half need less padding.
        let tokens = Tokens::make(999_990..1_000_010);
        let verifier = verifier(Algorithm::Hs256, padded_key());
        assert_eq!(tokens.iter().filter(|token| verifier.verify(token, NOW).is_ok()).count(), 20);
    }

    #[test]
    fn forged_token_is_rejected_for_its_signature() {
        let tokens = Tokens::make(0..2);
        let verifier = verifier(Algorithm::Hs256, padded_key());
        let forged = forged(tokens.get(0), tokens.get(1));
        assert_eq!(verifier.verify(&forged, NOW).err(), Some(Reject::Signature));
        assert_eq!(forged[TOKEN_BYTES - 40..], tokens.get(1)[TOKEN_BYTES - 40..]);
    }
}
