//! Tokens of the size and content an identity provider issues, one by one for every
//! algorithm and by the million for one.

use std::ops::Range;

use aws_lc_rs::{
    hmac, rand,
    rsa::KeySize,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{Algorithm, KeyMaterial, KeySet, UnixTime, VerificationKey, Verifier};
use serde_json::{Value, json};

use crate::ours::{AUDIENCE, ISSUER, verifier};

/// The moment every benchmark verifies at.
pub const NOW: UnixTime = UnixTime(1_700_000_000);
/// The secret of the HS256 tokens.
pub const SECRET: [u8; 32] = [7; 32];

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
            ecdsa: EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING)
                .expect("a P-256 key"),
            ed25519: Ed25519KeyPair::generate().expect("an Ed25519 key"),
        }
    }

    /// The `index`-th token; of RS256 it has [`TOKEN_BYTES`].
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
            _ => return secret_token(ISSUER, index),
        };
        format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// What verifies them.
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

    /// A verifier of ours for tokens of this algorithm, without a cache.
    #[must_use]
    pub fn verifier(&self, algorithm: Algorithm) -> Verifier {
        verifier(algorithm, self.key_set(algorithm))
    }
}

/// An HS256 token of this issuer.
#[must_use]
pub fn secret_token(issuer: &str, index: usize) -> String {
    let signing_input = signing_input(Algorithm::Hs256, &claims(issuer, index));
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
        // A server goes by its own clock.
        "exp": 4_102_444_800_u64,
        "scope": "openid profile email analytics",
        "preferred_username": format!("user-{index:06}"),
        "email": format!("user-{index:06}@corpus.countersign.example"),
        "urn:inmanta:ct": "api",
    })
}

/// The bytes of an RS256 token, and of each of [`Tokens`].
pub const TOKEN_BYTES: usize = 822;
/// Without the dot and the 32 bytes of an HS256 signature.
const SIGNING_INPUT_BYTES: usize = TOKEN_BYTES - 44;

/// Different tokens, one after the other in memory: HS256, with a claim that makes
/// each as long as one of RS256. Signing a million with RSA would take ten minutes,
/// and a cache does not see how a token was signed.
pub struct Tokens {
    bytes: Vec<u8>,
}

impl Tokens {
    /// The tokens of these numbers: the same ones in every run.
    #[must_use]
    pub fn make(numbers: Range<usize>) -> Self {
        let mut maker = Maker::new();
        let mut bytes = Vec::with_capacity(numbers.len() * TOKEN_BYTES);
        for number in numbers {
            bytes.extend_from_slice(maker.make(number));
        }
        Self { bytes }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / TOKEN_BYTES
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One of them, by its place.
    ///
    /// # Panics
    /// There are not so many.
    #[must_use]
    pub fn get(&self, place: usize) -> &[u8] {
        &self.bytes[place * TOKEN_BYTES..][..TOKEN_BYTES]
    }

    /// Drops all but the first.
    pub fn keep(&mut self, first: usize) {
        self.bytes.truncate(first * TOKEN_BYTES);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(TOKEN_BYTES)
    }
}

/// `token` with the signature of `other`: the worst forgery for a table that looks
/// tokens up by their ends.
#[must_use]
pub fn forged(token: &[u8], other: &[u8]) -> Vec<u8> {
    [&token[..SIGNING_INPUT_BYTES], &other[SIGNING_INPUT_BYTES..]].concat()
}

/// Makes padded tokens, some hundred thousand a second.
struct Maker {
    header: String,
    key: hmac::Key,
    payload_bytes: usize,
    token: String,
}

impl Maker {
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
    fn tokens_are_as_long_as_those_of_rs256_and_good() {
        let keys = Keys::generate();
        let token = keys.token(Algorithm::Rs256, 3);
        assert_eq!(token.len(), TOKEN_BYTES);
        assert!(keys.verifier(Algorithm::Rs256).verify(token.as_bytes(), NOW).is_ok());

        // Longer names, in the second half, leave less to be filled up.
        let tokens = Tokens::make(999_990..1_000_010);
        let verifier = verifier(Algorithm::Hs256, padded_key());
        assert_eq!(tokens.iter().filter(|token| verifier.verify(token, NOW).is_ok()).count(), 20);
    }

    #[test]
    fn a_forged_token_is_refused_for_its_signature() {
        let tokens = Tokens::make(0..2);
        let verifier = verifier(Algorithm::Hs256, padded_key());
        let forged = forged(tokens.get(0), tokens.get(1));
        assert_eq!(verifier.verify(&forged, NOW).err(), Some(Reject::Signature));
        assert_eq!(forged[TOKEN_BYTES - 40..], tokens.get(1)[TOKEN_BYTES - 40..]);
    }
}
