//! One verification key: its parameters, parsed once, and its identity.

use core::{fmt, hash::BuildHasher as _};
use std::{borrow::Cow, sync::LazyLock};

use aws_lc_rs::{digest, signature::ParsedPublicKey};
use foldhash::quality::RandomState;

use crate::{
    algorithm::{
        Algorithm, RsaImplementation, ecdsa, eddsa, hmac,
        rsa::{self, RsaCheck, RsaKey},
    },
    error::KeyError,
    reject::Reject,
};

/// The decoded parameters of a key, as in its JWK.
#[derive(Clone, Copy)]
pub enum KeyMaterial<'k> {
    /// A shared secret.
    Secret(&'k [u8]),
    /// RSA modulus and exponent, big-endian. Leading zeros do not count.
    Rsa {
        /// The modulus.
        n: &'k [u8],
        /// The public exponent.
        e: &'k [u8],
    },
    /// A point on a curve, named as in RFC 7518 section 6.2.1.1. Its coordinates are big-endian
    /// numbers: leading zeros may be missing, and further ones do not count.
    EllipticCurve {
        /// `P-256`, `P-384` or `P-521`.
        curve: &'k str,
        /// The x coordinate.
        x: &'k [u8],
        /// The y coordinate.
        y: &'k [u8],
    },
    /// A public key on a curve, named as in RFC 8037 section 2.
    OctetKeyPair {
        /// `Ed25519`.
        curve: &'k str,
        /// The public key.
        x: &'k [u8],
    },
}

/// The identity of a key: a digest of its algorithm and parameters. It does not depend on their
/// spelling, such as leading zeros.
///
/// A refresh that brings the same key again does not change its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIdentity([u8; 32]);

impl KeyIdentity {
    /// The SHA-256 digest.
    ///
    /// The digest of a shared secret must be kept as secret as the secret itself: a weak secret
    /// could be guessed from it.
    #[must_use]
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// The digest as words, as stored in a
    /// [`VerificationRecord`](crate::cache::record::VerificationRecord).
    pub(crate) fn words(self) -> [u64; 4] {
        let mut words = [0; 4];
        words
            .iter_mut()
            .zip(self.0.as_chunks::<8>().0)
            .for_each(|(word, chunk)| *word = u64::from_ne_bytes(*chunk));
        words
    }

    pub(crate) fn from_words(words: [u64; 4]) -> Self {
        let mut bytes = [0; 32];
        bytes
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(words)
            .for_each(|(chunk, word)| *chunk = word.to_ne_bytes());
        Self(bytes)
    }
}

impl fmt::Debug for KeyIdentity {
    /// Shows nothing, because a weak secret could be guessed from its digest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyIdentity(..)")
    }
}

/// A parsed key for exactly one algorithm.
pub struct VerificationKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    identity: KeyIdentity,
    parsed: ParsedKey,
    certificate: CertificateNames,
}

/// The names that a JWK takes from a certificate of its key, in base64url (RFC 7517 sections 4.8
/// and 4.9). They are compared, and nothing is verified with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateNames {
    /// The member `x5t`.
    pub(crate) x5t: Option<Box<str>>,
    /// The member `x5t#S256`.
    pub(crate) x5t_s256: Option<Box<str>>,
}

enum ParsedKey {
    Secret(ring::hmac::Key),
    Rsa(RsaKey),
    Public(ParsedPublicKey),
}

impl VerificationKey {
    /// Parses and checks a key. Verifying with it never parses again.
    ///
    /// # Errors
    /// The [`KeyError`] that makes the key unusable or unsafe.
    pub fn new(
        kid: Option<&str>,
        algorithm: Algorithm,
        material: KeyMaterial<'_>,
    ) -> Result<Self, KeyError> {
        let material = &normalized(material)?;
        let parsed = match &material {
            NormalizedMaterial::Secret(secret) => {
                ParsedKey::Secret(hmac::parse(algorithm, secret)?)
            }
            NormalizedMaterial::Rsa(n, e) => ParsedKey::Rsa(rsa::parse(algorithm, n, e)?),
            NormalizedMaterial::EllipticCurve(curve, x, y) => {
                ParsedKey::Public(ecdsa::parse(algorithm, curve, x, y)?)
            }
            NormalizedMaterial::OctetKeyPair(curve, x) => {
                ParsedKey::Public(eddsa::parse(algorithm, curve, x)?)
            }
        };
        let identity = identity(algorithm, material);
        let certificate = CertificateNames::default();
        Ok(Self { kid: kid.map(Box::from), algorithm, identity, parsed, certificate })
    }

