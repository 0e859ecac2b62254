//! The state that a verification depends on, as one immutable value.
//!
//! [`Verifier::update`](crate::Verifier::update) changes a copy of the [`Snapshot`] and swaps it in
//! whole, so a verification sees the state before or after the change, never a mixture.

use core::fmt;
use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use crate::{issuer::Issuer, keyset::KeySet};

/// The accepted issuers at one moment, by exact name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    issuers: Vec<Issuer>,
    indexes: Arc<HashMap<Box<str>, u32, RandomState>>,
}

/// Two issuers have the same name, so a token could not select one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateIssuerError(pub Box<str>);

impl fmt::Display for DuplicateIssuerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two issuers have the name {:?}: put their keys into one set", self.0)
    }
}

impl core::error::Error for DuplicateIssuerError {}

/// No issuer has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIssuerError(pub Box<str>);

impl fmt::Display for UnknownIssuerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no issuer has the name {:?}: configure it before its keys", self.0)
    }
}

impl core::error::Error for UnknownIssuerError {}

impl Snapshot {
    /// Creates a snapshot of these issuers.
    ///
    /// # Errors
    /// [`DuplicateIssuerError`] if two issuers have the same name.
    pub fn new(issuers: impl IntoIterator<Item = Issuer>) -> Result<Self, DuplicateIssuerError> {
        let issuers: Vec<_> = issuers.into_iter().collect();
        let mut indexes = HashMap::default();
        for (index, issuer) in (0..).zip(&issuers) {
            let name = &issuer.config().name;
            if indexes.insert(name.clone(), index).is_some() {
                return Err(DuplicateIssuerError(name.clone()));
            }
        }
        Ok(Self { issuers, indexes: Arc::new(indexes) })
    }

    /// Returns the issuer with exactly this name.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.find(name).map(|(_, issuer)| issuer)
    }

    /// Iterates over all issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.iter()
    }

    /// Replaces the keys of one issuer, or withdraws them for `None`. Tokens of an issuer without
    /// keys are refused with [`Reject::KeysUnavailable`](crate::Reject::KeysUnavailable).
    ///
    /// If the issuer has the same keys already, its cached tokens stay valid. Otherwise each cached
    /// token whose key is still in the set needs one parse, but no signature check.
    ///
    /// # Errors
    /// [`UnknownIssuerError`] if no issuer has this name; then nothing has changed.
    #[inline]
    pub fn set_keys(
        &mut self,
        issuer: &str,
        keys: Option<&Arc<KeySet>>,
    ) -> Result<(), UnknownIssuerError> {
        let index = self.indexes.get(issuer).and_then(|index| usize::try_from(*index).ok());
        let found = index.and_then(|index| self.issuers.get_mut(index));
        found.ok_or_else(|| UnknownIssuerError(issuer.into()))?.set_keys(keys);
        Ok(())
    }

    /// Replaces all issuers. Those with the same configuration and keys as before keep their cached
    /// tokens.
    ///
    /// # Errors
    /// [`DuplicateIssuerError`] if two issuers have the same name; then nothing has changed.
    pub fn set_issuers(
        &mut self,
        issuers: impl IntoIterator<Item = Issuer>,
    ) -> Result<(), DuplicateIssuerError> {
        let mut next = Self::new(issuers)?;
        for issuer in &mut next.issuers {
            if let Some(before) = self.issuer(&issuer.config().name) {
                issuer.continue_from(before);
            }
        }
        *self = next;
        Ok(())
    }

    /// Returns the issuer with exactly this name, and its index.
    pub(crate) fn find(&self, name: &str) -> Option<(u32, &Issuer)> {
        let index = *self.indexes.get(name)?;
        Some((index, self.issuers.get(usize::try_from(index).ok()?)?))
    }

    /// Returns the issuer at this index, if there is one.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&Issuer> {
        self.issuers.get(index)
    }

    /// Returns the issuer at an index that is known to exist.
    #[expect(
        clippy::indexing_slicing,
        reason = "the caller has compared the epoch of the issuer at this index"
    )]
    pub(crate) fn issuer_at(&self, index: usize) -> &Issuer {
        &self.issuers[index]
    }
}
