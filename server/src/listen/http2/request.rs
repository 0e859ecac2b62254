//! Requests of HTTP/2, as h2 has read them.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

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

/// What is left to be done for an answer.
pub(super) type Finishing<'c> = Pin<Box<dyn Future<Output = ()> + 'c>>;

/// Answers a request that may have to wait: for its body, or for keys. Nearly all calls
/// of gRPC come with their body, wait for nothing, and are answered when this returns.
pub(super) fn begin<'c>(
    waiting: Waiting<'c>,
    mut incoming: Incoming,
    mut responder: Responder<'c>,
    limit: Duration,
    context: &mut Context<'_>,
) -> Option<Finishing<'c>> {
    let received = match waiting.reads_body {
        true => incoming.poll(context),
        false => Poll::Ready(Ok(Bytes::new())),
    };
    let waiting = match &received {
        Poll::Ready(Ok(body)) => waiting.answer_call(body, &mut responder)?,
        Poll::Ready(Err(_)) | Poll::Pending => waiting,
    };
    Some(Box::pin(async move {
        let received = match received {
            Poll::Ready(received) => received,
            Poll::Pending => {
                let whole = timeout(limit, poll_fn(|context| incoming.poll(context))).await;
                whole.unwrap_or(Err(Unreceived::Refused(BODY_TOO_SLOW)))
            }
        };
        let reply = match received {
            Ok(body) => responder.unless_reset(waiting.answer(body)).await,
            Err(Unreceived::Refused(malformed)) => Some(waiting.refuse(&malformed)),
            Err(Unreceived::Gone) => None,
        };
        if let Some(reply) = reply {
            responder.finish(&reply, limit).await;
        }
    }))
}

/// Why a body was not received.
enum Unreceived {
    /// The client has taken its request back.
    Gone,
    /// It is refused.
    Refused(Malformed),
}

/// A body on its way.
pub(super) struct Incoming {
    stream: RecvStream,
    /// How long it says that it is.
    length: Option<u64>,
    most: usize,
    first: Bytes,
    rest: BytesMut,
}

impl Incoming {
    /// One of which nothing has come.
    pub(super) fn new(stream: RecvStream, length: Option<u64>, most: usize) -> Self {
        Self { stream, length, most, first: Bytes::new(), rest: BytesMut::new() }
    }

    /// Receives what there is of it, and returns it when that is all.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Unreceived>> {
        if self.length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > self.most)) {
            return Poll::Ready(Err(Unreceived::Refused(Malformed::body_too_large(self.most))));
        }
        while let Some(piece) = ready!(self.stream.poll_data(context)) {
            if let Err(unreceived) = piece.map_err(|_| Unreceived::Gone).and_then(|piece| self.add(piece)) {
                return Poll::Ready(Err(unreceived));
            }
        }
        // Most bodies come in one piece, which need not be copied.
        Poll::Ready(Ok(match self.rest.is_empty() {
            true => self.first.clone(),
            false => [&*self.first, &self.rest].concat().into(),
        }))
    }

    fn add(&mut self, piece: Bytes) -> Result<(), Unreceived> {
        if self.first.len() + self.rest.len() + piece.len() > self.most {
            return Err(Unreceived::Refused(Malformed::body_too_large(self.most)));
        }
        self.stream.flow_control().release_capacity(piece.len()).map_err(|_| Unreceived::Gone)?;
        match self.first.is_empty() {
            true => self.first = piece,
            false => self.rest.extend_from_slice(&piece),
        }
        Ok(())
    }
}