    /// Adds the names that its JWK takes from a certificate.
    pub(crate) fn with_certificate(self, certificate: CertificateNames) -> Self {
        Self { certificate, ..self }
    }

    pub(crate) fn certificate(&self) -> &CertificateNames {
        &self.certificate
    }

    /// The key id, if it has one.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The identity of the key.
    #[must_use]
    pub fn identity(&self) -> KeyIdentity {
        self.identity
    }

    /// Verifies a signature with the key's own algorithm.
    ///
    /// # Errors
    /// [`Reject::Signature`], without details that could help an attacker.
    pub fn verify(&self, signing_input: &[u8], signature: &[u8]) -> Result<(), Reject> {
        let is_valid = match &self.parsed {
            ParsedKey::Secret(key) => hmac::verify(key, signing_input, signature),
            ParsedKey::Rsa(key) => key.verify(signing_input, signature),
            ParsedKey::Public(key) => key.verify_sig(signing_input, signature).is_ok(),
        };
        if is_valid { Ok(()) } else { Err(Reject::Signature) }
    }
}

/// A signature to be verified with one key, together with others.
#[derive(Clone, Copy, Debug)]
pub struct SignatureInput<'s> {
    /// The key.
    pub key: &'s VerificationKey,
    /// The signed bytes.
    pub signing_input: &'s [u8],
    /// The signature.
    pub signature: &'s [u8],
}

impl<'s> SignatureInput<'s> {
    /// Verifies signatures, several RSA signatures at a time. `is_valid` gets the result of
    /// [`VerificationKey::verify`] for each, in the same order; it must be as long.
    pub fn verify_all(
        inputs: impl Iterator<Item = Self> + Clone,
        rsa: RsaImplementation,
        is_valid: &mut [bool],
    ) {
        for (input, is_valid) in inputs.clone().zip(&mut *is_valid) {
            *is_valid = input.rsa_check().is_none()
                && input.key.verify(input.signing_input, input.signature).is_ok();
        }
        let checks =
            inputs.enumerate().filter_map(|(index, input)| Some((index, input.rsa_check()?)));
        rsa::verify_all(checks, rsa, is_valid);
    }

    /// Whether it is verified faster together with others.
    pub(crate) fn fits_lanes(&self) -> bool {
        self.rsa_check().is_some_and(|check| check.fits_lanes())
    }

    fn rsa_check(&self) -> Option<RsaCheck<'s>> {
        let ParsedKey::Rsa(key) = &self.key.parsed else { return None };
        Some(RsaCheck { key, message: self.signing_input, signature: self.signature })
    }
}

