//! The state of a request stream, from received data to the response.

use std::{mem, time::Duration};

use bytes::Bytes;
use http::Version;

use super::{
    error::{Http3Error, Http3ErrorCode},
    frame::{FrameEvent, RequestFrames},
    qpack::{self, QpackError},
    response::Http3ResponseWriter,
};
use crate::{
    clock::Stopwatch,
    connection::ConnectionContext,
    fields::request::DecodedHead,
    message::{BadRequest, RequestHead as _},
    request_limits::RequestLimits,
    service::{self, IncomingRequest, PendingRequest as _, ReplyFuture, Service, Step},
};

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
    Body { pending: S::Pending<'c>, body: Vec<u8>, length: Option<u64>, max_length: usize },
    /// Waiting for the reply.
    AwaitingReply,
    /// Sending the response, of which this part is left.
    Sending(Vec<u8>),
}

/// The next step after [`receive`](Http3Stream::receive).
pub(super) enum StreamStep<'c> {
    /// Wait for more data.
    NeedsData,
    /// Send the response that was written.
    Done,
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
            is_head: false,
            since: Stopwatch::start(),
        }
    }

    /// A stream whose response is written except for `rest`.
    pub(super) fn sending(rest: Vec<u8>, limits: &RequestLimits) -> Self {
        Self { state: Http3StreamState::Sending(rest), ..Self::new(limits) }
    }

    /// Returns whether the request is HEAD, so that the response has no body.
    pub(super) const fn is_head(&self) -> bool {
        self.is_head
    }

    /// Returns whether the client has made no progress for `limit`.
    pub(super) fn is_late(&self, limit: Duration) -> bool {
        !matches!(self.state, Http3StreamState::AwaitingReply) && self.since.elapsed() >= limit
    }

    /// Takes the request, if its body is incomplete.
    pub(super) fn take_pending(&mut self) -> Option<S::Pending<'c>> {
        match mem::replace(&mut self.state, Http3StreamState::AwaitingReply) {
            Http3StreamState::Body { pending, .. } => Some(pending),
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

    /// Handles received data, and writes the response if the request can be answered at once.
    pub(super) fn receive(
        &mut self,
        connection: ConnectionContext<'c, S>,
        pieces: &[Bytes],
        is_end: bool,
        out: &mut Vec<u8>,
    ) -> Result<StreamStep<'c>, Http3Error> {
        for piece in pieces {
            let mut bytes = &piece[..];
            while let Some(event) = self.frames.next(&mut bytes)? {
                let step = match event {
                    FrameEvent::Headers(section) => {
                        begin(connection, section, &mut self.state, &mut self.is_head, out)?
                    }
                    FrameEvent::TooLarge => {
                        Some(refuse(connection, &connection.worker.limits.head_too_large(), out))
                    }
                    FrameEvent::Data(data) => take_body(&mut self.state, data, self.is_head, out)?,
                };
                if let Some(step) = step {
                    return Ok(step);
                }
            }
        }
        if !is_end
            || matches!(self.state, Http3StreamState::AwaitingReply | Http3StreamState::Sending(_))
        {
            return Ok(StreamStep::NeedsData);
        }
        self.frames.end()?;
        self.finish(out)
    }

    /// Answers a request that is complete.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<StreamStep<'c>, Http3Error> {
        match mem::replace(&mut self.state, Http3StreamState::AwaitingReply) {
            Http3StreamState::Body { body, length: Some(length), .. }
                if length != body.len() as u64 =>
            {
                Err(LENGTH_MISMATCH)
            }
            Http3StreamState::Body { pending, body, .. } => {
                let mut writer = Http3ResponseWriter::new(out, self.is_head);
                Ok(pending.respond(&body, &mut writer).into())
            }
            other => {
                self.state = other;
                Ok(StreamStep::NeedsData)
            }
        }
    }
}

const LENGTH_MISMATCH: Http3Error =
    Http3Error::new(Http3ErrorCode::MessageError, "the body length differs from Content-Length");

/// Answers a request from its head if possible, or begins to receive its body.
fn begin<'c, S: Service>(
    connection: ConnectionContext<'c, S>,
    section: &[u8],
    state: &mut Http3StreamState<'c, S>,
    is_head: &mut bool,
    out: &mut Vec<u8>,
) -> Result<Option<StreamStep<'c>>, Http3Error> {
    let mut buffer = connection.worker.buffers.sections.borrow_mut();
    let section = match qpack::read(&mut buffer, section, &connection.worker.limits) {
        Ok(section) => section,
        Err(QpackError::TooLarge(bad_request)) => {
            return Ok(Some(refuse(connection, &bad_request, out)));
        }
        Err(QpackError::Connection(error)) => return Err(error),
    };
    let head = DecodedHead::read(section, Version::HTTP_3)
        .map_err(|reason| Http3Error::new(Http3ErrorCode::MessageError, reason))?;
    *is_head = head.method() == "HEAD";
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
        *state = Http3StreamState::AwaitingReply;
        return Ok(Some(pending.respond(&[], &mut writer).into()));
    }
    let (max_length, length) = (pending.max_body_bytes(), head.content_length);
    if length
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max_length))
    {
        writer.write(&pending.refuse(&BadRequest::body_too_large(max_length)));
        return Ok(Some(StreamStep::Done));
    }
    *state = Http3StreamState::Body { pending, body: Vec::new(), length, max_length };
    Ok(None)
}

/// Appends to the body of a request.
fn take_body<'c, S: Service>(
    state: &mut Http3StreamState<'c, S>,
    data: &[u8],
    is_head: bool,
    out: &mut Vec<u8>,
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
    if let Http3StreamState::Body { pending, .. } =
        mem::replace(state, Http3StreamState::AwaitingReply)
    {
        Http3ResponseWriter::new(out, is_head)
            .write(&pending.refuse(&BadRequest::body_too_large(max_length)));
    }
    Ok(Some(StreamStep::Done))
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
