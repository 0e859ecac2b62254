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
    issuers: HashMap<Box<str>, Issuer, RandomState>,
}

/// Two issuers of the same name: a token could not tell whose rules it is under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateIssuer(pub Box<str>);

impl fmt::Display for DuplicateIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two issuers are called {:?}", self.0)
    }
}

impl core::error::Error for DuplicateIssuer {}

impl Snapshot {
    /// A snapshot of these issuers.
    ///
    /// # Errors
    /// [`DuplicateIssuer`] when two have the same name.
    pub fn new(issuers: impl IntoIterator<Item = Issuer>) -> Result<Self, DuplicateIssuer> {
        let mut snapshot = Self::default();
        for issuer in issuers {
            if let Some(earlier) = snapshot.issuers.insert(issuer.config().name.clone(), issuer) {
                return Err(DuplicateIssuer(earlier.config().name.clone()));
            }
        }
        Ok(snapshot)
    }

    /// The issuer of exactly this name.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.get(name)
    }

    /// Every issuer, in no particular order.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.values()
    }

    /// This snapshot with the keys of one issuer replaced, all of them, or taken
    /// away; unchanged if there is no such issuer.
    #[must_use]
    pub fn with_keys(&self, issuer: &str, keys: Option<&Arc<KeySet>>) -> Self {
        let mut next = self.clone();
        if let Some(issuer) = next.issuers.get_mut(issuer) {
            *issuer = Issuer::new(Arc::clone(issuer.config()), keys.cloned());
        }
        next
    }
}
