//! Field sections: requests, and what stands behind bodies.

use futures_util::future;
use http::Version;

use super::{Answering, Going, MOST_SECTION, STREAM_WINDOW, STREAMS, Session};
use crate::{
    config::Server,
    http::Malformed,
    listen::{
        exchange::{self, Asked, Begun, Head as _, Link, Waiting},
        fields::{
            request::{self, Head},
            section::Section,
        },
        http2::{
            answer::{Window, Writer},
            fault::{Code, Fault},
            frame::{Frame, HEADER, flag},
            hpack::{self, Unread},
            stream::{Incoming, State, Stream},
        },
    },
    routes::Reply,
};

/// A field section that is not all there.
pub(super) struct Block {
    stream: u32,
    is_end: bool,
    bytes: Vec<u8>,
    /// What it has cost to send, headers of frames and all.
    cost: usize,
}

/// How much may be sent of a field section, coded. More than lines may have, so that
/// what is a little too large is told so.
const MOST_BLOCK: usize = 2 * MOST_SECTION;

/// What is to be done for a request.
enum Step<'c> {
    /// Nothing more: it is answered.
    Answered,
    /// To answer it.
    Answer(Waiting<'c>),
    /// To receive its body, of which so much is announced, and at most so much taken.
    Receive(Waiting<'c>, Option<u64>, usize),
}

impl<'c> Session<'c> {
    pub(super) fn headers(&mut self, frame: Frame<'_>, server: &Server) -> Result<(), Fault> {
        const WEIGHT: usize = 5;
        let stream = frame.stream;
        if stream.is_multiple_of(2) {
            return Err(Fault::protocol("a request has an even number, or none"));
        }
        if stream <= self.last && !self.streams.contains_key(&stream) && !self.cut.contains(stream)
        {
            return Err(Fault::protocol(
                "a request has a number that was another's, or is too late for it",
            ));
        }
        let mut section = frame.unpadded()?;
        if frame.has(flag::PRIORITY) {
            section = section
                .get(WEIGHT..)
                .ok_or(Fault::frame_size("a frame has less than the priority that it says"))?;
        }
        let is_end = frame.has(flag::END_STREAM);
        if frame.has(flag::END_HEADERS) {
            return self.section(stream, is_end, section, server);
        }
        self.block = Some(Block {
            stream,
            is_end,
            bytes: section.to_vec(),
            cost: HEADER + frame.payload.len(),
        });
        Ok(())
    }

    pub(super) fn continuation(&mut self, frame: Frame<'_>, server: &Server) -> Result<(), Fault> {
        const STRAY: Fault = Fault::protocol("a field section goes on that has not begun");
        let mut block =
            self.block.take().filter(|block| block.stream == frame.stream).ok_or(STRAY)?;
        block.cost += HEADER + frame.payload.len();
        if block.cost > MOST_BLOCK {
            return Err(Fault::new(Code::EnhanceYourCalm, "a field section does not end"));
        }
        block.bytes.extend_from_slice(frame.payload);
        if frame.has(flag::END_HEADERS) {
            return self.section(block.stream, block.is_end, &block.bytes, server);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A field section is all there. Whatever it is about, it has to be read: later ones
    /// may refer to it.
    fn section(
        &mut self,
        id: u32,
        is_end: bool,
        payload: &[u8],
        server: &Server,
    ) -> Result<(), Fault> {
        if id > self.last {
            self.last = id;
            return self.request(id, is_end, payload, server);
        }
        let mut room = self.link.local.buffers.sections.borrow_mut();
        let trailers = match hpack::read(&mut self.remembered, &mut room, payload, MOST_SECTION) {
            Ok(section) => request::check_trailers(section).map_err(Fault::protocol),
            Err(Unread::TooLarge(_)) => {
                Err(Fault::protocol("what stands behind a body is too large"))
            }
            Err(Unread::Fault(fault)) => return Err(fault),
        };
        drop(room);
        self.trailers(id, is_end, trailers)
    }

    fn request(
        &mut self,
        id: u32,
        is_end: bool,
        payload: &[u8],
        server: &Server,
    ) -> Result<(), Fault> {
        self.has_asked = true;
        let link = self.link;
        let may_be_asked = !matches!(self.state, Going::Left(_));
        let are_too_many = self.streams.len() >= STREAMS || self.waiting.len() >= STREAMS;
        let mut room = link.local.buffers.sections.borrow_mut();
        let section = match hpack::read(&mut self.remembered, &mut room, payload, MOST_SECTION) {
            Ok(section) => Ok(section),
            Err(Unread::TooLarge(malformed)) => Err(malformed),
            Err(Unread::Fault(fault)) => return Err(fault),
        };
        if !may_be_asked {
            drop(room);
            self.cut.insert(id);
            return self.patience.hear_chatter();
        }
        if are_too_many {
            drop(room);
            self.cut(id, Code::RefusedStream, !is_end);
            return self.patience.hear_chatter();
        }
        let window = Window::new(self.outgoing.initial);
        let mut is_head = false;
        let mut writer = self.outgoing.answer(id, window, false);
        let step = match section {
            Ok(section) => begin(link, server, section, is_end, &mut writer, &mut is_head),
            Err(malformed) => {
                // More than the answer earns.
                self.patience.lose(2)?;
                refuse(link, &malformed, &mut writer);
                Ok(Step::Answered)
            }
        };
        let rest = writer.finish();
        drop(room);
        match step {
            Ok(Step::Answered) => self.conclude(id, rest, is_head, !is_end),
            Ok(Step::Answer(waiting)) => self.answer(id, waiting, &[], window, is_head, !is_end),
            Ok(Step::Receive(waiting, length, most)) => {
                let incoming = Incoming { waiting, body: Vec::new(), length, most };
                let state = State::Body(Box::new(incoming));
                self.streams.insert(
                    id,
                    Stream { state, is_open: !is_end, is_head, window, credit: STREAM_WINDOW },
                );
            }
            Err(fault) => {
                self.fail_stream(id, fault)?;
                if !is_end {
                    self.cut.insert(id);
                }
            }
        }
        Ok(())
    }

    /// Answers a request that is all there, as soon as it can be.
    pub(super) fn answer(
        &mut self,
        id: u32,
        waiting: Waiting<'c>,
        body: &[u8],
        window: Window,
        is_head: bool,
        is_open: bool,
    ) {
        let mut writer = self.outgoing.answer(id, window, is_head);
        match waiting.answer(body, &mut writer) {
            None => {
                let rest = writer.finish();
                self.conclude(id, rest, is_head, is_open);
            }
            Some(answer) => {
                let stream =
                    |state| Stream { state, is_open, is_head, window, credit: STREAM_WINDOW };
                self.wait_for(id, answer, stream);
            }
        }
    }

    /// Waits for an answer, and no longer than the stream is there that it is for.
    pub(super) fn wait_for(
        &mut self,
        id: u32,
        answer: exchange::Answering<'c>,
        stream: impl FnOnce(State<'c>) -> Stream<'c>,
    ) {
        let answer: Answering<'c> = Box::pin(async move { (id, answer.await) });
        let (answer, handle) = future::abortable(answer);
        self.streams.insert(id, stream(State::Answering(handle)));
        self.waiting.push(answer);
    }

    /// Takes a stream away whose answer is not wanted any more. That does not stay on to
    /// take the place of others.
    pub(super) fn give_up(&mut self, id: u32) -> Option<Stream<'c>> {
        let stream = self.streams.remove(&id)?;
        if let State::Answering(answer) = &stream.state {
            answer.abort();
        }
        Some(stream)
    }

    /// An answer that took a while.
    pub(super) fn reply(&mut self, id: u32, reply: &Reply) {
        // Unless the request was taken back.
        if let Some(stream) = self.streams.remove(&id) {
            self.link.local.buffers.lend_output(&mut self.outgoing.bytes);
            self.send(id, reply, stream.window, stream.is_head, stream.is_open);
        }
    }
}

/// A head has come: answers it, or says what else to do.
fn begin<'c>(
    link: Link<'c>,
    server: &Server,
    section: Section<'_>,
    is_end: bool,
    writer: &mut Writer<'_, 'c>,
    is_head: &mut bool,
) -> Result<Step<'c>, Fault> {
    let head = Head::read(section, Version::HTTP_2).map_err(Fault::protocol)?;
    if is_end && head.content_length.is_some_and(|length| length > 0) {
        return Err(super::bodies::LENGTH);
    }
    *is_head = head.method() == "HEAD";
    writer.is_head = *is_head;
    let waiting = match Asked::new(link, server, &head).answer(writer) {
        Begun::Answered => return Ok(Step::Answered),
        Begun::Malformed(malformed) => {
            refuse(link, &malformed, writer);
            return Ok(Step::Answered);
        }
        Begun::Waits(waiting) => waiting,
    };
    if is_end || !waiting.reads_body {
        return Ok(Step::Answer(waiting));
    }
    let most = waiting.most_body();
    if head
        .content_length
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > most))
    {
        exchange::Answers::reply(writer, &waiting.refuse(&Malformed::body_too_large(most)));
        return Ok(Step::Answered);
    }
    Ok(Step::Receive(waiting, head.content_length, most))
}

fn refuse(link: Link<'_>, malformed: &Malformed, writer: &mut Writer<'_, '_>) {
    exchange::refuse(link, malformed, writer);
}
