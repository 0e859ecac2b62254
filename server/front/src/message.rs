//! Requests and responses, the same for every version of HTTP.

use std::{borrow::Cow, cell::RefCell};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};

use crate::clock;

/// The header lines of a request: its field lines (RFC 9110 section 5.2), in the order received.
pub trait Fields {
    /// Returns the value of the `nth` line with this name, counted from the end: 0 is the last.
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]>;

    /// Calls `take` with the value of each line with this name, the first one first.
    fn each_line<'f>(&'f self, name: &HeaderName, take: &mut dyn FnMut(&'f [u8]));

    /// Whether any line has a name that meets `test`. Names are in the spelling of the sender.
    fn any_name(&self, test: &dyn Fn(&[u8]) -> bool) -> bool;
}

impl Fields for HeaderMap {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        self.get_all(name).iter().nth_back(nth).map(HeaderValue::as_bytes)
    }

    fn each_line<'f>(&'f self, name: &HeaderName, take: &mut dyn FnMut(&'f [u8])) {
        self.get_all(name).iter().map(HeaderValue::as_bytes).for_each(take);
    }

    fn any_name(&self, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.keys().any(|name| test(name.as_str().as_bytes()))
    }
}

/// Returns the value of the only line with this name.
///
/// # Errors
/// [`DuplicateHeader`] if there are several lines with this name.
pub fn only_line<'f>(
    fields: &'f (impl Fields + ?Sized),
    name: &HeaderName,
) -> Result<Option<&'f [u8]>, DuplicateHeader> {
    let (mut found, mut is_repeated) = (None, false);
    fields.each_line(name, &mut |line| is_repeated |= found.replace(line).is_some());
    if is_repeated { Err(DuplicateHeader) } else { Ok(found) }
}

/// Error of [`only_line`]: a header that must be unique occurs more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateHeader;

/// The head of a request.
pub trait RequestHead: Fields {
    /// The version of HTTP.
    fn version(&self) -> Version;

    /// The method.
    fn method(&self) -> &str;

    /// The request target: usually path and query.
    fn target(&self) -> &str;

    /// The host of the request, with its port if that is given; empty if the request has no host.
    fn host(&self) -> &str;

    /// Calls `call` with the name and value of each header line, in the order received.
    fn for_each_line(&self, call: &mut dyn FnMut(&[u8], &[u8]));
}

/// The reason why a request is rejected before it reaches a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The status of the response.
    pub status: StatusCode,
    /// A stable code, for logs and clients.
    pub code: &'static str,
    /// A description for people. It contains no part of the request.
    pub detail: Cow<'static, str>,
}

impl BadRequest {
    /// Creates a reason with this status.
    #[must_use]
    pub const fn with_status(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self { status, code, detail: Cow::Borrowed(detail) }
    }

    /// Creates a reason with status 400 (Bad Request).
    #[must_use]
    pub const fn new(code: &'static str, detail: &'static str) -> Self {
        Self::with_status(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) const fn too_slow(code: &'static str, detail: &'static str) -> Self {
        Self::with_status(StatusCode::REQUEST_TIMEOUT, code, detail)
    }

    /// Creates the reason for a body longer than `max` bytes: status 413 (Content Too Large).
    #[must_use]
    pub fn body_too_large(max: usize) -> Self {
        let detail = format!("a body may have {max} bytes").into();
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, code: "body_too_large", detail }
    }
}

/// The body did not arrive within [`Timeouts::body`](crate::Timeouts::body): status 408 (Request
/// Timeout).
pub const BODY_TOO_SLOW: BadRequest =
    BadRequest::too_slow("body_timeout", "the body of the request took too long to arrive");

/// A response, with the content type and trailer that HTTP/2 and HTTP/3 send around its body.
pub struct Reply {
    /// The response.
    pub response: Response<Bytes>,
    /// The content type and trailer of a body that states its own length, such as a gRPC message.
    /// A separate field, because entries of a header map are allocated. HTTP/1 does not send them.
    pub framing: Option<&'static SelfFraming>,
}

/// The content type and trailer of a body that states its own length.
pub struct SelfFraming {
    /// The media type, sent in place of `Content-Length`.
    pub content_type: &'static str,
    /// Name and value of the trailer field (RFC 9110 section 6.5).
    pub trailer: (&'static str, &'static [u8]),
}

impl From<Response<Bytes>> for Reply {
    fn from(response: Response<Bytes>) -> Self {
        Self { response, framing: None }
    }
}

impl Reply {
    /// Calls `put` with each header line of an HTTP/2 or HTTP/3 response.
    pub(crate) fn lines(&self, mut put: impl FnMut(&str, &[u8])) {
        for (name, value) in self.response.headers() {
            put(name.as_str(), value.as_bytes());
        }
        let length = self.response.body().len();
        if let Some(framing) = self.framing {
            put(header::CONTENT_TYPE.as_str(), framing.content_type.as_bytes());
        } else if length > 0 {
            put(header::CONTENT_LENGTH.as_str(), length.to_string().as_bytes());
        }
    }

    /// Returns the trailer field, if there is one.
    pub(crate) fn trailer(&self) -> Option<(&'static str, &'static [u8])> {
        self.framing.map(|framing| framing.trailer)
    }
}

/// Calls `take` with the `Date` value for a time of day. Each thread formats it once a second.
///
/// Without a valid date, `take` is not called: a server without a clock must not send `Date` (RFC
/// 9110 section 6.6.1).
pub(crate) fn with_date(unix_seconds: u64, take: impl FnOnce(&HeaderValue)) {
    thread_local! {
        static DATE: RefCell<(u64, Option<HeaderValue>)> = const { RefCell::new((u64::MAX, None)) };
    }
    DATE.with_borrow_mut(|(second, date)| {
        if *second != unix_seconds {
            *date =
                clock::http_date(unix_seconds).and_then(|date| HeaderValue::try_from(date).ok());
            *second = unix_seconds;
        }
        date.as_ref().map(take);
    });
}
