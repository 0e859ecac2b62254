//! `POST /v1/verify`: an application asks what a token says.
//!
//! The token comes as `{"token": "..."}` in JSON, as the form field `token`, as
//! plain text (`text/plain`, `application/jwt`), or, with an empty body, as the
//! request's own bearer token.

use bytes::Bytes;
use countersign_engine::{Blame, Reject, Verified};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{
    app::App,
    clock,
    http::{Body, json, problem},
    surface::{Credential, Surface, generic},
    telemetry::Outcome,
};

/// Answers with the claims, or with a problem that carries the reject code.
pub(super) fn answer(app: &App, headers: &HeaderMap, body: &Bytes) -> Response<Body> {
    let (outcome, response) = match token(app, headers, body) {
        Err(request) => (Outcome::NoToken, problem(StatusCode::BAD_REQUEST, request.code, &request.detail)),
        Ok(token) => match app.verifier.verify(&token, clock::now()) {
            Ok(verified) => (Outcome::Verified, json(StatusCode::OK, &verified_json(&verified))),
            Err(reject) => (Outcome::Rejected(reject), refused(reject)),
        },
    };
    app.metrics.count(outcome);
    response
}

fn verified_json(verified: &Verified) -> Value {
    let claims = verified.claims();
    json!({
        "ok": true,
        "section": verified.issuer().section,
        "issuer": verified.issuer().name,
        "subject": claims.subject(),
        "username": claims.username(),
        "client_types": claims.client_types().collect::<Vec<_>>(),
        "environment": claims.environment(),
        "expires_at": claims.expires_at().map(|at| at.0),
        "claims": serde_json::from_slice::<Value>(claims.json()).unwrap_or_default(),
    })
}

fn refused(reject: Reject) -> Response<Body> {
    let mut response = problem(Surface::Generic.status(reject, StatusCode::UNAUTHORIZED), reject.code(), &reject.to_string());
    match reject.blame() {
        Blame::Unavailable => response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5")),
        _ => response.headers_mut().insert(header::WWW_AUTHENTICATE, generic::invalid_token(reject)),
    };
    response
}

/// A request that holds no token.
struct BadRequest {
    code: &'static str,
    detail: String,
}

impl BadRequest {
    fn missing() -> Self {
        let detail = "no token: send {\"token\": \"...\"} as JSON, or a bearer token and no body";
        Self { code: "token_missing", detail: detail.into() }
    }
}

fn token(app: &App, headers: &HeaderMap, body: &Bytes) -> Result<Vec<u8>, BadRequest> {
    if body.is_empty() {
        return match Surface::Generic.credential(headers, app.server.additional_header.as_ref()) {
            Credential::Token(token) => Ok(token.to_vec()),
            Credential::None => Err(BadRequest::missing()),
            Credential::Conflict => {
                Err(BadRequest { code: "credential_conflict", detail: "the credential header is given twice".into() })
            }
        };
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => form_token(body).ok_or_else(BadRequest::missing),
        "text/plain" | "application/jwt" => Ok(body.to_vec()),
        // Clients leave the type out, or let their library guess it.
        _ => json_token(body),
    }
}

fn json_token(body: &[u8]) -> Result<Vec<u8>, BadRequest> {
    let value: Value = serde_json::from_slice(body).map_err(|error| BadRequest {
        code: "body",
        detail: format!("the body is not JSON: {error}; send {{\"token\": \"...\"}}"),
    })?;
    value.get("token").and_then(Value::as_str).map(Vec::from).ok_or_else(BadRequest::missing)
}

fn form_token(body: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    let value = text.split('&').find_map(|field| field.strip_prefix("token="))?;
    Some(percent_decode_str(value).collect())
}
