//! gRPC, over whatever version of HTTP has trailers: calls with one message each way.
//!
//! A call is a POST to the name of its method. Each message has five bytes before it:
//! whether it is compressed, and how long it is. The status stands behind the answer, in
//! its trailers, or, where there is no message, in its head (Trailers-Only). In HTTP all
//! answers to calls are 200.

pub mod check_request;
pub mod check_response;
pub mod protobuf;

use std::cell::RefCell;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, Version, header};

use crate::{
    http::{BadRequest, Body, Fields, empty, only_line, problem},
    routes::Reply,
};

/// The media type of messages, and of their encoding, if it is said.
pub const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const PREFIX: usize = 5;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// What a call ended in, in gRPC's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    /// As it was meant.
    Ok = 0,
    /// The message is not what the method takes.
    InvalidArgument = 3,
    /// It took too long.
    DeadlineExceeded = 4,
    /// What it is about is not there.
    NotFound = 5,
    /// Somebody may not do what he wants to.
    PermissionDenied = 7,
    /// It is more than is taken.
    ResourceExhausted = 8,
    /// There is no such method, or not what it was called with.
    Unimplemented = 12,
    /// Its framing is broken.
    Internal = 13,
    /// Nobody says who he is.
    Unauthenticated = 16,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcError {
    /// In gRPC.
    pub code: GrpcStatus,
    /// In HTTP, where faults are counted.
    pub status: StatusCode,
    /// In words: visible ASCII without a percent sign, which would have to be escaped.
    pub message: &'static str,
}

impl GrpcError {
    /// A message that the method does not take.
    #[must_use]
    pub const fn invalid(message: &'static str) -> Self {
        Self { code: GrpcStatus::InvalidArgument, status: StatusCode::BAD_REQUEST, message }
    }

    /// Something that is not there.
    #[must_use]
    pub const fn unimplemented(message: &'static str) -> Self {
        Self { code: GrpcStatus::Unimplemented, status: StatusCode::NOT_IMPLEMENTED, message }
    }

    /// Framing that is none.
    const fn internal(message: &'static str) -> Self {
        Self { code: GrpcStatus::Internal, status: StatusCode::BAD_REQUEST, message }
    }
}

impl From<protobuf::ProtobufError> for GrpcError {
    fn from(unreadable: protobuf::ProtobufError) -> Self {
        Self::invalid(unreadable.0)
    }
}

impl From<&BadRequest> for GrpcError {
    /// A call whose message cannot be had.
    fn from(malformed: &BadRequest) -> Self {
        let (code, message) = match malformed.status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                (GrpcStatus::ResourceExhausted, "the message is longer than max_request_body_size")
            }
            StatusCode::REQUEST_TIMEOUT => {
                (GrpcStatus::DeadlineExceeded, "the message took too long to arrive")
            }
            _ => (GrpcStatus::Internal, "the request is malformed"),
        };
        Self { code, status: malformed.status, message }
    }
}

impl From<GrpcError> for Reply {
    /// An answer without a message: its head says what the trailers would.
    fn from(fault: GrpcError) -> Self {
        let mut response = empty(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        // Whoever has compressed his message is told that he need not.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(STATUS, (fault.code as u16).into());
        headers.insert(MESSAGE, HeaderValue::from_static(fault.message));
        Self { counted: fault.status, ..response.into() }
    }
}

/// Whether a request is a call that we can read.
#[must_use]
pub fn is_call(version: Version, method: &str, fields: &impl Fields) -> bool {
    supports_trailers(version)
        && method == "POST"
        && encoding(fields).is_some_and(|encoding| ["", "+proto"].contains(&encoding))
}

/// The answer to what [is no call](is_call), at a place for calls.
#[must_use]
pub fn refuse(version: Version, method: &str) -> Response<Body> {
    let (status, code, detail) = match method {
        _ if !supports_trailers(version) => (
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "http_version",
            "gRPC needs HTTP/2: name h2 in protocols, and speak it",
        ),
        "POST" => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type",
            "a call of gRPC is application/grpc, or application/grpc+proto",
        ),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "a call of gRPC is a POST"),
    };
    let mut response = problem(status, code, detail);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The answer to a call of a method that there is not; `None` if a request is no call.
#[must_use]
pub fn unknown_method(version: Version, fields: &impl Fields) -> Option<Reply> {
    let is_call = supports_trailers(version) && encoding(fields).is_some();
    is_call.then(|| {
        Reply::from(GrpcError {
            status: StatusCode::NOT_FOUND,
            ..GrpcError::unimplemented("there is no such method")
        })
    })
}

/// Whether there are trailers that clients can be expected to read.
fn supports_trailers(version: Version) -> bool {
    version >= Version::HTTP_2
}

/// What the media type says of the encoding of messages, if it is that of gRPC.
fn encoding(fields: &impl Fields) -> Option<&str> {
    let value = str::from_utf8(only_line(fields, &header::CONTENT_TYPE).ok()??).ok()?;
    let value = value.split(';').next()?.trim_ascii_end();
    let (media_type, encoding) = value.split_at_checked(MEDIA_TYPE.len())?;
    let is_ours = media_type.as_bytes().eq_ignore_ascii_case(MEDIA_TYPE.as_bytes());
    (is_ours && (encoding.is_empty() || encoding.starts_with('+'))).then_some(encoding)
}

