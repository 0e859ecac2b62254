//! Control frames: SETTINGS, PING, GOAWAY, PRIORITY, RST_STREAM and WINDOW_UPDATE.

use super::{CONNECTION_WINDOW, CloseState, Http2Session, STREAM_WINDOW, count};
use crate::{
    http2::{
        error::{Http2Error, Http2ErrorCode},
        frame::{self, Frame, flag, kind},
        settings,
        stream::Http2StreamState,
    },
    service::Service,
};

/// Payload of the ping sent with the first GOAWAY. Its acknowledgement triggers the final one.
pub(super) const SHUTDOWN_PING: [u8; 8] = *b"the last";
/// Payload of the [keepalive ping](Http2Session::send_keepalive_ping).
pub(super) const KEEPALIVE_PING: [u8; 8] = *b"are you?";

impl<S: Service> Http2Session<'_, S> {
    pub(super) fn settings(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        check_connection_frame(frame)?;
        if frame.has(flag::ACK) {
            return match frame.payload {
                [] => self.abuse_budget.charge_control_frame(),
                _ => Err(Http2Error::frame_size("a SETTINGS acknowledgement has a payload")),
            };
        }
        let settings = settings::read(frame.payload)?;
        if settings.lowers_table_size {
            self.outgoing.signal_table_size();
        }
        let have_grown = match settings.initial_window {
            Some(initial) => self.resize_windows(initial)?,
            None => false,
        };
        // The acknowledgement goes before DATA that only the new window allows: some clients
        // enforce their old settings until they see it.
        frame::frame(&mut self.outgoing.bytes, kind::SETTINGS, flag::ACK, 0, &[]);
        if have_grown {
            self.resume_all();
        }
        self.abuse_budget.charge_control_frame()
    }

    /// Adjusts all stream windows by the change of the initial window (section 6.9.2). Returns
    /// whether they have grown.
    fn resize_windows(&mut self, initial: u32) -> Result<bool, Http2Error> {
        let by = i64::from(initial) - i64::from(self.outgoing.initial);
        self.outgoing.initial = initial;
        for stream in self.streams.values_mut() {
            stream.window.widen(by).ok_or(WINDOW_OVERFLOW)?;
        }
        Ok(by > 0)
    }

    pub(super) fn ping(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        check_connection_frame(frame)?;
        let Ok(payload) = <[u8; 8]>::try_from(frame.payload) else {
            return Err(Http2Error::frame_size("the payload of PING is not eight bytes long"));
        };
        if !frame.has(flag::ACK) {
            frame::frame(&mut self.outgoing.bytes, kind::PING, flag::ACK, 0, &payload);
        } else if payload == SHUTDOWN_PING && matches!(self.state, CloseState::ShuttingDown(_)) {
            self.finish_shutdown();
        }
        self.abuse_budget.charge_control_frame()
    }

    pub(super) fn goaway(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        check_connection_frame(frame)?;
        if frame.payload.len() < 8 {
            return Err(Http2Error::frame_size("the payload of GOAWAY is below eight bytes"));
        }
        self.finish_shutdown();
        self.abuse_budget.charge_control_frame()
    }

    /// Validates a PRIORITY frame and ignores it: responses are sent as soon as they are ready, so
    /// there is nothing to order.
    pub(super) fn priority(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        const LENGTH: Http2Error =
            Http2Error::frame_size("the payload of PRIORITY is not five bytes long");
        match (frame.stream, frame.payload.len()) {
            (0, _) => Err(Http2Error::protocol("PRIORITY on stream 0")),
            (_, 5) => self.abuse_budget.charge_control_frame(),
            // An idle stream cannot be reset.
            (stream, _) if stream > self.last => Err(LENGTH),
            (stream, _) => self.fail_stream(stream, LENGTH),
        }
    }

    pub(super) fn reset(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        self.check_not_idle(frame.stream)?;
        frame.integer()?;
        let aborted = self.abort_stream(frame.stream).map(|stream| stream.state);
        let is_drained = matches!(aborted, Some(Http2StreamState::Draining(_)));
        if self.reset_streams.remove(frame.stream) || is_drained {
            // The server reset the stream first, and both resets crossed. Or the client ends an
            // upload that was answered early, as the server would have done.
            return self.abuse_budget.charge_control_frame();
        }
        // A reset after the response costs double, as completing the response has refilled the
        // budget by one.
        self.abuse_budget.charge_request(if aborted.is_some() { 1 } else { 2 })
    }

    pub(super) fn window_update(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        const ZERO_INCREMENT: Http2Error =
            Http2Error::protocol("WINDOW_UPDATE with an increment of 0");
        let more = frame.integer()? & frame::MAX_31_BITS;
        if frame.stream == 0 {
            if more == 0 {
                return Err(ZERO_INCREMENT);
            }
            self.outgoing.widen(more).ok_or(WINDOW_OVERFLOW)?;
            return if self.resume_all() {
                Ok(())
            } else {
                self.abuse_budget.charge_control_frame()
            };
        }
        self.check_not_idle(frame.stream)?;
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return self.abuse_budget.charge_control_frame();
        };
        if more == 0 {
            return self.fail_stream(frame.stream, ZERO_INCREMENT);
        }
        if stream.window.widen(more.into()).is_none() {
            return self.fail_stream(frame.stream, WINDOW_OVERFLOW);
        }
        if self.resume(frame.stream) { Ok(()) } else { self.abuse_budget.charge_control_frame() }
    }

    /// Resumes the responses that wait for room in the send buffer. Returns whether anything was
    /// appended to it.
    pub(in super::super) fn refill(&mut self) -> bool {
        self.outgoing.take_is_cut_off() && self.resume_all()
    }

    /// Resumes all responses that wait for window. Returns whether anything was sent.
    fn resume_all(&mut self) -> bool {
        let sending = self.streams.iter().filter(|(_, stream)| {
            use Http2StreamState::{Sending, Streaming};
            matches!(stream.state, Sending(_) | Streaming(_))
        });
        let mut ids: Vec<_> = sending.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().fold(false, |has_sent, id| self.resume(id) | has_sent)
    }

    /// Resumes one response. Returns whether anything was sent.
    fn resume(&mut self, id: u32) -> bool {
        let before = self.outgoing.bytes.len();
        self.advance_exchange(id);
        if let Some(stream) = self.streams.get_mut(&id)
            && let Http2StreamState::Sending(response) = &mut stream.state
            && self.outgoing.resume(id, &mut stream.window, &mut response.rest)
        {
            let response = stream.response(id);
            self.streams.remove(&id);
            if response.is_open {
                self.drain(response);
            }
        }
        self.outgoing.bytes.len() > before
    }

    /// Replenishes the receive window of the connection for the data that arrived, used or
    /// discarded.
    pub(super) fn replenish_connection_window(&mut self) {
        if self.credit <= CONNECTION_WINDOW / 2 {
            self.grant_connection_window();
        }
    }

    /// Grants the window of the connection that the client has used.
    pub(super) fn grant_connection_window(&mut self) {
        let received = CONNECTION_WINDOW - self.credit;
        if received > 0 {
            self.credit = CONNECTION_WINDOW;
            frame::window_update(&mut self.outgoing.bytes, 0, count(received));
        }
    }

    /// Replenishes the receive window of a stream whose body is read, or drained.
    pub(super) fn replenish_stream_window(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let received = STREAM_WINDOW - stream.credit;
        if received >= STREAM_WINDOW / 2 {
            stream.credit = STREAM_WINDOW;
            frame::window_update(&mut self.outgoing.bytes, id, count(received));
        }
    }

    /// Checks that a frame is on a stream that is or was open, not idle (section 5.1).
    pub(super) fn check_not_idle(&self, stream: u32) -> Result<(), Http2Error> {
        match stream {
            0 => Err(Http2Error::protocol("a stream frame on stream 0")),
            _ if stream > self.last || stream.is_multiple_of(2) => {
                Err(Http2Error::protocol("a frame on an idle stream"))
            }
            _ => Ok(()),
        }
    }

    /// Resets a stream with an error, and charges the [`AbuseBudget`](super::AbuseBudget).
    pub(super) fn fail_stream(&mut self, id: u32, error: Http2Error) -> Result<(), Http2Error> {
        tracing::debug!(client = %self.connection.peer.address, code = ?error.code, stream = id, "HTTP/2: {}", error.reason);
        let is_open = self.abort_stream(id).is_some_and(|stream| stream.is_open);
        self.reset_stream(id, error.code, is_open);
        self.abuse_budget.charge_request(1)
    }

    /// Resets a stream. Frames in flight on an open one are ignored, as it is kept in
    /// [`reset_streams`](Self::reset_streams).
    pub(super) fn reset_stream(&mut self, id: u32, code: Http2ErrorCode, is_open: bool) {
        frame::reset(&mut self.outgoing.bytes, id, code);
        if is_open {
            self.reset_streams.insert(id);
        }
    }
}

const WINDOW_OVERFLOW: Http2Error =
    Http2Error::new(Http2ErrorCode::FlowControlError, "a flow-control window exceeds 2^31-1");

fn check_connection_frame(frame: Frame<'_>) -> Result<(), Http2Error> {
    match frame.stream {
        0 => Ok(()),
        _ => Err(Http2Error::protocol("a connection frame on a stream")),
    }
}
