//! What the calls about all login methods have in common: the terms of access tokens.

use serde_json::{Value, json};

use super::{
    InfisicalContext, body::BodyReader, error::InfisicalError, identities::missing, new_id,
    shown_time,
};
use crate::{
    base::clock,
    identities::{
        revocation,
        trusted_ips::{self, TrustedIps},
    },
    store::{
        StoreError,
        identity_methods::{IdentityMethod, MethodKind, TokenTerms},
    },
};

/// Longest lifetime, in seconds: ten years.
pub(in crate::api) const MAX_TTL: u64 = 315_360_000;
/// Largest number that clients in JavaScript can read.
pub(in crate::api) const MAX_USES: u64 = 9_007_199_254_740_991;

/// Members of bodies.
const TTL_MEMBER: &str = "accessTokenTTL";
const MAX_TTL_MEMBER: &str = "accessTokenMaxTTL";
const TRUSTED_IPS: &str = "accessTokenTrustedIps";

impl Default for TokenTerms {
    fn default() -> Self {
        const DAYS_30: u64 = 2_592_000;
        Self {
            ttl: DAYS_30,
            max_ttl: DAYS_30,
            period: 0,
            uses_limit: 0,
            trusted_ips: vec!["0.0.0.0/0".into(), "::/0".into()],
        }
    }
}

/// Terms in a body; `None` for those that it does not have.
#[derive(Debug, Default)]
pub(super) struct TermsChanges {
    ttl: Option<u64>,
    max_ttl: Option<u64>,
    uses_limit: Option<u64>,
    trusted_ips: Option<Vec<String>>,
}

impl TermsChanges {
    /// Reads the terms of a new method or a change. `min_max_ttl` is the smallest maximum lifetime.
    pub(super) fn read(reader: &mut BodyReader, is_change: bool, min_max_ttl: u64) -> Self {
        let trusted_ips = reader.objects(TRUSTED_IPS, "ipAddress");
        if trusted_ips.as_ref().is_some_and(Vec::is_empty) {
            reader.report(TRUSTED_IPS, "Array must contain at least 1 element(s)");
        }
        let terms = Self {
            ttl: reader.number(TTL_MEMBER, 0, MAX_TTL),
            max_ttl: reader.number(MAX_TTL_MEMBER, min_max_ttl, MAX_TTL),
            uses_limit: reader.number("accessTokenNumUsesLimit", 0, MAX_USES),
            trusted_ips,
        };
        if terms.exceed_max_ttl(is_change) {
            let message = "Access Token TTL cannot be greater than Access Token Max TTL.";
            reader.report_at(&terms.lifetime_pointer(), TTL_MEMBER, message);
        }
        terms
    }

    /// Whether a token would live longer than its renewals. What a change leaves out is in the
    /// database, and checked when it is [applied](Self::apply).
    fn exceed_max_ttl(&self, is_change: bool) -> bool {
        if is_change {
            let both = self.ttl.zip(self.max_ttl);
            return both.is_some_and(|(ttl, max_ttl)| max_ttl > 0 && ttl > max_ttl);
        }
        let default = TokenTerms::default();
        self.ttl.unwrap_or(default.ttl) > self.max_ttl.unwrap_or(default.max_ttl)
    }

    /// Returns the pointer to the lifetime in a body, or to its maximum if the body has only that.
    fn lifetime_pointer(&self) -> String {
        let is_max_only = self.ttl.is_none() && self.max_ttl.is_some();
        format!("/{}", if is_max_only { MAX_TTL_MEMBER } else { TTL_MEMBER })
    }

    /// Whether they have a list of trusted addresses.
    pub(super) const fn have_trusted_ips(&self) -> bool {
        self.trusted_ips.is_some()
    }

    /// Applies the terms.
    ///
    /// # Errors
    /// An address is malformed, or a token would live longer than its renewals.
    pub(super) fn apply(&self, terms: &mut TokenTerms) -> Result<(), InfisicalError> {
        terms.ttl = self.ttl.unwrap_or(terms.ttl);
        terms.max_ttl = self.max_ttl.unwrap_or(terms.max_ttl);
        terms.uses_limit = self.uses_limit.unwrap_or(terms.uses_limit);
        if terms.max_ttl > 0 && terms.ttl > terms.max_ttl {
            let message = "Access token TTL cannot be greater than max TTL";
            return Err(InfisicalError::bad_request(message).at(&self.lifetime_pointer()));
        }
        if let Some(trusted_ips) = &self.trusted_ips {
            terms.trusted_ips = normalized_ips(TRUSTED_IPS, trusted_ips)?;
        }
        Ok(())
    }
}

