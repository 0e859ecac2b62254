//! `ANY /auth` and `/auth/*`: a reverse proxy asks whether to let a request pass.
//!
//! No answer has a body, since nginx keeps its connection only then. Every 200
//! carries every identity header, empty where there is nothing to say, so that a
//! proxy overwrites whatever a client sent under those names.

use std::{pin::Pin, sync::Arc};

use countersign_engine::{Identity, Reject, Verified};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::Reply;
use crate::{
    admission::Caller,
    app::{App, Verdict},
    config::{Listener, Server},
    http::{Body, Fields, empty, no_store},
    keysource::KeyRefetch,
    metrics::Outcome,
    surface::{Credential, Profile, Style},
};

/// What is said to a question of a proxy.
pub enum Decision<'a, 't> {
    /// Whoever it is may pass.
    Allowed(Verified<'t>),
    /// Something else.
    Answered(Reply),
    /// Nothing yet: the issuer is to be asked for its keys first.
    Later(Pin<Box<dyn Future<Output = Reply> + 'a>>),
}

/// Decides on one question of a proxy.
pub fn decide<'a, 't>(
    app: &Arc<App>,
    server: &Server,
    listener: &Listener,
    caller: &Caller<'a, '_>,
    fields: &'t impl Fields,
) -> Decision<'a, 't> {
    let (refetch, token) = match judge(app, server, listener, caller, fields) {
        Judged::Allowed(verified) => return Decision::Allowed(verified),
        Judged::Refused(reply) => return Decision::Answered(reply),
        Judged::Later(refetch, token) => (refetch, token.to_vec()),
    };
    let (app, caller, profile) = (Arc::clone(app), caller.detached(), listener.profile);
    Decision::Later(Box::pin(async move {
        let verified = app.verify_after(&caller, refetch, &token).await;
        let server = app.server();
        match verified {
            Ok(verified) => counted(&app, Outcome::Verified, allow(&server, &verified)),
            Err(reject) => refuse(&app, &server, profile, &caller, reject, &token),
        }
    }))
}

/// What a question of a proxy comes to, in whatever form it is answered. It is counted,
/// if there is nothing to be waited for.
pub(super) enum Judged<'t> {
    /// Whoever it is may pass.
    Allowed(Verified<'t>),
    /// Nobody may, and is told why.
    Refused(Reply),
    /// That will show when the token's issuer has been asked for its keys.
    Later(KeyRefetch, &'t [u8]),
}

/// Looks for a credential, and verifies it.
pub(super) fn judge<'t>(
    app: &App,
    server: &Server,
    listener: &Listener,
    caller: &Caller<'_, '_>,
    fields: &'t impl Fields,
) -> Judged<'t> {
    let profile = listener.profile;
    let refused = |outcome, response| Judged::Refused(counted(app, outcome, no_store(response)));
    let token = match profile.credential(fields, server.additional_header.as_ref()) {
        Credential::None => return refused(Outcome::NoToken, profile.challenge(Style::Bare)),
        Credential::Conflict => return refused(Outcome::Conflict, profile.conflict(Style::Bare)),
        Credential::Token(token) => token,
    };
    match app.verify_or_wait(caller, token) {
        Verdict::Now(Ok(verified)) => {
            app.metrics.count(Outcome::Verified);
            Judged::Allowed(verified)
        }
        Verdict::Now(Err(reject)) => {
            Judged::Refused(refuse(app, server, profile, caller, reject, token))
        }
        Verdict::Later(refetch) => Judged::Later(refetch, token),
    }
}

/// Refuses a token, and counts that.
pub(super) fn refuse(
    app: &App,
    server: &Server,
    profile: Profile,
    caller: &Caller<'_, '_>,
    reject: Reject,
    token: &[u8],
) -> Reply {
    let refusal = app.refusal(caller, reject, token);
    let response = profile.refuse(Style::Bare, &refusal, server.rejected_token_status);
    counted(app, Outcome::Rejected(reject), no_store(response))
}

fn counted(app: &App, outcome: Outcome, response: Response<Body>) -> Reply {
    app.metrics.count(outcome);
    Reply::with_outcome(outcome, response)
}

/// Whoever it is may pass.
pub(super) fn allow(server: &Server, verified: &Verified<'_>) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    for (name, value) in auth_headers(server, verified.identity()) {
        // They are visible ASCII, as the engine has written them.
        let value = HeaderValue::from_bytes(value).unwrap_or(HeaderValue::from_static(""));
        response.headers_mut().insert(name, value);
    }
    response
}

/// The header lines of an answer that lets a request pass.
pub fn auth_headers<'l>(
    server: &'l Server,
    identity: Identity<'l>,
) -> impl Iterator<Item = (&'l HeaderName, &'l [u8])> {
    [(&header::CACHE_CONTROL, &b"no-store"[..])]
        .into_iter()
        .chain(identity_header_values(server, identity))
}

/// The header lines that say who it is: every one that is configured.
pub(super) fn identity_header_values<'l>(
    server: &'l Server,
    identity: Identity<'l>,
) -> impl Iterator<Item = (&'l HeaderName, &'l [u8])> + Clone {
    let names = &server.identity_headers;
    let identity = [
        (&names.subject, identity.subject()),
        (&names.user, identity.user()),
        (&names.issuer, identity.issuer()),
        (&names.client_types, identity.client_types()),
        (&names.tenant, ""),
    ];
    identity.into_iter().filter_map(|(name, value)| Some((name.as_ref()?, value.as_bytes())))
}
