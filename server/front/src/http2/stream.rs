//! The state of HTTP/2 streams.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    time::Duration,
};

use futures_util::future::AbortHandle;

use super::{
    response::{SendWindow, UnsentBody},
    session::STREAM_WINDOW,
};
use crate::{
    clock::Stopwatch, exchange::ExchangePipe, fields::expected_body::ExpectedBody,
    request_memory::HeldMemory, service::Service, upload_drain::UploadDrain,
};

/// The open [`Http2Stream`]s of a connection, by stream identifier.
pub(super) type Streams<'c, S> =
    HashMap<u32, Http2Stream<'c, S>, BuildHasherDefault<StreamIdHasher>>;

/// A multiplicative hash of stream identifiers. A connection has so few streams that collisions
/// forced by a client would not matter, so SipHash's protection is not needed.
#[derive(Default)]
pub(super) struct StreamIdHasher(u64);

impl Hasher for StreamIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A stream whose request is not finished.
pub(super) struct Http2Stream<'c, S: Service> {
    pub(super) state: Http2StreamState<'c, S>,
    /// Whether the client may still send on it: its side is not half-closed.
    pub(super) is_open: bool,
    /// Whether the request is HEAD, so that the response has no body, whatever its Content-Length.
    pub(super) is_head: bool,
    /// Flow-control window for the response body.
    pub(super) window: SendWindow,
    /// Receive window that is left to the client until the next WINDOW_UPDATE.
    pub(super) credit: usize,
    /// The body that is expected, read or not.
    pub(super) expected: ExpectedBody,
}

/// The stream on which a response is sent.
#[derive(Clone, Copy)]
pub(super) struct ResponseStream {
    pub(super) id: u32,
    /// Flow-control window for the response body.
    pub(super) window: SendWindow,
    /// Whether the request is HEAD.
    pub(super) is_head: bool,
    /// Whether the client may still send on the stream.
    pub(super) is_open: bool,
    /// Receive window that is left to the client.
    pub(super) credit: usize,
    pub(super) expected: ExpectedBody,
}

impl ResponseStream {
    /// The stream of a new request.
    pub(super) fn new(id: u32, window: SendWindow, is_open: bool) -> Self {
        let expected = ExpectedBody::default();
        Self { id, window, is_head: false, is_open, credit: STREAM_WINDOW, expected }
    }
}

pub(super) enum Http2StreamState<'c, S: Service> {
    /// Receiving the request body.
    Body(Box<PartialRequest<'c, S>>),
    /// Waiting for the reply. The handle aborts it when the stream is reset.
    AwaitingReply { reply: AbortHandle, _held: HeldMemory<'c> },
    /// Receiving the request body and sending the response at the same time.
    Streaming(Box<StreamedExchange<'c>>),
    /// Sending the response body.
    Sending(Box<PartialResponse<'c>>),
    /// Discarding the rest of the request, as the response is complete.
    Draining(UploadDrain),
}

/// A response whose head has been sent.
pub(super) struct PartialResponse<'c> {
    /// The part of the body that is left.
    pub(super) rest: UnsentBody,
    /// Running since the head was sent.
    pub(super) since: Stopwatch,
    pub(super) _held: HeldMemory<'c>,
}

/// An exchange whose handler is one of the pending replies of the connection.
pub(super) struct StreamedExchange<'c> {
    pub(super) pipe: ExchangePipe,
    /// The part of the response that is being sent.
    pub(super) part: Option<UnsentBody>,
    /// Whether the handler has written all parts.
    pub(super) is_answered: bool,
    pub(super) _held: HeldMemory<'c>,
}

/// A request whose body is being received.
pub(super) struct PartialRequest<'c, S: Service> {
    pub(super) pending: S::Pending<'c>,
    /// Running since the head was read.
    pub(super) started: Stopwatch,
    pub(super) body: Vec<u8>,
    /// Memory held by the request, its body included.
    pub(super) held: HeldMemory<'c>,
    pub(super) max_length: usize,
}

impl<S: Service> PartialRequest<'_, S> {
    /// Whether the body may go on with `more` bytes.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.body.len() + more <= self.max_length
    }
}

impl<'c, S: Service> Http2Stream<'c, S> {
    /// The stream of a request or response in this state.
    pub(super) const fn new(response: ResponseStream, state: Http2StreamState<'c, S>) -> Self {
        let ResponseStream { window, is_head, is_open, credit, expected, .. } = response;
        Self { state, is_open, is_head, window, credit, expected }
    }

    /// Returns the stream for its response, given its identifier.
    pub(super) const fn response(&self, id: u32) -> ResponseStream {
        let Self { window, is_head, is_open, credit, expected, .. } = *self;
        ResponseStream { id, window, is_head, is_open, credit, expected }
    }

    /// Returns the time that is left to the client, of `limit` for a body or a response, or `None`
    /// if the stream waits for the server.
    pub(super) fn time_left(&self, limit: Duration) -> Option<Duration> {
        let left = |since: &Stopwatch| Some(limit.saturating_sub(since.elapsed()));
        match &self.state {
            Http2StreamState::Body(incoming) => left(&incoming.started),
            Http2StreamState::Sending(response) => left(&response.since),
            Http2StreamState::Streaming(exchange) => Some(exchange.pipe.time_left(limit)),
            Http2StreamState::Draining(drain) => Some(drain.time_left()),
            Http2StreamState::AwaitingReply { .. } => None,
        }
    }
}

/// The most recent streams that the server reset while their clients were still sending. Frames
/// that were in flight at that time are not an error (RFC 9113 section 5.1).
#[derive(Default)]
pub(super) struct ResetStreams(VecDeque<u32>);

impl ResetStreams {
    /// Number of streams remembered. Older ones are treated as closed.
    const CAPACITY: usize = 128;

    pub(super) fn insert(&mut self, stream: u32) {
        if self.0.len() == Self::CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(stream);
    }

    pub(super) fn contains(&self, stream: u32) -> bool {
        self.0.contains(&stream)
    }

    /// Removes a stream that the client has ended too. Returns whether it was present.
    pub(super) fn remove(&mut self, stream: u32) -> bool {
        let index = self.0.iter().position(|one| *one == stream);
        index.and_then(|index| self.0.remove(index)).is_some()
    }
}
