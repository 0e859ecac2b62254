//! The state that a verification depends on, as one immutable value.
//!
//! [`Verifier::update`](crate::Verifier::update) changes a copy of the [`Snapshot`] and swaps it in
//! whole, so a verification sees the state before or after the change, never a mixture.

use core::fmt;
use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use crate::{issuer::Issuer, keyset::KeySet};

/// The accepted issuers at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    issuers: Vec<Issuer>,
    /// The issuers by name and alias, without those that contain a tenant.
    indexes: Arc<HashMap<Box<str>, u32, RandomState>>,
    /// The issuers with tenants.
    with_tenants: Arc<[u32]>,
}

/// An issuer found by the `iss` of a token.
#[derive(Clone, Copy)]
pub(crate) struct FoundIssuer<'s, 'n> {
    pub(crate) index: u32,
    pub(crate) issuer: &'s Issuer,
    /// The tenant in the `iss`, if the issuer has tenants.
    pub(crate) tenant: Option<&'n str>,
}

/// Two issuers have the same name or alias, so a token could not select one of them.
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
    /// [`DuplicateIssuerError`] if two issuers have the same name or alias.
    pub fn new(issuers: impl IntoIterator<Item = Issuer>) -> Result<Self, DuplicateIssuerError> {
        let issuers: Vec<_> = issuers.into_iter().collect();
        let mut indexes = HashMap::default();
        let mut with_tenants = Vec::new();
        for (index, issuer) in (0..).zip(&issuers) {
            let config = issuer.config();
            for name in config.patterns().filter_map(|pattern| pattern.exact()) {
                if indexes.insert(name.into(), index).is_some() {
                    return Err(DuplicateIssuerError(name.into()));
                }
            }
            if issuer.has_tenants() {
                let mut others = issuers.iter().filter(|other| !core::ptr::eq(*other, issuer));
                if others.any(|other| config.shares_name_with(other.config())) {
                    return Err(DuplicateIssuerError(config.name.clone()));
                }
                with_tenants.push(index);
            }
        }
        Ok(Self { issuers, indexes: Arc::new(indexes), with_tenants: with_tenants.into() })
    }

    /// Returns the issuer whose [`IssuerConfig::name`](crate::IssuerConfig::name) is exactly this.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| *issuer.config().name == *name)
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
        let found = self.issuers.iter_mut().find(|one| *one.config().name == *issuer);
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

    /// Returns the issuer with exactly this `iss`.
    pub(crate) fn find<'n>(&self, name: &'n str) -> Option<FoundIssuer<'_, 'n>> {
        let get = |index: u32| self.issuers.get(usize::try_from(index).ok()?);
        if let Some(index) = self.indexes.get(name).copied() {
            return Some(FoundIssuer { index, issuer: get(index)?, tenant: None });
        }
        self.with_tenants.iter().copied().find_map(|index| {
            let issuer = get(index)?;
            let tenant = issuer.config().match_name(name)?;
            Some(FoundIssuer { index, issuer, tenant })
        })
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
