//! `POST /logout`: ends sessions.

use http::Response;

use super::{
    CallContext,
    error::ApiError,
    login::login_session,
    ok_empty,
    users::{end_sessions, sessions_end},
};
use crate::{
    accounts::revoke_token,
    base::{clock, printable::printable, reply::Body},
};

/// Ends the session of the caller, or `all` sessions of the user.
pub(super) async fn log_out(
    context: &CallContext<'_>,
    all: bool,
) -> Result<Response<Body>, ApiError> {
    context.signer()?;
    let (session, username) = login_session(context).ok_or_else(|| {
        ApiError::request("Only login sessions issued by this server can be ended.")
    })?;
    if all && session.session_id().is_none() {
        // It may be that of another user of the same name, of a server with the same signing key.
        let text = "Only a login session that began here can end all sessions of the user.";
        return Err(ApiError::request(text));
    }
    let store = &context.users.store;
    if all {
        let end = sessions_end(context);
        // The user may have been deleted meanwhile.
        store.end_sessions(username, end).await?;
        end_sessions(context, username, end).await?;
    } else {
        for token in store.end_session(session.token().clone(), clock::now()).await? {
            let digest = token.digest.clone();
            revoke_token(context.api.revocations, token).await?;
            store.mark_token_revoked(&digest).await?;
        }
    }
    tracing::info!(user = %printable(username), client = %context.origin, all, "logout");
    Ok(ok_empty())
}
