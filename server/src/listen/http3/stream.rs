//! One request and its answer: from the pieces of a stream to the bytes that are sent.

use std::{mem, time::Duration};

use bytes::Bytes;
use http::Version;

use super::{
    answer::Http3ResponseWriter,
    fault::{Http3Error, Http3ErrorCode},
    frame::{FrameEvent, RequestFrames},
    qpack::{self, QpackError},
};
use crate::{
    clock::Stopwatch,
    http::BadRequest,
    listen::{
        exchange::{
            self, ConnectionContext, IncomingRequest, PendingRequest, ReplyFuture,
            RequestHead as _, RequestProgress,
        },
        fields::request::DecodedHead,
    },
};

/// The longest field section, as it is counted, and as it is sent.
pub(super) const MAX_FIELD_SECTION_SIZE: usize = 32 * 1024;

/// A request that is not done with.
pub(super) struct Http3Stream<'c> {
    frames: RequestFrames,
    state: Http3StreamState<'c>,
    is_head: bool,
    /// Since it came, or since its answer is being sent.
    since: Stopwatch,
}

enum Http3StreamState<'c> {
    /// Its head is to come.
    Head,
    /// Its body is.
    Body { waiting: PendingRequest<'c>, body: Vec<u8>, length: Option<u64>, max_length: usize },
    /// Its answer takes a while.
    Answering,
    /// This part of its answer is not sent.
    Sending(Vec<u8>),
}

/// What is to be done next.
pub(super) enum StreamStep<'c> {
    /// To wait for more.
    More,
    /// To send the answer that was written.
    Answered,
    /// To wait for the answer.
    Waits(ReplyFuture<'c>),
}

impl<'c> Http3Stream<'c> {
    /// One of which nothing has come.
    pub(super) fn new() -> Self {
        Self {
            frames: RequestFrames::new(MAX_FIELD_SECTION_SIZE),
            state: Http3StreamState::Head,
            is_head: false,
            since: Stopwatch::start(),
        }
    }

    /// One that is answered, but for this.
    pub(super) fn sending(rest: Vec<u8>) -> Self {
        Self { state: Http3StreamState::Sending(rest), ..Self::new() }
    }

    /// Whether the answer has no body, whatever it says.
    pub(super) const fn is_head(&self) -> bool {
        self.is_head
    }

    /// Whether the client has let it wait for so long.
    pub(super) fn is_late(&self, limit: Duration) -> bool {
        !matches!(self.state, Http3StreamState::Answering) && self.since.elapsed() >= limit
    }

    /// The request, if its body is to come.
    pub(super) fn take_waiting(&mut self) -> Option<PendingRequest<'c>> {
        match mem::replace(&mut self.state, Http3StreamState::Answering) {
            Http3StreamState::Body { waiting, .. } => Some(waiting),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// What is not sent of the answer.
    pub(super) fn take_unsent(&mut self) -> Option<Vec<u8>> {
        match &mut self.state {
            Http3StreamState::Sending(unsent) => Some(mem::take(unsent)),
            _ => None,
        }
    }

    /// Takes what has come, and writes the answer if that takes no waiting.
    pub(super) fn receive(
        &mut self,
        context: ConnectionContext<'c>,
        pieces: &[Bytes],
        is_end: bool,
        answer: &mut Vec<u8>,
    ) -> Result<StreamStep<'c>, Http3Error> {
        for piece in pieces {
            let mut bytes = &piece[..];
            while let Some(event) = self.frames.next(&mut bytes)? {
                let step = match event {
                    FrameEvent::Headers(section) => {
                        begin(context, section, &mut self.state, &mut self.is_head, answer)?
                    }
                    FrameEvent::TooLarge => Some(refuse(context, &TOO_LARGE, answer)),
                    FrameEvent::Data(data) => {
                        take_body(&mut self.state, data, self.is_head, answer)?
                    }
                };
                if let Some(step) = step {
                    return Ok(step);
                }
            }
        }
        if !is_end
            || matches!(self.state, Http3StreamState::Answering | Http3StreamState::Sending(_))
        {
            return Ok(StreamStep::More);
        }
        self.frames.end()?;
        self.finish(answer)
    }

