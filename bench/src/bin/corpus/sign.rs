//! Deterministic signatures with public test keys, of the algorithms that
//! [`TestKey`] does not have.
//!
//! ECDSA nonces follow RFC 6979. The PSS salt is derived from the message, which is
//! acceptable for a public test key only.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::Algorithm;
use countersign_server::load_test::{
    TestKey,
    keys::{RSA_NUMBERS, TokenSigner, rsa_jwk, seed},
};
use num_bigint::BigUint;
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};

/// Signing key of the corpus, with its algorithm.
pub(crate) struct CorpusSigner {
    algorithm: Algorithm,
    key: CorpusKey,
}

enum CorpusKey {
    Shared(TestKey),
    Pss(RsaNumbers),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

impl CorpusSigner {
    pub(crate) fn new(algorithm: Algorithm) -> Result<Self, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("cannot create the corpus key: {error}");
        let key = match algorithm {
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 => {
                CorpusKey::Pss(RsaNumbers::parse()?)
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
            other => CorpusKey::Shared(TestKey::new(other)?),
        };
        Ok(Self { algorithm, key })
    }

    pub(crate) fn secret(&self) -> Option<&[u8]> {
        match &self.key {
            CorpusKey::Shared(key) => key.secret(),
            _ => None,
        }
    }
}

impl TokenSigner for CorpusSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(match &self.key {
            CorpusKey::Shared(key) => key.sign(message)?,
            CorpusKey::Pss(numbers) => match self.algorithm {
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
        })
    }

    fn public_jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
        };
        match &self.key {
            CorpusKey::Shared(key) => key.public_jwk(),
            CorpusKey::Pss(_) => rsa_jwk(),
            CorpusKey::P256(key) => {
                point("P-256", key.verifying_key().to_sec1_point(false).as_bytes())
            }
            CorpusKey::P384(key) => {
                point("P-384", key.verifying_key().to_sec1_point(false).as_bytes())
            }
            CorpusKey::P521(key) => {
                point("P-521", key.verifying_key().to_sec1_point(false).as_bytes())
            }
        }
    }
}

fn signature_bytes<S: p256::ecdsa::signature::SignatureEncoding>(signature: S) -> Vec<u8> {
    signature.to_bytes().as_ref().to_vec()
}

/// The RSA key as numbers, for the private-key operation that aws-lc-rs does not expose.
struct RsaNumbers {
    n: BigUint,
    p: BigUint,
    q: BigUint,
    dp: BigUint,
    dq: BigUint,
    qi: BigUint,
}

impl RsaNumbers {
    fn parse() -> Result<Self, String> {
        let number = |name: &str| {
            let line =
                RSA_NUMBERS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|digits| BigUint::parse_bytes(digits.as_bytes(), 16))
                .ok_or_else(|| format!("the corpus key has no {name}"))
        };
        Ok(Self {
            n: number("n")?,
            p: number("p")?,
            q: number("q")?,
            dp: number("dp")?,
            dq: number("dq")?,
            qi: number("qi")?,
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
    use countersign_server::load_test::tokens::sign_token;

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
            let claims = json!({ "sub": "alice" });
            let token = sign_token(&signer, &claims).unwrap();
            assert_eq!(
                jws::verify(token.as_bytes(), &keys).unwrap(),
                br#"{"sub":"alice"}"#,
                "{algorithm}"
            );
            let other = CorpusSigner::new(*algorithm).unwrap();
            assert_eq!(sign_token(&other, &claims).unwrap(), token, "{algorithm}");
        }
    }
}
