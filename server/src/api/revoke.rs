//! `POST /v1/revoke` (RFC 7009): a client of `[api_clients]` revokes one token or many.
//!
//! As in the RFC, the parameter `token` revokes one token. Alternatively, the members of a
//! [`RevocationRecord`] select the target: `issuer` with `jti`, `subject`, `kid` or
//! `environment`,
//! `issued_before`, or `signing_input_sha256`. The body is a form or JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_engine::{Revocation, UnixTime};
use countersign_front::{DuplicateHeader, Fields, only_line};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    api::{ApiContext, audited::AuditedCall},
    audit::{AuditOperation, AuditTarget},
    auth::{Caller, RevocationOutcome, api_clients::ApiClients},
    base::{
        redacted::{json_error, member_error},
        reply::{Body, empty, json},
    },
    revocation::{
        RevokeError,
        record::{RecordMistake, RevocationRecord},
    },
};

/// Revokes, and returns 200 once the revocation is stored and in force. The body of a revocation by
/// time has `tokens_valid_from`, the first second whose tokens are not revoked.
pub async fn respond(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Response<Body> {
    let mut audited = AuditedCall::new(context.audit, Some(AuditOperation::RevokeToken), caller);
    let response = match revoke(context, headers, body, &mut audited).await {
        Ok(None) => empty(StatusCode::OK),
        Ok(Some(UnixTime(at))) => json(StatusCode::OK, &json!({ "tokens_valid_from": at })),
        Err(error) => error.into_response(),
    };
    audited.finish(response, None).await
}

/// Parameters of a request. serde rejects repeated parameters (RFC 6749 section 3.1), and
/// unknown ones, because a misspelled one would widen the target.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    token: Option<String>,
    #[expect(dead_code, reason = "a hint that a server may ignore (RFC 7009 section 2.1)")]
    token_type_hint: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    issuer: Option<String>,
    jti: Option<String>,
    subject: Option<String>,
    kid: Option<String>,
    environment: Option<String>,
    issued_before: Option<u64>,
    signing_input_sha256: Option<String>,
    until: Option<u64>,
}

