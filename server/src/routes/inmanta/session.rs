//! Authentication of a call by its token.

use http::{HeaderMap, Response};

use super::{Reply, fault::ApiError, require_users, signer};
use crate::{
    admission::Caller,
    app::App,
    config::Server,
    http::Body,
    metrics::Outcome,
    surface::{Credential, Profile, Style, inmanta::session::Session},
};

/// Returns the session of the caller, if authentication is on and the request has a token.
///
/// # Errors
/// The answer to a rejected token.
pub(super) async fn authenticate(
    app: &App,
    server: &Server,
    caller: &Caller<'_, '_>,
    headers: &HeaderMap,
) -> Result<Option<Session>, Box<Reply>> {
    if !server.auth {
        return Ok(None);
    }
    let token = match Profile::Inmanta.credential(headers, server.additional_header.as_ref()) {
        Credential::None => return Ok(None),
        Credential::Conflict => {
            return Err(refused(app, Outcome::Conflict, Profile::Inmanta.conflict(Style::Body)));
        }
        Credential::Token(token) => token,
    };
    let session = match app.verify(caller, token).await {
        Ok(verified) => Session::of(
            &verified,
            signer(server).is_some_and(|one| one.issuer.name == verified.issuer().name),
        ),
        Err(reject) => {
            let refusal = app.refusal(caller, reject, token);
            let response =
                Profile::Inmanta.refuse(Style::Body, &refusal, server.rejected_token_status);
            return Err(refused(app, Outcome::Rejected(reject), response));
        }
    };
    app.metrics.count(Outcome::Verified);
    match check_registry(app, &session).await {
        Ok(()) => Ok(Some(session)),
        Err(error) => Err(Box::new(error.answer().into())),
    }
}

fn refused(app: &App, outcome: Outcome, response: Response<Body>) -> Box<Reply> {
    app.metrics.count(outcome);
    Box::new(Reply::with_outcome(outcome, response))
}

/// Checks that a token of this server with a `jti` is in the registry.
///
/// This only enforces revocation. It does not protect against a stolen signing key, whose owner
/// could omit the `jti`.
async fn check_registry(app: &App, session: &Session) -> Result<(), ApiError> {
    let Some(jti) = session.registered_id() else { return Ok(()) };
    let is_uuid = uuid::Uuid::parse_str(jti).is_ok();
    if is_uuid && require_users(app)?.is_token_registered(jti).await? {
        Ok(())
    } else {
        Err(ApiError::Forbidden("The token is not in the registry, or was revoked.".into()))
    }
}
