//! Field blocks: the heads of requests, and trailers.

use std::rc::Rc;

use futures_util::future;
use http::Version;

use super::{CloseState, Http2Session, MAX_CONCURRENT_STREAMS, PendingReply, input_error};
use crate::{
    connection::ConnectionContext,
    fields::{
        expected_body::ExpectedBody,
        request::{self, DecodedHead},
        section::FieldSection,
    },
    http2::{
        error::{Http2Error, Http2ErrorCode},
        frame::{FRAME_HEADER_LENGTH, Frame, flag},
        hpack::{self, HpackError},
        response::{Http2ResponseWriter, SendWindow},
        stream::{Http2Stream, Http2StreamState, PartialRequest, ResponseStream},
    },
    message::{BadRequest, Reply, RequestHead as _},
    request_memory::{self, ConnectionMemory, HeldMemory, MemoryPurpose},
    service::{self, IncomingRequest, PendingRequest as _, ReplyFuture, Service, Step},
};

/// A field block whose END_HEADERS has not arrived.
pub(super) struct FieldBlock<'c> {
    stream: u32,
    is_end: bool,
    bytes: Vec<u8>,
    /// Bytes received for it, frame headers included. Bounds empty CONTINUATION frames, too.
    cost: usize,
    held: HeldMemory<'c>,
}

/// Largest encoded field block, as a multiple of the limit on the decoded section. It is above 1,
/// so that a request slightly over that limit still gets a 431 response.
const MAX_BLOCK_FACTOR: usize = 2;

impl FieldBlock<'_> {
    fn append(&mut self, fragment: &[u8]) -> Result<(), Http2Error> {
        request_memory::append(&mut self.bytes, fragment, usize::MAX, &mut self.held)
            .map_err(input_error)
    }
}

