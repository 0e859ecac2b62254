//! An issuer: whose tokens are accepted, by which keys and under which rules.

use std::sync::Arc;

use crate::{
    algorithm::{Algorithm, AlgorithmSet, KeyType},
    keyset::{KeySet, VerificationKey},
    reject::Reject,
    rules::Rules,
    token::Header,
};

/// What an operator configures about an issuer.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The exact `iss` of its tokens; a trailing slash matters (RFC 8725 section 3.8).
    pub name: Box<str>,
    /// The configuration section it comes from, for people.
    pub section: Box<str>,
    /// The algorithms its tokens may be signed with.
    pub algorithms: AlgorithmSet,
    /// Whether tokens signed with a public key must name it by `kid`.
    pub kid_required: bool,
    /// What its tokens must claim.
    pub rules: Rules,
}

/// An issuer and the keys it has at this moment.
#[derive(Clone, Debug)]
pub struct Issuer {
    config: Arc<IssuerConfig>,
    keys: Option<Arc<KeySet>>,
}

impl Issuer {
    /// An issuer with keys, or without any as yet: then its tokens are answered
    /// with [`Reject::KeysUnavailable`].
    #[must_use]
    pub fn new(config: Arc<IssuerConfig>, keys: Option<Arc<KeySet>>) -> Self {
        Self { config, keys }
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<IssuerConfig> {
        &self.config
    }

    /// Its keys, once there are any.
    #[must_use]
    pub fn keys(&self) -> Option<&Arc<KeySet>> {
        self.keys.as_ref()
    }

    /// The key that must have made the signature, if the header names one of ours.
    pub(crate) fn select(&self, header: Header<'_>) -> Result<&VerificationKey, Reject> {
        let name = header.algorithm.ok_or(Reject::AlgorithmMissing)?;
        let algorithm = Algorithm::from_name(name).ok_or(Reject::AlgorithmUnsupported)?;
        if !self.config.algorithms.contains(algorithm) {
            return Err(Reject::AlgorithmNotAllowed);
        }
        if self.config.kid_required && header.kid.is_none() && algorithm.key_type() != KeyType::Secret {
            return Err(Reject::KidMissing);
        }
        self.keys.as_ref().ok_or(Reject::KeysUnavailable)?.select(header.kid, algorithm)
    }
}
