//! Bodies of requests, and answers to those that were waited for.

use super::{STREAM_WINDOW, Session};
use crate::{
    clock::Stopwatch,
    http::Malformed,
    listen::{
        exchange::Answers as _,
        http2::{
            answer::{Rest, Window},
            fault::{Code, Fault},
            frame::{Frame, flag},
            stream::{Fit, Incoming, State, Stream},
        },
    },
    routes::Reply,
};

pub(super) const LENGTH: Fault = Fault::protocol("the body is not as long as the request says");
const CLOSED: Fault = Fault::new(Code::StreamClosed, "something comes behind the end of a stream");

impl Session<'_> {
    pub(super) fn data(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        const WINDOW: Fault =
            Fault::new(Code::FlowControlError, "a body is longer than its window");
        self.begun(frame.stream)?;
        // What pads it takes room as well.
        let length = frame.payload.len();
        self.credit = self.credit.checked_sub(length).ok_or(WINDOW)?;
        self.give_back();
        let data = frame.unpadded()?;
        let is_end = frame.has(flag::END_STREAM);
        if data.is_empty() && !is_end {
            self.patience.hear_chatter()?;
        }
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return self.stray(frame.stream, is_end);
        };
        if !stream.is_open {
            return self.fail_stream(frame.stream, CLOSED);
        }
        let Some(credit) = stream.credit.checked_sub(length) else {
            return self.fail_stream(frame.stream, WINDOW);
        };
        (stream.credit, stream.is_open) = (credit, !is_end);
        // Nobody reads that of others.
        if let State::Body(incoming) = &mut stream.state {
            match incoming.fit(data.len(), is_end) {
                Fit::Wrong => return self.fail_stream(frame.stream, LENGTH),
                Fit::TooLong => self.refuse_body(frame.stream),
                Fit::Fits if is_end => self.finish(frame.stream, data),
                Fit::Fits => {
                    incoming.body.extend_from_slice(data);
                    self.give_back_of(frame.stream);
                }
            }
        }
        Ok(())
    }

    /// A part of a body whose stream is no more.
    fn stray(&mut self, id: u32, is_end: bool) -> Result<(), Fault> {
        if !self.cut.contains(id) {
            return self.fail_stream(id, CLOSED);
        }
        if is_end {
            self.cut.remove(id);
        }
        self.patience.hear_chatter()
    }

    /// What stands behind a body has come, or is malformed.
    pub(super) fn trailers(
        &mut self,
        id: u32,
        is_end: bool,
        trailers: Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(&id) else { return self.stray(id, is_end) };
        if !stream.is_open {
            return self.fail_stream(id, CLOSED);
        }
        if let Err(fault) = trailers {
            return self.fail_stream(id, fault);
        }
        if !is_end {
            return self.fail_stream(id, Fault::protocol("a request goes on behind its end"));
        }
        stream.is_open = false;
        if let State::Body(incoming) = &stream.state {
            match incoming.fit(0, true) {
                Fit::Wrong => return self.fail_stream(id, LENGTH),
                Fit::TooLong => self.refuse_body(id),
                Fit::Fits => self.finish(id, &[]),
            }
        }
        Ok(())
    }

    /// A body has come, of which this is the end.
    fn finish(&mut self, id: u32, data: &[u8]) {
        let Some(Stream { state: State::Body(incoming), is_head, window, .. }) =
            self.streams.remove(&id)
        else {
            return;
        };
        let Incoming { waiting, mut body, .. } = *incoming;
        if body.is_empty() {
            // Most come in one piece, which need not be copied.
            return self.answer(id, waiting, data, window, is_head, false);
        }
        body.extend_from_slice(data);
        self.answer(id, waiting, &body, window, is_head, false);
    }

    fn refuse_body(&mut self, id: u32) {
        let Some(Stream { state: State::Body(incoming), is_head, window, is_open, .. }) =
            self.streams.remove(&id)
        else {
            return;
        };
        let reply = incoming.waiting.refuse(&Malformed::body_too_large(incoming.most));
        self.send(id, &reply, window, is_head, is_open);
    }

    /// Sends an answer. What the client does not take now is kept for later.
    pub(super) fn send(
        &mut self,
        id: u32,
        reply: &Reply,
        window: Window,
        is_head: bool,
        is_open: bool,
    ) {
        let mut writer = self.outgoing.answer(id, window, is_head);
        writer.reply(reply);
        let rest = writer.finish();
        self.conclude(id, rest, is_head, is_open);
    }

    /// A request is answered, but for this.
    pub(super) fn conclude(
        &mut self,
        id: u32,
        rest: Option<(Rest, Window)>,
        is_head: bool,
        is_open: bool,
    ) {
        self.patience.earn();
        match rest {
            Some((rest, window)) => {
                let state = State::Sending { rest, since: Stopwatch::start() };
                // It may still send what its window lets it: nobody reads that, and it gets no more.
                self.streams
                    .insert(id, Stream { state, is_open, is_head, window, credit: STREAM_WINDOW });
            }
            // Whatever else it wants to say, it is answered (RFC 9113 section 8.1).
            None if is_open => self.cut(id, Code::NoError, true),
            None => {}
        }
    }
}
