//! The keys of load tests. They are part of the program, and therefore public.

use aws_lc_rs::{
    digest, hmac, rand,
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::Algorithm;
use serde_json::{Value, json};

/// The RSA key in hexadecimal, one number per line: its name, a space and its digits.
pub const RSA_NUMBERS: &str = include_str!("rsa2048.txt");
/// The public exponent of the RSA key.
pub const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// A signer of corpus tokens.
pub trait TokenSigner: Sync {
    /// Returns the algorithm of its signatures.
    fn algorithm(&self) -> Algorithm;

    /// Signs a message. The signature depends on the message alone.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>>;

    /// Returns the verification key as a JWK without `alg`, `use` and `kid`. For HMAC, it contains
    /// the secret.
    fn public_jwk(&self) -> Value;

    /// Returns the `kid` of its tokens.
    fn kid(&self) -> String {
        format!("corpus-{}", self.algorithm().name().to_lowercase())
    }

    /// Returns the verification key as a JWK.
    fn jwk(&self) -> Value {
        let mut jwk = self.public_jwk();
        jwk["alg"] = json!(self.algorithm().name());
        jwk["use"] = json!("sig");
        jwk["kid"] = json!(self.kid());
        jwk
    }
}

/// A key of the algorithms whose signatures are deterministic.
pub struct TestKey {
    algorithm: Algorithm,
    pair: TestKeyPair,
}

enum TestKeyPair {
    Secret([u8; 64]),
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl TestKey {
    /// The algorithms that have a [`TestKey`].
    pub const ALGORITHMS: [Algorithm; 7] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::EdDsa,
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
    ];

    /// Creates the key of an algorithm.
    ///
    /// # Errors
    /// The algorithm is not one of [`ALGORITHMS`](Self::ALGORITHMS).
    pub fn new(algorithm: Algorithm) -> Result<Self, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("cannot create the corpus key: {error}");
        let pair = match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => TestKeyPair::Secret(seed()),
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => {
                TestKeyPair::Rsa(Box::new(rsa_pair().map_err(|error| failed(&error))?))
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed()[..32]);
                TestKeyPair::Ed25519(pair.map_err(|error| failed(&error))?)
            }
            other => return Err(format!("signatures of {other} are not deterministic")),
        };
        Ok(Self { algorithm, pair })
    }

    /// Returns the secret of an HMAC key.
    #[must_use]
    pub fn secret(&self) -> Option<&[u8]> {
        match &self.pair {
            TestKeyPair::Secret(secret) => Some(secret),
            TestKeyPair::Rsa(_) | TestKeyPair::Ed25519(_) => None,
        }
    }
}

impl TokenSigner for TestKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match (&self.pair, self.algorithm) {
            (TestKeyPair::Secret(secret), algorithm) => {
                let key = hmac::Key::new(hmac_hash(algorithm), secret);
                Some(hmac::sign(&key, message).as_ref().to_vec())
            }
            (TestKeyPair::Rsa(pair), Algorithm::Rs384) => pkcs1(pair, &RSA_PKCS1_SHA384, message),
            (TestKeyPair::Rsa(pair), Algorithm::Rs512) => pkcs1(pair, &RSA_PKCS1_SHA512, message),
            (TestKeyPair::Rsa(pair), _) => pkcs1(pair, &RSA_PKCS1_SHA256, message),
            (TestKeyPair::Ed25519(pair), _) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }

    fn public_jwk(&self) -> Value {
        match &self.pair {
            TestKeyPair::Secret(secret) => {
                json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret) })
            }
            TestKeyPair::Rsa(_) => rsa_jwk(),
            TestKeyPair::Ed25519(pair) => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
            }
        }
    }
}

/// Returns the public part of the RSA key as a JWK without `alg`, `use` and `kid`.
#[must_use]
pub fn rsa_jwk() -> Value {
    let n = URL_SAFE_NO_PAD.encode(rsa_number("n"));
    json!({ "kty": "RSA", "n": n, "e": URL_SAFE_NO_PAD.encode(RSA_EXPONENT) })
}

/// Returns 64 bytes derived from a public text.
#[must_use]
pub fn seed() -> [u8; 64] {
    let digest = digest::digest(&digest::SHA512, b"countersign corpus: not a secret");
    // SHA-512 has 64 bytes.
    digest.as_ref().try_into().unwrap_or([0; 64])
}

fn rsa_pair() -> Result<RsaKeyPair, aws_lc_rs::error::KeyRejected> {
    RsaKeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n: rsa_number("n"), e: RSA_EXPONENT.to_vec() },
        d: rsa_number("d"),
        p: rsa_number("p"),
        q: rsa_number("q"),
        dP: rsa_number("dp"),
        dQ: rsa_number("dq"),
        qInv: rsa_number("qi"),
    })
}

/// Returns a number of [`RSA_NUMBERS`] as big-endian bytes; empty if it is missing.
fn rsa_number(name: &str) -> Vec<u8> {
    let digits = RSA_NUMBERS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let digits = digits.unwrap_or_default();
    let padded = if digits.len() % 2 == 0 { digits.to_owned() } else { format!("0{digits}") };
    let pairs = padded.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap_or_default());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_default()).collect()
}

fn hmac_hash(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

fn pkcs1(pair: &RsaKeyPair, padding: &'static dyn RsaEncoding, message: &[u8]) -> Option<Vec<u8>> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &rand::SystemRandom::new(), message, &mut signature).ok()?;
    Some(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_depend_on_the_message_alone() {
        for algorithm in TestKey::ALGORITHMS {
            let [one, other] = [0, 1].map(|_| TestKey::new(algorithm).unwrap());
            assert_eq!(one.sign(b"a"), other.sign(b"a"), "{algorithm}");
            assert_ne!(one.sign(b"a"), one.sign(b"b"), "{algorithm}");
            assert_eq!(one.jwk(), other.jwk());
        }
        for algorithm in [Algorithm::Es256, Algorithm::Ps256] {
            assert!(TestKey::new(algorithm).is_err());
        }
    }
}