/// Error response (RFC 6749 section 5.2).
pub(super) enum OAuthError {
    /// Client authentication failed.
    Client(&'static str),
    /// The parameters are invalid.
    Request(String),
    /// The revocation was not stored; a retry may succeed (RFC 7009 section 2.2.1).
    Unavailable(String),
}

impl OAuthError {
    pub(super) fn into_response(self) -> Response<Body> {
        let (status, code, text) = match self {
            Self::Client(text) => (StatusCode::UNAUTHORIZED, "invalid_client", text.into()),
            Self::Request(text) => (StatusCode::BAD_REQUEST, "invalid_request", text),
            Self::Unavailable(text) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text)
            }
        };
        let mut response = json(status, &json!({ "error": code, "error_description": text }));
        match status {
            StatusCode::UNAUTHORIZED => {
                let challenge =
                    HeaderValue::from_static(r#"Basic realm="countersign", charset="UTF-8""#);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}

async fn revoke(
    context: &ApiContext<'_>,
    headers: &HeaderMap,
    body: &[u8],
    audited: &mut AuditedCall<'_>,
) -> Result<Option<UnixTime>, OAuthError> {
    let mut parameters: Parameters = read_parameters(body)?;
    let credentials = ClientCredentials {
        id: parameters.client_id.take(),
        secret: parameters.client_secret.take(),
    };
    let client = authenticate(&context.auth.api_clients, headers, credentials)?;
    audited.set_client(&client);
    // An empty parameter counts as omitted (RFC 6749 section 3.1).
    let token = parameters
        .token
        .take()
        .map(|token| token.trim().to_owned())
        .filter(|token| !token.is_empty());
    let record = parameters.record();
    let unavailable = |error: RevokeError| OAuthError::Unavailable(error.to_string());
    let Some(token) = token else {
        let revocation = revoke_record(context, record, audited).await?;
        let kind = revocation.target.kind_name();
        tracing::info!(client, "revoked by {kind}");
        return Ok(RevocationRecord::tokens_valid_from(&revocation));
    };
    if record != RevocationRecord::default() {
        return Err(OAuthError::Request(
            "token excludes all other parameters: it selects what to revoke".into(),
        ));
    }
    audited.set_target((AuditTarget::default(), Some("by token".into())));
    let revoked = context.authenticator.revoke_token(context.revocations, token.as_bytes());
    if revoked.await.map_err(unavailable)? == RevocationOutcome::Done {
        tracing::info!(client, "revoked a token");
    }
    Ok(None)
}

/// Error of [`revoke_record`].
pub(super) enum RecordError {
    /// The record does not describe a plausible revocation.
    Invalid(RecordMistake),
    /// The revocation cannot be stored.
    Store(RevokeError),
}

impl From<RecordError> for OAuthError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Invalid(mistake) => Self::Request(mistake.text),
            RecordError::Store(error) => Self::Unavailable(error.to_string()),
        }
    }
}

/// Revokes what a record describes. Returns the revocation, which is stored and in force.
///
/// # Errors
/// The [`RecordError`].
pub(super) async fn revoke_record(
    context: &ApiContext<'_>,
    record: RevocationRecord,
    audited: &mut AuditedCall<'_>,
) -> Result<Revocation, RecordError> {
    let (authenticator, target) = (context.authenticator, AuditTarget::from(&record));
    let revocation = authenticator.validate_revocation(record).map_err(RecordError::Invalid)?;
    let (kind, detail) = (revocation.target.kind_name(), RevocationRecord::from(&revocation));
    audited.set_target((target, Some(format!("by {kind}: {detail}"))));
    let stored = authenticator.revoke_described(context.revocations, &revocation).await;
    stored.map(|()| revocation).map_err(RecordError::Store)
}

/// Reads the parameters of a body in JSON or a form.
pub(super) fn read_parameters<P: DeserializeOwned>(body: &[u8]) -> Result<P, OAuthError> {
    let read = match body.trim_ascii_start() {
        [b'{', ..] => serde_json::from_slice(body).map_err(|error| json_error(&error)),
        _ => serde_urlencoded::from_bytes(body).map_err(|error| {
            member_error(&error).unwrap_or_else(|| "a parameter has an invalid value".into())
        }),
    };
    read.map_err(|reason| OAuthError::Request(format!("cannot parse the parameters: {reason}")))
}

impl Parameters {
    fn record(self) -> RevocationRecord {
        RevocationRecord {
            issuer: self.issuer,
            jti: self.jti,
            subject: self.subject,
            kid: self.kid,
            environment: self.environment,
            issued_before: self.issued_before,
            signing_input_sha256: self.signing_input_sha256,
            until: self.until,
        }
    }
}

/// The parameters `client_id` and `client_secret`. Not `Debug`, as they hold a secret.
pub(super) struct ClientCredentials {
    pub(super) id: Option<String>,
    pub(super) secret: Option<String>,
}

/// Authenticates the client (RFC 6749 section 2.3.1): by HTTP Basic, or by `client_id` and
/// `client_secret`, but not both. Returns its name.
pub(super) fn authenticate(
    clients: &ApiClients,
    headers: &HeaderMap,
    parameters: ClientCredentials,
) -> Result<String, OAuthError> {
    let in_body = parameters.id.zip(parameters.secret);
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let credentials = match (lines.next(), lines.next(), in_body) {
        (None, _, in_body) => in_body,
        (Some(line), None, None) => basic(line.as_bytes()),
        _ => None,
    };
    let known = credentials.filter(|(name, secret)| clients.accept(name, secret.as_bytes()));
    match known {
        Some((name, _)) => Ok(name),
        None if clients.is_empty() => {
            Err(OAuthError::Client("no client is configured in [api_clients]"))
        }
        None => Err(OAuthError::Client("unknown client or wrong secret")),
    }
}

/// Whether the client may be authenticated: its credentials are in the body, or are right.
pub fn may_authenticate(clients: &ApiClients, fields: &impl Fields) -> bool {
    let is_known = |(name, secret): (String, String)| clients.accept(&name, secret.as_bytes());
    match only_line(fields, &header::AUTHORIZATION) {
        Ok(None) => !clients.is_empty(),
        Ok(Some(line)) => basic(line).is_some_and(is_known),
        Err(DuplicateHeader) => false,
    }
}

fn basic(line: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = str::from_utf8(line).ok()?.split_once(' ')?;
    let decoded =
        STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, secret) = text.split_once(':')?;
    // The RFC requires both to be form-encoded. Names and secrets made by this program do not
    // change by that.
    let decoded = |text: &str| {
        percent_decode_str(&text.replace('+', " ")).decode_utf8().map(String::from).ok()
    };
    Some((decoded(name)?, decoded(secret)?))
}
