//! The vocabulary of requests and answers, the same for every HTTP version.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

/// The header lines of a request, whoever has read them.
pub trait Fields {
    /// The value of the `nth` line of this name from the end: 0 is the last.
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]>;
}

impl Fields for HeaderMap {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        self.get_all(name).iter().nth_back(nth).map(HeaderValue::as_bytes)
    }
}

/// The only line of a header.
///
/// # Errors
/// There are several: which of them was meant cannot be told.
pub fn only_line<'f>(fields: &'f (impl Fields + ?Sized), name: &HeaderName) -> Result<Option<&'f [u8]>, Several> {
    match (fields.line(name, 0), fields.line(name, 1)) {
        (_, Some(_)) => Err(Several),
        (line, None) => Ok(line),
    }
}

/// A header that stands there more than once and must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several;

/// A complete body.
pub type Body = Bytes;

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::new());
    *response.status_mut() = status;
    response
}

/// An answer in JSON.
#[must_use]
pub fn json(status: StatusCode, value: &Value) -> Response<Body> {
    typed(status, "application/json", value.to_string())
}

/// An answer of the given type.
#[must_use]
pub fn typed(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A problem (RFC 9457): a status, a stable code, and a sentence for people.
#[must_use]
pub fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Body> {
    let value = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
    });
    typed(status, "application/problem+json", value.to_string())
}

/// Forbids every cache to keep the answer.
#[must_use]
pub fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
