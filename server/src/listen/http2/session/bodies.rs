//! Bodies of requests, and answers to those that were waited for.

use super::{Http2Session, STREAM_WINDOW};
use crate::{
    clock::Stopwatch,
    http::BadRequest,
    listen::{
        exchange::ResponseWriter as _,
        http2::{
            answer::{SendWindow, UnsentBody},
            fault::{Http2Error, Http2ErrorCode},
            frame::{Frame, flag},
            stream::{BodyLength, Http2Stream, Http2StreamState, PartialRequest},
        },
    },
    routes::Reply,
};

pub(super) const LENGTH: Http2Error =
    Http2Error::protocol("the body is not as long as the request says");
const CLOSED: Http2Error =
    Http2Error::new(Http2ErrorCode::StreamClosed, "something comes behind the end of a stream");

impl Http2Session<'_> {
    pub(super) fn data(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        const WINDOW: Http2Error =
            Http2Error::new(Http2ErrorCode::FlowControlError, "a body is longer than its window");
        self.check_not_idle(frame.stream)?;
        // What pads it takes room as well.
        let length = frame.payload.len();
        self.credit = self.credit.checked_sub(length).ok_or(WINDOW)?;
        self.replenish_connection_window();
        let data = frame.unpadded()?;
        let is_end = frame.has(flag::END_STREAM);
        if data.is_empty() && !is_end {
            self.abuse_budget.charge_control_frame()?;
        }
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return self.data_on_closed_stream(frame.stream, is_end);
        };
        if !stream.is_open {
            return self.fail_stream(frame.stream, CLOSED);
        }
        let Some(credit) = stream.credit.checked_sub(length) else {
            return self.fail_stream(frame.stream, WINDOW);
        };
        (stream.credit, stream.is_open) = (credit, !is_end);
        // Nobody reads that of others.
        if let Http2StreamState::Body(incoming) = &mut stream.state {
            match incoming.check_length(data.len(), is_end) {
                BodyLength::Mismatch => return self.fail_stream(frame.stream, LENGTH),
                BodyLength::TooLong => self.refuse_body(frame.stream),
                BodyLength::Fits if is_end => self.finish(frame.stream, data),
                BodyLength::Fits => {
                    incoming.body.extend_from_slice(data);
                    self.replenish_stream_window(frame.stream);
                }
            }
        }
        Ok(())
    }

    /// A part of a body whose stream is no more.
    fn data_on_closed_stream(&mut self, id: u32, is_end: bool) -> Result<(), Http2Error> {
        if !self.reset_streams.contains(id) {
            return self.fail_stream(id, CLOSED);
        }
        if is_end {
            self.reset_streams.remove(id);
        }
        self.abuse_budget.charge_control_frame()
    }

    /// What stands behind a body has come, or is malformed.
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
        if let Err(fault) = trailers {
            return self.fail_stream(id, fault);
        }
        if !is_end {
            return self.fail_stream(id, Http2Error::protocol("a request goes on behind its end"));
        }
        stream.is_open = false;
        if let Http2StreamState::Body(incoming) = &stream.state {
            match incoming.check_length(0, true) {
                BodyLength::Mismatch => return self.fail_stream(id, LENGTH),
                BodyLength::TooLong => self.refuse_body(id),
                BodyLength::Fits => self.finish(id, &[]),
            }
        }
        Ok(())
    }

    /// A body has come, of which this is the end.
    fn finish(&mut self, id: u32, data: &[u8]) {
        let Some(Http2Stream { state: Http2StreamState::Body(incoming), is_head, window, .. }) =
            self.streams.remove(&id)
        else {
            return;
        };
        let PartialRequest { waiting, mut body, .. } = *incoming;
        if body.is_empty() {
            // Most come in one piece, which need not be copied.
            return self.answer(id, waiting, data, window, is_head, false);
        }
        body.extend_from_slice(data);
        self.answer(id, waiting, &body, window, is_head, false);
    }

    fn refuse_body(&mut self, id: u32) {
        let Some(Http2Stream {
            state: Http2StreamState::Body(incoming),
            is_head,
            window,
            is_open,
            ..
        }) = self.streams.remove(&id)
        else {
            return;
        };
        let reply = incoming.waiting.refuse(&BadRequest::body_too_large(incoming.max_length));
        self.send(id, &reply, window, is_head, is_open);
    }

    /// Sends an answer. What the client does not take now is kept for later.
    pub(super) fn send(
        &mut self,
        id: u32,
        reply: &Reply,
        window: SendWindow,
        is_head: bool,
        is_open: bool,
    ) {
        let mut writer = self.outgoing.answer(id, window, is_head);
        writer.reply(reply);
        let rest = writer.finish();
        self.finish_response(id, rest, is_head, is_open);
    }

    /// A request is answered, but for this.
    pub(super) fn finish_response(
        &mut self,
        id: u32,
        rest: Option<(UnsentBody, SendWindow)>,
        is_head: bool,
        is_open: bool,
    ) {
        self.abuse_budget.credit_response();
        match rest {
            Some((rest, window)) => {
                let state = Http2StreamState::Sending { rest, since: Stopwatch::start() };
                // It may still send what its window lets it: nobody reads that, and it gets no more.
                self.streams.insert(
                    id,
                    Http2Stream { state, is_open, is_head, window, credit: STREAM_WINDOW },
                );
            }
            // Whatever else it wants to say, it is answered (RFC 9113 section 8.1).
            None if is_open => self.reset_stream(id, Http2ErrorCode::NoError, true),
            None => {}
        }
    }
}
