//! `envoy.service.auth.v3.Authorization/Check`: Envoy asks over gRPC whether to let a
//! request pass, and tells all of it: where it comes from, and its header lines.
//!
//! What `/auth` answers to a request with these lines is answered here too, in Envoy's
//! form. Two things are better, since Envoy does to a request what it is told:
//!
//! - *What there is nothing to say about is taken away*, rather than sent empty: an
//!   application that asks whether a header is there gets the right answer, too. So is
//!   what the client sent under another spelling of an identity header's name: CGI and
//!   its children make one `HTTP_X_AUTH_USER` of `X-Auth-User`, `X_Auth_User` and more.
//! - *The credential is taken away*: an application that is told who its caller is does
//!   not need what would let it act as him elsewhere.
//!
//! Who asks is the other end of the connection. What it tells of a request is believed
//! if it is a trusted proxy. Of anybody else nothing but the token is looked at, and it
//! is he himself who has sent it.

use std::sync::Arc;

use countersign_engine::Verified;
use http::{HeaderName, StatusCode, header};

use super::{
    Reply, Said,
    forward_auth::{Judged, identity_header_values, judge, refuse},
};
use crate::{
    admission::{Caller, Peer},
    app::App,
    config::{Listener, Server},
    grpc::{
        self, GrpcError,
        check_request::{CheckRequest, TOO_MANY_HEADERS},
        check_response::{put_allowed, put_denied, put_metadata},
    },
    http::empty,
    metrics::Outcome,
    requests::AccessLogEntry,
};

/// The name of the method.
pub(super) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Answers a question, now if it can be.
pub(super) fn answer<'a>(
    app: &Arc<App>,
    peer: Peer<'a>,
    body: &[u8],
    line: Option<&mut AccessLogEntry>,
) -> Said<'a> {
    let check = match grpc::message(body).map(CheckRequest::read) {
        Ok(Ok(check)) => check,
        // Whoever sends it is not to find out what a proxy does when it gets no answer.
        Ok(Err(TOO_MANY_HEADERS)) => {
            return Said::Now(deny(&empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).into()));
        }
        Ok(Err(unreadable)) => return Said::Now(GrpcError::from(unreadable).into()),
        Err(fault) => return Said::Now(fault.into()),
    };
    let server = app.server();
    let listener = &server.listeners[peer.listener];
    if let Some(line) = line.filter(|_| listener.proxies.trusts(peer.address)) {
        line.describe_checked_request(listener, peer, &check);
    }
    let caller = caller(listener, peer, &check);
    let (refetch, token) = match judge(app, &server, listener, &caller, &check) {
        Judged::Allowed(verified) => return Said::Now(allow(&server, &check, &verified)),
        Judged::Refused(reply) => return Said::Now(deny(&reply)),
        Judged::Later(refetch, token) => (refetch, token.to_vec()),
    };
    let (app, caller, profile, body) =
        (Arc::clone(app), caller.detached(), listener.profile, body.to_vec());
    Said::Later(Box::pin(async move {
        let verified = app.verify_after(&caller, refetch, &token).await;
        let server = app.server();
        match (verified, read(&body)) {
            (Ok(verified), Ok(check)) => {
                app.metrics.count(Outcome::Verified);
                allow(&server, &check, &verified)
            }
            (Err(reject), _) => deny(&refuse(&app, &server, profile, &caller, reject, &token)),
            (Ok(_), Err(fault)) => fault.into(),
        }
    }))
}

fn read(body: &[u8]) -> Result<CheckRequest<'_>, GrpcError> {
    Ok(CheckRequest::read(grpc::message(body)?)?)
}

fn caller<'a, 'r>(
    listener: &'r Listener,
    peer: Peer<'a>,
    check: &'r CheckRequest<'_>,
) -> Caller<'a, 'r> {
    match listener.proxies.trusts(peer.address) {
        true => {
            Caller::at(peer, listener.proxies.original_client(peer.address, check.source, check))
        }
        false => Caller::new(peer, &listener.proxies, check),
    }
}

fn allow(server: &Server, check: &CheckRequest<'_>, verified: &Verified<'_>) -> Reply {
    let lines = identity_header_values(server, verified.identity());
    let said = lines.clone().filter(|(_, value)| !value.is_empty());
    let unsaid = lines.filter(|(_, value)| value.is_empty()).map(|(name, _)| name);
    let identities = server.identity_headers.names();
    // One could be an identity header too, which was just written.
    let credentials =
        credentials(server).filter(|name| identities.clone().all(|identity| identity != *name));
    let disguised = check
        .headers
        .iter()
        .map(|header| header.name)
        .filter(|name| imitates_identity_header(name, identities.clone()));
    let removed = unsaid.chain(credentials).map(|name| name.as_str().as_bytes()).chain(disguised);
    let message = grpc::framed(|out| {
        put_allowed(out, said, removed);
        if !server.ext_authz.metadata_claims.is_empty() {
            put_metadata(out, &server.ext_authz.metadata_claims, verified.claims());
        }
    });
    Reply { outcome: Some(Outcome::Verified), ..Reply::message(message) }
}

/// The headers in which credentials come: also the one that was not looked at, which
/// nobody has verified.
fn credentials(server: &Server) -> impl Iterator<Item = &HeaderName> {
    static AUTHORIZATION: HeaderName = header::AUTHORIZATION;
    let are_removed = !server.ext_authz.forward_credentials;
    [Some(&AUTHORIZATION), server.additional_header.as_ref()]
        .into_iter()
        .flatten()
        .filter(move |_| are_removed)
}

/// Whether somebody could take a name for that of an identity header, although it is none:
/// where one has a letter or a digit, both have, and whatever stands between them does not
/// matter. What differs in nothing but case is the same name, and was written or removed.
fn imitates_identity_header<'l>(
    name: &[u8],
    identities: impl Iterator<Item = &'l HeaderName> + Clone,
) -> bool {
    let folded =
        |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    let is_like = |identity: &[u8]| {
        identity.len() == name.len() && identity.iter().map(folded).eq(name.iter().map(folded))
    };
    let mut identities = identities.map(|identity| identity.as_str().as_bytes());
    name.is_ascii()
        && identities.clone().any(is_like)
        && identities.all(|identity| !identity.eq_ignore_ascii_case(name))
}

/// What `/auth` would answer, in Envoy's form.
fn deny(reply: &Reply) -> Reply {
    let status = reply.response.status();
    let message = grpc::framed(|out| put_denied(out, status, reply.response.headers()));
    Reply { outcome: reply.outcome, counted: status, ..Reply::message(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2_a_disguise_differs_in_what_stands_between_letters_and_digits() {
        let identities = ["x-who", "x-auth-user", "x-auth_user"].map(HeaderName::from_static);
        let is_one = |name: &[u8]| imitates_identity_header(name, identities.iter());
        for name in
            ["x_auth_user", "X_AUTH_USER", "x.auth.user", "x auth user", "X-Auth~User", "x_who"]
        {
            assert!(is_one(name.as_bytes()), "{name}");
        }
        // Names of ours in any case; and others, among them such as no text can name.
        for name in [
            "x-auth-user",
            "X-AUTH-USER",
            "X-Auth_User",
            "xauthuser",
            "x--auth-user",
            "x-auth-use",
            "x1auth1user",
            "",
        ] {
            assert!(!is_one(name.as_bytes()), "{name}");
        }
        assert!(!is_one(b"x\xffauth-user"));
    }
}
