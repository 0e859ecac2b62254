//! Verification keys, parsed once, and the [`KeySet`] that holds them.

use core::{fmt, hash::BuildHasher as _};
use std::sync::LazyLock;

use aws_lc_rs::{digest, signature::ParsedPublicKey};
use foldhash::quality::RandomState;

use crate::{
    algorithm::{Algorithm, ecdsa, eddsa, hmac, rsa},
    error::KeyError,
    reject::Reject,
};

/// The decoded parameters of a key, as in its JWK.
#[derive(Clone, Copy)]
pub enum KeyMaterial<'k> {
    /// A shared secret.
    Secret(&'k [u8]),
    /// RSA modulus and exponent, big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        n: &'k [u8],
        /// The public exponent.
        e: &'k [u8],
    },
    /// A point on a curve, named as in RFC 7518 section 6.2.1.1.
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

/// The identity of a key: a digest of its algorithm and parameters.
///
/// A refresh that brings the same key again does not change its identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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

    /// The digest as words, as stored in a [`VerificationRecord`](crate::cache::record::VerificationRecord).
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
}

enum ParsedKey {
    Secret(ring::hmac::Key),
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
        let parsed = match material {
            KeyMaterial::Secret(secret) => ParsedKey::Secret(hmac::parse(algorithm, secret)?),
            KeyMaterial::Rsa { n, e } => ParsedKey::Public(rsa::parse(algorithm, n, e)?),
            KeyMaterial::EllipticCurve { curve, x, y } => {
                ParsedKey::Public(ecdsa::parse(algorithm, curve, x, y)?)
            }
            KeyMaterial::OctetKeyPair { curve, x } => {
                ParsedKey::Public(eddsa::parse(algorithm, curve, x)?)
            }
        };
        let identity = identity(algorithm, material);
        Ok(Self { kid: kid.map(Box::from), algorithm, identity, parsed })
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
            ParsedKey::Public(key) => key.verify_sig(signing_input, signature).is_ok(),
        };
        if is_valid { Ok(()) } else { Err(Reject::Signature) }
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

fn identity(algorithm: Algorithm, material: KeyMaterial<'_>) -> KeyIdentity {
    let parts: [&[u8]; 3] = match material {
        KeyMaterial::Secret(secret) => [secret, b"", b""],
        KeyMaterial::Rsa { n, e } => [n, e, b""],
        KeyMaterial::EllipticCurve { curve, x, y } => [curve.as_bytes(), x, y],
        KeyMaterial::OctetKeyPair { curve, x } => [curve.as_bytes(), x, b""],
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

/// A hash of a `kid`, with a random seed of this process. It takes the place of a text of any length
/// in a bounded memory of unknown `kid`s.
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

/// The keys of one issuer, sorted for look-up by `kid` and algorithm.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    /// Whether an unknown `kid` may select a key that has no `kid`.
    keys_without_kid_match_any: bool,
}

impl KeySet {
    /// Creates a set from the operator's configuration. A key without `kid` matches every `kid`.
    #[must_use]
    pub fn new(keys: Vec<VerificationKey>) -> Self {
        Self { keys: ordered(keys), keys_without_kid_match_any: true }
    }

    /// Creates a set that an issuer published. A `kid` matches exactly the key that has it.
    #[must_use]
    pub fn published(keys: Vec<VerificationKey>) -> Self {
        Self { keys: ordered(keys), keys_without_kid_match_any: false }
    }

    /// Selects the key for a header with this `kid` and algorithm.
    ///
    /// With a `kid`, it is the key of that id, or in a configured set a key without an id. Without
    /// a `kid`, it is the only key of that algorithm, as the choice is unambiguous.
    pub fn select(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&VerificationKey, Reject> {
        let anonymous =
            || self.keys_without_kid_match_any.then(|| self.find(None, algorithm)).flatten();
        if let Some(key) = self.find(kid, algorithm).or_else(anonymous) {
            return Ok(key);
        }
        match kid {
            Some(kid) if self.keys.iter().any(|key| key.kid() == Some(kid)) => {
                Err(Reject::AlgorithmNotAllowed)
            }
            Some(_) => Err(Reject::KidUnknown),
            None => self.only_key_of(algorithm),
        }
    }

    /// Iterates over the keys.
    pub fn iter(&self) -> impl Iterator<Item = &VerificationKey> {
        self.keys.iter()
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether both sets select the same keys.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&VerificationKey, &VerificationKey)| {
            one.sort_key() == other.sort_key() && one.identity == other.identity
        };
        self.keys_without_kid_match_any == other.keys_without_kid_match_any
            && self.len() == other.len()
            && self.iter().zip(other.iter()).all(is_same)
    }

    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&VerificationKey> {
        let index = self.keys.binary_search_by(|key| key.sort_key().cmp(&(kid, algorithm))).ok()?;
        self.keys.get(index)
    }

    fn only_key_of(&self, algorithm: Algorithm) -> Result<&VerificationKey, Reject> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Reject::KidMissing),
            (None, _) => Err(Reject::AlgorithmNotAllowed),
        }
    }
}

