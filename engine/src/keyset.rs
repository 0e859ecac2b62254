//! The [`KeySet`] of an issuer, and the selection of keys from it.

mod key;
mod candidates;

pub use candidates::{Candidates, KeyName};
pub(crate) use key::CertificateNames;
pub use key::{KeyIdentity, KeyMaterial, KidHash, SignatureInput, VerificationKey};

use core::cmp::Ordering;

use crate::{
    algorithm::{Algorithm, KeyType},
    jwks::SkippedKey,
    limits::MAX_TRIED_KEYS,
    reject::Reject,
};

/// The keys of one issuer, sorted for look-up by `kid` and algorithm.
#[derive(Debug, Default)]
pub struct KeySet {
    /// Sorted by [`order`], which does not depend on the order in which they were published.
    keys: Vec<VerificationKey>,
    /// Indexes of `keys`, sorted by algorithm.
    by_algorithm: Vec<usize>,
    /// The names of certificates with the indexes of their keys, sorted.
    by_certificate: Vec<(Box<str>, usize)>,
    /// The keys of the set that cannot be used.
    skipped: Vec<SkippedKey>,
    /// Whether an unknown `kid` may select a key that has no `kid`.
    keys_without_kid_match_any: bool,
    /// Whether each of several shared secrets is tried.
    tries_each_secret: bool,
}

impl KeySet {
    /// Creates a set from the operator's configuration. A key without `kid` matches every `kid`.
    #[must_use]
    pub fn new(keys: Vec<VerificationKey>) -> Self {
        Self { keys_without_kid_match_any: true, ..Self::published(keys) }
    }

    /// Creates a set of shared secrets without a `kid` that one issuer signs with, one after the
    /// other: while they rotate, each is tried, up to [`MAX_TRIED_KEYS`] of an algorithm.
    #[must_use]
    pub fn rotating(secrets: Vec<VerificationKey>) -> Self {
        Self {
            keys_without_kid_match_any: true,
            tries_each_secret: true,
            ..Self::ordered(secrets, order_of_all)
        }
    }

    /// Creates a set that an issuer published. A `kid` matches exactly the keys that have it.
    #[must_use]
    pub fn published(keys: Vec<VerificationKey>) -> Self {
        Self::ordered(keys, order)
    }

    /// Sorts keys, and removes the later ones of those that are equal by `order`.
    fn ordered(
        mut keys: Vec<VerificationKey>,
        order: fn(&VerificationKey, &VerificationKey) -> Ordering,
    ) -> Self {
        keys.sort_by(order);
        keys.dedup_by(|later, earlier| order(later, earlier) == Ordering::Equal);
        let mut by_algorithm: Vec<_> = (0..keys.len()).collect();
        by_algorithm.sort_by_key(|index| keys.get(*index).map(VerificationKey::algorithm));
        let mut by_certificate: Vec<_> = (0..)
            .zip(&keys)
            .flat_map(|(index, key)| {
                let CertificateNames { x5t, x5t_s256 } = key.certificate();
                [x5t, x5t_s256].into_iter().flatten().map(move |name| (name.clone(), index))
            })
            .collect();
        by_certificate.sort_unstable();
        Self { keys, by_algorithm, by_certificate, ..Self::default() }
    }

    /// Adds keys that were left out.
    #[must_use]
    pub fn with_skipped(mut self, skipped: Vec<SkippedKey>) -> Self {
        self.skipped.extend(skipped);
        self
    }