/// The next step for a request.
enum RequestStep<'c, S: Service> {
    /// None: the response is written.
    Done,
    /// Answer it, without a body.
    Answer(S::Pending<'c>),
    /// Receive its body.
    Receive(Box<PartialRequest<'c, S>>),
}

impl<'c, S: Service> Http2Session<'c, S> {
    pub(super) fn headers(
        &mut self,
        frame: Frame<'_>,
        settings: &S::Settings,
    ) -> Result<(), Http2Error> {
        const PRIORITY_LENGTH: usize = 5;
        let stream = frame.stream;
        if stream.is_multiple_of(2) {
            return Err(Http2Error::protocol("a request on stream 0 or an even stream"));
        }
        if stream <= self.last
            && !self.streams.contains_key(&stream)
            && !self.reset_streams.contains(stream)
        {
            return Err(Http2Error::protocol("HEADERS on a closed stream"));
        }
        let mut section = frame.unpadded()?;
        if frame.has(flag::PRIORITY) {
            section = section.get(PRIORITY_LENGTH..).ok_or(Http2Error::frame_size(
                "a HEADERS frame is shorter than its priority fields",
            ))?;
        }
        let is_end = frame.has(flag::END_STREAM);
        if frame.has(flag::END_HEADERS) {
            return self.section(stream, is_end, section, settings);
        }
        let mut block = FieldBlock {
            stream,
            is_end,
            bytes: Vec::new(),
            cost: FRAME_HEADER_LENGTH + frame.payload.len(),
            held: self.memory.hold_nothing(MemoryPurpose::Other),
        };
        block.append(section)?;
        self.block = Some(block);
        Ok(())
    }

    pub(super) fn continuation(
        &mut self,
        frame: Frame<'_>,
        settings: &S::Settings,
    ) -> Result<(), Http2Error> {
        const NO_BLOCK: Http2Error = Http2Error::protocol("CONTINUATION without HEADERS");
        let mut block =
            self.block.take().filter(|block| block.stream == frame.stream).ok_or(NO_BLOCK)?;
        block.cost += FRAME_HEADER_LENGTH + frame.payload.len();
        if block.cost > MAX_BLOCK_FACTOR * self.connection.worker.limits.head_bytes {
            return Err(Http2Error::new(
                Http2ErrorCode::EnhanceYourCalm,
                "a field block is too long",
            ));
        }
        block.append(frame.payload)?;
        if frame.has(flag::END_HEADERS) {
            return self.section(block.stream, block.is_end, &block.bytes, settings);
        }
        self.block = Some(block);
        Ok(())
    }

    /// Handles a complete field block. It has to be decoded on any stream, as later ones may refer
    /// to its entries in the [`DynamicTable`](hpack::DynamicTable).
    fn section(
        &mut self,
        id: u32,
        is_end: bool,
        payload: &[u8],
        settings: &S::Settings,
    ) -> Result<(), Http2Error> {
        if id > self.last {
            self.last = id;
            return self.request(id, is_end, payload, settings);
        }
        let mut buffer = self.connection.worker.buffers.sections.borrow_mut();
        let limits = &self.connection.worker.limits;
        let trailers = match hpack::read(&mut self.dynamic_table, &mut buffer, payload, limits) {
            Ok(section) => request::check_trailers(section).map_err(Http2Error::protocol),
            Err(HpackError::TooLarge(_)) => Err(Http2Error::protocol("the trailers are too large")),
            Err(HpackError::Connection(error)) => return Err(error),
        };
        drop(buffer);
        self.trailers(id, is_end, trailers)
    }

    fn request(
        &mut self,
        id: u32,
        is_end: bool,
        payload: &[u8],
        settings: &S::Settings,
    ) -> Result<(), Http2Error> {
        self.has_new_request = true;
        let connection = self.connection;
        let is_accepting = !matches!(self.state, CloseState::Closing(_));
        let is_at_limit = self.streams.len() >= MAX_CONCURRENT_STREAMS
            || self.pending_replies.len() >= MAX_CONCURRENT_STREAMS;
        let mut buffer = connection.worker.buffers.sections.borrow_mut();
        let limits = &connection.worker.limits;
        let section = match hpack::read(&mut self.dynamic_table, &mut buffer, payload, limits) {
            Ok(section) => Ok(section),
            Err(HpackError::TooLarge(bad_request)) => Err(bad_request),
            Err(HpackError::Connection(error)) => return Err(error),
        };
        if !is_accepting {
            drop(buffer);
            self.reset_streams.insert(id);
            return self.abuse_budget.charge_control_frame();
        }
        if is_at_limit {
            drop(buffer);
            self.reset_stream(id, Http2ErrorCode::RefusedStream, !is_end);
            return self.abuse_budget.charge_control_frame();
        }
        let window = SendWindow::new(self.outgoing.initial);
        let mut response = ResponseStream::new(id, window, !is_end);
        let mut writer = self.outgoing.writer(id, window, false);
        let step = match section {
            Ok(section) => {
                begin(connection, &self.memory, settings, section, &mut writer, &mut response)
            }
            Err(bad_request) => {
                // More than the response refills.
                self.abuse_budget.charge_request::<Http2Error>(2)?;
                refuse(connection, &bad_request, &mut writer);
                Ok(RequestStep::Done)
            }
        };
        let rest = writer.finish();
        drop(buffer);
        match step {
            Ok(RequestStep::Done) => self.finish_response(rest, response),
            Ok(RequestStep::Answer(pending)) => self.answer(pending, &[], response),
            Ok(RequestStep::Receive(incoming)) => {
                let state = Http2StreamState::Body(incoming);
                self.streams.insert(id, Http2Stream::new(response, state));
            }
            Err(error) => {
                self.fail_stream(id, error)?;
                if !is_end {
                    self.reset_streams.insert(id);
                }
            }
        }
        Ok(())
    }

    /// Answers a request whose body is complete, or a stream: now if possible, or when its reply is
    /// ready.
    pub(super) fn answer(
        &mut self,
        pending: S::Pending<'c>,
        body: &[u8],
        response: ResponseStream,
    ) {
        if pending.is_streamed() {
            return self.begin_exchange(pending, response);
        }
        let bytes = pending.held_bytes() + body.len();
        let mut writer = self.outgoing.writer(response.id, response.window, response.is_head);
        match pending.respond(body, &mut writer) {
            Step::Done(()) => {
                let rest = writer.finish();
                self.finish_response(rest, response);
            }
            Step::Wait(reply) => {
                let bytes = bytes + request_memory::future_bytes(&reply);
                match self.memory.hold(MemoryPurpose::Other, bytes) {
                    Ok(held) => self.wait_for(reply, held, response),
                    Err(exceeded) => {
                        refuse(self.connection, &exceeded.refuse_head(), &mut writer);
                        let rest = writer.finish();
                        self.finish_response(rest, response);
                    }
                }
            }
        }
    }

    /// Polls a reply with the connection. Resetting the stream aborts it.
    pub(super) fn wait_for(
        &mut self,
        reply: ReplyFuture<'c>,
        held: HeldMemory<'c>,
        response: ResponseStream,
    ) {
        let id = response.id;
        let pending: PendingReply<'c> = Box::pin(async move { (id, Some(reply.await)) });
        let (pending, reply) = future::abortable(pending);
        let state = Http2StreamState::AwaitingReply { reply, _held: held };
        self.streams.insert(id, Http2Stream::new(response, state));
        self.pending_replies.push(pending);
    }

    /// Removes a stream and aborts its reply, so that it no longer counts towards
    /// [`MAX_CONCURRENT_STREAMS`].
    pub(super) fn abort_stream(&mut self, id: u32) -> Option<Http2Stream<'c, S>> {
        let stream = self.streams.remove(&id)?;
        if let Http2StreamState::AwaitingReply { reply, .. } = &stream.state {
            reply.abort();
        }
        Some(stream)
    }

    /// Sends a reply that has become ready.
    pub(super) fn reply(&mut self, id: u32, reply: &Reply) {
        // The stream may have been reset meanwhile.
        if let Some(stream) = self.streams.remove(&id) {
            self.connection.worker.buffers.lend_output(&mut self.outgoing.bytes);
            self.send(reply, stream.response(id));
        }
    }
}

