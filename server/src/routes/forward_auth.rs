//! `ANY /auth` and `/auth/*`: a reverse proxy asks whether to let a request pass.
//!
//! No answer has a body, since nginx keeps its connection only then. Every 200
//! carries every identity header, empty where there is nothing to say, so that a
//! proxy overwrites whatever a client sent under those names.

use bytes::Bytes;
use countersign_engine::{Reject, Verified};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::{
    admission::{Caller, Peer},
    app::{App, Verdict},
    http::{Body, empty, no_store},
    metrics::Outcome,
    routes::Answer,
    surface::{Credential, Refusal, Style},
};

/// Answers one question of a proxy: at once, unless the issuer is to be asked for
/// its keys first.
pub(super) fn answer<'a>(app: &'a App, peer: Peer<'a>, headers: &HeaderMap) -> Answer<'a> {
    let surface = app.server.auth_surface;
    let caller = app.caller(peer, headers);
    Answer::ready(match surface.credential(headers, app.server.additional_header.as_ref()) {
        Credential::None => count(app, Outcome::NoToken, surface.challenge(Style::Bare)),
        Credential::Conflict => count(app, Outcome::Conflict, surface.conflict(Style::Bare)),
        Credential::Token(token) => match app.verify_or_wait(&caller, token) {
            Verdict::Now(verified) => judge(app, &caller, token, verified),
            Verdict::Later(refetch) => {
                let (caller, token) = (caller.detached(), token.to_vec());
                return Answer::later(async move {
                    let verified = app.verify_after(&caller, refetch, &token).await;
                    judge(app, &caller, &token, verified)
                });
            }
        },
    })
}

fn judge(app: &App, caller: &Caller<'_, '_>, token: &[u8], verified: Result<Verified<'_>, Reject>) -> Response<Body> {
    match verified {
        Ok(verified) => count(app, Outcome::Verified, allow(app, &verified)),
        Err(reject) => count(app, Outcome::Rejected(reject), refuse(app, &app.refusal(caller, reject, token))),
    }
}

fn count(app: &App, outcome: Outcome, response: Response<Body>) -> Response<Body> {
    app.metrics.count(outcome);
    no_store(response)
}

fn refuse(app: &App, refusal: &Refusal<'_>) -> Response<Body> {
    app.server.auth_surface.refuse(Style::Bare, refusal, app.server.rejected_token_status)
}

fn allow(app: &App, verified: &Verified<'_>) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.reserve(ROOM);
    let names = &app.server.identity_headers;
    let identity = verified.identity();
    let texts = [identity.subject(), identity.user(), identity.issuer(), identity.client_types()];
    let values = header_values(texts).into_iter().chain([HeaderValue::from_static("")]);
    for (name, value) in [&names.subject, &names.user, &names.issuer, &names.client_types, &names.tenant].into_iter().zip(values)
    {
        if let Some(name) = name {
            headers.insert(name, value);
        }
    }
    response
}

/// The identity headers, and what every answer has besides.
const ROOM: usize = 8;

/// Texts that are visible ASCII as values, all of them in one piece of memory.
fn header_values<const N: usize>(texts: [&str; N]) -> [HeaderValue; N] {
    let all = Bytes::from(texts.concat());
    let mut start = 0;
    texts.map(|text| {
        let value = all.slice(start..start + text.len());
        start += text.len();
        HeaderValue::from_maybe_shared(value).unwrap_or(HeaderValue::from_static(""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_one_piece_of_memory_are_kept_apart() {
        assert_eq!(header_values(["bob", "", "https://idp/", "api,agent"]), ["bob", "", "https://idp/", "api,agent"]);
        assert_eq!(header_values(["", ""]), ["", ""]);
    }
}
