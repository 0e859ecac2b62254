//! Authentication of a call by its token.

use http::{HeaderMap, StatusCode, header};

use super::error::AdminError;
use crate::{
    accounts::session::Session,
    api::{
        ApiContext,
        inmanta::{self, SessionRefusal},
    },
    auth::{Caller, credential::Credential, profile::Profile, verify},
    base::{
        outcome::Outcome,
        reply::{Reply, problem},
    },
};

/// Verifies the token of a call, and returns its [`Session`].
///
/// # Errors
/// The response to a request without one, or with one that is rejected.
pub(super) async fn authenticate(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    headers: &HeaderMap,
) -> Result<Session, Box<Reply>> {
    let challenges = &context.auth.challenges;
    let refused = |outcome, response| Box::new(Reply::with_outcome(outcome, response));
    let token = match context.auth.credentials.in_headers(headers) {
        Credential::Token(token) => token,
        Credential::None => {
            context.authenticator.metrics.count_call(Outcome::NoToken);
            let detail = "this call needs a bearer token";
            let mut response = problem(StatusCode::UNAUTHORIZED, "token_missing", detail);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenges.missing());
            return Err(refused(Outcome::NoToken, response));
        }
        Credential::Conflict | Credential::CrossSite => {
            context.authenticator.metrics.count_call(Outcome::Conflict);
            let detail = "the credential is given twice";
            let mut response = problem(StatusCode::BAD_REQUEST, "credential_conflict", detail);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenges.conflict());
            return Err(refused(Outcome::Conflict, response));
        }
    };
    match inmanta::verify_session(context, caller, token).await {
        Ok(session) => Ok(session),
        Err(SessionRefusal::MachineIdentity) => {
            let response = AdminError::forbidden(inmanta::MACHINE_IDENTITY).into_response();
            Err(refused(Outcome::Denied, response))
        }
        Err(SessionRefusal::Rejected(rejection)) => {
            let outcome = rejection.outcome();
            let refusal = context.authenticator.refusal(Profile::Generic, rejection, token);
            Err(refused(outcome, verify::refused(context.auth, &refusal)))
        }
        Err(SessionRefusal::Registry(error)) => {
            Err(Box::new(AdminError::from(error).into_response().into()))
        }
    }
}