/// Returns the addresses and networks of a member as they are stored.
pub(super) fn normalized_ips(
    member: &str,
    given: &[String],
) -> Result<Vec<String>, InfisicalError> {
    let normalized = given.iter().enumerate().map(|(index, one)| {
        trusted_ips::normalized(one).map_err(|_| {
            let message = "The IP is not a valid IPv4, IPv6, or CIDR block";
            InfisicalError::bad_request(message).at(&format!("/{member}/{index}"))
        })
    });
    normalized.collect()
}

/// Creates a login method of an identity.
pub(super) fn new_method(
    identity: &str,
    terms: TokenTerms,
) -> Result<IdentityMethod, InfisicalError> {
    let (id, identity, now) = (new_id()?, identity.to_owned(), clock::now());
    Ok(IdentityMethod { id, identity, terms, created_at: now, updated_at: now })
}

/// Returns whether a new login method was stored: `already` is the message if the identity has one.
pub(super) fn check_stored(
    stored: Result<(), StoreError>,
    method: &IdentityMethod,
    already: &'static str,
) -> Result<(), InfisicalError> {
    match stored {
        Ok(()) => {
            warn_of_one_family(method);
            Ok(())
        }
        Err(StoreError::AlreadyExists) => Err(InfisicalError::conflict(already)),
        // The identity was deleted meanwhile.
        Err(StoreError::ForeignKeyViolation) => Err(missing(&method.identity)),
        Err(error) => Err(error.into()),
    }
}

/// Returns a changed login method, of which other requests see no earlier state from now on.
/// `detached` is the message if the identity has none.
pub(super) fn changed_method<M>(
    context: &InfisicalContext<'_>,
    changed: Result<Option<Result<M, InfisicalError>>, StoreError>,
    detached: &'static str,
) -> Result<M, InfisicalError> {
    let changed = changed?;
    // Also after a refusal, which costs a look-up only.
    context.checks.forget_methods();
    changed.ok_or_else(|| InfisicalError::not_found(detached))?
}

/// Warns about trusted addresses of one family alone: a client that also has one of the other
/// family may use that.
pub(super) fn warn_of_one_family(method: &IdentityMethod) {
    let trusted = TrustedIps::parse(&method.terms.trusted_ips);
    if let Some(family) = trusted.ok().and_then(|trusted| trusted.only_family()) {
        tracing::warn!(
            identity = method.identity,
            method = method.id,
            "the access tokens of this login method can be used over {family} only, as its trusted \
             addresses are: add some of the other family if its clients may connect over both"
        );
    }
}

/// Deletes a login method. Its tokens are revoked before, with those of concurrent logins.
pub(super) async fn delete_method(
    context: &InfisicalContext<'_>,
    method: &IdentityMethod,
    kind: MethodKind,
) -> Result<(), InfisicalError> {
    let revocations = revocation::of_method(context.settings, &method.id, clock::now());
    context.api.revocations.revoke_all(revocations).await?;
    context.users.store.delete_identity_method(&method.identity, kind).await?;
    context.checks.forget_methods();
    Ok(())
}

/// Returns what all methods have, as Infisical shows it.
pub(super) fn method_json(method: &IdentityMethod) -> Value {
    let trusted_ips = method.terms.trusted_ips.iter();
    json!({
        "id": method.id,
        "identityId": method.identity,
        "accessTokenTTL": method.terms.ttl,
        "accessTokenMaxTTL": method.terms.max_ttl,
        "accessTokenNumUsesLimit": method.terms.uses_limit,
        "accessTokenTrustedIps": trusted_ips.map(|one| trusted_ips::shown(one)).collect::<Vec<_>>(),
        "createdAt": shown_time(method.created_at),
        "updatedAt": shown_time(method.updated_at),
    })
}
