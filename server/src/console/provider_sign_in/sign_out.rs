//! Sign-out of a session that began at the provider.

use http::Response;

use super::{
    super::{
        ConsoleContext, ConsoleRequest, audit_event, error_page::ConsoleError,
        provider::ConsoleProvider, request, see_other, session::ConsoleUser,
        sign_in::SIGNED_OUT_HERE_PATH,
    },
    log_failure, pages,
};
use crate::{
    audit::{AuditCaller, AuditOperation, AuditOutcome},
    auth::Caller,
    base::reply::Body,
};

/// Ends the session of a user here, revokes its refresh token at the provider, and leads to the
/// sign-out of the provider.
///
/// # Errors
/// The session cannot be deleted.
pub(in crate::console) async fn sign_out(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    user: ConsoleUser,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let mut event = audit_event::new(AuditOperation::Logout, caller);
    event.outcome = AuditOutcome::Done;
    event.caller = AuditCaller::of(&user.session);
    let (id_token, refresh_token) =
        user.provider.clone().map_or((None, None), |part| (part.id_token, part.refresh));
    user.end(context, caller).await?;
    audit_event::record(context, event).await;
    let provider = context.provider.zip(request::origin(context, request));
    let Some((provider, origin)) = provider else { return Ok(see_other(SIGNED_OUT_HERE_PATH)) };
    if let Some(refresh_token) = refresh_token {
        // The session has ended, whatever the provider answers.
        revoke(provider, refresh_token, &origin).await;
    }
    let verifier = &context.api.authenticator.verifier;
    let uri = |id_token| provider.client.end_session_uri(id_token, &origin, verifier);
    Ok(match (uri(id_token.as_deref()).await, uri(None).await) {
        (Ok(Some(location)), Ok(Some(shown))) => pages::leave(provider, &location, &shown),
        (Ok(_), Ok(_)) => see_other(SIGNED_OUT_HERE_PATH),
        (Err(error), _) | (_, Err(error)) => {
            log_failure(&error);
            see_other(SIGNED_OUT_HERE_PATH)
        }
    })
}

/// Revokes a refresh token at the provider. If that fails, it is valid until the provider ends it.
async fn revoke(provider: &ConsoleProvider, refresh_token: String, origin: &str) {
    if let Err(error) = provider.client.revoke(refresh_token, origin).await {
        let code = error.code();
        tracing::warn!(code, "cannot revoke the refresh token of a session that ended: {error}");
    }
}
