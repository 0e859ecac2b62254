//! Everything a verification needs to know, as one immutable value.
//!
//! A change makes a new snapshot and swaps it in whole: a verification sees the
//! state before or after, never half of each.

use core::fmt;
use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use crate::{issuer::Issuer, keyset::KeySet};

/// The issuers accepted at one moment, by their exact names.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    issuers: Vec<Issuer>,
    indexes: Arc<HashMap<Box<str>, u32, RandomState>>,
}

/// Two issuers of the same name: a token could not tell whose rules it is under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateIssuerError(pub Box<str>);

impl fmt::Display for DuplicateIssuerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two issuers are called {:?}", self.0)
    }
}

impl core::error::Error for DuplicateIssuerError {}

impl Snapshot {
    /// A snapshot of these issuers.
    ///
    /// # Errors
    /// [`DuplicateIssuerError`] when two have the same name.
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

    /// The issuer of exactly this name.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.find(name).map(|(_, issuer)| issuer)
    }

    /// Every issuer.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.iter()
    }

    /// This snapshot with the keys of one issuer replaced, all of them, or taken
    /// away; unchanged if there is no such issuer, or it has these keys already.
    #[must_use]
    pub fn with_keys(&self, issuer: &str, keys: Option<&Arc<KeySet>>) -> Self {
        let mut next = self.clone();
        let index = self.indexes.get(issuer).and_then(|index| usize::try_from(*index).ok());
        if let Some(issuer) = index.and_then(|index| next.issuers.get_mut(index)) {
            *issuer = issuer.with_keys(keys);
        }
        next
    }

    /// The issuer of exactly this name, and its place.
    pub(crate) fn find(&self, name: &str) -> Option<(u32, &Issuer)> {
        let index = *self.indexes.get(name)?;
        Some((index, self.issuers.get(usize::try_from(index).ok()?)?))
    }

    /// The issuer at this place, if there are so many.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&Issuer> {
        self.issuers.get(index)
    }

    /// The issuer at a place that is known to have one.
    #[expect(
        clippy::indexing_slicing,
        reason = "the stamp found at this place vouches that there is an issuer"
    )]
    pub(crate) fn issuer_at(&self, index: usize) -> &Issuer {
        &self.issuers[index]
    }
}
