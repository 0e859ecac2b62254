//! gRPC over HTTP/2 and HTTP/3: unary calls.
//!
//! A call is a POST to the path of its method. Each message has a prefix of five bytes: the
//! compressed flag and the length. The status is in the trailers, or, in a response without a
//! message, in its head (Trailers-Only). The HTTP status is always 200.

pub mod check_request;
pub mod check_response;
pub mod health;
pub mod protobuf;

use std::cell::RefCell;

use bytes::Bytes;
use countersign_front::{BadRequest, Fields, message::SelfFraming, only_line};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version, header};

use crate::base::reply::{Body, Reply, empty, problem};

/// The media type of gRPC, without the suffix for the message encoding.
pub const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const PREFIX: usize = 5;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// gRPC status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    /// Success.
    Ok = 0,
    /// The message is not valid for the method.
    InvalidArgument = 3,
    /// The message did not arrive in time.
    DeadlineExceeded = 4,
    /// A requested entity does not exist.
    NotFound = 5,
    /// The caller is not authorized.
    PermissionDenied = 7,
    /// A limit was exceeded.
    ResourceExhausted = 8,
    /// The method does not exist, or does not support this kind of call.
    Unimplemented = 12,
    /// The framing is invalid.
    Internal = 13,
    /// The caller is not authenticated.
    Unauthenticated = 16,
}

/// Error of a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcError {
    /// The gRPC status.
    pub code: GrpcStatus,
    /// The corresponding HTTP status, for metrics.
    pub status: StatusCode,
    /// The message: visible ASCII without percent signs, so that it needs no escaping.
    pub message: &'static str,
}

impl GrpcError {
    /// A message that is not valid for the method.
    #[must_use]
    pub const fn invalid(message: &'static str) -> Self {
        Self { code: GrpcStatus::InvalidArgument, status: StatusCode::BAD_REQUEST, message }
    }

    /// A method or feature that is not supported.
    #[must_use]
    pub const fn unimplemented(message: &'static str) -> Self {
        Self { code: GrpcStatus::Unimplemented, status: StatusCode::NOT_IMPLEMENTED, message }
    }

    /// Invalid framing.
    const fn internal(message: &'static str) -> Self {
        Self { code: GrpcStatus::Internal, status: StatusCode::BAD_REQUEST, message }
    }
}

impl From<protobuf::ProtobufError> for GrpcError {
    fn from(error: protobuf::ProtobufError) -> Self {
        Self::invalid(error.0)
    }
}

impl From<&BadRequest> for GrpcError {
    /// A call whose message could not be received.
    fn from(bad_request: &BadRequest) -> Self {
        let (code, message) = match bad_request.status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                (GrpcStatus::ResourceExhausted, "the message is longer than max_request_body_size")
            }
            StatusCode::REQUEST_TIMEOUT => {
                (GrpcStatus::DeadlineExceeded, "the message did not arrive in time")
            }
            _ => (GrpcStatus::Internal, "the request is malformed"),
        };
        Self { code, status: bad_request.status, message }
    }
}

impl From<GrpcError> for Reply {
    /// A Trailers-Only response: its head carries the status.
    fn from(error: GrpcError) -> Self {
        let mut response = empty(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        // Clients that compress messages learn from it that only `identity` is supported.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(STATUS, (error.code as u16).into());
        headers.insert(MESSAGE, HeaderValue::from_static(error.message));
        Self { counted: error.status, ..response.into() }
    }
}

/// Returns whether a request is a gRPC call with a supported message encoding.
#[must_use]
pub fn is_call(version: Version, method: &str, fields: &impl Fields) -> bool {
    supports_trailers(version)
        && method == "POST"
        && encoding(fields).is_some_and(|encoding| ["", "+proto"].contains(&encoding))
}

/// Returns the response to a request to a gRPC method that [is not a call](is_call).
#[must_use]
pub fn refuse(version: Version, method: &str) -> Response<Body> {
    let (status, code, detail) = match method {
        _ if !supports_trailers(version) => (
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "http_version",
            "gRPC requires HTTP/2: add h2 to protocols, and use it",
        ),
        "POST" => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type",
            "the media type of a gRPC call is application/grpc or application/grpc+proto",
        ),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "a gRPC call is a POST"),
    };
    let mut response = problem(status, code, detail);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// Returns the response to a call of an unknown method, or `None` if the request is not a gRPC
