//! The name of a key in a token, and the keys that it selects.

use super::VerificationKey;
use crate::{algorithm::Algorithm, limits::MAX_TRIED_KEYS, reject::Reject};

/// The header members by which a token names the key of its signature (RFC 7515 section 4.1).
///
/// With a `kid`, the others do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyName<'t> {
    /// `kid`; never empty.
    pub kid: Option<&'t str>,
    /// `x5t#S256`: the SHA-256 thumbprint of a certificate of the key, in base64url.
    pub x5t_s256: Option<&'t str>,
    /// `x5t`: the SHA-1 thumbprint. It only selects a key, so collisions do not matter.
    pub x5t: Option<&'t str>,
}

impl KeyName<'_> {
    /// Whether the certificate of this key is published, and is not the one named.
    pub(super) fn excludes(&self, key: &VerificationKey) -> bool {
        let names = key.certificate();
        let differ = |named: Option<&str>, published: &Option<Box<str>>| {
            named.zip(published.as_deref()).is_some_and(|(named, published)| named != published)
        };
        differ(self.x5t_s256, &names.x5t_s256) || differ(self.x5t, &names.x5t)
    }
}

/// The keys that may have made the signature of a token: one to [`MAX_TRIED_KEYS`], all of the same
/// algorithm.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'k> {
    first: &'k VerificationKey,
    others: [Option<&'k VerificationKey>; MAX_TRIED_KEYS - 1],
}

impl<'k> Candidates<'k> {
    /// Takes the first keys; `None` if `keys` is empty.
    pub(super) fn of(keys: impl IntoIterator<Item = &'k VerificationKey>) -> Option<Self> {
        let mut keys = keys.into_iter();
        let (first, mut others) = (keys.next()?, [None; MAX_TRIED_KEYS - 1]);
        others.iter_mut().zip(keys).for_each(|(slot, key)| *slot = Some(key));
        Some(Self { first, others })
    }

    /// The algorithm of the keys.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.first.algorithm()
    }

    /// Iterates over the keys, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &'k VerificationKey> + use<'k, '_> {
        core::iter::once(self.first).chain(self.others.iter().map_while(|key| *key))
    }

    /// Verifies a signature with each key, and returns the key that made it.
    ///
    /// # Errors
    /// [`Reject::Signature`].
    pub fn verify(
        &self,
        signing_input: &[u8],
        signature: &[u8],
    ) -> Result<&'k VerificationKey, Reject> {
        self.iter()
            .find(|key| key.verify(signing_input, signature).is_ok())
            .ok_or(Reject::Signature)
    }
}
