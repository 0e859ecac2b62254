//! Whose call it is.

use http::{HeaderMap, Response};

use super::{Reply, fault::Fault, signer, users_of};
use crate::{
    admission::Caller,
    app::App,
    config::Server,
    http::Body,
    metrics::Outcome,
    surface::{Credential, Style, Surface, inmanta::session::Session},
};

/// Whose call it is, by the token that came along, if authentication is on and one did.
///
/// # Errors
/// What to answer where a token that is worth nothing came along.
pub(super) async fn of(
    app: &App,
    server: &Server,
    caller: &Caller<'_, '_>,
    headers: &HeaderMap,
) -> Result<Option<Session>, Box<Reply>> {
    if !server.auth {
        return Ok(None);
    }
    let token = match Surface::Inmanta.credential(headers, server.additional_header.as_ref()) {
        Credential::None => return Ok(None),
        Credential::Conflict => {
            return Err(refused(app, Outcome::Conflict, Surface::Inmanta.conflict(Style::Body)));
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
                Surface::Inmanta.refuse(Style::Body, &refusal, server.rejected_token_status);
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
    Box::new(Reply::about(outcome, response))
}

/// A token of ours that has an id is one that we have registered. Whoever can sign as we
/// do could leave the id out, so this keeps nobody out who is not to be revoked.
async fn check_registry(app: &App, session: &Session) -> Result<(), Fault> {
    let Some(jti) = session.registered_id() else { return Ok(()) };
    match uuid::Uuid::parse_str(jti).is_ok() && users_of(app)?.knows_token(jti).await? {
        true => Ok(()),
        false => Err(Fault::Forbidden("The token is not in the registry, or was revoked.".into())),
    }
}
