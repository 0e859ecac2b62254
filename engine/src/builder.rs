//! The [`VerifierBuilder`]: issuers, revocations and cache of a new [`Verifier`].

use core::fmt;
use std::sync::Arc;

use crate::{
    algorithm::RsaImplementation,
    cache::{Cache, CacheAllocationError},
    issuer::{Issuer, IssuerConfig},
    keyset::KeySet,
    revocation::{Revocations, RevocationsWriter},
    snapshot::{DuplicateIssuerError, Snapshot},
    verifier::Verifier,
};

/// Size of the token cache unless [`VerifierBuilder::cache_bytes`] sets another one: about 60,000
/// tokens of usual size.
pub const DEFAULT_CACHE_BYTES: usize = 64 << 20;

/// Configures a new [`Verifier`]; see [`Verifier::builder`].
///
/// # Defaults
/// No issuers, no revocations, a cache of [`DEFAULT_CACHE_BYTES`], and [`RsaImplementation::Auto`].
/// The bounds on tokens and key sets are constants ([`limits`](crate::limits)).
#[derive(Debug)]
#[must_use]
pub struct VerifierBuilder {
    issuers: Vec<Issuer>,
    revocations: Option<Arc<Revocations>>,
    cache_bytes: usize,
    rsa: RsaImplementation,
}

impl Default for VerifierBuilder {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            revocations: None,
            cache_bytes: DEFAULT_CACHE_BYTES,
            rsa: RsaImplementation::default(),
        }
    }
}

impl VerifierBuilder {
    /// Adds an issuer with its keys.
    pub fn issuer(
        self,
        config: impl Into<Arc<IssuerConfig>>,
        keys: impl Into<Arc<KeySet>>,
    ) -> Self {
        self.issuers([Issuer::new(config.into(), Some(keys.into()))])
    }

    /// Adds issuers, with or without keys. [`Verifier::update`] sets keys that are fetched later.
    pub fn issuers(mut self, issuers: impl IntoIterator<Item = Issuer>) -> Self {
        self.issuers.extend(issuers);
        self
    }

    /// Refuses the tokens that a [`RevocationsWriter`] inserts into this table.
    pub fn revocations(mut self, table: &Arc<Revocations>) -> Self {
        self.revocations = Some(Arc::clone(table));
        self
    }

    /// Sets the size of the token cache; zero disables it. A token of usual size takes its own
    /// length plus about 250 bytes. Memory is taken from the system as it is used.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets the code that verifies the RSA signatures of a batch ([`Verifier::verify_batch`]). It
    /// changes speed, and no result.
    pub fn rsa(mut self, implementation: RsaImplementation) -> Self {
        self.rsa = implementation;
        self
    }

    /// Creates the verifier.
    ///
    /// # Errors
    /// A [`BuildError`], which names the issuer and the remedy.
    pub fn build(self) -> Result<Verifier, BuildError> {
        self.issuers.iter().try_for_each(check)?;
        let snapshot = Snapshot::new(self.issuers).map_err(BuildError::DuplicateIssuer)?;
        let none = || Arc::clone(RevocationsWriter::new(0).revocations());
        let cache = (self.cache_bytes > 0).then(|| Cache::new(self.cache_bytes)).transpose();
        Ok(Verifier::new(
            snapshot,
            self.revocations.unwrap_or_else(none),
            cache.map_err(BuildError::Cache)?,
            self.rsa,
        ))
    }
}

/// Rejects a configuration under which no token of the issuer could be valid.
fn check(issuer: &Issuer) -> Result<(), BuildError> {
    let IssuerConfig { name, algorithms, rules, .. } = &**issuer.config();
    if name.is_empty() {
        return Err(BuildError::EmptyIssuer);
    }
    let has_audience = rules.audience.accepted.iter().any(|audience| !audience.is_empty());
    if !has_audience && !rules.audience.is_unchecked() {
        return Err(BuildError::EmptyAudience(name.clone()));
    }
    if algorithms.iter().next().is_none() {
        return Err(BuildError::NoAlgorithms(name.clone()));
    }
    match issuer.keys() {
        Some(keys)
            if !keys.is_empty() && !keys.iter().any(|key| algorithms.contains(key.algorithm())) =>
        {
            Err(BuildError::NoKeyFits(name.clone()))
        }
        _ => Ok(()),
    }
}

/// The reason why a [`Verifier`] could not be built. Issuers are given by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// An issuer has an empty name.
    EmptyIssuer,
    /// The audience of this issuer is empty.
    EmptyAudience(Box<str>),
    /// This issuer has no algorithms.
    NoAlgorithms(Box<str>),
    /// This issuer has keys, but for none of its algorithms.
    NoKeyFits(Box<str>),
    /// Two issuers have the same name.
    DuplicateIssuer(DuplicateIssuerError),
    /// The system did not provide the memory for the cache.
    Cache(CacheAllocationError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyIssuer => {
                f.write_str("an issuer has an empty name: set it to the iss of its tokens")
            }
            Self::EmptyAudience(issuer) => write!(
                f,
                "issuer {issuer:?} has an empty audience: set it to the aud of its tokens"
            ),
            Self::NoAlgorithms(issuer) => write!(
                f,
                "issuer {issuer:?} has no algorithms: set those that its tokens are signed with"
            ),
            Self::NoKeyFits(issuer) => write!(
                f,
                "issuer {issuer:?} has no key for its algorithms: add the algorithms of its keys"
            ),
            Self::DuplicateIssuer(error) => error.fmt(f),
            Self::Cache(error) => {
                write!(f, "{error}: set fewer with cache_bytes, or 0 for no cache")
            }
        }
    }
}

impl core::error::Error for BuildError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        algorithm::Algorithm,
        keyset::{KeyMaterial, VerificationKey},
    };

    fn keys() -> KeySet {
        let secret = KeyMaterial::Secret(&[7; 32]);
        KeySet::new(vec![VerificationKey::new(None, Algorithm::Hs256, secret).unwrap()])
    }

    fn config(name: &str, audience: &str, algorithms: &[Algorithm]) -> IssuerConfig {
        IssuerConfig::new(name, audience, algorithms.iter().copied())
    }

    #[test]
    fn useless_issuer_is_refused_by_name() {
        let hs256 = &[Algorithm::Hs256];
        for (config, error) in [
            (config("", "a", hs256), BuildError::EmptyIssuer),
            (config("i", "", hs256), BuildError::EmptyAudience("i".into())),
            (config("i", "a", &[]), BuildError::NoAlgorithms("i".into())),
            (config("i", "a", &[Algorithm::Es256]), BuildError::NoKeyFits("i".into())),
        ] {
            let built = Verifier::builder().issuer(config, keys()).build();
            assert_eq!(built.map(drop), Err(error.clone()));
            let text = error.to_string();
            assert!(error == BuildError::EmptyIssuer || text.contains("\"i\""), "{text}");
        }
    }

    #[test]
    fn two_issuers_of_one_name_are_refused() {
        let config = || config("i", "a", &[Algorithm::Hs256]);
        let built = Verifier::builder().issuer(config(), keys()).issuer(config(), keys()).build();
        let error = built.map(drop).unwrap_err();
        assert_eq!(error, BuildError::DuplicateIssuer(DuplicateIssuerError("i".into())));
        assert!(error.to_string().contains("\"i\""), "{error}");
    }

    #[test]
    fn verifier_has_a_cache_unless_disabled() {
        let build = |builder: VerifierBuilder| builder.build().unwrap().cache_statistics();
        assert!(build(Verifier::builder()).is_some());
        assert_eq!(build(Verifier::builder().cache_bytes(0)), None);
    }
}
