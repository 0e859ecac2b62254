//! From bytes to answers, without a socket: what has come is taken request by
//! request, and questions of proxies are answered on the spot.

use std::mem::{self, MaybeUninit};

use super::{
    answer::{ResponseBuffer, ResponseOptions},
    head::{self, Framing, Http1Head, ParseStatus, Persistence},
};
use crate::{
    http::BadRequest,
    listen::exchange::{self, ConnectionContext, IncomingRequest, PendingRequest, RequestProgress},
    routes::Route,
};

/// How far the bytes went.
pub struct PipelineProgress<'c> {
    /// How many are done with.
    pub bytes: usize,
    /// How many of the rest are known not to hold a whole head.
    pub scanned: usize,
    /// What to do when the answers are sent; `None` to wait for more bytes.
    pub action: Option<NextAction<'c>>,
}

/// What is not done on the spot.
pub enum NextAction<'c> {
    /// To answer a request that takes a while.
    Answer(Box<PendingExchange<'c>>),
    /// To close the connection; gently, if the client is still sending.
    Close {
        /// Whether it is.
        is_sending: bool,
    },
}

/// A request whose answer takes a while.
pub struct PendingExchange<'c> {
    /// What was asked.
    pub request: PendingRequest<'c>,
    /// What follows its head.
    pub framing: Framing,
    /// Whether the client waits for a word before it sends the body.
    pub expects_continue: bool,
    /// How to answer.
    pub options: ResponseOptions<'c>,
    /// Whether a body is coming that nobody reads.
    pub is_sending: bool,
}

/// Answers the questions at the start of `bytes`, of which the first `scanned` are known
/// not to hold a whole head.
pub fn answer_requests<'c>(
    context: ConnectionContext<'c>,
    bytes: &[u8],
    scanned: usize,
    out: &mut ResponseBuffer,
) -> PipelineProgress<'c> {
    let (mut taken, mut scanned) = (0, scanned);
    let server = context.worker.app.server();
    loop {
        let mut slots = [const { MaybeUninit::uninit() }; head::MAX_HEADER_LINES];
        let head = match head::parse(&bytes[taken..], mem::take(&mut scanned), &mut slots) {
            ParseStatus::Complete(head) => head,
            ParseStatus::Partial => {
                return PipelineProgress {
                    bytes: taken,
                    scanned: bytes.len() - taken,
                    action: None,
                };
            }
            ParseStatus::Invalid(bad_request) => {
                let action = Some(refuse(context, &bad_request, false, out));
                return PipelineProgress { bytes: bytes.len(), scanned: 0, action };
            }
        };
        taken += head.length;
        let request = IncomingRequest::new(context, &server, &head);
        let body = RequestBody::new(&head, request.route, &bytes[taken..]);
        taken += body.skipped;
        if let Some(action) = answer(context, &request, &head, body, out) {
            return PipelineProgress { bytes: taken, scanned: 0, action: Some(action) };
        }
    }
}

/// Answers a request, or says what else to do.
fn answer<'c>(
    context: ConnectionContext<'c>,
    request: &IncomingRequest<'_, 'c, Http1Head<'_, '_>>,
    head: &Http1Head<'_, '_>,
    body: RequestBody,
    out: &mut ResponseBuffer,
) -> Option<NextAction<'c>> {
    let is_last = body.is_coming || context.worker.deadlines.is_draining();
    let persistence = if is_last { Persistence::Close } else { head.persistence };
    let options = ResponseOptions::new(context, persistence, head.method == "HEAD");
    match request.answer(&mut out.writer(options)) {
        RequestProgress::Answered => (persistence == Persistence::Close)
            .then_some(NextAction::Close { is_sending: body.is_coming }),
        RequestProgress::Pending(request) => {
            let (framing, expects_continue) = (body.framing, head.expects_continue);
            let pending = PendingExchange {
                request,
                framing,
                expects_continue,
                options,
                is_sending: body.is_coming,
            };
            Some(NextAction::Answer(Box::new(pending)))
        }
        RequestProgress::Invalid(bad_request) => {
            Some(refuse(context, &bad_request, options.is_head, out))
        }
    }
}

/// Refuses what is no request, or, if it is known to be one of HEAD, without a body.
pub fn refuse<'c>(
    context: ConnectionContext<'_>,
    bad_request: &BadRequest,
    is_head: bool,
    out: &mut ResponseBuffer,
) -> NextAction<'c> {
    exchange::refuse(
        context,
        bad_request,
        &mut out.writer(ResponseOptions::new(context, Persistence::Close, is_head)),
    );
    NextAction::Close { is_sending: true }
}

/// What stands behind a head. What nobody reads is skipped if it is there, and not
/// waited for if it is not.
#[derive(Clone, Copy)]
struct RequestBody {
    /// How many bytes of it are skipped.
    skipped: usize,
    /// Whether more is coming that nobody reads.
    is_coming: bool,
    /// How it is read.
    framing: Framing,
}

impl RequestBody {
    fn new(head: &Http1Head<'_, '_>, route: Route, rest: &[u8]) -> Self {
        let nothing = Self { skipped: 0, is_coming: false, framing: Framing::Empty };
        match head.framing {
            framing if route.reads_body(head.method) => Self { framing, ..nothing },
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
