//! Frames about a connection, and about windows and ends of streams.

use super::{CONNECTION_WINDOW, Going, STREAM_WINDOW, Session, count};
use crate::listen::http2::{
    fault::{Code, Fault},
    frame::{self, Frame, flag, kind},
    settings,
    stream::State,
};

/// The ping behind which nothing more of a client is on its way.
pub(super) const LAST_PING: [u8; 8] = *b"the last";
/// The ping to a client of which nothing was heard.
pub(super) const KNOCK: [u8; 8] = *b"are you?";

impl Session<'_> {
    pub(super) fn settings(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        of_connection(frame)?;
        if frame.has(flag::ACK) {
            return match frame.payload {
                [] => self.patience.hear_chatter(),
                _ => Err(Fault::frame_size("an acknowledgement has settings in it")),
            };
        }
        let said = settings::read(frame.payload)?;
        if said.shrinks_table {
            self.outgoing.shrink_table();
        }
        let are_wider = match said.initial_window {
            Some(initial) => self.resize_windows(initial)?,
            None => false,
        };
        // Before what only fits because of them: there are clients that hold us to their
        // former settings until they hear of it.
        frame::frame(&mut self.outgoing.bytes, kind::SETTINGS, flag::ACK, 0, &[]);
        if are_wider {
            self.go_on_with_all();
        }
        self.patience.hear_chatter()
    }

    /// Changes the windows of all streams by what the first of each is changed (section
    /// 6.9.2). Says whether they are wider now.
    fn resize_windows(&mut self, initial: u32) -> Result<bool, Fault> {
        let by = i64::from(initial) - i64::from(self.outgoing.initial);
        self.outgoing.initial = initial;
        for stream in self.streams.values_mut() {
            stream.window.widen(by).ok_or(TOO_WIDE)?;
        }
        Ok(by > 0)
    }

    pub(super) fn ping(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        of_connection(frame)?;
        let Ok(payload) = <[u8; 8]>::try_from(frame.payload) else {
            return Err(Fault::frame_size("a ping has not eight bytes"));
        };
        if !frame.has(flag::ACK) {
            frame::frame(&mut self.outgoing.bytes, kind::PING, flag::ACK, 0, &payload);
        } else if payload == LAST_PING && matches!(self.state, Going::Leaving(_)) {
            self.leave_at_last();
        }
        self.patience.hear_chatter()
    }

    pub(super) fn goaway(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        of_connection(frame)?;
        if frame.payload.len() < 8 {
            return Err(Fault::frame_size("GOAWAY has less than eight bytes"));
        }
        self.leave_at_last();
        self.patience.hear_chatter()
    }

    /// Priorities are for those who have more to do than they can.
    pub(super) fn priority(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        const LENGTH: Fault = Fault::frame_size("a priority has not five bytes");
        match (frame.stream, frame.payload.len()) {
            (0, _) => Err(Fault::protocol("a priority is that of no stream")),
            (_, 5) => self.patience.hear_chatter(),
            // A stream that is idle cannot be ended.
            (stream, _) if stream > self.last => Err(LENGTH),
            (stream, _) => self.fail_stream(stream, LENGTH),
        }
    }

    pub(super) fn reset(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        self.begun(frame.stream)?;
        frame.integer()?;
        let was_waiting = self.give_up(frame.stream).is_some();
        if self.cut.remove(frame.stream) {
            // We have ended it ourselves, and the client only agrees.
            return self.patience.hear_chatter();
        }
        // If it was answered, that has earned the client a part of what it now loses.
        self.patience.lose(if was_waiting { 1 } else { 2 })
    }

    pub(super) fn window_update(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        const NOTHING: Fault = Fault::protocol("a window is widened by nothing");
        let more = frame.integer()? & frame::MOST_31_BITS;
        if frame.stream == 0 {
            if more == 0 {
                return Err(NOTHING);
            }
            self.outgoing.widen(more).ok_or(TOO_WIDE)?;
            return if self.go_on_with_all() { Ok(()) } else { self.patience.hear_chatter() };
        }
        self.begun(frame.stream)?;
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return self.patience.hear_chatter();
        };
        if more == 0 {
            return self.fail_stream(frame.stream, NOTHING);
        }
        if stream.window.widen(more.into()).is_none() {
            return self.fail_stream(frame.stream, TOO_WIDE);
        }
        if self.go_on(frame.stream) { Ok(()) } else { self.patience.hear_chatter() }
    }

    /// Sends more of all answers that wait for a window. Says whether there was something
    /// to be sent.
    fn go_on_with_all(&mut self) -> bool {
        let sending =
            self.streams.iter().filter(|(_, stream)| matches!(stream.state, State::Sending { .. }));
        let mut ids: Vec<_> = sending.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().fold(false, |has_sent, id| self.go_on(id) | has_sent)
    }

    /// Sends more of an answer. Says whether there was something to be sent.
    fn go_on(&mut self, id: u32) -> bool {
        let before = self.outgoing.bytes.len();
        if let Some(stream) = self.streams.get_mut(&id)
            && let State::Sending { rest, .. } = &mut stream.state
            && self.outgoing.go_on(id, &mut stream.window, rest)
        {
            let is_open = stream.is_open;
            self.streams.remove(&id);
            if is_open {
                self.cut(id, Code::NoError, true);
            }
        }
        self.outgoing.bytes.len() > before
    }

    /// So much of a body has come, whoever reads it: the client may send as much again.
    pub(super) fn give_back(&mut self) {
        let owed = CONNECTION_WINDOW - self.credit;
        if owed >= CONNECTION_WINDOW / 2 {
            self.credit = CONNECTION_WINDOW;
            frame::window_update(&mut self.outgoing.bytes, 0, count(owed));
        }
    }

    /// The same of a stream whose body is read.
    pub(super) fn give_back_of(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let owed = STREAM_WINDOW - stream.credit;
        if owed >= STREAM_WINDOW / 2 {
            stream.credit = STREAM_WINDOW;
            frame::window_update(&mut self.outgoing.bytes, id, count(owed));
        }
    }

    /// Sees that a frame is about a stream that there is, or was (section 5.1).
    pub(super) fn begun(&self, stream: u32) -> Result<(), Fault> {
        match stream {
            0 => Err(Fault::protocol("a frame of a stream is about none")),
            _ if stream > self.last || stream.is_multiple_of(2) => {
                Err(Fault::protocol("a frame is about a stream that is idle"))
            }
            _ => Ok(()),
        }
    }

    /// Ends a stream whose client has made a mistake.
    pub(super) fn fail_stream(&mut self, id: u32, fault: Fault) -> Result<(), Fault> {
        tracing::debug!(client = %self.link.peer.address, code = ?fault.code, stream = id, "HTTP/2: {}", fault.reason);
        let is_open = self.give_up(id).is_some_and(|stream| stream.is_open);
        self.cut(id, fault.code, is_open);
        self.patience.lose(1)
    }

    /// Ends a stream that is answered, or is not to be.
    pub(super) fn cut(&mut self, id: u32, code: Code, is_open: bool) {
        frame::reset(&mut self.outgoing.bytes, id, code);
        if is_open {
            self.cut.insert(id);
        }
    }
}

const TOO_WIDE: Fault = Fault::new(Code::FlowControlError, "a window is wider than any may be");

fn of_connection(frame: Frame<'_>) -> Result<(), Fault> {
    match frame.stream {
        0 => Ok(()),
        _ => Err(Fault::protocol("a frame of the connection is about a stream")),
    }
}
