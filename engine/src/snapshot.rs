//! The state that a verification depends on, as one immutable value.
//!
//! A change builds a new [`Snapshot`] and swaps it in whole, so a verification sees the state
//! before or after the change, never a mixture.

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
        write!(f, "two issuers have the name {:?}", self.0)
    }
}

impl core::error::Error for DuplicateIssuerError {}

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

    /// Returns this snapshot with the keys of one issuer replaced, or withdrawn for `None`. The
    /// result is unchanged if the issuer is unknown or has the same keys already.
    #[must_use]
    pub fn with_keys(&self, issuer: &str, keys: Option<&Arc<KeySet>>) -> Self {
        let mut next = self.clone();
        let index = self.indexes.get(issuer).and_then(|index| usize::try_from(*index).ok());
        if let Some(issuer) = index.and_then(|index| next.issuers.get_mut(index)) {
            *issuer = issuer.with_keys(keys);
        }
        next
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
