//! The state of a request stream, from received data to the response.

use std::{mem, time::Duration};

use bytes::Bytes;
use http::Version;

use super::{
    answer::Http3ResponseWriter,
    error::{Http3Error, Http3ErrorCode},
    frame::{FrameEvent, RequestFrames},
    qpack::{self, QpackError},
};
use crate::{
    clock::Stopwatch,
    connection::ConnectionContext,
    fields::request::DecodedHead,
    message::{BadRequest, RequestHead as _},
    service::{self, IncomingRequest, PendingRequest as _, ReplyFuture, Service, Step},
};

/// Largest field section, both encoded and as counted by RFC 9114 section 4.2.2.
pub(super) const MAX_FIELD_SECTION_SIZE: usize = 32 * 1024;

/// A request stream whose request is not finished.
pub(super) struct Http3Stream<'c, S: Service> {
    frames: RequestFrames,
    state: Http3StreamState<'c, S>,
    is_head: bool,
    /// Time since the stream was opened, or since its response began to be sent.
    since: Stopwatch,
}

enum Http3StreamState<'c, S: Service> {
    /// Waiting for the HEADERS frame.
    Head,
    /// Receiving the body.
    Body { waiting: S::Pending<'c>, body: Vec<u8>, length: Option<u64>, max_length: usize },
    /// Waiting for the reply.
    Answering,
    /// Sending the response, of which this part is left.
    Sending(Vec<u8>),
}

/// How to go on after [`receive`](Http3Stream::receive).
pub(super) enum StreamStep<'c> {
    /// Wait for more data.
    More,
    /// Send the response that was written.
    Answered,
    /// Wait for the reply.
    Waits(ReplyFuture<'c>),
}

impl<'c> From<Step<(), ReplyFuture<'c>>> for StreamStep<'c> {
    fn from(step: Step<(), ReplyFuture<'c>>) -> Self {
        match step {
            Step::Done(()) => Self::Answered,
            Step::Wait(reply) => Self::Waits(reply),
        }
    }
}

impl<'c, S: Service> Http3Stream<'c, S> {
    /// A stream on which nothing has been received.
    pub(super) fn new() -> Self {
        Self {
            frames: RequestFrames::new(MAX_FIELD_SECTION_SIZE),
            state: Http3StreamState::Head,
            is_head: false,
            since: Stopwatch::start(),
        }
    }

    /// A stream whose response is written except for `rest`.
    pub(super) fn sending(rest: Vec<u8>) -> Self {
        Self { state: Http3StreamState::Sending(rest), ..Self::new() }
    }

    /// Returns whether the request is HEAD, so that the response has no body.
    pub(super) const fn is_head(&self) -> bool {
        self.is_head
    }

    /// Returns whether the client has made no progress for `limit`.
    pub(super) fn is_late(&self, limit: Duration) -> bool {
        !matches!(self.state, Http3StreamState::Answering) && self.since.elapsed() >= limit
    }

    /// Takes the request, if its body is incomplete.
    pub(super) fn take_waiting(&mut self) -> Option<S::Pending<'c>> {
        match mem::replace(&mut self.state, Http3StreamState::Answering) {
            Http3StreamState::Body { waiting, .. } => Some(waiting),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Takes the unsent part of the response.
    pub(super) fn take_unsent(&mut self) -> Option<Vec<u8>> {
        match &mut self.state {
            Http3StreamState::Sending(unsent) => Some(mem::take(unsent)),
            _ => None,
        }
    }

    /// Handles received data, and writes the response if no waiting is needed.
    pub(super) fn receive(
        &mut self,
        context: ConnectionContext<'c, S>,
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

    /// Answers a request that is complete.
    fn finish(&mut self, answer: &mut Vec<u8>) -> Result<StreamStep<'c>, Http3Error> {
        match mem::replace(&mut self.state, Http3StreamState::Answering) {
            Http3StreamState::Body { body, length: Some(length), .. }
                if length != body.len() as u64 =>
            {
                Err(LENGTH_MISMATCH)
            }
            Http3StreamState::Body { waiting, body, .. } => {
                let mut writer = Http3ResponseWriter::new(answer, self.is_head);
                Ok(waiting.respond(&body, &mut writer).into())
            }
            other => {
                self.state = other;
                Ok(StreamStep::More)
            }
        }
    }
}

const TOO_LARGE: BadRequest =
    BadRequest::head_too_large("the header fields of the request exceed 32768 bytes");
const LENGTH_MISMATCH: Http3Error =
    Http3Error::new(Http3ErrorCode::MessageError, "the body length differs from Content-Length");

/// Answers a request from its head if possible, or begins to receive its body.
fn begin<'c, S: Service>(
    context: ConnectionContext<'c, S>,
    section: &[u8],
    state: &mut Http3StreamState<'c, S>,
    is_head: &mut bool,
    answer: &mut Vec<u8>,
) -> Result<Option<StreamStep<'c>>, Http3Error> {
    let mut buffer = context.worker.buffers.sections.borrow_mut();
    let section = match qpack::read(&mut buffer, section, MAX_FIELD_SECTION_SIZE) {
        Ok(section) => section,
        Err(QpackError::TooLarge(bad_request)) => {
            return Ok(Some(refuse(context, &bad_request, answer)));
        }
        Err(QpackError::Connection(error)) => return Err(error),
    };
    let head = DecodedHead::read(section, Version::HTTP_3)
        .map_err(|reason| Http3Error::new(Http3ErrorCode::MessageError, reason))?;
    *is_head = head.method() == "HEAD";
    let mut writer = Http3ResponseWriter::new(answer, *is_head);
    let settings = context.worker.service.settings();
    let request = IncomingRequest::new(context, &settings, &head);
    let waiting = match S::respond(&request, &mut writer) {
        Ok(Step::Done(())) => return Ok(Some(StreamStep::Answered)),
        Err(malformed) => {
            return Ok(Some(refuse(context, &malformed, answer)));
        }
        Ok(Step::Wait(waiting)) => waiting,
    };
    if !request.reads_body() {
        *state = Http3StreamState::Answering;
        return Ok(Some(waiting.respond(&[], &mut writer).into()));
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

/// Appends to the body of a request.
fn take_body<'c, S: Service>(
    state: &mut Http3StreamState<'c, S>,
    data: &[u8],
    is_head: bool,
    answer: &mut Vec<u8>,
) -> Result<Option<StreamStep<'c>>, Http3Error> {
    // Bodies of requests that do not read one are discarded.
    let Http3StreamState::Body { body, length, max_length, .. } = state else { return Ok(None) };
    let (received, max_length) = (body.len() + data.len(), *max_length);
    if length.is_some_and(|length| received as u64 > length) {
        return Err(LENGTH_MISMATCH);
    }
    if received <= max_length {
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

fn refuse<'c, S: Service>(
    context: ConnectionContext<'_, S>,
    malformed: &BadRequest,
    answer: &mut Vec<u8>,
) -> StreamStep<'c> {
    answer.clear();
    service::reject(context, malformed, &mut Http3ResponseWriter::new(answer, false));
    StreamStep::Answered
}
