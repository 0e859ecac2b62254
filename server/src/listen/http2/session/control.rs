//! Frames about a connection, and about windows and ends of streams.

use super::{CONNECTION_WINDOW, CloseState, Http2Session, STREAM_WINDOW, count};
use crate::listen::http2::{
    fault::{Http2Error, Http2ErrorCode},
    frame::{self, Frame, flag, kind},
    settings,
    stream::Http2StreamState,
};

/// The ping behind which nothing more of a client is on its way.
pub(super) const SHUTDOWN_PING: [u8; 8] = *b"the last";
/// The ping to a client of which nothing was heard.
pub(super) const KEEPALIVE_PING: [u8; 8] = *b"are you?";

impl Http2Session<'_> {
    pub(super) fn settings(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        check_connection_frame(frame)?;
        if frame.has(flag::ACK) {
            return match frame.payload {
                [] => self.abuse_budget.charge_control_frame(),
                _ => Err(Http2Error::frame_size("an acknowledgement has settings in it")),
            };
        }
        let settings = settings::read(frame.payload)?;
        if settings.lowers_table_size {
            self.outgoing.signal_table_size();
        }
        let are_wider = match settings.initial_window {
            Some(initial) => self.resize_windows(initial)?,
            None => false,
        };
        // Before what only fits because of them: there are clients that hold us to their
        // former settings until they hear of it.
        frame::frame(&mut self.outgoing.bytes, kind::SETTINGS, flag::ACK, 0, &[]);
        if are_wider {
            self.resume_all();
        }
        self.abuse_budget.charge_control_frame()
    }

    /// Changes the windows of all streams by what the first of each is changed (section
    /// 6.9.2). Says whether they are wider now.
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
            return Err(Http2Error::frame_size("a ping has not eight bytes"));
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
            return Err(Http2Error::frame_size("GOAWAY has less than eight bytes"));
        }
        self.finish_shutdown();
        self.abuse_budget.charge_control_frame()
    }

    /// Priorities are for those who have more to do than they can.
    pub(super) fn priority(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        const LENGTH: Http2Error = Http2Error::frame_size("a priority has not five bytes");
        match (frame.stream, frame.payload.len()) {
            (0, _) => Err(Http2Error::protocol("a priority is that of no stream")),
            (_, 5) => self.abuse_budget.charge_control_frame(),
            // A stream that is idle cannot be ended.
            (stream, _) if stream > self.last => Err(LENGTH),
            (stream, _) => self.fail_stream(stream, LENGTH),
        }
    }

    pub(super) fn reset(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        self.check_not_idle(frame.stream)?;
        frame.integer()?;
        let was_waiting = self.abort_stream(frame.stream).is_some();
        if self.reset_streams.remove(frame.stream) {
            // We have ended it ourselves, and the client only agrees.
            return self.abuse_budget.charge_control_frame();
        }
        // If it was answered, that has earned the client a part of what it now loses.
        self.abuse_budget.charge_request(if was_waiting { 1 } else { 2 })
    }

    pub(super) fn window_update(&mut self, frame: Frame<'_>) -> Result<(), Http2Error> {
        const NOTHING: Http2Error = Http2Error::protocol("a window is widened by nothing");
        let more = frame.integer()? & frame::MAX_31_BITS;
        if frame.stream == 0 {
            if more == 0 {
                return Err(NOTHING);
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
            return self.fail_stream(frame.stream, NOTHING);
        }
        if stream.window.widen(more.into()).is_none() {
            return self.fail_stream(frame.stream, WINDOW_OVERFLOW);
        }
        if self.resume(frame.stream) { Ok(()) } else { self.abuse_budget.charge_control_frame() }
    }

    /// Sends more of all answers that wait for a window. Says whether there was something
    /// to be sent.
    fn resume_all(&mut self) -> bool {
        let sending = self
            .streams
            .iter()
            .filter(|(_, stream)| matches!(stream.state, Http2StreamState::Sending { .. }));
        let mut ids: Vec<_> = sending.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().fold(false, |has_sent, id| self.resume(id) | has_sent)
    }

    /// Sends more of an answer. Says whether there was something to be sent.
    fn resume(&mut self, id: u32) -> bool {
        let before = self.outgoing.bytes.len();
        if let Some(stream) = self.streams.get_mut(&id)
            && let Http2StreamState::Sending { rest, .. } = &mut stream.state
            && self.outgoing.resume(id, &mut stream.window, rest)
        {
            let is_open = stream.is_open;
            self.streams.remove(&id);
            if is_open {
                self.reset_stream(id, Http2ErrorCode::NoError, true);
            }
        }
        self.outgoing.bytes.len() > before
    }

    /// So much of a body has come, whoever reads it: the client may send as much again.
    pub(super) fn replenish_connection_window(&mut self) {
        let owed = CONNECTION_WINDOW - self.credit;
        if owed >= CONNECTION_WINDOW / 2 {
            self.credit = CONNECTION_WINDOW;
            frame::window_update(&mut self.outgoing.bytes, 0, count(owed));
        }
    }

    /// The same of a stream whose body is read.
    pub(super) fn replenish_stream_window(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let owed = STREAM_WINDOW - stream.credit;
        if owed >= STREAM_WINDOW / 2 {
            stream.credit = STREAM_WINDOW;
            frame::window_update(&mut self.outgoing.bytes, id, count(owed));
        }
    }

    /// Sees that a frame is about a stream that there is, or was (section 5.1).
    pub(super) fn check_not_idle(&self, stream: u32) -> Result<(), Http2Error> {
        match stream {
            0 => Err(Http2Error::protocol("a frame of a stream is about none")),
            _ if stream > self.last || stream.is_multiple_of(2) => {
                Err(Http2Error::protocol("a frame is about a stream that is idle"))
            }
            _ => Ok(()),
        }
    }

    /// Ends a stream whose client has made a mistake.
    pub(super) fn fail_stream(&mut self, id: u32, fault: Http2Error) -> Result<(), Http2Error> {
        tracing::debug!(client = %self.context.peer.address, code = ?fault.code, stream = id, "HTTP/2: {}", fault.reason);
        let is_open = self.abort_stream(id).is_some_and(|stream| stream.is_open);
        self.reset_stream(id, fault.code, is_open);
        self.abuse_budget.charge_request(1)
    }

    /// Ends a stream that is answered, or is not to be.
    pub(super) fn reset_stream(&mut self, id: u32, code: Http2ErrorCode, is_open: bool) {
        frame::reset(&mut self.outgoing.bytes, id, code);
        if is_open {
            self.reset_streams.insert(id);
        }
    }
}

const WINDOW_OVERFLOW: Http2Error =
    Http2Error::new(Http2ErrorCode::FlowControlError, "a window is wider than any may be");

fn check_connection_frame(frame: Frame<'_>) -> Result<(), Http2Error> {
    match frame.stream {
        0 => Ok(()),
        _ => Err(Http2Error::protocol("a frame of the connection is about a stream")),
    }
}
