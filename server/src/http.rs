//! Protocol-neutral requests and responses, shared by every HTTP version.
//!
//! [`Fields`] reads header fields of a request without building a [`HeaderMap`]. [`BadRequest`] is
//! the error of every parser, and the functions below build responses.

use std::{borrow::Cow, cell::RefCell};

use bytes::Bytes;
use countersign_engine::UnixTime;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::clock;

/// The header field lines of a request, independent of the protocol's parser.
pub trait Fields {
    /// Returns the value of the `nth` line of this name, counted from the end: 0 is the last.
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]>;
}

impl Fields for HeaderMap {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        self.get_all(name).iter().nth_back(nth).map(HeaderValue::as_bytes)
    }
}

/// Returns the value of a header field that may occur at most once.
///
/// # Errors
/// [`DuplicateHeader`]: several lines have this name. Proxies and servers differ in which of
/// them they use, so none is used.
pub fn only_line<'f>(
    fields: &'f (impl Fields + ?Sized),
    name: &HeaderName,
) -> Result<Option<&'f [u8]>, DuplicateHeader> {
    match (fields.line(name, 0), fields.line(name, 1)) {
        (_, Some(_)) => Err(DuplicateHeader),
        (line, None) => Ok(line),
    }
}

/// A header field that must occur at most once occurs several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateHeader;

/// A request that is rejected before routing, with the status and code of its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The status of the response.
    pub status: StatusCode,
    /// A stable, machine-readable code.
    pub code: &'static str,
    /// A sentence for people.
    pub detail: Cow<'static, str>,
}

impl BadRequest {
    pub(crate) const fn with_status(
        status: StatusCode,
        code: &'static str,
        detail: &'static str,
    ) -> Self {
        Self { status, code, detail: Cow::Borrowed(detail) }
    }

    pub(crate) const fn new(code: &'static str, detail: &'static str) -> Self {
        Self::with_status(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) const fn head_too_large(detail: &'static str) -> Self {
        Self::with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail)
    }

    pub(crate) const fn too_slow(code: &'static str, detail: &'static str) -> Self {
        Self::with_status(StatusCode::REQUEST_TIMEOUT, code, detail)
    }

    pub(crate) fn body_too_large(max_bytes: usize) -> Self {
        let detail = format!("the request body is limited to {max_bytes} bytes").into();
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, code: "body_too_large", detail }
    }

    /// Returns the [`problem`] response for this error.
    #[must_use]
    pub fn to_response(&self) -> Response<Body> {
        problem(self.status, self.code, &self.detail)
    }
}

/// The request body did not arrive within its timeout.
pub const BODY_TOO_SLOW: BadRequest =
    BadRequest::too_slow("body_timeout", "the body of the request took too long to arrive");

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
    let value = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
    });
    typed(status, "application/problem+json", value.to_string())
}

/// Adds `Cache-Control: no-store`, so that no cache stores the response.
#[must_use]
pub fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Calls `take` with the `Date` value for `now`. Each thread formats it once a second and caches
/// it. If the clock cannot be expressed as a date, `take` is not called, because a server without
/// a clock must not send `Date` (RFC 9110 section 6.6.1).
pub fn with_date(now: UnixTime, take: impl FnOnce(&HeaderValue)) {
    thread_local! {
        static DATE: RefCell<(UnixTime, Option<HeaderValue>)> =
            const { RefCell::new((UnixTime(u64::MAX), None)) };
    }
    DATE.with_borrow_mut(|(of, date)| {
        if *of != now {
            *date = clock::http_date(now).and_then(|date| HeaderValue::try_from(date).ok());
            *of = now;
        }
        date.as_ref().map(take);
    });
}
