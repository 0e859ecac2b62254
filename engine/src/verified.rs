//! The proof that a token was verified, and its claims.

use core::fmt;
use std::{borrow::Cow, sync::Arc};

use arc_swap::Guard;

use crate::{
    ExportedClaim,
    cache::record::{RecordField, VerificationRecord},
    issuer::{Issuer, IssuerConfig},
    keyset::KeyIdentity,
    rules::{MetConditions, TokenConditions},
    snapshot::Snapshot,
    time::UnixTime,
    token::{self, ClaimNodes, Scratch, with_scratch},
};

/// A token that was authentic and acceptable at the moment of its verification.
///
/// Only [`Verifier::verify`](crate::Verifier::verify) and
/// [`Verifier::verify_if`](crate::Verifier::verify_if) create one, so a value of this type is the
/// proof. It does not cover any later moment. It keeps the [`Snapshot`] of its
/// verification alive, so hold it for one request and not longer.
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

    /// The name of the issuer, whichever of its aliases is the `iss`, with the tenant of the token
    /// if the issuer has tenants.
    #[must_use]
    pub fn issuer_name(&self) -> &str {
        self.record.text(RecordField::Issuer).unwrap_or_else(|| &self.issuer().name)
    }

    /// The key that signed the token.
    #[must_use]
    pub fn key(&self) -> KeyIdentity {
        self.record.key()
    }

    /// Whether the header names the key by `kid`.
    #[must_use]
    pub fn names_key(&self) -> bool {
        self.record.names_key()
    }

    /// Decodes the header exactly as it was signed: a strict JSON object (RFC 8259).
    ///
    /// Most callers do not need it, so it is not kept: each call decodes it again.
    #[must_use]
    pub fn header_json(&self) -> Vec<u8> {
        token::header_json(self.token).unwrap_or_default()
    }

    /// The claims of the token.
    #[must_use]
    pub fn claims(&self) -> Claims<'_> {
        Claims { token: self.token, record: &self.record }
    }

    /// The identity in the token, encoded for HTTP headers.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity { issuer: self.issuer_and_keys(), record: &self.record }
    }

    /// Whether the result came from the cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.is_cached
    }

    /// The number of the verification that found the result: the same whenever this result is taken
    /// from the cache, and in this process the same for no other token or result.
    ///
    /// What a caller derives from the claims can be stored under this number. When the cache drops
    /// the token, or its issuer, its keys or a rule changes, a new verification has another number.
    #[inline]
    #[must_use]
    pub fn verification_id(&self) -> u64 {
        self.record.id()
    }

    /// Returns which of these conditions the token meets. They are looked up if they are those of
    /// its issuer's [`Rules::conditions`](crate::Rules::conditions), and evaluated otherwise.
    #[inline]
    #[must_use]
    pub fn conditions(&self, conditions: &TokenConditions) -> MetConditions<'_> {
        if self.issuer().rules.conditions == *conditions {
            MetConditions(Cow::Borrowed(self.record.conditions()))
        } else {
            MetConditions(Cow::Owned(self.evaluate(conditions)))
        }
    }

    /// Evaluates conditions that the issuer's rules did not have when the token was verified: they
    /// are replaced first, and the authorizer after them.
    #[cold]
    fn evaluate(&self, conditions: &TokenConditions) -> Vec<u64> {
        let (config, mut words) = (self.issuer(), Vec::new());
        let types = self.record.text(RecordField::ClientTypes).unwrap_or_default();
        with_scratch(|Scratch { jws, claims, .. }| {
            // The token was read before, so neither step can fail. Without bits, it meets nothing.
            if let Ok(jws) = jws.decode(self.token)
                && let Ok(document) = claims.parse(jws.payload)
            {
                conditions.evaluate(config, &ClaimNodes::find(&document), types, &mut words);
            }
        });
        words
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
    /// Shows the issuer only. Claims do not belong in a log.
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
    /// Decodes the payload exactly as it was signed: a strict JSON object (RFC 8259).
    ///
    /// Most callers do not need the payload, so it is not kept: each call decodes it again.
    #[must_use]
    pub fn json(self) -> Vec<u8> {
        token::payload_json(self.token).unwrap_or_default()
    }

    /// `sub`.
    #[must_use]
    pub fn subject(self) -> Option<&'v str> {
        self.record.text(RecordField::Subject)
    }

    /// The username in the claim that is configured for it, with the configured prefix.
    #[must_use]
    pub fn username(self) -> Option<&'v str> {
        self.record.text(RecordField::Username)
    }

    /// The client types, or the configured default if the token has none.
    pub fn client_types(self) -> impl Iterator<Item = &'v str> {
        self.record.text(RecordField::ClientTypes).unwrap_or_default().split_terminator(',')
    }

    /// The environment that the token is scoped to, if any.
    #[must_use]
    pub fn environment(self) -> Option<&'v str> {
        self.record.text(RecordField::Environment)
    }

    /// Whether a claim is a list that contains anything but strings.
    #[must_use]
    pub fn has_mixed_list(self) -> bool {
        self.record.has_mixed_list()
    }

    /// `iat`, the time at which the token was issued.
    #[must_use]
    pub fn issued_at(self) -> Option<UnixTime> {
        self.record.issued_at()
    }

    /// The first second in which the token has expired; `None` if it never expires.
    #[must_use]
    pub fn expires_at(self) -> Option<UnixTime> {
        self.record.expires_at()
    }
}

/// The identity in a verified token, in visible ASCII for HTTP headers.
///
/// All other characters, and `%`, are percent-encoded, so two different names never look alike. The
/// encoding is done once, when the token is first verified.
#[derive(Clone, Copy)]
pub struct Identity<'v> {
    issuer: &'v Issuer,
    record: &'v VerificationRecord,
}

impl<'v> Identity<'v> {
    /// `sub`, or empty.
    #[must_use]
    pub fn subject(self) -> &'v [u8] {
        self.escaped(RecordField::HeaderSubject, RecordField::Subject)
    }

    /// The username, or empty.
    #[must_use]
    pub fn user(self) -> &'v [u8] {
        self.escaped(RecordField::HeaderUsername, RecordField::Username)
    }

    /// The name of the issuer, whichever of its aliases is the `iss`, with the tenant of the token
    /// if the issuer has tenants.
    #[must_use]
    pub fn issuer(self) -> &'v [u8] {
        self.record.field(RecordField::Issuer).unwrap_or_else(|| self.issuer.identity().as_bytes())
    }

    /// The client types, separated by commas.
    #[must_use]
    pub fn client_types(self) -> &'v [u8] {
        self.escaped(RecordField::HeaderClientTypes, RecordField::ClientTypes)
    }

    /// The environment that the token is scoped to, or empty.
    #[must_use]
    pub fn environment(self) -> &'v [u8] {
        self.escaped(RecordField::HeaderEnvironment, RecordField::Environment)
    }

    /// The claims that the issuer exported when the token was verified, in the order of the values.
    #[must_use]
    pub fn exported_claims(self) -> &'v Arc<[ExportedClaim]> {
        &self.issuer.config().rules.exported_claims
    }

    /// The values of [`exported_claims`](Self::exported_claims), in the same order.
    #[inline]
    pub fn exported_values(self) -> impl Iterator<Item = &'v [u8]> + Clone {
        self.record.exported(self.exported_claims().len())
    }

    fn escaped(self, escaped: RecordField, plain: RecordField) -> &'v [u8] {
        self.record.field(escaped).or_else(|| self.record.field(plain)).unwrap_or_default()
    }
}