    /// The request is all there.
    fn finish(&mut self, answer: &mut Vec<u8>) -> Result<StreamStep<'c>, Http3Error> {
        match mem::replace(&mut self.state, Http3StreamState::Answering) {
            Http3StreamState::Body { body, length: Some(length), .. }
                if length != body.len() as u64 =>
            {
                Err(LENGTH)
            }
            Http3StreamState::Body { waiting, body, .. } => Ok(waiting
                .answer(&body, &mut Http3ResponseWriter::new(answer, self.is_head))
                .map_or(StreamStep::Answered, StreamStep::Waits)),
            other => {
                self.state = other;
                Ok(StreamStep::More)
            }
        }
    }
}

const TOO_LARGE: BadRequest =
    BadRequest::head_too_large("the field section of a request may have 32768 bytes");
const LENGTH: Http3Error =
    Http3Error::new(Http3ErrorCode::MessageError, "the body is not as long as the request says");

/// A head has come: answers, or begins to wait for a body.
fn begin<'c>(
    context: ConnectionContext<'c>,
    section: &[u8],
    state: &mut Http3StreamState<'c>,
    is_head: &mut bool,
    answer: &mut Vec<u8>,
) -> Result<Option<StreamStep<'c>>, Http3Error> {
    let mut room = context.worker.buffers.sections.borrow_mut();
    let section = match qpack::read(&mut room, section, MAX_FIELD_SECTION_SIZE) {
        Ok(section) => section,
        Err(QpackError::TooLarge(malformed)) => {
            return Ok(Some(refuse(context, &malformed, answer)));
        }
        Err(QpackError::Connection(fault)) => return Err(fault),
    };
    let head = DecodedHead::read(section, Version::HTTP_3)
        .map_err(|reason| Http3Error::new(Http3ErrorCode::MessageError, reason))?;
    *is_head = head.method() == "HEAD";
    let mut writer = Http3ResponseWriter::new(answer, *is_head);
    let begun =
        IncomingRequest::new(context, &context.worker.app.server(), &head).answer(&mut writer);
    let waiting = match begun {
        RequestProgress::Answered => return Ok(Some(StreamStep::Answered)),
        RequestProgress::Invalid(malformed) => {
            return Ok(Some(refuse(context, &malformed, answer)));
        }
        RequestProgress::Pending(waiting) => waiting,
    };
    if !waiting.reads_body {
        *state = Http3StreamState::Answering;
        return Ok(Some(
            waiting.answer(&[], &mut writer).map_or(StreamStep::Answered, StreamStep::Waits),
        ));
    }
    let (max_length, length) = (waiting.max_body_bytes(), head.content_length);
    if length
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max_length))
    {
        writer.write(&waiting.refuse(&BadRequest::body_too_large(max_length)));
        return Ok(Some(StreamStep::Answered));
    }
    *state = Http3StreamState::Body { waiting, body: Vec::new(), length, max_length };
    Ok(None)
}

/// A part of a body has come.
fn take_body<'c>(
    state: &mut Http3StreamState<'c>,
    data: &[u8],
    is_head: bool,
    answer: &mut Vec<u8>,
) -> Result<Option<StreamStep<'c>>, Http3Error> {
    // Nobody reads that of others.
    let Http3StreamState::Body { body, length, max_length, .. } = state else { return Ok(None) };
    let (has, max_length) = (body.len() + data.len(), *max_length);
    if length.is_some_and(|length| has as u64 > length) {
        return Err(LENGTH);
    }
    if has <= max_length {
        body.extend_from_slice(data);
        return Ok(None);
    }
    if let Http3StreamState::Body { waiting, .. } = mem::replace(state, Http3StreamState::Answering)
    {
        Http3ResponseWriter::new(answer, is_head)
            .write(&waiting.refuse(&BadRequest::body_too_large(max_length)));
    }
    Ok(Some(StreamStep::Answered))
}

fn refuse<'c>(
    context: ConnectionContext<'_>,
    malformed: &BadRequest,
    answer: &mut Vec<u8>,
) -> StreamStep<'c> {
    answer.clear();
    exchange::refuse(context, malformed, &mut Http3ResponseWriter::new(answer, false));
    StreamStep::Answered
}