/// The one message of a call.
///
/// # Errors
/// There is none, or another one behind it, or it is compressed.
pub fn message(body: &[u8]) -> Result<&[u8], GrpcError> {
    const ONE: &str = "the method takes one message";
    let Some((prefix, rest)) = body.split_first_chunk::<PREFIX>() else {
        return Err(if body.is_empty() { GrpcError::unimplemented(ONE) } else { TRUNCATED });
    };
    let [flag, length @ ..] = *prefix;
    match flag {
        0 => {}
        1 => return Err(GrpcError::unimplemented("messages may not be compressed")),
        _ => return Err(GrpcError::internal("a message is neither compressed nor not")),
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    match rest.split_at_checked(length) {
        Some((message, [])) => Ok(message),
        Some(_) => Err(GrpcError::unimplemented(ONE)),
        None => Err(TRUNCATED),
    }
}

const TRUNCATED: GrpcError = GrpcError::internal("the message is shorter than it says");

/// A message that `write` writes, with what stands before it.
pub fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    thread_local! {
        /// Messages are put together here, so that they need no more memory of their own
        /// than they are long.
        static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    DRAFT.with_borrow_mut(|draft| {
        draft.clear();
        draft.extend_from_slice(&[0; PREFIX]);
        write(draft);
        let length = u32::try_from(draft.len() - PREFIX).unwrap_or(u32::MAX);
        draft[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        Bytes::copy_from_slice(draft)
    })
}

/// What stands behind a message: that it is one.
pub const TRAILER: (&str, &[u8]) = ("grpc-status", b"0");

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn fault(body: &[u8]) -> GrpcStatus {
        message(body).unwrap_err().code
    }

    #[test]
    fn a_call_has_one_message_of_the_length_that_it_says() {
        assert_eq!(message(b"\0\0\0\0\x02ab"), Ok(&b"ab"[..]));
        assert_eq!(message(b"\0\0\0\0\0"), Ok(&b""[..]));
        assert_eq!(message(&framed(|out| out.extend_from_slice(b"ab"))), Ok(&b"ab"[..]));
        for cut_off in [&b"\0"[..], b"\0\0\0\0", b"\0\0\0\0\x03ab", b"\0\xff\xff\xff\xffab"] {
            assert_eq!(fault(cut_off), GrpcStatus::Internal, "{cut_off:?}");
        }
        for several in [&b""[..], b"\0\0\0\0\x02abc", b"\0\0\0\0\0\0\0\0\0\0"] {
            assert_eq!(fault(several), GrpcStatus::Unimplemented, "{several:?}");
        }
    }

    #[test]
    fn compressed_messages_are_not_taken() {
        assert_eq!(fault(b"\x01\0\0\0\x02ab"), GrpcStatus::Unimplemented);
        for flag in 2..=255 {
            assert_eq!(fault(&[flag, 0, 0, 0, 2, b'a', b'b']), GrpcStatus::Internal);
        }
    }

    #[test]
    fn a_call_is_told_by_its_version_method_and_media_type() {
        let typed = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_TYPE, HeaderValue::from_static(line));
            }
            headers
        };
        let good = typed(&["application/grpc"]);
        assert!(is_call(Version::HTTP_2, "POST", &good) && is_call(Version::HTTP_3, "POST", &good));
        assert!(
            !is_call(Version::HTTP_11, "POST", &good) && !is_call(Version::HTTP_2, "GET", &good)
        );
        for (line, is_read, is_grpc) in [
            ("application/grpc+proto", true, true),
            ("Application/gRPC ; charset=x", true, true),
            ("application/grpc+json", false, true),
            ("application/grpc+", false, true),
            ("application/grpc-web", false, false),
            ("application/grpcx", false, false),
            ("application/json", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_call(Version::HTTP_2, "POST", &typed(&[line])), is_read, "{line}");
            assert_eq!(
                unknown_method(Version::HTTP_2, &typed(&[line])).is_some(),
                is_grpc,
                "{line}"
            );
        }
        let twice = typed(&["application/grpc", "application/grpc"]);
        assert!(
            !is_call(Version::HTTP_2, "POST", &twice)
                && !is_call(Version::HTTP_2, "POST", &typed(&[]))
        );
        assert!(unknown_method(Version::HTTP_11, &good).is_none());
    }

    #[test]
    fn a_fault_is_an_answer_without_a_message() {
        let reply = Reply::from(GrpcError::from(&BadRequest::body_too_large(1)));
        assert_eq!(
            (reply.response.status(), reply.counted),
            (StatusCode::OK, StatusCode::PAYLOAD_TOO_LARGE)
        );
        let line = |name| reply.response.headers().get(name).map(HeaderValue::as_bytes);
        assert_eq!(
            [line("grpc-status"), line("content-type")],
            [Some(&b"8"[..]), Some(b"application/grpc")]
        );
        assert!(reply.response.body().is_empty() && !reply.is_message);
        let slow = GrpcError::from(&crate::http::BODY_TOO_SLOW);
        assert_eq!(
            (slow.code, slow.status),
            (GrpcStatus::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT)
        );
    }
}
