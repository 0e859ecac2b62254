//! `POST /v1/verify`: verifies a token for an application and returns its claims.
//!
//! The body is `{"token": "..."}` in JSON, the form field `token`, or the bare token. Without a
//! body, the request's own bearer token is verified. The format is detected from the body, not
//! from `Content-Type`, because many clients send JSON with the media type of a form.

use countersign_engine::Verified;
use http::{HeaderMap, Response, StatusCode};
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Authenticator, Caller,
    profile::{Credential, Profile, Refusal, generic},
    settings::AuthSettings,
};
use crate::base::{
    outcome::Outcome,
    redacted::json_error,
    reply::{Body, Reply, json, no_store, problem},
};

/// Returns the claims of the token, or a problem response with the reject code.
pub async fn respond(
    authenticator: &Authenticator,
    settings: &AuthSettings,
    caller: &Caller<'_, '_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Reply {
    let (outcome, response) = match token(settings, headers, body) {
        Err(request) => {
            (request.outcome, problem(StatusCode::BAD_REQUEST, request.code, &request.detail))
        }
        Ok(token) => match authenticator.verify(caller, &token).await {
            Ok(verified) => (Outcome::Verified, json(StatusCode::OK, &verified_json(&verified))),
            Err(rejection) => {
                (rejection.outcome(), refused(&authenticator.refusal(rejection, &token)))
            }
        },
    };
    authenticator.metrics.count(outcome);
    Reply::with_outcome(outcome, no_store(response))
}

fn verified_json(verified: &Verified<'_>) -> Value {
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
        "claims": serde_json::from_slice::<Value>(&claims.json()).unwrap_or_default(),
    })
}

fn refused(refusal: &Refusal<'_>) -> Response<Body> {
    let status = Profile::Generic.status_of(refusal, StatusCode::UNAUTHORIZED);
    let mut response = problem(status, refusal.reject.code(), &refusal.to_string());
    generic::add_headers(refusal, response.headers_mut());
    response
}

/// Error for a request without a token, or with more than one.
struct TokenRequestError {
    outcome: Outcome,
    code: &'static str,
    detail: String,
}

impl TokenRequestError {
    fn missing() -> Self {
        let detail = "no token: send {\"token\": \"...\"} as JSON, or a bearer token and no body";
        Self { outcome: Outcome::NoToken, code: "token_missing", detail: detail.into() }
    }

    fn conflict() -> Self {
        Self {
            outcome: Outcome::Conflict,
            code: "credential_conflict",
            detail: "the credential is given twice".into(),
        }
    }
}

fn token(
    settings: &AuthSettings,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<u8>, TokenRequestError> {
    if body.is_empty() {
        return match Profile::Generic.credential(headers, settings.additional_header.as_ref()) {
            Credential::Token(token) => Ok(token.to_vec()),
            Credential::None => Err(TokenRequestError::missing()),
            Credential::Conflict => Err(TokenRequestError::conflict()),
        };
    }
    match body.trim_ascii_start() {
        [b'{', ..] => json_token(body),
        // A token contains no `=`, and every form does.
        form if form.contains(&b'=') => form_token(form),
        _ => Ok(body.to_vec()),
    }
}

/// The body in JSON; serde rejects repeated members.
#[derive(Deserialize)]
struct VerifyRequest {
    token: Option<String>,
}

fn json_token(body: &[u8]) -> Result<Vec<u8>, TokenRequestError> {
    let request: VerifyRequest =
        serde_json::from_slice(body).map_err(|error| TokenRequestError {
            outcome: Outcome::NoToken,
            code: "body",
            detail: format!(
                "cannot parse the body: {}; send {{\"token\": \"...\"}}",
                json_error(&error)
            ),
        })?;
    request.token.map(String::into_bytes).ok_or_else(TokenRequestError::missing)
}

fn form_token(body: &[u8]) -> Result<Vec<u8>, TokenRequestError> {
    let mut tokens =
        body.split(|byte| *byte == b'&').filter_map(|field| field.strip_prefix(b"token="));
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => Ok(percent_decode(token).collect()),
        (Some(_), Some(_)) => Err(TokenRequestError::conflict()),
        (None, _) => Err(TokenRequestError::missing()),
    }
}
