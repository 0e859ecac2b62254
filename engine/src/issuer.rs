//! An issuer: whose tokens are accepted, by which keys and under which rules.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::{
    algorithm::{Algorithm, AlgorithmSet, KeyType},
    identity::header_safe,
    keyset::{KeySet, VerificationKey},
    reject::Reject,
    rules::Rules,
    token::Header,
};

/// What an operator configures about an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    epoch: IssuerEpoch,
    /// Its name as it may stand in a header.
    identity: Arc<str>,
}

/// Names one configuration with one set of keys: whatever has the same stamp answers
/// every token in the same way, if the time is the same and nothing was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IssuerEpoch(pub(crate) u64);

impl IssuerEpoch {
    /// One that nothing else has. Relaxed: only that it differs matters.
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Issuer {
    /// An issuer with keys, or without any as yet: then its tokens are answered
    /// with [`Reject::KeysUnavailable`].
    #[must_use]
    pub fn new(config: Arc<IssuerConfig>, keys: Option<Arc<KeySet>>) -> Self {
        let identity = header_safe(&config.name).into();
        Self { config, keys, epoch: IssuerEpoch::next(), identity }
    }

    /// This issuer with other keys, or without any. Unchanged, and so is what is
    /// remembered of its tokens, if they are the same as before.
    pub(crate) fn with_keys(&self, keys: Option<&Arc<KeySet>>) -> Self {
        match (&self.keys, keys) {
            (Some(current), Some(new)) if current.is_same(new) => self.clone(),
            _ => Self { keys: keys.cloned(), epoch: IssuerEpoch::next(), ..self.clone() },
        }
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

    pub(crate) fn epoch(&self) -> IssuerEpoch {
        self.epoch
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// The key that must have made the signature, if the header names one of ours.
    pub(crate) fn select(&self, header: Header<'_>) -> Result<&VerificationKey, Reject> {
        let name = header.algorithm.ok_or(Reject::AlgorithmMissing)?;
        let algorithm = Algorithm::from_name(name).ok_or(Reject::AlgorithmUnsupported)?;
        if !self.config.algorithms.contains(algorithm) {
            return Err(Reject::AlgorithmNotAllowed);
        }
        if self.config.kid_required
            && header.kid.is_none()
            && algorithm.key_type() != KeyType::Secret
        {
            return Err(Reject::KidMissing);
        }
        self.keys.as_ref().ok_or(Reject::KeysUnavailable)?.select(header.kid, algorithm)
    }
}
