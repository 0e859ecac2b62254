//! The state of a request stream, from received data to the response.

use std::{mem, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use http::Version;

use super::{
    error::{Http3Error, Http3ErrorCode},
    frame::{FrameEvent, RequestFrames, TRAILERS_TOO_LARGE},
    qpack::{self, QpackError},
    response::Http3ResponseWriter,
};
use crate::{
    clock::Stopwatch,
    connection::ConnectionContext,
    exchange::{ExchangePipe, MAX_UNREAD, StreamedReply},
    fields::{
        expected_body::ExpectedBody,
        request::{self, DecodedHead, MalformedReason},
    },
    message::{BadRequest, RequestHead as _},
    request_limits::RequestLimits,
    request_memory::{self, ConnectionMemory, HeldMemory, MemoryExceeded, MemoryPurpose},
    service::{self, IncomingRequest, PendingRequest as _, ReplyFuture, Service, Step},
    upload_drain::UploadDrain,
};

/// A request stream whose request is not finished.
pub(super) struct Http3Stream<'c, S: Service> {
    frames: RequestFrames,
    /// Memory held by an incomplete field section.
    held_input: HeldMemory<'c>,
    exchange: Http3Exchange<'c, S>,
    is_ended: bool,
    /// Time since the stream was opened, or since its response began to be sent.
    since: Stopwatch,
}

/// A request and its response.
struct Http3Exchange<'c, S: Service> {
    state: Http3StreamState<'c, S>,
    /// The body that is expected, read or not.
    expected: ExpectedBody,
    is_head: bool,
    /// Memory held by the request or its response.
    held: HeldMemory<'c>,
}

enum Http3StreamState<'c, S: Service> {
    /// Waiting for the HEADERS frame.
    Head,
    /// Receiving the body.
    Body { pending: S::Pending<'c>, body: Vec<u8>, max_length: usize },
    /// Waiting for the reply.
    AwaitingReply,
    /// Receiving the body and sending the response at the same time.
    Streaming(Box<StreamedExchange>),
    /// Sending the response, of which this part is left.
    Sending(Vec<u8>),
    /// Discarding the rest of the request, as the response is complete.
    Draining(UploadDrain),
}

/// An exchange whose handler is one of the pending replies of the connection.
pub(super) struct StreamedExchange {
    pub(super) pipe: ExchangePipe,
    /// The part of the response that is being sent, as a frame.
    pub(super) unsent: Vec<u8>,
    /// The length of its beginning that was sent.
    pub(super) sent: usize,
    /// Whether the handler has written all parts.
    pub(super) is_answered: bool,
}

