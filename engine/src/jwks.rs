//! JWK Sets (RFC 7517), parsed into a [`KeySet`].
//!
//! A bad key does not invalidate its set: it is skipped and reported. A set that is ambiguous as a
//! whole is refused. Keys are read in every spelling that has one meaning, because their publishers
//! are other systems; tokens are not.

mod outline;
mod member;

use core::fmt;
use std::collections::HashMap;

use self::member::{base64url, bytes, optional, optional_text, text};
use crate::{
    algorithm::{Algorithm, AlgorithmSet, KeyType, wrong_curve},
    error::{KeyError, KeySetError},
    keyset::{CertificateNames, KeyIdentity, KeyMaterial, KeySet, VerificationKey},
    limits,
    token::{Document, JsonBuffers, JsonError, Members, Value},
};

/// The source of a key set. It decides which defects are skipped and which ones refuse the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Configured by the operator. Shared secrets are allowed, but not together with public keys. A
    /// `kid` that occurs twice is an error (RFC 8725 section 3.1).
    Static,
    /// Published by an issuer. The set contains public keys. A shared secret is skipped. Several
    /// keys may have the same `kid` and `alg`, as while a key is replaced.
    Published,
}

/// The permitted use of the keys in a set.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The source of the set.
    pub origin: Origin,
    /// The algorithms configured for the issuer. A key without `alg` serves those that fit its
    /// type. With `None`, such keys are refused, and every algorithm that a key names is allowed.
    pub algorithms: Option<AlgorithmSet>,
}

/// A key that was left out of its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// The index in the `keys` array, from zero.
    pub index: usize,
    /// The `kid`, if there is one that can be read.
    pub kid: Option<Box<str>>,
    /// The reason.
    pub error: KeyError,
}

impl SkippedKey {
    /// Returns the `kid` for display, quoted and cut to 64 characters.
    #[must_use]
    pub fn shown_kid(&self) -> Option<String> {
        let kid: String = self.kid.as_ref()?.chars().take(64).collect();
        Some(format!("{kid:?}"))
    }
}

impl fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys[{}]", self.index)?;
        if let Some(kid) = self.shown_kid() {
            write!(f, " (kid {kid})")?;
        }
        write!(f, ": {}", self.error)
    }
}

impl KeySet {
    /// Parses a JWK Set, or a single JWK as a set of one.
    ///
    /// Keys that cannot be used are left out ([`skipped`](Self::skipped)).
    ///
    /// # Errors
    /// A [`KeySetError`] if the set as a whole cannot be used.
    pub fn from_jwks(json: &[u8], policy: Policy) -> Result<Self, KeySetError> {
        if json.len() > limits::MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLong);
        }
        let mut buffers = JsonBuffers::with_capacity(0);
        let texts = outline::split(json, &mut buffers)?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        let (mut names, mut published) = (StaticNames::default(), PublishedNames::default());
        for (index, text) in texts.into_iter().enumerate() {
            let (kid, read) = match buffers.parse_with_duplicates(text) {
                Ok(mut document) => {
                    names.insert(&document);
                    let checked = document.check().map_err(KeyError::from);
                    (kid(&document), checked.and_then(|()| read_jwk(document.members(), policy)))
                }
                Err(error) => (None, Err(error.into())),
            };
            let read = match &kid {
                Some(kid) if kid.len() > limits::MAX_KID_BYTES => Err(KeyError::KidTooLong),
                _ => read,
            };
            match read.and_then(|read| published.distinct(read)) {
                Ok(mut read) => keys.append(&mut read),
                Err(error) => skipped.push(SkippedKey { index, kid, error }),
            }
        }
        let set = match policy.origin {
            Origin::Static => {
                names.check()?;
                Self::new(keys)
            }
            Origin::Published => Self::published(keys),
        };
        Ok(set.with_skipped(skipped))
    }
}

impl From<JsonError> for KeyError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::NotAnObject => Self::NotAnObject,
            JsonError::DuplicateMember => Self::DuplicateMember,
            JsonError::TooDeep => Self::TooDeep,
        }
    }
}