/// Answers a request from its head if possible, or returns what it needs.
fn begin<'c, S: Service>(
    connection: ConnectionContext<'c, S>,
    memory: &Rc<ConnectionMemory<'c>>,
    settings: &S::Settings,
    section: FieldSection<'_>,
    writer: &mut Http2ResponseWriter<'_, 'c>,
    response: &mut ResponseStream,
) -> Result<RequestStep<'c, S>, Http2Error> {
    let head = DecodedHead::read(section, Version::HTTP_2).map_err(Http2Error::protocol)?;
    let is_end = !response.is_open;
    response.expected = ExpectedBody::new(head.content_length);
    response.expected.receive(0, is_end).map_err(Http2Error::protocol)?;
    response.is_head = head.method() == "HEAD";
    writer.is_head = response.is_head;
    let request = IncomingRequest::new(connection, settings, &head);
    let reads_body = !is_end && S::reads_body(&request);
    let pending = match S::respond(&request, writer) {
        Ok(Step::Done(())) => return Ok(RequestStep::Done),
        Err(bad_request) => {
            refuse(connection, &bad_request, writer);
            return Ok(RequestStep::Done);
        }
        Ok(Step::Wait(pending)) => pending,
    };
    if !reads_body || pending.is_streamed() {
        return Ok(RequestStep::Answer(pending));
    }
    let max_length = pending.max_body_bytes();
    if head
        .content_length
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max_length))
    {
        service::ResponseWriter::reply(
            writer,
            &pending.refuse(&BadRequest::body_too_large(max_length)),
        );
        return Ok(RequestStep::Done);
    }
    let stream_bytes = size_of::<PartialRequest<'_, S>>() + size_of::<Http2Stream<'_, S>>();
    let held = match memory.hold(MemoryPurpose::IncompleteBody, stream_bytes + pending.held_bytes())
    {
        Ok(held) => held,
        Err(exceeded) => {
            service::ResponseWriter::reply(writer, &pending.refuse(&exceeded.refuse_head()));
            return Ok(RequestStep::Done);
        }
    };
    Ok(RequestStep::Receive(Box::new(PartialRequest {
        pending,
        started: request.started,
        body: Vec::new(),
        held,
        max_length,
    })))
}

fn refuse<S: Service>(
    connection: ConnectionContext<'_, S>,
    malformed: &BadRequest,
    writer: &mut Http2ResponseWriter<'_, '_>,
) {
    service::reject(connection, malformed, writer);
}
