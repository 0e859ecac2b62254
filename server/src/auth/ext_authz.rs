//! `envoy.service.auth.v3.Authorization/Check`: Envoy's external authorization over gRPC. The check
//! contains the source address and the header lines of the request.
//!
//! The decision is that of `/auth` for the same header lines. Two things differ, because the
//! response can remove headers from the request:
//!
//! - **Identity headers without a value are removed** rather than sent empty, so an application
//!   can test for their presence. So is what the client sent under another spelling of an
//!   identity header: CGI and its descendants make one `HTTP_X_AUTH_USER` of `X-Auth-User`,
//!   `X_Auth_User` and more.
//! - **The credential is removed.** An application that receives its caller's identity does not
//!   need what would let it act as the caller elsewhere.
//!
//! The description of the request is trusted only if the peer of the connection is a trusted proxy.
//! For other peers, only the token is used.

use countersign_front::{Peer, Step};
use http::{HeaderName, StatusCode, header};

use super::{
    AuthDecision, Authenticator, Caller, DecisionSettings, PendingDecision, decide,
    forward_auth::identity_headers,
    grpc::{
        self, GrpcError,
        check_request::{CheckRequest, TOO_MANY_HEADERS},
        check_response::{put_allowed, put_denied, put_metadata},
    },
    settings::AuthSettings,
};
use crate::{
    admission::Admission,
    base::reply::{Reply, empty},
    client::{
        ClientAddress, ClientCertificate, ClientSettings, RequestDescription,
        original_request::OriginalRequest,
        request_description::{CheckAttributes, is_spelling_of},
    },
    observe::access_log::{AccessLogEntry, CheckedRequest},
    tenancy::request_headers::API_KEY,
};

/// Context of a check: its connection, and the current settings.
pub struct CheckContext<'a, 's, S> {
    /// Verifies the token.
    pub authenticator: &'s Authenticator,
    /// The admission budgets of the worker.
    pub admission: &'a Admission,
    /// The settings in force.
    pub settings: &'s S,
    /// The trusted proxies of the listener.
    pub client: &'s ClientSettings,
    /// The peer of the connection.
    pub peer: Peer<'s>,
}

/// Answers a check. If a trusted proxy sent it, `entry` then describes the checked request.
pub fn respond<'a>(
    context: &CheckContext<'a, '_, impl DecisionSettings>,
    body: &[u8],
    entry: Option<&mut AccessLogEntry>,
) -> Step<Reply, PendingDecision<'a>> {
    let check = match grpc::message(body).map(CheckRequest::read) {
        Ok(Ok(check)) => check,
        // Not a gRPC error: a client could otherwise trigger the proxy's failure mode, which may be
        // to allow.
        Ok(Err(TOO_MANY_HEADERS)) => {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Step::Done(deny(&empty(status).into()));
        }
        Ok(Err(unreadable)) => return Step::Done(GrpcError::from(unreadable).into()),
        Err(error) => return Step::Done(error.into()),
    };
    let CheckContext { authenticator, admission, settings, client, peer } = *context;
    let is_trusted = client.proxies.trusts(peer.address);
    let address = if is_trusted {
        ClientAddress::Known(client.proxies.original_client(peer.address, check.source, &check))
    } else {
        ClientAddress::Deferred { peer: peer.address, proxies: &client.proxies, fields: &check }
    };
    // Envoy names the certificate of its client. Another peer is the client itself.
    let certificate = if is_trusted {
        ClientCertificate::Forwarded(check.certificate)
    } else {
        ClientCertificate::Connection(peer.certificate())
    };
    if let Some(entry) = entry.filter(|_| is_trusted) {
        entry.describe_checked_request(&CheckedRequest {
            id: check.id,
            client: address.get(),
            certificate: check.certificate,
            method: check.method,
            path: check.path,
            fields: &check,
        });
    }
    let caller = Caller { admission, client: address, certificate, username_optional: false };
    let describe = || {
        let CheckRequest { method, host, scheme, .. } = check;
        let attributes = CheckAttributes { method, host, scheme, fields: &check };
        RequestDescription::of_grpc(client, peer.address, attributes)
    };
    let original = || is_trusted.then(|| OriginalRequest::new(check.method, check.path)).flatten();
    let described = (describe, original);
    match decide(authenticator, settings, peer.listener, &caller, &check, described) {
        Step::Done(decision) => {
            let tenant = decision.tenant_label(&authenticator.metrics);
            Step::Done(Reply { tenant, ..render(settings.auth(), &check, decision) })
        }
        Step::Wait(pending) => Step::Wait(pending),
    }
}

