//! Deterministic signatures with public test keys.
//!
//! ECDSA nonces follow RFC 6979. The PSS salt is derived from the message, which is
//! acceptable for a public test key only.

use aws_lc_rs::{
    digest, hmac,
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::Algorithm;
use num_bigint::BigUint;
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};

/// The RSA test key in hexadecimal, one number per line.
const RSA: &str = include_str!("rsa2048.txt");
const EXPONENT: [u8; 3] = [1, 0, 1];

/// Signing key of the corpus, with its algorithm.
pub(crate) struct CorpusSigner {
    algorithm: Algorithm,
    key: CorpusKey,
}

enum CorpusKey {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair, RsaNumbers),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Ed25519(Ed25519KeyPair),
}

impl CorpusSigner {
    pub(crate) fn new(algorithm: Algorithm) -> Result<Self, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("cannot create the corpus key: {error}");
        let key = match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => CorpusKey::Secret(seed()),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => {
                let numbers = RsaNumbers::parse()?;
                CorpusKey::Rsa(numbers.key_pair().map_err(|error| failed(&error))?, numbers)
            }
            Algorithm::Es256 => CorpusKey::P256(
                p256::ecdsa::SigningKey::from_slice(&seed()[..32])
                    .map_err(|error| failed(&error))?,
            ),
            Algorithm::Es384 => CorpusKey::P384(
                p384::ecdsa::SigningKey::from_slice(&seed()[..48])
                    .map_err(|error| failed(&error))?,
            ),
            Algorithm::Es512 => {
                // Two zero bytes before 64 of the seed keep the scalar below the order.
                let scalar = [&[0, 0], &seed()[..]].concat();
                CorpusKey::P521(
                    p521::ecdsa::SigningKey::from_slice(&scalar).map_err(|error| failed(&error))?,
                )
            }
            Algorithm::EdDsa => CorpusKey::Ed25519(
                Ed25519KeyPair::from_seed_unchecked(&seed()[..32])
                    .map_err(|error| failed(&error))?,
            ),
        };
        Ok(Self { algorithm, key })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn kid(&self) -> String {
        format!("corpus-{}", self.algorithm.name().to_lowercase())
    }

    pub(crate) fn secret(&self) -> Option<&[u8]> {
        match &self.key {
            CorpusKey::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    /// Signs a compact JWT.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> Result<String, String> {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signing_input = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(signing_input.as_bytes()).ok_or("signing failed")?;
        Ok(format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(match &self.key {
            CorpusKey::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac_hash(self.algorithm), secret), message)
                    .as_ref()
                    .to_vec()
            }
            CorpusKey::Rsa(pair, numbers) => match self.algorithm {
                Algorithm::Rs256 => pkcs1(pair, &RSA_PKCS1_SHA256, message)?,
                Algorithm::Rs384 => pkcs1(pair, &RSA_PKCS1_SHA384, message)?,
                Algorithm::Rs512 => pkcs1(pair, &RSA_PKCS1_SHA512, message)?,
                Algorithm::Ps384 => numbers.sign_pss(&digest::SHA384, message),
                Algorithm::Ps512 => numbers.sign_pss(&digest::SHA512, message),
                _ => numbers.sign_pss(&digest::SHA256, message),
            },
            CorpusKey::P256(key) => {
                signature_bytes::<p256::ecdsa::Signature>(key.try_sign(message).ok()?)
            }
            CorpusKey::P384(key) => {
                signature_bytes::<p384::ecdsa::Signature>(key.try_sign(message).ok()?)
            }
            CorpusKey::P521(key) => {
                signature_bytes::<p521::ecdsa::Signature>(key.try_sign(message).ok()?)
            }
            CorpusKey::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }

    /// Returns the verification key as a JWK. For HMAC, it contains the secret.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
        };
        let mut jwk = match &self.key {
            CorpusKey::Secret(secret) => json!({ "kty": "oct", "k": text(secret) }),
            CorpusKey::Rsa(_, numbers) => {
                json!({ "kty": "RSA", "n": text(&numbers.n.to_bytes_be()), "e": text(&EXPONENT) })
            }
            CorpusKey::P256(key) => {
                point("P-256", key.verifying_key().to_sec1_point(false).as_bytes())
            }
            CorpusKey::P384(key) => {
                point("P-384", key.verifying_key().to_sec1_point(false).as_bytes())
            }
            CorpusKey::P521(key) => {
                point("P-521", key.verifying_key().to_sec1_point(false).as_bytes())
            }
            CorpusKey::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) })
            }
        };
        jwk["alg"] = json!(self.algorithm.name());
        jwk["use"] = json!("sig");
        jwk["kid"] = json!(self.kid());
        jwk
    }
}

/// Returns 64 bytes derived from a public text.
fn seed() -> Vec<u8> {
    digest::digest(&digest::SHA512, b"countersign corpus: not a secret").as_ref().to_vec()
}

fn hmac_hash(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

fn pkcs1(
    pair: &RsaKeyPair,
    padding: &'static dyn aws_lc_rs::signature::RsaEncoding,
    message: &[u8],
) -> Option<Vec<u8>> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &aws_lc_rs::rand::SystemRandom::new(), message, &mut signature).ok()?;
    Some(signature)
}