/// The next step after [`receive`](Http3Stream::receive).
pub(super) enum StreamStep<'c> {
    /// Wait for more data.
    NeedsData,
    /// Send the response that was written.
    Done,
    /// Send the response to an oversized head, which is charged to the client.
    Oversized,
    /// Wait for the reply.
    Wait(ReplyFuture<'c>),
    /// Run the handler of an exchange, which is the state of the stream.
    Stream(Pin<Box<dyn Future<Output = ()> + 'c>>),
}

impl<'c, S: Service> Http3Stream<'c, S> {
    /// A stream on which nothing has been received.
    pub(super) fn new(limits: &RequestLimits, memory: &Rc<ConnectionMemory<'c>>) -> Self {
        Self {
            frames: RequestFrames::new(limits.head_bytes),
            held_input: memory.hold_nothing(MemoryPurpose::Other),
            exchange: Http3Exchange {
                state: Http3StreamState::Head,
                expected: ExpectedBody::default(),
                is_head: false,
                held: memory.hold_nothing(MemoryPurpose::IncompleteBody),
            },
            is_ended: false,
            since: Stopwatch::start(),
        }
    }

    /// Keeps the part of the response that is not sent yet. No more of the request is received.
    ///
    /// # Errors
    /// The rest would hold too much memory.
    pub(super) fn send_later(&mut self, rest: Vec<u8>) -> Result<(), MemoryExceeded> {
        self.exchange.held.resize_for(MemoryPurpose::Response, rest.len())?;
        self.exchange.state = Http3StreamState::Sending(rest);
        self.is_ended = true;
        self.since = Stopwatch::start();
        Ok(())
    }

    /// Discards the rest of the request, as its response is complete.
    pub(super) fn drain(&mut self) {
        self.exchange.held.release();
        self.exchange.state = Http3StreamState::Draining(UploadDrain::start());
    }

    /// Counts bytes that arrived. Returns whether the stream was drained for long enough.
    pub(super) fn discard(&mut self, bytes: usize) -> bool {
        match &mut self.exchange.state {
            Http3StreamState::Draining(drain) => !drain.discard(bytes),
            _ => false,
        }
    }

    /// Whether the rest of the request is discarded.
    pub(super) const fn is_draining(&self) -> bool {
        matches!(self.exchange.state, Http3StreamState::Draining(_))
    }

    /// Whether the request has ended, or no more of it is received.
    pub(super) const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Returns whether the request is HEAD, so that the response has no body.
    pub(super) const fn is_head(&self) -> bool {
        self.exchange.is_head
    }

    /// Returns the time that is left to the client, of `limit` for a request or a response, or
    /// `None` if the stream waits for the server.
    pub(super) fn time_left(&self, limit: Duration) -> Option<Duration> {
        match &self.exchange.state {
            Http3StreamState::AwaitingReply => None,
            Http3StreamState::Draining(drain) => Some(drain.time_left()),
            Http3StreamState::Streaming(exchange) => Some(exchange.pipe.time_left(limit)),
            _ => Some(limit.saturating_sub(self.since.elapsed())),
        }
    }

    /// Takes the request, if its body is incomplete.
    pub(super) fn take_pending(&mut self) -> Option<S::Pending<'c>> {
        self.exchange.take_incoming().map(|(pending, _)| pending)
    }

    /// Returns the exchange, if body and response are streams.
    pub(super) fn exchange(&mut self) -> Option<&mut StreamedExchange> {
        match &mut self.exchange.state {
            Http3StreamState::Streaming(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// Returns the number of bytes that may be received now. The rest waits in the window of the
    /// stream.
    pub(super) fn room(&self) -> usize {
        match &self.exchange.state {
            Http3StreamState::Streaming(exchange) => {
                MAX_UNREAD.saturating_sub(exchange.pipe.unread())
            }
            _ => usize::MAX,
        }
    }

    /// Takes the unsent part of the response.
    pub(super) fn take_unsent(&mut self) -> Option<Vec<u8>> {
        match &mut self.exchange.state {
            Http3StreamState::Sending(unsent) => Some(mem::take(unsent)),
            _ => None,
        }
    }

    /// Handles received data, and writes the response if the request can be answered at once. The
    /// rest of the request is checked even if nothing reads it.
    pub(super) fn receive(
        &mut self,
        connection: ConnectionContext<'c, S>,
        pieces: &[Bytes],
        is_end: bool,
        out: &mut Vec<u8>,
    ) -> Result<StreamStep<'c>, Http3Error> {
        let Self { frames, held_input, exchange, is_ended, .. } = self;
        let mut answer = None;
        for piece in pieces {
            let mut bytes = &piece[..];
            while let Some(event) = frames.next(&mut bytes)? {
                let step = match event {
                    FrameEvent::Headers(section) => exchange.begin(connection, section, out)?,
                    FrameEvent::TooLarge => {
                        reject(connection, &connection.worker.limits.head_too_large(), out);
                        Some(StreamStep::Oversized)
                    }
                    FrameEvent::Data(data) => exchange.receive_body(data, out)?,
                    FrameEvent::Trailers(section) => {
                        check_trailers(connection, section)?;
                        None
                    }
                };
                if step.is_some() {
                    answer = step;
                }
            }
        }
        if is_end {
            *is_ended = true;
            // A client may abandon an upload that was answered, at any byte: a stream of quinn that
            // is dropped ends there.
            if !matches!(exchange.state, Http3StreamState::Draining(_)) {
                frames.end()?;
                exchange.expected.receive(0, true).map_err(malformed)?;
            }
            if let Http3StreamState::Streaming(streamed) = &exchange.state {
                streamed.pipe.end();
            }
        }
        let kept = held_input.resize(frames.held_bytes());
        if let Some(answer) = answer {
            return kept.map(|()| answer).map_err(|_| CANNOT_KEEP);
        }
        if is_end {
            return Ok(exchange.finish(connection, out));
        }
        match kept {
            Ok(()) => Ok(StreamStep::NeedsData),
            Err(exceeded) if exchange.is_unanswered() => {
                Ok(reject(connection, &exceeded.refuse_head(), out))
            }
            Err(_) => Err(CANNOT_KEEP),
        }
    }
}

impl<'c, S: Service> Http3Exchange<'c, S> {
    /// Whether the response is still to be determined by what arrives.
    const fn is_unanswered(&self) -> bool {
        matches!(self.state, Http3StreamState::Head | Http3StreamState::Body { .. })
    }

    /// Answers a request from its head if possible, or begins to receive its body.
    fn begin(
        &mut self,
        connection: ConnectionContext<'c, S>,
        section: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<StreamStep<'c>>, Http3Error> {
        let mut buffer = connection.worker.buffers.sections.borrow_mut();
        let section = match qpack::read(&mut buffer, section, &connection.worker.limits) {
            Ok(section) => section,
            Err(QpackError::TooLarge(bad_request)) => {
                reject(connection, &bad_request, out);
                return Ok(Some(StreamStep::Oversized));
            }
            Err(QpackError::Connection(error)) => return Err(error),
        };
        let head = DecodedHead::read(section, Version::HTTP_3).map_err(malformed)?;
        self.state = Http3StreamState::AwaitingReply;
        self.expected = ExpectedBody::new(head.content_length);
        self.is_head = head.method() == "HEAD";
        let settings = connection.worker.service.settings();
        let request = IncomingRequest::new(connection, &settings, &head);
        let reads_body = S::reads_body(&request);
        let pending = match S::respond(&request, &mut self.writer(out)) {
            Ok(Step::Done(())) => return Ok(Some(StreamStep::Done)),
            Err(malformed) => return Ok(Some(reject(connection, &malformed, out))),
            Ok(Step::Wait(pending)) => pending,
        };
        if pending.is_streamed() {
            return Ok(Some(self.stream(pending, out)));
        }
        if !reads_body {
            return Ok(Some(self.answer(connection, pending, &[], out)));
        }
        let max_length = pending.max_body_bytes();
        if head.content_length.is_some_and(|length| {
            usize::try_from(length).map_or(true, |length| length > max_length)
        }) {
            return Ok(Some(self.refuse(pending, &BadRequest::body_too_large(max_length), out)));
        }
        let bytes = size_of::<Http3Stream<'_, S>>() + pending.held_bytes();
        if let Err(exceeded) = self.held.resize(bytes) {
            return Ok(Some(self.refuse(pending, &exceeded.refuse_head(), out)));
        }
        self.state = Http3StreamState::Body { pending, body: Vec::new(), max_length };
        Ok(None)
    }

    /// Appends to the body of a request. Bodies that are not read are discarded.
    fn receive_body(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<StreamStep<'c>>, Http3Error> {
        self.expected.receive(data.len(), false).map_err(malformed)?;
        let (body, max_length) = match &mut self.state {
            Http3StreamState::Body { body, max_length, .. } => (body, max_length),
            Http3StreamState::Streaming(exchange) => {
                exchange.pipe.push(data);
                return Ok(None);
            }
            _ => return Ok(None),
        };
        let refused = if body.len() + data.len() > *max_length {
            Some(BadRequest::body_too_large(*max_length))
        } else {
            let kept = request_memory::append(body, data, *max_length, &mut self.held);
            kept.err().map(MemoryExceeded::refuse_body)
        };
        let Some(reason) = refused else { return Ok(None) };
        let incoming = self.take_incoming();
        Ok(incoming.map(|(pending, _)| self.refuse(pending, &reason, out)))
    }

    /// Answers a request that is complete, unless that is done.
    fn finish(
        &mut self,
        connection: ConnectionContext<'c, S>,
        out: &mut Vec<u8>,
    ) -> StreamStep<'c> {
        match self.take_incoming() {
            Some((pending, body)) => {
                self.held.record_complete_body();
                self.answer(connection, pending, &body, out)
            }
            None => StreamStep::NeedsData,
        }
    }

    /// Answers a request whose body is complete: now if possible, or when its reply is ready.
    fn answer(
        &mut self,
        connection: ConnectionContext<'c, S>,
        pending: S::Pending<'c>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> StreamStep<'c> {
        let bytes = pending.held_bytes() + body.len();
        match pending.respond(body, &mut self.writer(out)) {
            Step::Done(()) => StreamStep::Done,
            Step::Wait(reply) => {
                let bytes = bytes + request_memory::future_bytes(&reply);
                match self.held.resize_for(MemoryPurpose::Other, bytes) {
                    Ok(()) => StreamStep::Wait(reply),
                    Err(exceeded) => reject(connection, &exceeded.refuse_head(), out),
                }
            }
        }
    }

    /// Begins to answer a request whose body and response are streams.
    fn stream(&mut self, pending: S::Pending<'c>, out: &mut Vec<u8>) -> StreamStep<'c> {
        let bytes = pending.held_bytes() + ExchangePipe::HELD_BYTES;
        if let Err(exceeded) = self.held.resize(bytes) {
            return self.refuse(pending, &exceeded.refuse_head(), out);
        }
        let (pipe, exchange) = ExchangePipe::new();
        let StreamedReply { head, handler } = pending.stream(exchange);
        let mut unsent = Vec::new();
        self.writer(&mut unsent).write_head(&head);
        let exchange = StreamedExchange { pipe, unsent, sent: 0, is_answered: false };
        self.state = Http3StreamState::Streaming(Box::new(exchange));
        StreamStep::Stream(handler)
    }

    /// Writes the response to a request that cannot be received.
    fn refuse(
        &self,
        pending: S::Pending<'c>,
        reason: &BadRequest,
        out: &mut Vec<u8>,
    ) -> StreamStep<'c> {
        self.writer(out).write(&pending.refuse(reason));
        StreamStep::Done
    }

    /// Takes the request and the part of its body that was received, if its body is incomplete.
    fn take_incoming(&mut self) -> Option<(S::Pending<'c>, Vec<u8>)> {
        match mem::replace(&mut self.state, Http3StreamState::AwaitingReply) {
            Http3StreamState::Body { pending, body, .. } => Some((pending, body)),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn writer<'o>(&self, out: &'o mut Vec<u8>) -> Http3ResponseWriter<'o> {
        Http3ResponseWriter::new(out, self.is_head)
    }
}

/// The error of a stream whose trailers cannot be kept.
const CANNOT_KEEP: Http3Error =
    Http3Error::new(Http3ErrorCode::RequestCancelled, "unfinished requests hold too much memory");

/// The error of a client whose unfinished requests hold too much memory.
pub(super) const TOO_MUCH_MEMORY: Http3Error =
    Http3Error::new(Http3ErrorCode::ExcessiveLoad, "unfinished requests hold too much memory");

/// The error of a malformed request.
const fn malformed(reason: MalformedReason) -> Http3Error {
    Http3Error::new(Http3ErrorCode::MessageError, reason)
}

/// Validates trailers.
fn check_trailers<S: Service>(
    connection: ConnectionContext<'_, S>,
    section: &[u8],
) -> Result<(), Http3Error> {
    let mut buffer = connection.worker.buffers.sections.borrow_mut();
    match qpack::read(&mut buffer, section, &connection.worker.limits) {
        Ok(section) => request::check_trailers(section).map_err(malformed),
        Err(QpackError::TooLarge(_)) => Err(TRAILERS_TOO_LARGE),
        Err(QpackError::Connection(error)) => Err(error),
    }
}

/// Writes the response to a malformed request.
fn reject<'c, S: Service>(
    connection: ConnectionContext<'_, S>,
    reason: &BadRequest,
    out: &mut Vec<u8>,
) -> StreamStep<'c> {
    out.clear();
    service::reject(connection, reason, &mut Http3ResponseWriter::new(out, false));
    StreamStep::Done
}
