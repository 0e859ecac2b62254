//! `envoy.service.auth.v3.Authorization/Check`: Envoy's external authorization over gRPC. The check
//! contains the source address and the header lines of the request.
//!
//! The decision is that of `/auth` for the same header lines. The response also removes headers from
//! the request, see [`header_changes`](super::header_changes).
//!
//! The description of the request is trusted only if the peer of the connection is a trusted proxy.
//! For other peers, only the token is used.

use countersign_front::{Peer, Step};
use http::StatusCode;

use super::{
    AuthDecision, Authenticator, Caller, DecisionSettings, PendingDecision, decide,
    grpc::{
        self, GrpcError,
        check_request::{CheckRequest, TOO_MANY_HEADERS},
        check_response::{put_allowed, put_denied, put_metadata},
    },
    header_changes::HeaderChanges,
    settings::AuthSettings,
};
use crate::{
    admission::Admission,
    base::reply::{Reply, empty},
    client::{
        ClientAddress, ClientCertificate, ClientSettings, RequestDescription,
        original_request::OriginalRequest, request_description::CheckAttributes,
    },
    observe::access_log::{AccessLogEntry, CheckedRequest},
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
    let caller = Caller {
        admission,
        client: address,
        certificate,
        username_optional: false,
        is_call: false,
    };
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
    let changes = HeaderChanges::new(settings, decision, check);
    let names = check.headers.iter().map(|header| header.name);
    let imitations = names.filter(|name| changes.is_imitation(name));
    let removed = changes.removed().map(|name| name.as_str().as_bytes()).chain(imitations);
    let message = grpc::framed(|out| {
        put_allowed(out, changes.set(), removed);
        if let Some(verified) = decision.verified()
            && !settings.ext_authz.metadata_claims.is_empty()
        {
            put_metadata(out, &settings.ext_authz.metadata_claims, verified.claims());
        }
    });
    Reply { outcome: Some(decision.outcome()), ..grpc::message_reply(message) }
}

/// Returns the response of `/auth` in Envoy's form.
fn deny(reply: &Reply) -> Reply {
    let status = reply.response.status();
    let (headers, body) = (reply.response.headers(), reply.response.body());
    let message = grpc::framed(|out| put_denied(out, status, headers, body));
    Reply { outcome: reply.outcome, counted: status, ..grpc::message_reply(message) }
}
