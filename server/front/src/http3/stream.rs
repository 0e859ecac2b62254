//! The state of a request stream, from received data to the response.

use std::{mem, time::Duration};

use bytes::Bytes;
use http::Version;

use super::{
    error::{Http3Error, Http3ErrorCode},
    frame::{FrameEvent, RequestFrames, TRAILERS_TOO_LARGE},
    qpack::{self, QpackError},
    response::Http3ResponseWriter,
};
use crate::{
    clock::Stopwatch,
    connection::ConnectionContext,
    fields::{
        expected_body::ExpectedBody,
        request::{self, DecodedHead, MalformedReason},
    },
    message::{BadRequest, RequestHead as _},
    request_limits::RequestLimits,
    service::{self, IncomingRequest, PendingRequest as _, ReplyFuture, Service, Step},
    upload_drain::UploadDrain,
};

/// A request stream whose request is not finished.
pub(super) struct Http3Stream<'c, S: Service> {
    frames: RequestFrames,
    state: Http3StreamState<'c, S>,
    /// The body that is expected, read or not.
    expected: ExpectedBody,
    is_head: bool,
    is_ended: bool,
    /// Time since the stream was opened, or since its response began to be sent.
    since: Stopwatch,
}

enum Http3StreamState<'c, S: Service> {
    /// Waiting for the HEADERS frame.
    Head,
    /// Receiving the body.
    Body { pending: S::Pending<'c>, body: Vec<u8>, max_length: usize },
    /// Waiting for the reply.
    AwaitingReply,
    /// Sending the response, of which this part is left.
    Sending(Vec<u8>),
    /// Discarding the rest of the request, as the response is complete.
    Draining(UploadDrain),
}

/// The next step after [`receive`](Http3Stream::receive).
pub(super) enum StreamStep<'c> {
    /// Wait for more data.
    NeedsData,
    /// Send the response that was written.
    Done,
    /// Send the response to an oversized head, which is charged to the client.
    Oversized,
    /// Wait for the reply.
    Wait(ReplyFuture<'c>),
}

impl<'c> From<Step<(), ReplyFuture<'c>>> for StreamStep<'c> {
    fn from(step: Step<(), ReplyFuture<'c>>) -> Self {
        match step {
            Step::Done(()) => Self::Done,
            Step::Wait(reply) => Self::Wait(reply),
        }
    }
}

impl<'c, S: Service> Http3Stream<'c, S> {
    /// A stream on which nothing has been received.
    pub(super) fn new(limits: &RequestLimits) -> Self {
        Self {
            frames: RequestFrames::new(limits.head_bytes),
            state: Http3StreamState::Head,
            expected: ExpectedBody::default(),
            is_head: false,
            is_ended: false,
            since: Stopwatch::start(),
        }
    }

    /// Keeps the part of the response that is not sent yet. No more of the request is received.
    pub(super) fn send_later(&mut self, rest: Vec<u8>) {
        self.state = Http3StreamState::Sending(rest);
        self.is_ended = true;
        self.since = Stopwatch::start();
    }

    /// Discards the rest of the request, as its response is complete.
    pub(super) fn drain(&mut self) {
        self.state = Http3StreamState::Draining(UploadDrain::start());
    }

    /// Counts bytes that arrived. Returns whether the stream was drained for long enough.
    pub(super) fn discard(&mut self, bytes: usize) -> bool {
        match &mut self.state {
            Http3StreamState::Draining(drain) => !drain.discard(bytes),
            _ => false,
        }
    }

    /// Whether the rest of the request is discarded.
    pub(super) const fn is_draining(&self) -> bool {
        matches!(self.state, Http3StreamState::Draining(_))
    }

    /// Whether the request has ended, or no more of it is received.
    pub(super) const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Returns whether the request is HEAD, so that the response has no body.
    pub(super) const fn is_head(&self) -> bool {
        self.is_head
    }

    /// Returns the time that is left to the client, of `limit` for a request or a response, or
    /// `None` if the stream waits for the server.
    pub(super) fn time_left(&self, limit: Duration) -> Option<Duration> {
        match &self.state {
            Http3StreamState::AwaitingReply => None,
            Http3StreamState::Draining(drain) => Some(drain.time_left()),
            _ => Some(limit.saturating_sub(self.since.elapsed())),
        }
    }

