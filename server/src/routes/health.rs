//! Probes.

use std::sync::Arc;

use countersign_engine::KeySet;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::Reply;
use crate::{
    admission::Caller,
    app::App,
    config::Server,
    http::{Body, empty, json, no_store},
    revocation::Status,
    surface::{Credential, Style, Surface},
};

/// `GET /healthz` and `/live`: the process answers.
pub(super) fn live() -> Response<Body> {
    no_store(json(StatusCode::OK, &json!({ "live": true })))
}

/// `GET /readyz` and `/ready`: every issuer has been asked for its keys, and what
/// was revoked is known. The body tells which issuers have keys.
pub(super) fn ready(app: &App) -> Response<Body> {
    let ready = app.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let keys = |keys: Option<&Arc<KeySet>>| keys.map_or(0, |keys| keys.len());
    let issuers: Value = app
        .keys_in_use()
        .iter()
        .map(|(source, of)| json!({ "section": source.section().section(), "keys": keys(of.as_ref()) }))
        .collect();
    let Status { count, fault, .. } = app.revocations.status();
    let revocations = json!({ "known": app.revocations.is_ready(), "count": count, "fault": fault });
    no_store(json(status, &json!({ "ready": ready, "issuers": issuers, "revocations": revocations })))
}

/// `/api/v2/health`: open to everyone, but a token that comes along must be good.
pub(super) async fn inmanta(app: &App, server: &Server, caller: &Caller<'_, '_>, method: &Method, headers: &HeaderMap) -> Reply {
    let mut response = no_store(inmanta_answer(app, server, caller, method, headers).await);
    if let Some(origin) = &server.allow_origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response.into()
}

async fn inmanta_answer(
    app: &App,
    server: &Server,
    caller: &Caller<'_, '_>,
    method: &Method,
    headers: &HeaderMap,
) -> Response<Body> {
    if method == Method::OPTIONS {
        return preflight(server);
    }
    if method != Method::GET && method != Method::HEAD {
        return super::method_not_allowed("GET, HEAD");
    }
    if !server.auth {
        return empty(StatusCode::OK);
    }
    match Surface::Inmanta.credential(headers, server.additional_header.as_ref()) {
        Credential::None => empty(StatusCode::OK),
        Credential::Conflict => Surface::Inmanta.conflict(Style::Body),
        Credential::Token(token) => match app.verify(caller, token).await {
            Ok(_) => empty(StatusCode::OK),
            Err(reject) => {
                let refusal = app.refusal(caller, reject, token);
                Surface::Inmanta.refuse(Style::Body, &refusal, server.rejected_token_status)
            }
        },
    }
}

/// The answer to a browser that asks before it sends.
pub(super) fn preflight(server: &Server) -> Response<Body> {
    let allowed = if server.auth {
        "Origin, Accept, Content-Type, X-Requested-With, X-CSRF-Token, X-Inmanta-tid, Authorization"
    } else {
        "Origin, Accept, Content-Type, X-Requested-With, X-CSRF-Token, X-Inmanta-tid"
    };
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    response
}