impl fmt::Debug for VerificationKey {
    /// Shows the `kid` and the algorithm, and no key material, secret or public.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// [`KeyMaterial`] in its only spelling: numbers without leading zeros, coordinates with as many as
/// the field of the curve is long.
enum NormalizedMaterial<'k> {
    Secret(&'k [u8]),
    Rsa(&'k [u8], &'k [u8]),
    EllipticCurve(&'k str, Cow<'k, [u8]>, Cow<'k, [u8]>),
    OctetKeyPair(&'k str, &'k [u8]),
}

fn normalized(material: KeyMaterial<'_>) -> Result<NormalizedMaterial<'_>, KeyError> {
    Ok(match material {
        KeyMaterial::Secret(secret) => NormalizedMaterial::Secret(secret),
        KeyMaterial::Rsa { n, e } => NormalizedMaterial::Rsa(significant(n), significant(e)),
        KeyMaterial::EllipticCurve { curve, x, y } => {
            let coordinate = |number| match ecdsa::field_bytes(curve) {
                Some(length) => padded(significant(number), length),
                None => Ok(Cow::Borrowed(number)),
            };
            NormalizedMaterial::EllipticCurve(curve, coordinate(x)?, coordinate(y)?)
        }
        KeyMaterial::OctetKeyPair { curve, x } => NormalizedMaterial::OctetKeyPair(curve, x),
    })
}

/// Returns a big-endian number without leading zeros. Libraries that encode signed integers put one
/// in front of a number whose first bit is set.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Returns a coordinate with leading zeros up to the length of the field (RFC 7518 section
/// 6.2.1.2). Libraries that encode integers leave them out, for one key in 128.
fn padded(number: &[u8], length: usize) -> Result<Cow<'_, [u8]>, KeyError> {
    match length.checked_sub(number.len()) {
        None => Err(KeyError::CoordinateLength),
        Some(0) => Ok(Cow::Borrowed(number)),
        Some(zeros) => Ok(Cow::Owned([&vec![0; zeros], number].concat())),
    }
}

fn identity(algorithm: Algorithm, material: &NormalizedMaterial<'_>) -> KeyIdentity {
    let parts: [&[u8]; 3] = match material {
        NormalizedMaterial::Secret(secret) => [secret, b"", b""],
        NormalizedMaterial::Rsa(n, e) => [n, e, b""],
        NormalizedMaterial::EllipticCurve(curve, x, y) => [curve.as_bytes(), x, y],
        NormalizedMaterial::OctetKeyPair(curve, x) => [curve.as_bytes(), x, b""],
    };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(algorithm.name().as_bytes());
    for part in parts {
        // Lengths keep two splits of the same bytes apart.
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    KeyIdentity(bytes)
}

/// A hash of a `kid`, with a random seed of this process. It takes the place of a text of any
/// length in a bounded memory of unknown `kid`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KidHash(u64);

impl KidHash {
    /// Hashes a `kid`.
    #[must_use]
    pub fn of(kid: &str) -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
        Self(SEED.hash_one(kid))
    }

    /// All bits of the hash.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_identity_depends_on_algorithm_and_material() {
        let identity = |algorithm, kid, byte| {
            let secret = KeyMaterial::Secret(&[byte; 64]);
            VerificationKey::new(kid, algorithm, secret).unwrap().identity()
        };
        let one = identity(Algorithm::Hs256, Some("a"), 1);
        assert_eq!(one, identity(Algorithm::Hs256, Some("b"), 1));
        assert_ne!(one, identity(Algorithm::Hs384, Some("a"), 1));
        assert_ne!(one, identity(Algorithm::Hs256, Some("a"), 2));
    }

    #[test]
    fn key_identity_ignores_leading_zeros() {
        let mut n = vec![0xb5; 256];
        n[255] = 1;
        let rsa = |n: &[u8], e: &[u8]| {
            let material = KeyMaterial::Rsa { n, e };
            VerificationKey::new(None, Algorithm::Rs256, material).map(|key| key.identity())
        };
        let one = rsa(&n, &[1, 0, 1]).unwrap();
        assert_eq!(rsa(&[&[0], &n[..]].concat(), &[0, 0, 1, 0, 1]), Ok(one));
        assert_eq!(rsa(&[&[0; 9], &n[..]].concat(), &[1, 0, 1]), Ok(one));
        assert_eq!(rsa(&[0; 256], &[1, 0, 1]), Err(KeyError::ModulusSize));
        assert_eq!(rsa(&n, &[0, 1]), Err(KeyError::Exponent));
        assert_eq!(rsa(&n, &[0, 0]), Err(KeyError::Exponent));
        assert_eq!(rsa(&[], &[]), Err(KeyError::ModulusSize));
    }

    #[test]
    fn coordinate_is_padded_to_the_field() {
        assert_eq!(padded(significant(&[0, 0, 7]), 3).unwrap(), &[0, 0, 7][..]);
        assert_eq!(padded(&[7], 3).unwrap(), &[0, 0, 7][..]);
        assert_eq!(padded(&[], 2).unwrap(), &[0, 0][..]);
        assert_eq!(padded(significant(&[0, 1, 2, 3]), 3).unwrap(), &[1, 2, 3][..]);
        assert_eq!(padded(significant(&[1, 2, 3, 4]), 3), Err(KeyError::CoordinateLength));
    }
}
