//! One request and its answer: from the pieces of a stream to the bytes that are sent.

use std::{mem, time::Duration};

use bytes::Bytes;
use http::Version;

use super::{
    answer::Writer,
    fault::{Code, Fault},
    frame::{Event, Frames},
    qpack::{self, Unread},
};
use crate::{
    clock::Stopwatch,
    http::Malformed,
    listen::{
        exchange::{self, Answering, Asked, Begun, Head as _, Link, Waiting},
        fields::request::Head,
    },
};

/// The longest field section, as it is counted, and as it is sent.
pub(super) const MOST_SECTION: usize = 32 * 1024;

/// A request that is not done with.
pub(super) struct Stream<'c> {
    frames: Frames,
    state: State<'c>,
    is_head: bool,
    /// Since it came, or since its answer is being sent.
    since: Stopwatch,
}

enum State<'c> {
    /// Its head is to come.
    Head,
    /// Its body is.
    Body { waiting: Waiting<'c>, body: Vec<u8>, length: Option<u64>, most: usize },
    /// Its answer takes a while.
    Answering,
    /// This part of its answer is not sent.
    Sending(Vec<u8>),
}

/// What is to be done next.
pub(super) enum Step<'c> {
    /// To wait for more.
    More,
    /// To send the answer that was written.
    Answered,
    /// To wait for the answer.
    Waits(Answering<'c>),
}

impl<'c> Stream<'c> {
    /// One of which nothing has come.
    pub(super) fn new() -> Self {
        Self {
            frames: Frames::new(MOST_SECTION),
            state: State::Head,
            is_head: false,
            since: Stopwatch::start(),
        }
    }

    /// One that is answered, but for this.
    pub(super) fn sending(rest: Vec<u8>) -> Self {
        Self { state: State::Sending(rest), ..Self::new() }
    }

    /// Whether the answer has no body, whatever it says.
    pub(super) const fn is_head(&self) -> bool {
        self.is_head
    }

    /// Whether the client has let it wait for so long.
    pub(super) fn is_late(&self, limit: Duration) -> bool {
        !matches!(self.state, State::Answering) && self.since.elapsed() >= limit
    }

    /// The request, if its body is to come.
    pub(super) fn take_waiting(&mut self) -> Option<Waiting<'c>> {
        match mem::replace(&mut self.state, State::Answering) {
            State::Body { waiting, .. } => Some(waiting),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// What is not sent of the answer.
    pub(super) fn take_unsent(&mut self) -> Option<Vec<u8>> {
        match &mut self.state {
            State::Sending(unsent) => Some(mem::take(unsent)),
            _ => None,
        }
    }

    /// Takes what has come, and writes the answer if that takes no waiting.
    pub(super) fn take(
        &mut self,
        link: Link<'c>,
        pieces: &[Bytes],
        is_end: bool,
        answer: &mut Vec<u8>,
    ) -> Result<Step<'c>, Fault> {
        for piece in pieces {
            let mut bytes = &piece[..];
            while let Some(event) = self.frames.next(&mut bytes)? {
                let step = match event {
                    Event::Section(section) => {
                        begin(link, section, &mut self.state, &mut self.is_head, answer)?
                    }
                    Event::TooLarge => Some(refuse(link, &TOO_LARGE, answer)),
                    Event::Data(data) => take_body(&mut self.state, data, self.is_head, answer)?,
                };
                if let Some(step) = step {
                    return Ok(step);
                }
            }
        }
        if !is_end || matches!(self.state, State::Answering | State::Sending(_)) {
            return Ok(Step::More);
        }
        self.frames.end()?;
        self.finish(answer)
    }

    /// The request is all there.
    fn finish(&mut self, answer: &mut Vec<u8>) -> Result<Step<'c>, Fault> {
        match mem::replace(&mut self.state, State::Answering) {
            State::Body { body, length: Some(length), .. } if length != body.len() as u64 => {
                Err(LENGTH)
            }
            State::Body { waiting, body, .. } => Ok(waiting
                .answer(&body, &mut Writer::new(answer, self.is_head))
                .map_or(Step::Answered, Step::Waits)),
            other => {
                self.state = other;
                Ok(Step::More)
            }
        }
    }
}

const TOO_LARGE: Malformed =
    Malformed::head_too_large("the field section of a request may have 32768 bytes");
const LENGTH: Fault = Fault::new(Code::MessageError, "the body is not as long as the request says");

/// A head has come: answers, or begins to wait for a body.
fn begin<'c>(
    link: Link<'c>,
    section: &[u8],
    state: &mut State<'c>,
    is_head: &mut bool,
    answer: &mut Vec<u8>,
) -> Result<Option<Step<'c>>, Fault> {
    let mut room = link.local.buffers.sections.borrow_mut();
    let section = match qpack::read(&mut room, section, MOST_SECTION) {
        Ok(section) => section,
        Err(Unread::TooLarge(malformed)) => return Ok(Some(refuse(link, &malformed, answer))),
        Err(Unread::Fault(fault)) => return Err(fault),
    };
    let head = Head::read(section, Version::HTTP_3)
        .map_err(|reason| Fault::new(Code::MessageError, reason))?;
    *is_head = head.method() == "HEAD";
    let mut writer = Writer::new(answer, *is_head);
    let begun = Asked::new(link, &link.local.app.server(), &head).answer(&mut writer);
    let waiting = match begun {
        Begun::Answered => return Ok(Some(Step::Answered)),
        Begun::Malformed(malformed) => return Ok(Some(refuse(link, &malformed, answer))),
        Begun::Waits(waiting) => waiting,
    };
    if !waiting.reads_body {
        *state = State::Answering;
        return Ok(Some(waiting.answer(&[], &mut writer).map_or(Step::Answered, Step::Waits)));
    }
    let (most, length) = (waiting.most_body(), head.content_length);
    if length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > most)) {
        writer.write(&waiting.refuse(&Malformed::body_too_large(most)));
        return Ok(Some(Step::Answered));
    }
    *state = State::Body { waiting, body: Vec::new(), length, most };
    Ok(None)
}

/// A part of a body has come.
fn take_body<'c>(
    state: &mut State<'c>,
    data: &[u8],
    is_head: bool,
    answer: &mut Vec<u8>,
) -> Result<Option<Step<'c>>, Fault> {
    // Nobody reads that of others.
    let State::Body { body, length, most, .. } = state else { return Ok(None) };
    let (has, most) = (body.len() + data.len(), *most);
    if length.is_some_and(|length| has as u64 > length) {
        return Err(LENGTH);
    }
    if has <= most {
        body.extend_from_slice(data);
        return Ok(None);
    }
    if let State::Body { waiting, .. } = mem::replace(state, State::Answering) {
        Writer::new(answer, is_head).write(&waiting.refuse(&Malformed::body_too_large(most)));
    }
    Ok(Some(Step::Answered))
}

fn refuse<'c>(link: Link<'_>, malformed: &Malformed, answer: &mut Vec<u8>) -> Step<'c> {
    answer.clear();
    exchange::refuse(link, malformed, &mut Writer::new(answer, false));
    Step::Answered
}