/// Returns the response to a check whose decision was pending.
#[must_use]
pub fn reply(settings: &AuthSettings, body: &[u8], decision: AuthDecision<'_>) -> Reply {
    match (decision, read(body)) {
        (AuthDecision::Refused(reply), _) => deny(&reply),
        (decision, Ok(check)) => render(settings, &check, decision),
        (_, Err(error)) => error.into(),
    }
}

fn read(body: &[u8]) -> Result<CheckRequest<'_>, GrpcError> {
    Ok(CheckRequest::read(grpc::message(body)?)?)
}

fn render(settings: &AuthSettings, check: &CheckRequest<'_>, decision: AuthDecision<'_>) -> Reply {
    match decision {
        AuthDecision::Refused(reply) => deny(&reply),
        allowed => allow(settings, check, &allowed),
    }
}

/// Allows a request.
fn allow(settings: &AuthSettings, check: &CheckRequest<'_>, decision: &AuthDecision<'_>) -> Reply {
    let is_removed = !settings.ext_authz.forward_credentials;
    let cookies = is_removed.then(|| settings.credentials.other_cookies(check)).flatten();
    let tenant = decision.tenant();
    let lines = identity_headers(settings, decision);
    let present = lines.clone().filter(|(_, value)| !value.is_empty());
    let absent = lines.filter(|(_, value)| value.is_empty()).map(|(name, _)| name);
    let allowed_tenants = settings.identity_headers.allowed_tenants.iter();
    let absent = absent.chain(allowed_tenants.filter(|_| tenant.is_none()));
    let identities = settings.identity_headers.names();
    // Also the credentials that were not used, which are unverified. A header that is also an
    // identity header has just been set, so it is kept.
    let api_key = tenant.map(|_| &API_KEY);
    let credentials =
        [&AUTHORIZATION].into_iter().chain(api_key).chain(settings.credentials.headers());
    let credentials = credentials
        .filter(|name| is_removed && identities.clone().all(|identity| identity != *name));
    let imitations = check
        .headers
        .iter()
        .map(|header| header.name)
        .filter(|name| imitates_identity_header(name, identities.clone()));
    let emptied = cookies.iter().filter(|rest| rest.is_empty()).map(|_| &COOKIE);
    let rest = cookies.iter().filter(|rest| !rest.is_empty()).map(|rest| (&COOKIE, &rest[..]));
    let removed = absent.chain(credentials).chain(emptied);
    let removed = removed.map(|name| name.as_str().as_bytes()).chain(imitations);
    let message = grpc::framed(|out| {
        put_allowed(out, present.chain(rest), removed);
        if let Some(verified) = decision.verified()
            && !settings.ext_authz.metadata_claims.is_empty()
        {
            put_metadata(out, &settings.ext_authz.metadata_claims, verified.claims());
        }
    });
    Reply { outcome: Some(decision.outcome()), ..grpc::message_reply(message) }
}

static AUTHORIZATION: HeaderName = header::AUTHORIZATION;
static COOKIE: HeaderName = header::COOKIE;

/// Whether an application could mistake a name for that of an identity header, of which it is
/// [another spelling](is_spelling_of). A name that differs only in case is the same name, and was
/// set or removed.
fn imitates_identity_header<'l>(
    name: &[u8],
    identities: impl Iterator<Item = &'l HeaderName> + Clone,
) -> bool {
    let mut identities = identities.map(HeaderName::as_str);
    name.is_ascii()
        && identities.clone().any(|identity| is_spelling_of(name, identity))
        && identities.all(|identity| !identity.as_bytes().eq_ignore_ascii_case(name))
}

/// Returns the response of `/auth` in Envoy's form.
fn deny(reply: &Reply) -> Reply {
    let status = reply.response.status();
    let (headers, body) = (reply.response.headers(), reply.response.body());
    let message = grpc::framed(|out| put_denied(out, status, headers, body));
    Reply { outcome: reply.outcome, counted: status, ..grpc::message_reply(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2_other_spellings_of_identity_headers_are_found() {
        let identities = ["x-who", "x-auth-user", "x-auth_user"].map(HeaderName::from_static);
        let is_one = |name: &[u8]| imitates_identity_header(name, identities.iter());
        for name in
            ["x_auth_user", "X_AUTH_USER", "x.auth.user", "x auth user", "X-Auth~User", "x_who"]
        {
            assert!(is_one(name.as_bytes()), "{name}");
        }
        // Configured names in any case, unrelated names, and a name that is not ASCII.
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
