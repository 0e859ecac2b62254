//! Responses of the handlers, the same for every version of HTTP.

use bytes::Bytes;
use countersign_front::{BadRequest, MemoryExceeded, message::SelfFraming};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use super::{outcome::Outcome, tenant_label::TenantLabel};

/// A response, with the facts that metrics and the access log record about it.
pub struct Reply {
    /// The response.
    pub response: Response<Body>,
    /// The outcome of verification, if the request carried or needed a token.
    pub outcome: Option<Outcome>,
    /// The status to count: that of the response, except for gRPC, where every response is 200.
    pub counted: StatusCode,
    /// The tenant to count, if the metrics have a label for it.
    pub tenant: TenantLabel,
    /// Content type and trailer of a body that states its own length, such as a gRPC message.
    pub framing: Option<&'static SelfFraming>,
}

impl Reply {
    /// A response to a request about a token.
    #[must_use]
    pub fn with_outcome(outcome: Outcome, response: Response<Body>) -> Self {
        Self { outcome: Some(outcome), ..response.into() }
    }
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        let (counted, tenant) = (response.status(), TenantLabel::default());
        Self { counted, response, outcome: None, tenant, framing: None }
    }
}

impl From<&BadRequest> for Reply {
    fn from(reason: &BadRequest) -> Self {
        let mut response = problem(reason.status, reason.code, &reason.detail);
        if reason.code == MemoryExceeded::CODE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.into()
    }
}

impl From<Reply> for countersign_front::Reply {
    fn from(reply: Reply) -> Self {
        Self { response: reply.response, framing: reply.framing }
    }
}

/// A complete body.
pub type Body = Bytes;

/// Returns a response without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::new());
    *response.status_mut() = status;
    response
}

/// Returns a JSON response.
#[must_use]
pub fn json(status: StatusCode, value: &Value) -> Response<Body> {
    typed(status, "application/json", value.to_string())
}

/// Returns a response with a body of this media type.
#[must_use]
pub fn typed(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Returns a problem response (RFC 9457): a status, a stable code, and a sentence for people.
#[must_use]
pub fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Body> {
    problem_with(status, code, detail, None)
}

/// Returns a problem response with an extension member: its name and value.
#[must_use]
pub fn problem_with(
    status: StatusCode,
    code: &str,
    detail: &str,
    extension: Option<(&str, &str)>,
) -> Response<Body> {
    let mut value = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
    });
    if let Some((name, extension)) = extension {
        value[name] = extension.into();
    }
    typed(status, "application/problem+json", value.to_string())
}

/// Adds `Cache-Control: no-store`, so that no cache stores the response.
#[must_use]
pub fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
