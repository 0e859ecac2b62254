//! Requests of HTTP/2, as h2 has read them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderName, Request, Version, header, request::Parts};
use tokio::time::timeout;

use super::answer::Responder;
use crate::{
    http::{BODY_TOO_SLOW, Fields, Malformed, only_line},
    listen::{
        exchange::{Head, Waiting},
        http1::head::digits,
    },
};

/// The most header lines, as of HTTP/1.
const MOST_LINES: usize = 100;

impl Fields for Parts {
    fn line(&self, name: &HeaderName, nth: usize) -> Option<&[u8]> {
        self.headers.line(name, nth)
    }
}

impl Head for Parts {
    const VERSION: Version = Version::HTTP_2;

    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn target(&self) -> &str {
        self.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str)
    }

    fn to_request(&self) -> Result<Request<()>, Malformed> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        *request.version_mut() = Self::VERSION;
        Ok(request)
    }
}

/// What h2 leaves to us: a request is for one host, however often it says so (RFC 9113
/// section 8.3.1), and has no more lines than others.
pub(super) fn check(head: &Parts) -> Result<(), Malformed> {
    const HOST: Malformed = Malformed::bad("host", "a request has one :authority, and a Host line only if it says the same");
    if head.headers.len() > MOST_LINES {
        return Err(Malformed::head_too_large("a request may have 100 header lines"));
    }
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = only_line(&head.headers, &header::HOST).map_err(|_| HOST)?;
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(HOST),
        (None, None) => Err(HOST),
        _ => Ok(()),
    }
}

/// How long the body of a request is, if the request says it. h2 has seen that it is a
/// number.
pub(super) fn length(head: &Parts) -> Option<u64> {
    digits(head.headers.get(header::CONTENT_LENGTH)?.as_bytes())
}

/// The body of a request, as it comes.
pub(super) struct Body {
    pub(super) stream: RecvStream,
    /// How long it is to be.
    pub(super) length: Option<u64>,
}

/// Answers a request that has to wait: for its body, or for keys.
pub(super) async fn finish(waiting: Waiting<'_>, body: Body, mut responder: Responder<'_>, limit: Duration) {
    let received = match waiting.reads_body {
        true => timeout(limit, receive(body, waiting.most_body())).await.unwrap_or(Err(Unreceived::Refused(BODY_TOO_SLOW))),
        false => Ok(Bytes::new()),
    };
    let reply = match received {
        Ok(body) => responder.unless_reset(waiting.answer(body)).await,
        Err(Unreceived::Refused(malformed)) => Some(waiting.refuse(&malformed)),
        Err(Unreceived::Gone) => None,
    };
    if let Some(reply) = reply {
        responder.finish(&reply, limit).await;
    }
}

/// Why a body was not received.
enum Unreceived {
    /// The client has taken its request back.
    Gone,
    /// It is refused.
    Refused(Malformed),
}

/// Receives a body, unless it says itself that it is too long.
async fn receive(body: Body, most: usize) -> Result<Bytes, Unreceived> {
    let Body { stream: mut body, length } = body;
    if length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > most)) {
        return Err(Unreceived::Refused(Malformed::body_too_large(most)));
    }
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|_| Unreceived::Gone)?;
        if first.len() + rest.len() + piece.len() > most {
            return Err(Unreceived::Refused(Malformed::body_too_large(most)));
        }
        body.flow_control().release_capacity(piece.len()).map_err(|_| Unreceived::Gone)?;
        match first.is_empty() {
            true => first = piece,
            false => rest.extend_from_slice(&piece),
        }
    }
    // Most bodies come in one piece, which need not be copied.
    match rest.is_empty() {
        true => Ok(first),
        false => Ok([first, rest.freeze()].concat().into()),
    }
}