/// Returns the `kid` of a JWK for reports, unless it has several.
fn kid(jwk: &Document<'_>) -> Option<Box<str>> {
    let mut kids = jwk.members().filter(|(name, _)| *name == "kid");
    match (kids.next(), kids.next()) {
        (Some((_, kid)), None) => kid.as_str().filter(|kid| !kid.is_empty()).map(Box::from),
        _ => None,
    }
}

/// The names and the kinds of the keys in a static set, usable or not.
#[derive(Default)]
struct StaticNames {
    kids: Vec<Box<str>>,
    secrets: usize,
    others: usize,
}

impl StaticNames {
    fn insert(&mut self, jwk: &Document<'_>) {
        self.kids.extend(kid(jwk));
        let is_secret = jwk.members().get("kty").and_then(Value::as_str) == Some("oct");
        let count = if is_secret { &mut self.secrets } else { &mut self.others };
        *count = count.saturating_add(1);
    }

    /// Refuses a set in which a key is ambiguous (RFC 8725 section 3.1).
    fn check(mut self) -> Result<(), KeySetError> {
        if self.secrets != 0 && self.others != 0 {
            return Err(KeySetError::Mixed);
        }
        let count = self.kids.len();
        self.kids.sort_unstable();
        self.kids.dedup();
        if self.kids.len() == count { Ok(()) } else { Err(KeySetError::DuplicateKid) }
    }
}

/// The identities of the keys that were read, by `kid` and algorithm.
#[derive(Default)]
struct PublishedNames(HashMap<(Option<Box<str>>, Algorithm), Vec<KeyIdentity>>);

impl PublishedNames {
    /// Returns those of the keys of one JWK that can be selected beside the earlier ones.
    fn distinct(&mut self, keys: Vec<VerificationKey>) -> Result<Vec<VerificationKey>, KeyError> {
        let (mut distinct, mut error) = (Vec::new(), None);
        for key in keys {
            let earlier = self.0.entry((key.kid().map(Box::from), key.algorithm())).or_default();
            let is_secret = key.algorithm().key_type() == KeyType::Secret;
            if earlier.contains(&key.identity()) || is_secret && !earlier.is_empty() {
                error = Some(KeyError::Duplicate);
            } else if earlier.len() >= limits::MAX_TRIED_KEYS {
                error = Some(KeyError::TooManyOfOneKid);
            } else {
                earlier.push(key.identity());
                distinct.push(key);
            }
        }
        match error {
            Some(error) if distinct.is_empty() => Err(error),
            _ => Ok(distinct),
        }
    }
}

/// Parses one JWK into keys: one for each algorithm that it serves.
fn read_jwk(jwk: Members<'_, '_>, policy: Policy) -> Result<Vec<VerificationKey>, KeyError> {
    let kid = optional_text(&jwk, "kid")?;
    let key_type = key_type(&jwk)?;
    if key_type == KeyType::Secret && policy.origin == Origin::Published {
        return Err(KeyError::SecretInPublicSet);
    }
    // Everyone who can read the set could sign with this key. A static set may hold a key pair, as
    // in the examples of the RFCs, because only the operator can read it.
    if policy.origin == Origin::Published && optional(&jwk, "d").is_some() {
        return Err(KeyError::Private);
    }
    refuse_other_purposes(&jwk)?;
    let material = Material::read(&jwk, key_type)?;
    let certificate =
        CertificateNames { x5t: thumbprint(&jwk, "x5t"), x5t_s256: thumbprint(&jwk, "x5t#S256") };
    let key = |algorithm| {
        let key = VerificationKey::new(kid, algorithm, material.borrowed())?;
        Ok(key.with_certificate(certificate.clone()))
    };
    algorithms(&jwk, key_type, policy)?.into_iter().map(key).collect()
}

/// Returns the thumbprint of a certificate as tokens spell it. A malformed one names no key, which
/// does not make the key unusable.
fn thumbprint(jwk: &Members<'_, '_>, name: &str) -> Option<Box<str>> {
    base64url(optional(jwk, name)?.as_str()?).map(Box::from)
}

fn key_type(jwk: &Members<'_, '_>) -> Result<KeyType, KeyError> {
    match text(jwk, "kty")? {
        "oct" => Ok(KeyType::Secret),
        "RSA" => Ok(KeyType::Rsa),
        "EC" => Ok(KeyType::EllipticCurve),
        "OKP" => Ok(KeyType::OctetKeyPair),
        _ => Err(KeyError::UnknownKeyType),
    }
}

