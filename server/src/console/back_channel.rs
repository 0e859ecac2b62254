//! Back-channel logout: the OpenID provider ends sessions (OpenID Connect Back-Channel Logout 1.0).
//!
//! The request comes from the provider and not from a browser: it has no cookie, and its logout
//! token is its credential.

use std::collections::BTreeSet;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::{
    ConsoleContext, ConsoleRequest, audit_event, danger,
    openid::{LogoutToken, LogoutTokenError},
    provider::ConsoleProvider,
};
use crate::{
    audit::{AuditOperation, AuditOutcome, AuditTarget},
    auth::Caller,
    base::reply::{Body, empty, json},
};

/// Answers a logout request (section 2.8).
pub(super) async fn respond(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    request: &ConsoleRequest,
) -> Response<Body> {
    let Err(error) = log_out(context, caller, request).await else { return empty(StatusCode::OK) };
    let client = caller.client.get();
    match &error {
        // Anyone can send such a request.
        LogoutTokenError::Form | LogoutTokenError::Token(_) | LogoutTokenError::Unavailable(_) => {
            tracing::debug!(%client, "back-channel logout refused: {error}");
        }
        _ => tracing::warn!(%client, "back-channel logout refused: {error}"),
    }
    let (status, description) = (error.status(), error.to_string());
    let is_unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
    let code = if is_unavailable { "temporarily_unavailable" } else { "invalid_request" };
    let body = json!({ "error": code, "error_description": description });
    let mut response = json(status, &body);
    if is_unavailable {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

async fn log_out(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    request: &ConsoleRequest,
) -> Result<(), LogoutTokenError> {
    let provider = context.provider.ok_or(LogoutTokenError::Form)?;
    let store = context.api.users.map(|users| &users.store).ok_or(LogoutTokenError::Database)?;
    let token = LogoutToken::read_form(request.body())?;
    let token = provider.client.verify_logout_token(&token, caller).await?;
    let section = &*provider.client.settings().section;
    let revokes = context.settings.backchannel_revokes_tokens;
    if revokes {
        // Before the sessions end, which name the subjects: the provider repeats what fails.
        let subjects = token.subjects(store, section).await?;
        revoke_tokens(context, provider, &token, &subjects).await?;
    }
    let ended = token.end_sessions(store, section).await?;
    let mut detail = format!("by the provider of {section}, sessions: {}", ended.len());
    if revokes {
        detail.push_str(", tokens revoked");
    }
    tracing::info!(sessions = ended.len(), "back-channel logout");
    let mut event = audit_event::new(AuditOperation::Logout, caller);
    event.outcome = AuditOutcome::Done;
    event.caller.issuer = Some(token.issuer.clone());
    event.target = AuditTarget { user: token.subject.clone(), ..AuditTarget::default() };
    event.detail = Some(detail);
    audit_event::record(context, event).await;
    Ok(())
}

/// Revokes the tokens of the subjects whose sessions end.
async fn revoke_tokens(
    context: &ConsoleContext<'_>,
    provider: &ConsoleProvider,
    token: &LogoutToken,
    subjects: &[String],
) -> Result<(), LogoutTokenError> {
    let subjects: BTreeSet<&String> = subjects.iter().chain(&token.subject).collect();
    for subject in subjects {
        if let Err(reason) = revoke_subject(context, provider, &token.issuer, subject).await {
            tracing::error!("cannot revoke the tokens of a subject that signs out: {reason}");
            return Err(LogoutTokenError::Revocation);
        }
    }
    Ok(())
}

async fn revoke_subject(
    context: &ConsoleContext<'_>,
    provider: &ConsoleProvider,
    issuer: &str,
    subject: &str,
) -> Result<(), String> {
    let authenticator = context.api.authenticator;
    let sources = authenticator.keys.all();
    let mut sections = sources.iter().map(|source| source.section());
    let section = sections.find(|section| provider.is_of_section(section.section()));
    let section = section.ok_or("its section is not configured any more")?;
    // ID tokens and access tokens may have different names of the issuer.
    let is_named = section.issuer.is_named(issuer);
    let issuer = if is_named { issuer } else { &*section.issuer.name };
    danger::revoke_subject(context, issuer, subject).await.map_err(|error| error.to_string())
}
