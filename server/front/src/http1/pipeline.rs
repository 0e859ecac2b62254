//! From received bytes to responses, without a socket.
//!
//! [`answer_requests`] parses pipelined requests one by one and writes the responses that
//! [`Service::respond`] returns at once. It stops at the first request that has to wait, and when
//! the responses fill the send buffer.

use std::mem::{self, MaybeUninit};

use super::{
    head::{self, Framing, Http1Head, ParseStatus, Persistence},
    response::{ResponseBuffer, ResponseOptions},
};
use crate::{
    connection::ConnectionContext,
    message::BadRequest,
    service::{self, IncomingRequest, Service, Step},
};

/// Size of the unsent responses above which no more requests are answered. A client that does not
/// read its responses could otherwise make a short request hold a long response.
const MAX_OUTGOING: usize = 64 * 1024;

/// Progress of [`answer_requests`].
pub struct PipelineProgress<'c, S: Service> {
    /// The number of bytes consumed.
    pub bytes: usize,
    /// The number of bytes after them that are known not to contain a complete head.
    pub scanned: usize,
    /// The action to take when the responses are sent; `None` to wait for more bytes.
    pub action: Option<NextAction<'c, S>>,
}

/// The action that the connection takes after its responses are sent.
pub enum NextAction<'c, S: Service> {
    /// Answer a request that has to wait.
    Answer(Box<Http1PendingRequest<'c, S>>),
    /// Close the connection, after a lingering read if the client is still sending.
    Close {
        /// Whether the client is still sending.
        is_sending: bool,
    },
}

/// A request that has to wait, with everything needed to write its response.
pub struct Http1PendingRequest<'c, S: Service> {
    /// The request.
    pub request: S::Pending<'c>,
    /// Whether its body is read.
    pub reads_body: bool,
    /// The framing of its body.
    pub framing: Framing,
    /// Whether the client waits for 100 (Continue) before it sends the body.
    pub expects_continue: bool,
    /// Whether the client understands a response in chunks.
    pub takes_chunks: bool,
    /// Options for writing the response.
    pub options: ResponseOptions<'c>,
    /// Whether the client is sending a body that the service does not read.
    pub is_sending: bool,
}

/// Answers the requests at the start of `bytes`. The first `scanned` bytes are known not to
/// contain a complete head.
pub fn answer_requests<'c, S: Service>(
    connection: ConnectionContext<'c, S>,
    bytes: &[u8],
    scanned: usize,
    out: &mut ResponseBuffer,
) -> PipelineProgress<'c, S> {
    let (mut taken, mut scanned) = (0, scanned);
    let settings = connection.worker.service.settings();
    let limits = &connection.worker.limits;
    loop {
        let mut slots = [const { MaybeUninit::uninit() }; head::COMMON_HEADER_LINES];
        let mut more_slots = Vec::new();
        let (rest, scanned) = (&bytes[taken..], mem::take(&mut scanned));
        let mut status = head::parse(rest, scanned, limits, &mut slots);
        if let ParseStatus::TooFewSlots = status {
            status = head::parse_many_lines(rest, scanned, limits, &mut more_slots);
        }
        let head = match status {
            ParseStatus::Complete(head) => head,
            ParseStatus::Partial | ParseStatus::TooFewSlots => {
                return PipelineProgress {
                    bytes: taken,
                    scanned: bytes.len() - taken,
                    action: None,
                };
            }
            ParseStatus::Invalid(bad_request) => {
                let action = Some(refuse(connection, &bad_request, false, out));
                return PipelineProgress { bytes: bytes.len(), scanned: 0, action };
            }
        };
        taken += head.length;
        let request = IncomingRequest::new(connection, &settings, &head);
        let body = RequestBody::new(&head, S::reads_body(&request), &bytes[taken..]);
        taken += body.skipped;
        if let Some(action) = answer(connection, &request, &head, body, out) {
            return PipelineProgress { bytes: taken, scanned: 0, action: Some(action) };
        }
        if out.0.len() >= MAX_OUTGOING {
            return PipelineProgress { bytes: taken, scanned: 0, action: None };
        }
    }
}

/// Answers a request, or returns the next action.
fn answer<'c, S: Service>(
    connection: ConnectionContext<'c, S>,
    request: &IncomingRequest<'_, 'c, S, Http1Head<'_, '_>>,
    head: &Http1Head<'_, '_>,
    body: RequestBody,
    out: &mut ResponseBuffer,
) -> Option<NextAction<'c, S>> {
    let is_last = body.is_coming || connection.worker.deadlines.is_draining();
    let persistence = if is_last { Persistence::Close } else { head.persistence };
    let options = ResponseOptions::new(connection, persistence, head.method == "HEAD");
    match S::respond(request, &mut out.writer(options)) {
        Ok(Step::Done(())) => (persistence == Persistence::Close)
            .then_some(NextAction::Close { is_sending: body.is_coming }),
        Ok(Step::Wait(pending)) => {
            let (framing, expects_continue) = (body.framing, head.expects_continue);
            let pending = Http1PendingRequest {
                request: pending,
                reads_body: body.is_read,
                framing,
                expects_continue,
                takes_chunks: head.takes_chunks,
                options,
                is_sending: body.is_coming,
            };
            Some(NextAction::Answer(Box::new(pending)))
        }
        Err(bad_request) => Some(refuse(connection, &bad_request, options.is_head, out)),
    }
}

/// Rejects a malformed request; without a response body, if its method is known to be HEAD.
pub fn refuse<'c, S: Service>(
    connection: ConnectionContext<'_, S>,
    bad_request: &BadRequest,
    is_head: bool,
    out: &mut ResponseBuffer,
) -> NextAction<'c, S> {
    service::reject(
        connection,
        bad_request,
        &mut out.writer(ResponseOptions::new(connection, Persistence::Close, is_head)),
    );
    NextAction::Close { is_sending: true }
}

/// The body that follows a head. A body that the service does not read is skipped if all of it has
/// arrived. Otherwise it is not waited for, and the connection closes after the response.
#[derive(Clone, Copy)]
struct RequestBody {
    /// Whether the service reads it.
    is_read: bool,
    /// The number of bytes skipped.
    skipped: usize,
    /// Whether an unread body is still arriving.
    is_coming: bool,
    /// The framing of a body that is read.
    framing: Framing,
}

impl RequestBody {
    fn new(head: &Http1Head<'_, '_>, reads_body: bool, rest: &[u8]) -> Self {
        let nothing =
            Self { is_read: reads_body, skipped: 0, is_coming: false, framing: Framing::Empty };
        match head.framing {
            framing if reads_body => Self { framing, ..nothing },
            Framing::Empty => nothing,
            Framing::Chunked => Self { is_coming: true, ..nothing },
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= rest.len() => Self { skipped: length, ..nothing },
                _ => Self { is_coming: true, ..nothing },
            },
        }
    }
}

#[cfg(test)]
mod tests;