    /// Takes the request, if its body is incomplete.
    pub(super) fn take_pending(&mut self) -> Option<S::Pending<'c>> {
        self.take_body().map(|(pending, _)| pending)
    }

    /// Takes the unsent part of the response.
    pub(super) fn take_unsent(&mut self) -> Option<Vec<u8>> {
        match &mut self.state {
            Http3StreamState::Sending(unsent) => Some(mem::take(unsent)),
            _ => None,
        }
    }

    /// Handles received data, and writes the response if the request can be answered at once. The
    /// rest of the request is checked even if nothing reads it.
    pub(super) fn receive(
        &mut self,
        connection: ConnectionContext<'c, S>,
        pieces: &[Bytes],
        is_end: bool,
        out: &mut Vec<u8>,
    ) -> Result<StreamStep<'c>, Http3Error> {
        let mut answer = None;
        for piece in pieces {
            let mut bytes = &piece[..];
            while let Some(event) = self.frames.next(&mut bytes)? {
                let step = match event {
                    FrameEvent::Headers(section) => begin(
                        connection,
                        section,
                        &mut self.state,
                        (&mut self.expected, &mut self.is_head),
                        out,
                    )?,
                    FrameEvent::TooLarge => {
                        let reason = connection.worker.limits.head_too_large();
                        refuse(connection, &reason, out);
                        Some(StreamStep::Oversized)
                    }
                    FrameEvent::Data(data) => {
                        self.expected.receive(data.len(), false).map_err(malformed)?;
                        take_body(&mut self.state, data, self.is_head, out)
                    }
                    FrameEvent::Trailers(section) => {
                        check_trailers(connection, section)?;
                        None
                    }
                };
                if step.is_some() {
                    answer = step;
                }
            }
        }
        if is_end {
            self.is_ended = true;
            self.frames.end()?;
            self.expected.receive(0, true).map_err(malformed)?;
        }
        match answer {
            Some(answer) => Ok(answer),
            None if is_end => Ok(self.finish(out)),
            None => Ok(StreamStep::NeedsData),
        }
    }

    /// Answers a request that is complete, unless that is done.
    fn finish(&mut self, out: &mut Vec<u8>) -> StreamStep<'c> {
        match self.take_body() {
            Some((pending, body)) => {
                let mut writer = Http3ResponseWriter::new(out, self.is_head);
                pending.respond(&body, &mut writer).into()
            }
            None => StreamStep::NeedsData,
        }
    }

    /// Takes the request and the part of its body that was received, if its body is incomplete.
    fn take_body(&mut self) -> Option<(S::Pending<'c>, Vec<u8>)> {
        match mem::replace(&mut self.state, Http3StreamState::AwaitingReply) {
            Http3StreamState::Body { pending, body, .. } => Some((pending, body)),
            other => {
                self.state = other;
                None
            }
        }
    }
}

/// The error of a malformed request.
const fn malformed(reason: MalformedReason) -> Http3Error {
    Http3Error::new(Http3ErrorCode::MessageError, reason)
}

/// Validates trailers.
fn check_trailers<S: Service>(
    connection: ConnectionContext<'_, S>,
    section: &[u8],
) -> Result<(), Http3Error> {
    let mut buffer = connection.worker.buffers.sections.borrow_mut();
    match qpack::read(&mut buffer, section, &connection.worker.limits) {
        Ok(section) => request::check_trailers(section).map_err(malformed),
        Err(QpackError::TooLarge(_)) => Err(TRAILERS_TOO_LARGE),
        Err(QpackError::Connection(error)) => Err(error),
    }
}

/// Answers a request from its head if possible, or begins to receive its body.
fn begin<'c, S: Service>(
    connection: ConnectionContext<'c, S>,
    section: &[u8],
    state: &mut Http3StreamState<'c, S>,
    (expected, is_head): (&mut ExpectedBody, &mut bool),
    out: &mut Vec<u8>,
) -> Result<Option<StreamStep<'c>>, Http3Error> {
    let mut buffer = connection.worker.buffers.sections.borrow_mut();
    let section = match qpack::read(&mut buffer, section, &connection.worker.limits) {
        Ok(section) => section,
        Err(QpackError::TooLarge(bad_request)) => {
            refuse(connection, &bad_request, out);
            return Ok(Some(StreamStep::Oversized));
        }
        Err(QpackError::Connection(error)) => return Err(error),
    };
    let head = DecodedHead::read(section, Version::HTTP_3).map_err(malformed)?;
    *state = Http3StreamState::AwaitingReply;
    (*expected, *is_head) = (ExpectedBody::new(head.content_length), head.method() == "HEAD");
    let mut writer = Http3ResponseWriter::new(out, *is_head);
    let settings = connection.worker.service.settings();
    let request = IncomingRequest::new(connection, &settings, &head);
    let pending = match S::respond(&request, &mut writer) {
        Ok(Step::Done(())) => return Ok(Some(StreamStep::Done)),
        Err(malformed) => {
            return Ok(Some(refuse(connection, &malformed, out)));
        }
        Ok(Step::Wait(pending)) => pending,
    };
    if !request.reads_body() {
        return Ok(Some(pending.respond(&[], &mut writer).into()));
    }
    let (max_length, length) = (pending.max_body_bytes(), head.content_length);
    if length
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max_length))
    {
        writer.write(&pending.refuse(&BadRequest::body_too_large(max_length)));
        return Ok(Some(StreamStep::Done));
    }
    *state = Http3StreamState::Body { pending, body: Vec::new(), max_length };
    Ok(None)
}

/// Appends to the body of a request. Bodies that are not read are discarded.
fn take_body<'c, S: Service>(
    state: &mut Http3StreamState<'c, S>,
    data: &[u8],
    is_head: bool,
    out: &mut Vec<u8>,
) -> Option<StreamStep<'c>> {
    let Http3StreamState::Body { body, max_length, .. } = state else { return None };
    let max_length = *max_length;
    if body.len() + data.len() <= max_length {
        body.extend_from_slice(data);
        return None;
    }
    if let Http3StreamState::Body { pending, .. } =
        mem::replace(state, Http3StreamState::AwaitingReply)
    {
        Http3ResponseWriter::new(out, is_head)
            .write(&pending.refuse(&BadRequest::body_too_large(max_length)));
    }
    Some(StreamStep::Done)
}

fn refuse<'c, S: Service>(
    connection: ConnectionContext<'_, S>,
    malformed: &BadRequest,
    out: &mut Vec<u8>,
) -> StreamStep<'c> {
    out.clear();
    service::reject(connection, malformed, &mut Http3ResponseWriter::new(out, false));
    StreamStep::Done
}
