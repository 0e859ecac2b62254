//! Authentication of a call by its token.

use countersign_engine::{Reject, jws::UnverifiedToken};
use http::{Response, StatusCode};

use super::{error::ApiError, require_users, signer};
use crate::{
    accounts::{
        TokenRegistration,
        session::{Session, is_login},
    },
    api::ApiContext,
    auth::{
        Caller, Rejection,
        credential::Credential,
        profile::{Profile, Style, inmanta},
    },
    base::{
        clock, exact_json,
        outcome::Outcome,
        reply::{Body, Reply},
    },
    identities::settings::is_access_token,
};

/// Returns the session of the caller, if authentication is on and the call has a token.
///
/// # Errors
/// The response to a rejected token.
pub(super) async fn authenticate(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    credential: Credential<'_>,
) -> Result<Option<Session>, Box<Reply>> {
    if !context.settings.requires_token {
        return Ok(None);
    }
    let challenges = &context.auth.challenges;
    let token = match credential {
        Credential::None => return Ok(None),
        Credential::Conflict | Credential::CrossSite => {
            let response = Profile::Inmanta.conflict(Style::Body, challenges);
            return Err(refused(context, Outcome::Conflict, response));
        }
        Credential::Token(token) => token,
    };
    match verify(context, caller, token).await {
        Ok(session) => Ok(Some(session)),
        Err(SessionRefusal::MachineIdentity) => {
            let response = ApiError::Forbidden(MACHINE_IDENTITY.into()).into_response();
            Err(Box::new(Reply::with_outcome(Outcome::Denied, response)))
        }
        Err(SessionRefusal::Rejected(rejection)) => {
            let (reject, outcome) = (rejection.reject, rejection.outcome());
            let refusal = context.authenticator.refusal(Profile::Inmanta, rejection, token);
            let status = if is_ended_session(context, reject, token) {
                StatusCode::UNAUTHORIZED
            } else {
                context.auth.rejected_token_status
            };
            let response = Profile::Inmanta.refuse(Style::Body, challenges, &refusal, status);
            Err(Box::new(Reply::with_outcome(outcome, response)))
        }
        Err(SessionRefusal::Registry(error)) => Err(Box::new(error.into_response().into())),
    }
}

/// Reason to refuse the token of a call.
pub(in crate::api) enum SessionRefusal {
    /// It is that of a machine identity.
    MachineIdentity,
    /// It is rejected.
    Rejected(Rejection),
    /// It is not in the registry of issued tokens, or the registry cannot be queried.
    Registry(ApiError),
}

/// Message for the token of a machine identity.
pub(in crate::api) const MACHINE_IDENTITY: &str =
    "The token of a machine identity cannot be used for this API.";

/// Verifies the token of a call, and counts the outcome.
///
/// # Errors
/// The [`SessionRefusal`].
pub(in crate::api) async fn verify(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    token: &[u8],
) -> Result<Session, SessionRefusal> {
    let metrics = &context.authenticator.metrics;
    let verified = context.authenticator.verify(caller, token).await;
    let verified = verified.and_then(|verified| {
        Profile::Inmanta.check(&verified, clock::now, &context.authenticator.keys)?;
        Ok(verified)
    });
    let verified = verified.map_err(|rejection| {
        metrics.count_call(rejection.outcome());
        SessionRefusal::Rejected(rejection)
    })?;
    if is_access_token(&verified) {
        metrics.count_call(Outcome::Denied);
        return Err(SessionRefusal::MachineIdentity);
    }
    let issuer = &verified.issuer().name;
    let is_ours = signer(context.settings).is_some_and(|one| one.issuer.name == *issuer);
    let may_administer = context.auth.authorization.may_administer(issuer);
    let session = Session::of(&verified, token, is_ours, may_administer);
    drop(verified);
    metrics.count_call(Outcome::Verified);
    check_registry(context, &session).await.map_err(SessionRefusal::Registry)?;
    Ok(session)
}

/// Whether a rejected token is a login session that was ended or has expired. The status is then
/// 401, on which the web console returns to the login.
///
/// Only an authentic token is rejected for these reasons, so its claims can be trusted.
fn is_ended_session(context: &ApiContext<'_>, reject: Reject, token: &[u8]) -> bool {
    let issuer = || context.authenticator.verifier.claimed_issuer(token);
    matches!(reject, Reject::Revoked | Reject::Expired)
        && signer(context.settings)
            .is_some_and(|one| issuer().is_some_and(|issuer| issuer.name == one.issuer.name))
        && UnverifiedToken::decode(token)
            .is_ok_and(|token| is_login(&exact_json::claims(&token.payload)))
}

fn refused(context: &ApiContext<'_>, outcome: Outcome, response: Response<Body>) -> Box<Reply> {
    context.authenticator.metrics.count_call(outcome);
    Box::new(Reply::with_outcome(outcome, response))
}

/// Checks that a token of this server with a `jti` is in the registry.
///
/// This only enforces revocation. It does not protect against a stolen signing key, whose owner
/// could omit the `jti`.
async fn check_registry(context: &ApiContext<'_>, session: &Session) -> Result<(), ApiError> {
    let Some(jti) = session.registered_id() else { return Ok(()) };
    if uuid::Uuid::parse_str(jti).is_err() {
        return Err(ApiError::Forbidden("The provided token has an invalid jti claim.".into()));
    }
    let text = match require_users(context)?.token_registration(jti).await? {
        TokenRegistration::Valid => return Ok(()),
        TokenRegistration::Revoked => inmanta::REVOKED,
        TokenRegistration::Unknown => {
            "The provided token is not recognized; it may have been revoked."
        }
    };
    Err(ApiError::Forbidden(text.into()))
}
