//! Whose call it is.

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

/// Whose call it is, by the token that came along, if authentication is on and one did.
///
/// # Errors
/// What to answer where a token that is worth nothing came along.
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
        Err(fault) => Err(Box::new(fault.answer().into())),
    }
}

fn refused(app: &App, outcome: Outcome, response: Response<Body>) -> Box<Reply> {
    app.metrics.count(outcome);
    Box::new(Reply::with_outcome(outcome, response))
}

/// A token of ours that has an id is one that we have registered. Whoever can sign as we
/// do could leave the id out, so this keeps nobody out who is not to be revoked.
async fn check_registry(app: &App, session: &Session) -> Result<(), ApiError> {
    let Some(jti) = session.registered_id() else { return Ok(()) };
    match uuid::Uuid::parse_str(jti).is_ok() && require_users(app)?.is_token_registered(jti).await?
    {
        true => Ok(()),
        false => {
            Err(ApiError::Forbidden("The token is not in the registry, or was revoked.".into()))
        }
    }
}