/// call.
#[must_use]
pub fn unknown_method(version: Version, fields: &impl Fields) -> Option<Reply> {
    let is_call = supports_trailers(version) && encoding(fields).is_some();
    is_call.then(|| {
        Reply::from(GrpcError {
            status: StatusCode::NOT_FOUND,
            ..GrpcError::unimplemented("unknown method")
        })
    })
}

/// Returns whether this version of HTTP has trailers that clients can be expected to read.
fn supports_trailers(version: Version) -> bool {
    version >= Version::HTTP_2
}

/// Returns the message encoding in Content-Type, or `None` if the media type is not gRPC's.
fn encoding(fields: &impl Fields) -> Option<&str> {
    let value = str::from_utf8(only_line(fields, &header::CONTENT_TYPE).ok()??).ok()?;
    let value = value.split(';').next()?.trim_ascii_end();
    let (media_type, encoding) = value.split_at_checked(MEDIA_TYPE.len())?;
    let is_grpc_type = media_type.as_bytes().eq_ignore_ascii_case(MEDIA_TYPE.as_bytes());
    (is_grpc_type && (encoding.is_empty() || encoding.starts_with('+'))).then_some(encoding)
}

/// Returns the message of a call.
///
/// # Errors
/// There is not exactly one message, or it is compressed.
pub fn message(body: &[u8]) -> Result<&[u8], GrpcError> {
    const ONE: &str = "the method takes exactly one message";
    let Some((prefix, rest)) = body.split_first_chunk::<PREFIX>() else {
        return Err(if body.is_empty() { GrpcError::unimplemented(ONE) } else { TRUNCATED });
    };
    let [flag, length @ ..] = *prefix;
    match flag {
        0 => {}
        1 => return Err(GrpcError::unimplemented("compressed messages are not supported")),
        _ => return Err(GrpcError::internal("invalid compressed flag")),
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    match rest.split_at_checked(length) {
        Some((message, [])) => Ok(message),
        Some(_) => Err(GrpcError::unimplemented(ONE)),
        None => Err(TRUNCATED),
    }
}

const TRUNCATED: GrpcError = GrpcError::internal("the message is shorter than its length prefix");

/// Returns the message that `write` writes, with its prefix.
pub fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    thread_local! {
        /// Scratch buffer, so that each message is allocated once, in its final size.
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

/// Content type and trailer of a response with one message.
const FRAMING: SelfFraming =
    SelfFraming { content_type: "application/grpc", trailer: ("grpc-status", b"0") };

/// Returns the response with this framed message.
#[must_use]
pub fn message_reply(message: Bytes) -> Reply {
    Reply { framing: Some(&FRAMING), ..Response::new(message).into() }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn status_of(body: &[u8]) -> GrpcStatus {
        message(body).unwrap_err().code
    }

    #[test]
    fn call_has_one_message_of_its_declared_length() {
        assert_eq!(message(b"\0\0\0\0\x02ab"), Ok(&b"ab"[..]));
        assert_eq!(message(b"\0\0\0\0\0"), Ok(&b""[..]));
        assert_eq!(message(&framed(|out| out.extend_from_slice(b"ab"))), Ok(&b"ab"[..]));
        for truncated in [&b"\0"[..], b"\0\0\0\0", b"\0\0\0\0\x03ab", b"\0\xff\xff\xff\xffab"] {
            assert_eq!(status_of(truncated), GrpcStatus::Internal, "{truncated:?}");
        }
        for several in [&b""[..], b"\0\0\0\0\x02abc", b"\0\0\0\0\0\0\0\0\0\0"] {
            assert_eq!(status_of(several), GrpcStatus::Unimplemented, "{several:?}");
        }
    }

    #[test]
    fn compressed_messages_are_rejected() {
        assert_eq!(status_of(b"\x01\0\0\0\x02ab"), GrpcStatus::Unimplemented);
        for flag in 2..=255 {
            assert_eq!(status_of(&[flag, 0, 0, 0, 2, b'a', b'b']), GrpcStatus::Internal);
        }
    }

    #[test]
    fn call_is_recognized_by_version_method_and_type() {
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
    fn grpc_error_is_a_trailers_only_response() {
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
        assert!(reply.response.body().is_empty() && reply.framing.is_none());
        let slow = GrpcError::from(&countersign_front::message::BODY_TOO_SLOW);
        assert_eq!(
            (slow.code, slow.status),
            (GrpcStatus::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT)
        );
    }
}
