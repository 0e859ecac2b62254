//! `ANY /auth` and `/auth/*`: a reverse proxy asks whether to let a request pass.
//!
//! No answer has a body, since nginx keeps its connection only then. Every 200
//! carries every identity header, empty where there is nothing to say, so that a
//! proxy overwrites whatever a client sent under those names.

use countersign_engine::{Reject, Verified};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::{
    admission::{Caller, Peer},
    app::{App, Verdict},
    http::{Body, empty, escaped, no_store},
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

fn judge(app: &App, caller: &Caller<'_, '_>, token: &[u8], verified: Result<Verified, Reject>) -> Response<Body> {
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

fn allow(app: &App, verified: &Verified) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.reserve(ROOM);
    let mut set = |name: &Option<HeaderName>, value: HeaderValue| {
        if let Some(name) = name {
            headers.insert(name, value);
        }
    };
    let names = &app.server.identity_headers;
    let claims = verified.claims();
    set(&names.subject, escaped(claims.subject().unwrap_or_default()));
    set(&names.user, escaped(claims.username().unwrap_or_default()));
    set(&names.issuer, escaped(&verified.issuer().name));
    set(&names.client_types, list(claims.client_types()));
    set(&names.tenant, HeaderValue::from_static(""));
    response
}

/// The identity headers, and what every answer has besides.
const ROOM: usize = 8;

fn list<'t>(mut texts: impl Iterator<Item = &'t str>) -> HeaderValue {
    let (first, second) = (texts.next(), texts.next());
    let Some(second) = second else { return escaped(first.unwrap_or_default()) };
    let mut joined = String::new();
    for text in first.into_iter().chain([second]).chain(texts) {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(escaped(text).to_str().unwrap_or_default());
    }
    HeaderValue::from_str(&joined).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e3_identity_values_are_escaped_so_that_no_two_look_alike() {
        for (text, header) in [
            ("bob", "bob"),
            ("", ""),
            ("a b", "a%20b"),
            ("a%20b", "a%2520b"),
            ("évé", "%C3%A9v%C3%A9"),
            ("x\r\nX-Auth-User: root", "x%0D%0AX-Auth-User:%20root"),
            ("a,b", "a%2Cb"),
            ("\u{7f}\0", "%7F%00"),
            ("https://idp/\"q\"", "https://idp/\"q\""),
        ] {
            assert_eq!(escaped(text), header, "{text:?}");
        }
        assert_eq!(list(["api", "a,b"].into_iter()), "api,a%2Cb");
    }
}