/// Sorts keys for binary search. Of two keys with the same `kid` and algorithm the first is kept;
/// the caller has already refused or reported the second.
fn ordered(mut keys: Vec<VerificationKey>) -> Vec<VerificationKey> {
    keys.sort_by(|one, other| one.sort_key().cmp(&other.sort_key()));
    keys.dedup_by(|later, earlier| later.sort_key() == earlier.sort_key());
    keys
}

impl VerificationKey {
    fn sort_key(&self) -> (Option<&str>, Algorithm) {
        (self.kid(), self.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(kid: Option<&str>, algorithm: Algorithm, byte: u8) -> VerificationKey {
        VerificationKey::new(kid, algorithm, KeyMaterial::Secret(&[byte; 64])).unwrap()
    }

    #[test]
    fn key_is_selected_by_kid_and_algorithm() {
        let set = KeySet::new(vec![
            secret(Some("b"), Algorithm::Hs256, 1),
            secret(Some("a"), Algorithm::Hs512, 2),
            secret(Some("a"), Algorithm::Hs256, 3),
        ]);
        let identity = |kid, algorithm| set.select(kid, algorithm).map(VerificationKey::identity);
        assert_eq!(
            identity(Some("a"), Algorithm::Hs256),
            Ok(secret(None, Algorithm::Hs256, 3).identity())
        );
        assert_eq!(identity(Some("b"), Algorithm::Hs512), Err(Reject::AlgorithmNotAllowed));
        assert_eq!(identity(Some("c"), Algorithm::Hs256), Err(Reject::KidUnknown));
        assert_eq!(identity(Some(""), Algorithm::Hs256), Err(Reject::KidUnknown));
        assert_eq!(identity(None, Algorithm::Hs256), Err(Reject::KidMissing));
        assert_eq!(
            identity(None, Algorithm::Hs512),
            Ok(secret(None, Algorithm::Hs512, 2).identity())
        );
        assert_eq!(identity(None, Algorithm::Rs256), Err(Reject::AlgorithmNotAllowed));
    }

    #[test]
    fn configured_key_without_kid_matches_every_kid() {
        let set = KeySet::new(vec![secret(None, Algorithm::Hs256, 1)]);
        assert!(set.select(Some("anything"), Algorithm::Hs256).is_ok());
        assert!(set.select(None, Algorithm::Hs256).is_ok());
        assert_eq!(set.select(Some("anything"), Algorithm::Hs384).err(), Some(Reject::KidUnknown));
        let published = KeySet::published(vec![secret(None, Algorithm::Hs256, 1)]);
        assert_eq!(
            published.select(Some("anything"), Algorithm::Hs256).err(),
            Some(Reject::KidUnknown)
        );
        assert!(published.select(None, Algorithm::Hs256).is_ok());
    }

    #[test]
    fn key_identity_depends_on_algorithm_and_material() {
        let one = secret(Some("a"), Algorithm::Hs256, 1).identity();
        assert_eq!(one, secret(Some("b"), Algorithm::Hs256, 1).identity());
        assert_ne!(one, secret(Some("a"), Algorithm::Hs384, 1).identity());
        assert_ne!(one, secret(Some("a"), Algorithm::Hs256, 2).identity());
    }

    #[test]
    fn key_set_debug_shows_no_key_material() {
        let shown = format!("{:?}", KeySet::new(vec![secret(Some("a"), Algorithm::Hs256, 0xab)]));
        assert!(
            shown.contains("Hs256")
                && !shown.contains("171")
                && !shown.to_lowercase().contains("ab, "),
            "{shown}"
        );
    }
}
