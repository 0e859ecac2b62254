//! The proof that a token was verified, and what it says.

use core::fmt;
use std::sync::Arc;

use arc_swap::Guard;

use crate::{
    issuer::{Issuer, IssuerConfig},
    keyset::KeyIdentity,
    note::{RecordField, VerificationRecord},
    snapshot::Snapshot,
    time::UnixTime,
    token,
};

/// A token that was genuine and acceptable at the moment it was verified.
///
/// Only [`Verifier::verify`](crate::Verifier::verify) makes one, so holding it is
/// the proof. It says nothing about any later moment. It keeps the snapshot it was
/// verified under, so hold it for a request and not for longer.
pub struct Verified<'t> {
    token: &'t [u8],
    snapshot: Guard<Arc<Snapshot>>,
    record: VerificationRecord,
    is_cached: bool,
}

impl<'t> Verified<'t> {
    pub(crate) fn new(
        token: &'t [u8],
        snapshot: Guard<Arc<Snapshot>>,
        record: VerificationRecord,
        is_cached: bool,
    ) -> Self {
        Self { token, snapshot, record, is_cached }
    }

    /// The issuer whose key signed the token.
    #[must_use]
    pub fn issuer(&self) -> &IssuerConfig {
        self.issuer_and_keys().config()
    }

    /// The key that signed it.
    #[must_use]
    pub fn key(&self) -> KeyIdentity {
        self.record.key()
    }

    /// What it claims.
    #[must_use]
    pub fn claims(&self) -> Claims<'_> {
        Claims { token: self.token, record: &self.record }
    }

    /// Who it names, as that may stand in headers.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity { issuer: self.issuer_and_keys(), record: &self.record }
    }

    /// Whether it was answered from the cache, as it was seen before.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.is_cached
    }

    fn issuer_and_keys(&self) -> &Issuer {
        self.snapshot.issuer_at(self.record.issuer())
    }
}

impl Clone for Verified<'_> {
    fn clone(&self) -> Self {
        let snapshot = Guard::from_inner(Arc::clone(&self.snapshot));
        Self { token: self.token, snapshot, record: self.record.clone(), is_cached: self.is_cached }
    }
}

impl fmt::Debug for Verified<'_> {
    /// Names the issuer; what a token says is nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("issuer", &self.issuer().name).finish_non_exhaustive()
    }
}

/// The claims of a verified token.
#[derive(Clone, Copy)]
pub struct Claims<'v> {
    token: &'v [u8],
    record: &'v VerificationRecord,
}

impl<'v> Claims<'v> {
    /// The payload exactly as it was signed: a strict JSON object (RFC 8259). It is
    /// decoded anew each time, since most who ask about a token never want it.
    #[must_use]
    pub fn json(self) -> Vec<u8> {
        token::payload_json(self.token).unwrap_or_default()
    }

    /// `sub`.
    #[must_use]
    pub fn subject(self) -> Option<&'v str> {
        self.record.field(RecordField::Subject)
    }

    /// The string in the claim that the issuer is configured to name users by.
    #[must_use]
    pub fn username(self) -> Option<&'v str> {
        self.record.field(RecordField::Username)
    }

    /// The client types, the default included when the token states none.
    pub fn client_types(self) -> impl Iterator<Item = &'v str> {
        self.record.field(RecordField::ClientTypes).unwrap_or_default().split_terminator(',')
    }

    /// The environment the token is scoped to, if it is.
    #[must_use]
    pub fn environment(self) -> Option<&'v str> {
        self.record.field(RecordField::Environment)
    }

    /// The first second in which the token is dead; `None` for one that never expires.
    #[must_use]
    pub fn expires_at(self) -> Option<UnixTime> {
        self.record.expires_at()
    }
}

/// Who a verified token names, in visible ASCII: what is not, and `%`, is
/// percent-encoded, so that no two look alike. Made when the token was first verified.
#[derive(Clone, Copy)]
pub struct Identity<'v> {
    issuer: &'v Issuer,
    record: &'v VerificationRecord,
}

impl<'v> Identity<'v> {
    /// `sub`, or nothing.
    #[must_use]
    pub fn subject(self) -> &'v str {
        self.escaped(RecordField::HeaderSubject, RecordField::Subject)
    }

    /// The user's name, or nothing.
    #[must_use]
    pub fn user(self) -> &'v str {
        self.escaped(RecordField::HeaderUsername, RecordField::Username)
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(self) -> &'v str {
        self.issuer.identity()
    }

    /// The client types, separated by commas.
    #[must_use]
    pub fn client_types(self) -> &'v str {
        self.escaped(RecordField::HeaderClientTypes, RecordField::ClientTypes)
    }

    fn escaped(self, escaped: RecordField, plain: RecordField) -> &'v str {
        self.record.field(escaped).or_else(|| self.record.field(plain)).unwrap_or_default()
    }
}
