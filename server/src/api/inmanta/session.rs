//! Authentication of a call by its token.

use http::{HeaderMap, Response};

use super::{error::ApiError, require_users, signer};
use crate::{
    accounts::session::Session,
    api::ApiContext,
    auth::{
        Caller,
        profile::{Credential, Profile, Style},
    },
    base::{
        outcome::Outcome,
        reply::{Body, Reply},
    },
};

/// Returns the session of the caller, if authentication is on and the request has a token.
///
/// # Errors
/// The response to a rejected token.
pub(super) async fn authenticate(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    headers: &HeaderMap,
) -> Result<Option<Session>, Box<Reply>> {
    if !context.settings.requires_token {
        return Ok(None);
    }
    let token = match Profile::Inmanta.credential(headers, context.auth.additional_header.as_ref())
    {
        Credential::None => return Ok(None),
        Credential::Conflict => {
            return Err(refused(
                context,
                Outcome::Conflict,
                Profile::Inmanta.conflict(Style::Body),
            ));
        }
        Credential::Token(token) => token,
    };
    let session = match context.authenticator.verify(caller, token).await {
        Ok(verified) => {
            let issuer = &verified.issuer().name;
            let is_ours = signer(context.settings).is_some_and(|one| one.issuer.name == *issuer);
            Session::of(&verified, is_ours, context.settings.may_administer(issuer))
        }
        Err(rejection) => {
            let refusal = context.authenticator.refusal(rejection, token);
            let response =
                Profile::Inmanta.refuse(Style::Body, &refusal, context.auth.rejected_token_status);
            return Err(refused(context, rejection.outcome(), response));
        }
    };
    context.authenticator.metrics.count(Outcome::Verified);
    match check_registry(context, &session).await {
        Ok(()) => Ok(Some(session)),
        Err(error) => Err(Box::new(error.into_response().into())),
    }
}

fn refused(context: &ApiContext<'_>, outcome: Outcome, response: Response<Body>) -> Box<Reply> {
    context.authenticator.metrics.count(outcome);
    Box::new(Reply::with_outcome(outcome, response))
}

/// Checks that a token of this server with a `jti` is in the registry.
///
/// This only enforces revocation. It does not protect against a stolen signing key, whose owner
/// could omit the `jti`.
async fn check_registry(context: &ApiContext<'_>, session: &Session) -> Result<(), ApiError> {
    let Some(jti) = session.registered_id() else { return Ok(()) };
    let is_uuid = uuid::Uuid::parse_str(jti).is_ok();
    if is_uuid && require_users(context)?.is_token_registered(jti).await? {
        Ok(())
    } else {
        Err(ApiError::Forbidden("The token is not in the registry, or was revoked.".into()))
    }
}
