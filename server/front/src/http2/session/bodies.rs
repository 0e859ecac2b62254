//! Request bodies, and the completion of responses.

use super::{Http2Session, STREAM_WINDOW};
use crate::{
    clock::Stopwatch,
    http2::{
        error::{Http2Error, Http2ErrorCode},
        frame::{Frame, flag},
        response::{SendWindow, UnsentBody},
        stream::{BodyLength, Http2Stream, Http2StreamState, PartialRequest},
    },
    message::{BadRequest, Reply},
    service::{PendingRequest as _, ResponseWriter as _, Service},
};

pub(super) const LENGTH_MISMATCH: Http2Error =
    Http2Error::protocol("the body length differs from Content-Length");
const CLOSED: Http2Error =
    Http2Error::new(Http2ErrorCode::StreamClosed, "a frame was sent on a closed stream");

impl<S: Service> Http2Session<'_, S> {
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
        // Bodies of requests that do not read one are discarded.
        if let Http2StreamState::Body(incoming) = &mut stream.state {
            match incoming.check_length(data.len(), is_end) {
                BodyLength::Mismatch => return self.fail_stream(frame.stream, LENGTH_MISMATCH),
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
        if let Http2StreamState::Body(incoming) = &stream.state {
            match incoming.check_length(0, true) {
                BodyLength::Mismatch => return self.fail_stream(id, LENGTH_MISMATCH),
                BodyLength::TooLong => self.refuse_body(id),
                BodyLength::Fits => self.finish(id, &[]),
            }
        }
        Ok(())
    }

    /// Answers a request whose body is complete with `data`.
    fn finish(&mut self, id: u32, data: &[u8]) {
        let Some(Http2Stream { state: Http2StreamState::Body(incoming), is_head, window, .. }) =
            self.streams.remove(&id)
        else {
            return;
        };
        let PartialRequest { pending, mut body, .. } = *incoming;
        if body.is_empty() {
            // Most bodies arrive in one frame and need not be copied.
            return self.answer(id, pending, data, window, is_head, false);
        }
        body.extend_from_slice(data);
        self.answer(id, pending, &body, window, is_head, false);
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
        let reply = incoming.pending.refuse(&BadRequest::body_too_large(incoming.max_length));
        self.send(id, &reply, window, is_head, is_open);
    }

    /// Sends a reply. What the client's window does not allow yet is kept.
    pub(super) fn send(
        &mut self,
        id: u32,
        reply: &Reply,
        window: SendWindow,
        is_head: bool,
        is_open: bool,
    ) {
        let mut writer = self.outgoing.writer(id, window, is_head);
        writer.reply(reply);
        let rest = writer.finish();
        self.finish_response(id, rest, is_head, is_open);
    }

    /// Finishes a response, except for the part in `rest`.
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
                // The client may use up its receive window. That data is discarded, and the window
                // is not replenished.
                self.streams.insert(
                    id,
                    Http2Stream { state, is_open, is_head, window, credit: STREAM_WINDOW },
                );
            }
            // The response is complete, so the rest of the request is not needed (RFC 9113 section
            // 8.1).
            None if is_open => self.reset_stream(id, Http2ErrorCode::NoError, true),
            None => {}
        }
    }
}
