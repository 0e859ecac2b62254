//! Calls about access tokens: renewal and revocation, and the response to a login.
//!
//! They authenticate by the token in their body alone. Other credentials of the request are ignored.

use http::Response;
use serde_json::json;

use super::{
    InfisicalContext,
    body::BodyReader,
    caller::{self, verify_presented},
    error::InfisicalError,
    ok,
    role_changes::roles_of,
};
use crate::{
    api::audited::AuditedCall,
    audit::AuditTarget,
    base::{clock, reply::Body},
    identities::{access_token::AccessTokenFacts, revocation},
    store::{
        StoreError,
        identity_tokens::{LimitedToken, TokenUse},
    },
};

/// Maximum lifetime that is reported for a token that can be renewed without end.
const PERIODIC_MAX_TTL: u64 = 1_000_000_000;

/// Reads the token in a body.
pub(super) fn read(body: &[u8]) -> Result<String, InfisicalError> {
    let mut reader = BodyReader::parse(body)?;
    let token = reader.text("accessToken");
    reader.finish()?;
    Ok(token)
}

/// Issues the token of a login. One with a limit of uses is stored before.
pub(super) async fn issue(
    context: &InfisicalContext<'_>,
    facts: &AccessTokenFacts,
) -> Result<Response<Body>, InfisicalError> {
    let now = facts.created_at;
    let token = facts.sign(context.settings, now).ok_or_else(past_max_ttl)?;
    if facts.uses_limit > 0 {
        let stored = LimitedToken {
            id: facts.id.clone(),
            method: facts.method.clone(),
            uses_limit: facts.uses_limit,
            created_at: now,
            expires_at: token.expires_at,
        };
        match context.users.store.add_limited_token(stored).await {
            Err(StoreError::ForeignKeyViolation) => {
                // The method was deleted meanwhile.
                return Err(InfisicalError::unauthorized("Identity not found"));
            }
            stored => stored?,
        }
    }
    let _first = context.issued.set(facts.id.clone());
    Ok(response(facts, &token.token, token.expires_in))
}

/// Returns a token and its identity for the audit log.
pub(super) fn audit_target(facts: &AccessTokenFacts) -> AuditTarget {
    let (user, token) = (Some(facts.identity.clone()), Some(facts.id.clone()));
    AuditTarget { user, token, ..AuditTarget::default() }
}

/// Verifies a token to renew.
pub(super) async fn verify_to_renew(
    context: &InfisicalContext<'_>,
    token: &str,
    audited: &mut AuditedCall<'_>,
) -> Result<AccessTokenFacts, InfisicalError> {
    verify_presented(context, token).await.map_err(|error| {
        if !error.is_revocation() {
            return error.into_error(context.settings);
        }
        if let Some(facts) = caller::facts_of_revoked(token.as_bytes()) {
            audited.set_target((audit_target(&facts), Some(facts.method_kind)));
        }
        let message = "Cannot renew: token has been revoked";
        InfisicalError::unauthorized(message).because("revoked")
    })
}

pub(super) async fn renew(
    context: &InfisicalContext<'_>,
    mut facts: AccessTokenFacts,
) -> Result<Response<Body>, InfisicalError> {
    let client = context.caller.client.get();
    context.checks.check_address(&facts.method, client).await?;
    // Before the roles are read: see `change_roles`.
    let now = clock::now();
    facts.roles = roles_of(context, &facts.identity).await?;
    let renewed = facts.sign(context.settings, now).ok_or_else(past_max_ttl)?;
    if facts.uses_limit > 0 {
        let store = &context.users.store;
        match store.renew_limited_token(&facts.id, renewed.expires_at).await? {
            TokenUse::Counted => {}
            TokenUse::Exhausted | TokenUse::Held(_) => {
                return Err(InfisicalError::unauthorized("Cannot renew exhausted access token"));
            }
            TokenUse::Revoked => {
                let message = "Cannot renew revoked or unknown access token";
                return Err(InfisicalError::unauthorized(message));
            }
        }
    }
    Ok(response(&facts, &renewed.token, renewed.expires_in))
}

/// Verifies a token to revoke. `None` if it was revoked before.
pub(super) async fn verify_to_revoke(
    context: &InfisicalContext<'_>,
    token: &str,
) -> Result<Option<AccessTokenFacts>, InfisicalError> {
    match verify_presented(context, token).await {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if error.is_revocation() => Ok(None),
        Err(error) => Err(error.into_error(context.settings)),
    }
}

/// Revokes a token with all its renewals, within the budget of its identity.
pub(super) async fn revoke(
    context: &InfisicalContext<'_>,
    facts: &AccessTokenFacts,
) -> Result<(), InfisicalError> {
    context.checks.begin_revocation(&facts.identity).map_err(InfisicalError::too_many)?;
    let revocation = revocation::of_token(context.settings, facts, clock::now());
    context.api.revocations.revoke(revocation).await?;
    if facts.uses_limit > 0 {
        context.users.store.revoke_limited_token(&facts.id).await?;
    }
    Ok(())
}

/// The response to a revocation, and to a second one.
pub(super) fn revoked() -> Response<Body> {
    ok(&json!({ "message": "Successfully revoked access token" }))
}

fn past_max_ttl() -> InfisicalError {
    InfisicalError::unauthorized("Cannot renew: identity access token has reached its max TTL")
}

fn response(facts: &AccessTokenFacts, token: &str, expires_in: u64) -> Response<Body> {
    let max_ttl = if facts.period > 0 { PERIODIC_MAX_TTL } else { facts.max_ttl };
    ok(&json!({
        "accessToken": token,
        "expiresIn": expires_in,
        "accessTokenMaxTTL": max_ttl,
        "tokenType": "Bearer",
    }))
}
