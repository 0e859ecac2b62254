//! The vocabulary of requests and answers, the same for every HTTP version.

use std::{borrow::Cow, cell::RefCell};

use bytes::Bytes;
use countersign_engine::UnixTime;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::clock;

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
pub fn only_line<'f>(
    fields: &'f (impl Fields + ?Sized),
    name: &HeaderName,
) -> Result<Option<&'f [u8]>, DuplicateHeader> {
    match (fields.line(name, 0), fields.line(name, 1)) {
        (_, Some(_)) => Err(DuplicateHeader),
        (line, None) => Ok(line),
    }
}

/// A header that stands there more than once and must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateHeader;

/// Why something is no request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The status of the answer.
    pub status: StatusCode,
    /// A stable code.
    pub code: &'static str,
    /// What is wrong, in words.
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

    pub(crate) fn body_too_large(most: usize) -> Self {
        let detail = format!("a body may have {most} bytes").into();
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, code: "body_too_large", detail }
    }

    /// What is told about it.
    #[must_use]
    pub fn to_response(&self) -> Response<Body> {
        problem(self.status, self.code, &self.detail)
    }
}

/// A body that took too long to come.
pub const BODY_TOO_SLOW: BadRequest =
    BadRequest::too_slow("body_timeout", "the body of the request took too long to arrive");

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

/// Calls with `Date` as it is at a moment: written once a second by each thread. A clock
/// that shows no date gives none (RFC 9110 section 6.6.1).
pub fn with_date(now: UnixTime, take: impl FnOnce(&HeaderValue)) {
    thread_local! {
        static DATE: RefCell<(UnixTime, Option<HeaderValue>)> = const { RefCell::new((UnixTime(u64::MAX), None)) };
    }
    DATE.with_borrow_mut(|(of, date)| {
        if *of != now {
            *date = clock::http_date(now).and_then(|date| HeaderValue::try_from(date).ok());
            *of = now;
        }
        date.as_ref().map(take);
    });
}