    /// Selects the keys to try for a token with this name of its key and this algorithm.
    ///
    /// With a `kid`, they are those of that id, or in a configured set those without an id. Without
    /// a `kid`, they are those whose certificate has the named thumbprint, or whose `kid` is that
    /// thumbprint. If the token names no key, all of the algorithm, if they are at most
    /// [`MAX_TRIED_KEYS`]. Of shared secrets, only one is ever tried, except of those that
    /// [rotate](Self::rotating).
    ///
    /// # Errors
    /// The [`Reject`] of a token for which no key can be selected.
    pub fn select(
        &self,
        name: KeyName<'_>,
        algorithm: Algorithm,
    ) -> Result<Candidates<'_>, Reject> {
        match name.kid {
            Some(kid) => self.select_by_kid(kid, algorithm),
            None if name.x5t_s256.is_some() || name.x5t.is_some() => {
                self.select_by_certificate(name, algorithm)
            }
            None => self.select_unnamed(algorithm),
        }
    }

    fn select_by_kid(&self, kid: &str, algorithm: Algorithm) -> Result<Candidates<'_>, Reject> {
        let anonymous = || {
            let anonymous = self.keys_without_kid_match_any.then(|| self.find(None, algorithm));
            Candidates::of(anonymous?)
        };
        match Candidates::of(self.find(Some(kid), algorithm)).or_else(anonymous) {
            Some(candidates) => Ok(candidates),
            None if self.has_kid(kid) => Err(Reject::AlgorithmNotAllowed),
            None if self.skipped_key(kid).is_some() => Err(Reject::KeySkipped),
            None => Err(Reject::KidUnknown),
        }
    }

    fn select_by_certificate(
        &self,
        name: KeyName<'_>,
        algorithm: Algorithm,
    ) -> Result<Candidates<'_>, Reject> {
        for thumbprint in [name.x5t_s256, name.x5t].into_iter().flatten() {
            let first = self.by_certificate.partition_point(|(name, _)| **name < *thumbprint);
            let certified = self.by_certificate.iter().skip(first);
            let keys = certified
                .take_while(|(name, _)| **name == *thumbprint)
                .filter_map(|(_, index)| self.keys.get(*index))
                .filter(|key| key.algorithm() == algorithm);
            let found = Candidates::of(keys)
                .or_else(|| Candidates::of(self.find(Some(thumbprint), algorithm)));
            if let Some(candidates) = found {
                return Ok(candidates);
            }
        }
        // A key whose certificate is not published may have the one that is named.
        let unnamed = self.select_unnamed(algorithm)?;
        Candidates::of(unnamed.iter().filter(|key| !name.excludes(key))).ok_or(Reject::KidUnknown)
    }

    fn select_unnamed(&self, algorithm: Algorithm) -> Result<Candidates<'_>, Reject> {
        let position = |index: &usize| self.keys.get(*index).map(VerificationKey::algorithm);
        let first = self.by_algorithm.partition_point(|index| position(index) < Some(algorithm));
        let mut fitting = self
            .by_algorithm
            .iter()
            .skip(first)
            .filter_map(|index| self.keys.get(*index))
            .take_while(|key| key.algorithm() == algorithm);
        let is_only_one = algorithm.key_type() == KeyType::Secret && !self.tries_each_secret;
        let most = if is_only_one { 1 } else { MAX_TRIED_KEYS };
        let all = Candidates::of(fitting.by_ref().take(most)).ok_or(Reject::AlgorithmNotAllowed)?;
        if fitting.next().is_none() {
            return Ok(all);
        }
        // Without a `kid` in the token, those without one are the likely ones.
        Candidates::of(self.find(None, algorithm)).ok_or(Reject::KidMissing)
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

    /// Whether a key of the set has this `kid`.
    #[must_use]
    pub fn has_kid(&self, kid: &str) -> bool {
        self.keys.binary_search_by(|key| key.kid().cmp(&Some(kid))).is_ok()
    }

    /// The keys that were published or configured with these, and cannot be used, in the order of
    /// their set.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Returns the first skipped key with this `kid`.
    #[must_use]
    pub fn skipped_key(&self, kid: &str) -> Option<&SkippedKey> {
        self.skipped.iter().find(|key| key.kid.as_deref() == Some(kid))
    }

    /// Whether both sets select the same keys.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&VerificationKey, &VerificationKey)| {
            order(one, other) == Ordering::Equal
                && one.identity() == other.identity()
                && one.certificate() == other.certificate()
        };
        let traits = |set: &Self| (set.keys_without_kid_match_any, set.tries_each_secret);
        traits(self) == traits(other)
            && self.len() == other.len()
            && self.iter().zip(other.iter()).all(is_same)
    }

    /// Returns the keys to try with exactly this `kid`, or without one, and this algorithm.
    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> &[VerificationKey] {
        let wanted = (kid, algorithm);
        let first = self.keys.partition_point(|key| key.sort_key() < wanted);
        let rest = self.keys.get(first..).unwrap_or_default();
        let is_wanted = |key: &&VerificationKey| key.sort_key() == wanted;
        let count = rest.iter().take(MAX_TRIED_KEYS).take_while(is_wanted).count();
        rest.get(..count).unwrap_or_default()
    }
}

/// The order of keys in a set. A shared secret is the only one with its `kid` and algorithm: the
/// caller has already refused or reported a second one.
fn order(one: &VerificationKey, other: &VerificationKey) -> Ordering {
    let identities = || match one.algorithm().key_type() {
        KeyType::Secret => Ordering::Equal,
        _ => one.identity().cmp(&other.identity()),
    };
    one.sort_key().cmp(&other.sort_key()).then_with(identities)
}

/// The order of keys in a set in which several shared secrets have the same `kid` and algorithm.
fn order_of_all(one: &VerificationKey, other: &VerificationKey) -> Ordering {
    order(one, other).then_with(|| one.identity().cmp(&other.identity()))
}

impl VerificationKey {
    fn sort_key(&self) -> (Option<&str>, Algorithm) {
        (self.kid(), self.algorithm())
    }
}

#[cfg(test)]
mod tests;