fn signature_bytes<S: p256::ecdsa::signature::SignatureEncoding>(signature: S) -> Vec<u8> {
    signature.to_bytes().as_ref().to_vec()
}

/// The RSA key as numbers, for the private-key operation that aws-lc-rs does not expose.
struct RsaNumbers {
    n: BigUint,
    d: BigUint,
    p: BigUint,
    q: BigUint,
    dp: BigUint,
    dq: BigUint,
    qi: BigUint,
}

impl RsaNumbers {
    fn parse() -> Result<Self, String> {
        let number = |name: &str| {
            let line = RSA.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|digits| BigUint::parse_bytes(digits.as_bytes(), 16))
                .ok_or_else(|| format!("the corpus key has no {name}"))
        };
        Ok(Self {
            n: number("n")?,
            d: number("d")?,
            p: number("p")?,
            q: number("q")?,
            dp: number("dp")?,
            dq: number("dq")?,
            qi: number("qi")?,
        })
    }

    fn key_pair(&self) -> Result<RsaKeyPair, aws_lc_rs::error::KeyRejected> {
        let bytes = BigUint::to_bytes_be;
        RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents { n: bytes(&self.n), e: EXPONENT.to_vec() },
            d: bytes(&self.d),
            p: bytes(&self.p),
            q: bytes(&self.q),
            dP: bytes(&self.dp),
            dQ: bytes(&self.dq),
            qInv: bytes(&self.qi),
        })
    }

    /// Signs with RSASSA-PSS (RFC 8017 section 8.1.1). The salt is derived from the message.
    fn sign_pss(&self, hash: &'static digest::Algorithm, message: &[u8]) -> Vec<u8> {
        let length = usize::try_from(self.n.bits()).unwrap_or(0).div_ceil(8);
        let encoded = pss_encode(hash, message, length);
        let signature = self.private_operation(&BigUint::from_bytes_be(&encoded)).to_bytes_be();
        // I2OSP pads with leading zeros.
        [vec![0; length - signature.len()], signature].concat()
    }

    /// Computes RFC 8017 section 5.1.2 by the Chinese remainder theorem.
    fn private_operation(&self, message: &BigUint) -> BigUint {
        let (one, two) = (message.modpow(&self.dp, &self.p), message.modpow(&self.dq, &self.q));
        let difference = (&one + &self.p - &two % &self.p) % &self.p;
        &two + &self.q * (difference * &self.qi % &self.p)
    }
}

/// EMSA-PSS-ENCODE (RFC 8017 section 9.1.1) for a modulus of `length` full bytes.
fn pss_encode(hash: &'static digest::Algorithm, message: &[u8], length: usize) -> Vec<u8> {
    let message_hash = digest::digest(hash, message);
    let salt = digest::digest(hash, message_hash.as_ref());
    let digest_of_all =
        digest::digest(hash, &[&[0; 8], message_hash.as_ref(), salt.as_ref()].concat());
    let masked_length = length - digest_of_all.as_ref().len() - 1;
    let mut block = vec![0; masked_length - salt.as_ref().len() - 1];
    block.push(1);
    block.extend(salt.as_ref());
    for (byte, mask) in
        block.iter_mut().zip(mask_generation(hash, digest_of_all.as_ref(), masked_length))
    {
        *byte ^= mask;
    }
    // The modulus has 8 * length bits, the encoded message one less.
    block[0] &= 0x7f;
    block.extend(digest_of_all.as_ref());
    block.push(0xbc);
    block
}

/// MGF1 (RFC 8017 appendix B.2.1).
fn mask_generation(hash: &'static digest::Algorithm, seed: &[u8], length: usize) -> Vec<u8> {
    let blocks = (0u32..).flat_map(|counter| {
        digest::digest(hash, &[seed, &counter.to_be_bytes()].concat()).as_ref().to_vec()
    });
    blocks.take(length).collect()
}

#[cfg(test)]
mod tests {
    use countersign_engine::{
        KeySet,
        jwks::{Origin, Policy},
        jws,
    };

    use super::*;

    #[test]
    fn corpus_signatures_verify_and_are_deterministic() {
        for algorithm in Algorithm::ALL {
            let signer = CorpusSigner::new(*algorithm).unwrap();
            let set = json!({ "keys": [signer.jwk()] }).to_string();
            let keys = KeySet::from_jwks(
                set.as_bytes(),
                Policy { origin: Origin::Static, algorithms: None },
            )
            .unwrap();
            assert_eq!(keys.skipped(), [], "{algorithm}");
            let header = json!({ "alg": algorithm.name(), "kid": signer.kid() });
            let token = signer.token(&header, &json!({ "sub": "alice" })).unwrap();
            assert_eq!(
                jws::verify(token.as_bytes(), &keys).unwrap(),
                br#"{"sub":"alice"}"#,
                "{algorithm}"
            );
            assert_eq!(
                CorpusSigner::new(*algorithm)
                    .unwrap()
                    .token(&header, &json!({ "sub": "alice" }))
                    .unwrap(),
                token,
                "{algorithm}"
            );
        }
    }
}
