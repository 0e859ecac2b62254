//! The proof that a token was verified, and what it says.

use core::fmt;
use std::sync::Arc;

use crate::{
    issuer::IssuerConfig,
    keyset::KeyIdentity,
    reject::Reject,
    rules::{self, NamedClaims, Rules},
    time::UnixTime,
    token::{ClaimNodes, Value},
};

/// A token that was genuine and acceptable at the moment it was verified.
///
/// Only [`Verifier::verify`](crate::Verifier::verify) makes one, so holding it is
/// the proof. It says nothing about any later moment.
#[derive(Clone)]
pub struct Verified {
    issuer: Arc<IssuerConfig>,
    key: KeyIdentity,
    claims: Claims,
}

impl Verified {
    pub(crate) fn new(issuer: Arc<IssuerConfig>, key: KeyIdentity, claims: Claims) -> Self {
        Self { issuer, key, claims }
    }

    /// The issuer whose key signed the token.
    #[must_use]
    pub fn issuer(&self) -> &IssuerConfig {
        &self.issuer
    }

    /// The key that signed it.
    #[must_use]
    pub fn key(&self) -> KeyIdentity {
        self.key
    }

    /// What it claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

impl fmt::Debug for Verified {
    /// Names the issuer; what a token says is nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}

/// The claims of a verified token.
#[derive(Clone)]
pub struct Claims {
    payload: Box<[u8]>,
    subject: Option<Box<str>>,
    username: Option<Box<str>>,
    client_types: Box<str>,
    environment: Option<Box<str>>,
    expires_at: Option<UnixTime>,
}

impl Claims {
    /// Copies what later steps ask for out of claims that have passed `rules`.
    pub(crate) fn collect(
        rules: &Rules,
        claims: &ClaimNodes<'_, '_>,
        named: &NamedClaims<'_, '_>,
        payload: &[u8],
    ) -> Result<Self, Reject> {
        let text = |claim: Option<Value<'_, '_>>| claim.and_then(Value::as_str).map(Box::from);
        Ok(Self {
            payload: payload.into(),
            subject: text(claims.subject),
            username: text(named.username),
            client_types: rules.client_types.join(named.client_types),
            environment: text(named.environment),
            expires_at: rules::time(claims.expires, Reject::ExpiryFormat)?,
        })
    }

    /// The payload exactly as it was signed: a strict JSON object (RFC 8259).
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.payload
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The string in the claim that the issuer is configured to name users by.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The client types, the default included when the token states none.
    pub fn client_types(&self) -> impl Iterator<Item = &str> {
        self.client_types.split_terminator(',')
    }

    /// The environment the token is scoped to, if it is.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }

    /// The first second in which the token is dead; `None` for one that never expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixTime> {
        self.expires_at
    }
}
