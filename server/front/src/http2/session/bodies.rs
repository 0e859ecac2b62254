//! Request bodies, and the completion of responses.

use super::Http2Session;
use crate::{
    clock::Stopwatch,
    http2::{
        error::{Http2Error, Http2ErrorCode},
        frame::{Frame, flag},
        response::{SendWindow, UnsentBody},
        stream::{Http2Stream, Http2StreamState, PartialRequest, PartialResponse, ResponseStream},
    },
    message::{BadRequest, Reply},
    request_memory::{self, MemoryPurpose},
    service::{PendingRequest as _, ResponseWriter as _, Service},
    upload_drain::UploadDrain,
};

const CLOSED: Http2Error =
    Http2Error::new(Http2ErrorCode::StreamClosed, "a frame was sent on a closed stream");

impl<'c, S: Service> Http2Session<'c, S> {
    pub(super) fn data(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        const OVERRUN: Http2Error = Http2Error::new(
            Http2ErrorCode::FlowControlError,
            "DATA exceeds the flow-control window",
        );
        self.check_not_idle(frame.stream)?;
        // Padding counts against flow control, too.
        let length = frame.payload.len();
        self.credit = self.credit.checked_sub(length).ok_or(OVERRUN)?;
        self.replenish_connection_window();
        let data = frame.unpadded()?;
        let is_end = frame.has(flag::END_STREAM);
        if data.is_empty() && !is_end {
            self.abuse_budget.charge_control_frame::<Http2Error>()?;
        }
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return self.data_on_closed_stream(frame.stream, is_end);
        };
        if !stream.is_open {
            return self.fail_stream(frame.stream, CLOSED);
        }
        let Some(credit) = stream.credit.checked_sub(length) else {
            return self.fail_stream(frame.stream, OVERRUN);
        };
        (stream.credit, stream.is_open) = (credit, !is_end);
        if let Err(reason) = stream.expected.receive(data.len(), is_end) {
            return self.fail_stream(frame.stream, Http2Error::protocol(reason));
        }
        match &mut stream.state {
            Http2StreamState::Body(incoming) if !incoming.has_room(data.len()) => {
                let reason = BadRequest::body_too_large(incoming.max_length);
                self.refuse_body(frame.stream, &reason);
            }
            Http2StreamState::Body(_) if is_end => self.finish(frame.stream, data),
            Http2StreamState::Body(incoming) => {
                let PartialRequest { body, held, max_length, .. } = &mut **incoming;
                match request_memory::append(body, data, *max_length, held) {
                    Ok(()) => self.replenish_stream_window(frame.stream),
                    Err(exceeded) => self.refuse_body(frame.stream, &exceeded.refuse_body()),
                }
            }
            Http2StreamState::Draining(_) if is_end => self.finish_drain(frame.stream),
            Http2StreamState::Draining(drain) => {
                if drain.discard(length) {
                    self.replenish_stream_window(frame.stream);
                } else {
                    self.end_drain(frame.stream);
                }
            }
            Http2StreamState::Streaming(exchange) => {
                exchange.pipe.push(data);
                if is_end {
                    exchange.pipe.end();
                }
            }
            // Discarded, too. The window is replenished when the response is complete.
            Http2StreamState::AwaitingReply { .. } | Http2StreamState::Sending(_) => {}
        }
        Ok(())
    }

    /// Handles DATA or trailers on a stream that is not open: in flight when the server reset the
    /// stream, or an error.
    fn data_on_closed_stream(&mut self, id: u32, is_end: bool) -> Result<(), Http2Error> {
        if !self.reset_streams.contains(id) {
            return self.fail_stream(id, CLOSED);
        }
        if is_end {
            self.reset_streams.remove(id);
        }
        self.abuse_budget.charge_control_frame()
    }

    /// Handles trailers, which end the request body.
    pub(super) fn trailers(
        &mut self,
        id: u32,
        is_end: bool,
        trailers: Result<(), Http2Error>,
    ) -> Result<(), Http2Error> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.data_on_closed_stream(id, is_end);
        };
        if !stream.is_open {
            return self.fail_stream(id, CLOSED);
        }
        if let Err(error) = trailers {
            return self.fail_stream(id, error);
        }
        if !is_end {
            return self.fail_stream(id, Http2Error::protocol("trailers do not end the stream"));
        }
        stream.is_open = false;
        if let Err(reason) = stream.expected.receive(0, true) {
            return self.fail_stream(id, Http2Error::protocol(reason));
        }
        match &stream.state {
            Http2StreamState::Streaming(exchange) => exchange.pipe.end(),
            Http2StreamState::Body(_) => self.finish(id, &[]),
            Http2StreamState::Draining(_) => self.finish_drain(id),
            Http2StreamState::AwaitingReply { .. } | Http2StreamState::Sending(_) => {}
        }
        Ok(())
    }

    /// Answers a request whose body is complete with `data`.
    fn finish(&mut self, id: u32, data: &[u8]) {
        let Some((response, incoming)) = self.take_incoming(id) else { return };
        let PartialRequest { pending, mut body, .. } = *incoming;
        self.memory.record_complete_body();
        if body.is_empty() {
            // Most bodies arrive in one frame and need not be copied.
            return self.answer(pending, data, response);
        }
        body.extend_from_slice(data);
        self.answer(pending, &body, response);
    }

    fn refuse_body(&mut self, id: u32, reason: &BadRequest) {
        if let Some((response, incoming)) = self.take_incoming(id) {
            self.send(&incoming.pending.refuse(reason), response);
        }
    }

    /// Removes a stream whose request body is being received.
    fn take_incoming(&mut self, id: u32) -> Option<(ResponseStream, Box<PartialRequest<'c, S>>)> {
        let stream = self.streams.remove(&id)?;
        let response = stream.response(id);
        match stream.state {
            Http2StreamState::Body(incoming) => Some((response, incoming)),
            _ => None,
        }
    }

    /// Sends a reply. What the client's window does not allow yet is kept.
    pub(super) fn send(&mut self, reply: &Reply, response: ResponseStream) {
        let mut writer = self.outgoing.writer(response.id, response.window, response.is_head);
        writer.reply(reply);
        let rest = writer.finish();
        self.finish_response(rest, response);
    }

    /// Finishes a response, except for the part in `rest`.
    pub(super) fn finish_response(
        &mut self,
        rest: Option<(UnsentBody, SendWindow)>,
        response: ResponseStream,
    ) {
        self.abuse_budget.credit_response();
        match rest {
            Some((rest, window)) => {
                let Ok(held) = self.memory.hold(MemoryPurpose::Response, rest.len()) else {
                    let code = Http2ErrorCode::EnhanceYourCalm;
                    return self.reset_stream(response.id, code, response.is_open);
                };
                let unsent = PartialResponse { rest, since: Stopwatch::start(), _held: held };
                let state = Http2StreamState::Sending(Box::new(unsent));
                let response_stream = ResponseStream { window, ..response };
                self.streams.insert(response.id, Http2Stream::new(response_stream, state));
            }
            None if response.is_open => self.drain(response),
            None => {}
        }
    }

    /// Discards the rest of a request whose response is complete.
    pub(super) fn drain(&mut self, response: ResponseStream) {
        let state = Http2StreamState::Draining(UploadDrain::start());
        self.streams.insert(response.id, Http2Stream::new(response, state));
        self.has_new_drain = true;
        self.replenish_stream_window(response.id);
    }

    /// Removes a stream whose upload was drained to its end. curl 7.88 does not notice that such a
    /// stream is closed until it receives a frame, so the connection's window is replenished.
    fn finish_drain(&mut self, id: u32) {
        self.streams.remove(&id);
        self.grant_connection_window();
    }

    /// Resets a stream that is drained. The response is complete, so the rest of the request is not
    /// needed (RFC 9113 section 8.1).
    pub(super) fn end_drain(&mut self, id: u32) {
        let is_draining =
            |stream: &Http2Stream<'_, S>| matches!(stream.state, Http2StreamState::Draining(_));
        if self.streams.get(&id).is_some_and(is_draining) {
            self.streams.remove(&id);
            self.reset_stream(id, Http2ErrorCode::NoError, true);
        }
    }
}
