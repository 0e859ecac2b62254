//! An [`Issuer`]: its configuration and its current keys.

mod names;

pub(crate) use names::TokenIssuer;
pub use names::{IssuerTenants, TENANT, is_tenant};

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::{
    algorithm::{Algorithm, AlgorithmSet, KeyType},
    escape::header_safe,
    keyset::{Candidates, KeySet},
    reject::Reject,
    rules::Rules,
    token::Header,
};

/// The configuration of an issuer. [`IssuerConfig::new`] has the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The exact `iss` of its tokens; a trailing slash matters (RFC 8725 section 3.8). It may
    /// contain [`TENANT`](names::TENANT) once.
    pub name: Box<str>,
    /// Further values of `iss`, which are the same issuer in every respect.
    pub aliases: Box<[Box<str>]>,
    /// The tenants of a name with a tenant in it.
    pub tenants: IssuerTenants,
    /// The configuration section that defines the issuer, for messages.
    pub section: Box<str>,
    /// The algorithms its tokens may be signed with.
    pub algorithms: AlgorithmSet,
    /// Whether a token signed with a public-key algorithm must name its key by `kid`.
    pub kid_required: bool,
    /// The rules for the claims of its tokens.
    pub rules: Rules,
}

impl IssuerConfig {
    /// Creates the configuration of an issuer with the default [`Rules`] for this audience.
    ///
    /// # Defaults
    /// Messages call the issuer by its name. A token may omit `kid`
    /// ([`KeySet::select`](crate::KeySet::select)).
    pub fn new(
        name: &str,
        audience: &str,
        algorithms: impl IntoIterator<Item = Algorithm>,
    ) -> Self {
        Self {
            name: name.into(),
            aliases: Box::default(),
            tenants: IssuerTenants::default(),
            section: name.into(),
            algorithms: algorithms.into_iter().collect(),
            kid_required: false,
            rules: Rules::new(audience),
        }
    }
}

/// An issuer and its current keys.
#[derive(Clone, Debug)]
pub struct Issuer {
    config: Arc<IssuerConfig>,
    keys: Option<Arc<KeySet>>,
    epoch: IssuerEpoch,
    /// The name, percent-encoded for use in HTTP headers.
    identity: Arc<str>,
    /// Whether a name contains a tenant.
    has_tenants: bool,
}

/// Identifies one configuration with one set of keys.
///
/// With the same epoch, time and revocations, verifying a token gives the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IssuerEpoch(pub(crate) u64);

impl IssuerEpoch {
    /// The epoch of no issuer. A cached result with it never holds, and is verified again.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// Returns a new, unique epoch. Relaxed is enough, because only uniqueness matters.
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Issuer {
    /// Creates an issuer. Without keys, its tokens are refused with [`Reject::KeysUnavailable`].
    #[must_use]
    pub fn new(config: Arc<IssuerConfig>, keys: Option<Arc<KeySet>>) -> Self {
        let identity = header_safe(&config.name).into();
        let has_tenants = config.has_tenants();
        Self { config, keys, epoch: IssuerEpoch::next(), identity, has_tenants }
    }

    /// Replaces or withdraws the keys. If they are the same as before, the epoch stays the same and
    /// cached tokens remain valid.
    pub(crate) fn set_keys(&mut self, keys: Option<&Arc<KeySet>>) {
        if !has_same_keys(self.keys.as_ref(), keys) {
            self.epoch = IssuerEpoch::next();
        }
        // Other keys of the same set may be skipped now.
        self.keys = keys.cloned();
    }

    /// Takes the epoch of `before` if that is the same issuer, so that cached tokens remain valid.
    pub(crate) fn continue_from(&mut self, before: &Self) {
        if self.config == before.config && has_same_keys(self.keys(), before.keys()) {
            self.epoch = before.epoch;
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<IssuerConfig> {
        &self.config
    }

    /// The current keys, if there are any.
    #[must_use]
    pub fn keys(&self) -> Option<&Arc<KeySet>> {
        self.keys.as_ref()
    }

    pub(crate) fn epoch(&self) -> IssuerEpoch {
        self.epoch
    }

    /// Whether a name contains a tenant.
    pub(crate) fn has_tenants(&self) -> bool {
        self.has_tenants
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Selects the keys of which one must have made the signature, by the header's `alg` and its
    /// name of the key.
    pub(crate) fn select(&self, header: Header<'_>) -> Result<Candidates<'_>, Reject> {
        let name = header.algorithm.ok_or(Reject::AlgorithmMissing)?;
        let algorithm = Algorithm::from_name(name).ok_or(Reject::AlgorithmUnsupported)?;
        if !self.config.algorithms.contains(algorithm) {
            return Err(Reject::AlgorithmNotAllowed);
        }
        if self.config.kid_required
            && header.key.kid.is_none()
            && algorithm.key_type() != KeyType::Secret
        {
            return Err(Reject::KidMissing);
        }
        self.keys.as_ref().ok_or(Reject::KeysUnavailable)?.select(header.key, algorithm)
    }
}

fn has_same_keys(one: Option<&Arc<KeySet>>, other: Option<&Arc<KeySet>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (None, None) => true,
        _ => false,
    }
}