/// Returns the algorithms that a JWK serves: its own `alg`, or the configured ones that fit it.
fn algorithms(
    jwk: &Members<'_, '_>,
    key_type: KeyType,
    policy: Policy,
) -> Result<Vec<Algorithm>, KeyError> {
    if let Some(name) = optional_text(jwk, "alg")? {
        let algorithm = Algorithm::from_name(name).ok_or_else(|| unknown_algorithm(name))?;
        if algorithm.key_type() != key_type {
            return Err(KeyError::WrongKeyType);
        }
        if policy.algorithms.is_some_and(|configured| !configured.contains(algorithm)) {
            return Err(KeyError::AlgorithmNotConfigured);
        }
        return Ok(vec![algorithm]);
    }
    let configured = policy.algorithms.ok_or(KeyError::NoAlgorithm)?;
    // A curve serves one algorithm only, so the other configured ones are skipped.
    let curve = optional_text(jwk, "crv")?;
    let fitting: Vec<_> = configured
        .iter()
        .filter(|algorithm| algorithm.key_type() == key_type && fits_curve(*algorithm, curve))
        .collect();
    match curve.map(wrong_curve) {
        Some(unsupported @ KeyError::UnsupportedCurve(_)) => Err(unsupported),
        _ if fitting.is_empty() => Err(KeyError::AlgorithmNotConfigured),
        _ => Ok(fitting),
    }
}

fn unknown_algorithm(name: &str) -> KeyError {
    Algorithm::unsupported(name).map_or(KeyError::UnknownAlgorithm, KeyError::UnsupportedAlgorithm)
}

fn fits_curve(algorithm: Algorithm, curve: Option<&str>) -> bool {
    match algorithm {
        Algorithm::Es256 => curve == Some("P-256"),
        Algorithm::Es384 => curve == Some("P-384"),
        Algorithm::Es512 => curve == Some("P-521"),
        _ => true,
    }
}

/// Refuses a key whose `use` or `key_ops` exclude verification (RFC 7517 sections 4.2 and 4.3).
fn refuse_other_purposes(jwk: &Members<'_, '_>) -> Result<(), KeyError> {
    if optional_text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err(KeyError::NotForSignatures);
    }
    let Some(operations) = optional(jwk, "key_ops") else { return Ok(()) };
    let mut operations = operations.elements().ok_or(KeyError::MemberType("key_ops"))?;
    if operations.any(|operation| operation.as_str() == Some("verify")) {
        Ok(())
    } else {
        Err(KeyError::NotForSignatures)
    }
}

/// The decoded parameters of a JWK.
enum Material<'b> {
    Secret(Vec<u8>),
    Rsa(Vec<u8>, Vec<u8>),
    EllipticCurve(&'b str, Vec<u8>, Vec<u8>),
    OctetKeyPair(&'b str, Vec<u8>),
}

impl<'b> Material<'b> {
    fn read(jwk: &Members<'_, 'b>, key_type: KeyType) -> Result<Self, KeyError> {
        Ok(match key_type {
            KeyType::Secret => Self::Secret(bytes(jwk, "k")?),
            KeyType::Rsa => Self::Rsa(bytes(jwk, "n")?, bytes(jwk, "e")?),
            KeyType::EllipticCurve => {
                Self::EllipticCurve(text(jwk, "crv")?, bytes(jwk, "x")?, bytes(jwk, "y")?)
            }
            KeyType::OctetKeyPair => Self::OctetKeyPair(text(jwk, "crv")?, bytes(jwk, "x")?),
        })
    }

    fn borrowed(&self) -> KeyMaterial<'_> {
        match self {
            Self::Secret(secret) => KeyMaterial::Secret(secret),
            Self::Rsa(n, e) => KeyMaterial::Rsa { n, e },
            Self::EllipticCurve(curve, x, y) => KeyMaterial::EllipticCurve { curve, x, y },
            Self::OctetKeyPair(curve, x) => KeyMaterial::OctetKeyPair { curve, x },
        }
    }
}

#[cfg(test)]
mod tests;
