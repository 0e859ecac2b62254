//! `envoy.service.auth.v3.Authorization/Check`: Envoy's external authorization over gRPC. The check
//! contains the source address and the header lines of the request.
//!
//! The decision is that of a [`ProxyCheck`]. The response also removes headers from the request, see
//! [`header_changes`](super::header_changes).

use countersign_front::{Step, only_line};
use http::StatusCode;

use super::{
    AuthDecision, DecisionSettings, PendingDecision,
    credential::Credential,
    grpc::{
        self, GrpcError,
        check_request::{CheckRequest, TOO_MANY_HEADERS},
        check_response::{put_allowed, put_denied, put_metadata},
    },
    header_changes::HeaderChanges,
    message_headers::MessageHeaders,
    proxy_check::{CheckContext, ProxyCheck},
    settings::AuthSettings,
};
use crate::{
    base::reply::{Reply, empty},
    client::{ClientCertificate, trusted_proxies},
    observe::access_log::{AccessLogEntry, REQUEST_ID},
};

/// Answers a check. If a trusted proxy sent it, `entry` then describes the checked request.
pub fn respond<'a>(
    context: &CheckContext<'a, '_, impl DecisionSettings>,
    body: &[u8],
    entry: Option<&mut AccessLogEntry>,
) -> Step<Reply, PendingDecision<'a>> {
    let request = match grpc::message(body).map(CheckRequest::read) {
        Ok(Ok(request)) => request,
        // Not a gRPC error: a client could otherwise trigger the proxy's failure mode, which may be
        // to allow.
        Ok(Err(TOO_MANY_HEADERS)) => {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Step::Done(deny(&empty(status).into()));
        }
        Ok(Err(unreadable)) => return Step::Done(GrpcError::from(unreadable).into()),
        Err(error) => return Step::Done(error.into()),
    };
    let check = proxy_check(context, &request);
    if let Some(entry) = entry
        && let Some(mut checked) = context.checked(&check)
    {
        // Envoy's own id of the check appears in none of its logs.
        if let Ok(Some(id)) = only_line(&request.headers, &REQUEST_ID) {
            checked.id = id;
        }
        entry.describe_checked_request(&checked);
    }
    match context.decide(&check) {
        Step::Done(decision) => {
            let tenant = decision.tenant_label(&context.authenticator.metrics);
            Step::Done(Reply { tenant, ..render(context.settings.auth(), &request, decision) })
        }
        Step::Wait(pending) => Step::Wait(pending),
    }
}

/// Calls `read` with the credential of the request in the headers of a check. `None` if the check
/// is malformed.
pub fn with_credential<T>(
    settings: &AuthSettings,
    body: &[u8],
    read: impl FnOnce(Credential<'_>) -> T,
) -> Option<T> {
    let request = CheckRequest::read(grpc::message(body).ok()?).ok()?;
    Some(read(settings.credentials.in_headers(&request.headers)))
}

/// Returns the request of a check. Envoy names the certificate of its client. Another peer is the
/// client itself.
fn proxy_check<'m, 'b>(
    context: &CheckContext<'_, 'm, impl DecisionSettings>,
    request: &'m CheckRequest<'b>,
) -> ProxyCheck<'m, MessageHeaders<'b>> {
    let certificate = if context.is_trusted() {
        ClientCertificate::Forwarded(request.certificate)
    } else {
        ClientCertificate::Connection(context.peer.certificate())
    };
    let CheckRequest { id, method, path, host, scheme, source, .. } = *request;
    let source = source.and_then(trusted_proxies::address);
    let fields = &request.headers;
    ProxyCheck { id, source, certificate, method, path, host, scheme, fields }
}

/// Returns the response to a check whose decision was pending.
#[must_use]
pub fn reply(settings: &AuthSettings, body: &[u8], decision: AuthDecision<'_>) -> Reply {
    match (decision, read(body)) {
        (AuthDecision::Refused(reply), _) => deny(&reply),
        (decision, Ok(request)) => render(settings, &request, decision),
        (_, Err(error)) => error.into(),
    }
}

fn read(body: &[u8]) -> Result<CheckRequest<'_>, GrpcError> {
    Ok(CheckRequest::read(grpc::message(body)?)?)
}

fn render(
    settings: &AuthSettings,
    request: &CheckRequest<'_>,
    decision: AuthDecision<'_>,
) -> Reply {
    match decision {
        AuthDecision::Refused(reply) => deny(&reply),
        allowed => allow(settings, &request.headers, &allowed),
    }
}

/// Allows a request.
fn allow(
    settings: &AuthSettings,
    headers: &MessageHeaders<'_>,
    decision: &AuthDecision<'_>,
) -> Reply {
    let changes = HeaderChanges::new(settings, decision, headers);
    let names = headers.iter().map(|header| header.name);
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
