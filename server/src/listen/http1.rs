//! HTTP/1.1 and 1.0 (RFC 9112), made for questions of proxies: one is read, verified
//! and answered in one go ([`pipeline`]), without a future or a header map of its
//! own. All other requests take the way of every protocol ([`routes::answer`](crate::routes::answer)).
//!
//! A connection keeps no memory between requests: bytes are read into buffers that
//! belong to the thread, and only what is left over of them is kept.

pub mod answer;
pub mod body;
pub mod head;
pub mod pipeline;

use std::{
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use self::{
    answer::ResponseBuffer,
    body::{BodyError, IncomingBody},
    head::{Framing, Persistence},
    pipeline::{NextAction, PendingExchange, answer_requests, refuse},
};
use super::{
    exchange::{ConnectionContext, PendingRequest},
    stream::MaybeTlsStream,
    watch::{Deadline, DeadlineElapsed, yield_to_ready},
};
use crate::http::{BODY_TOO_SLOW, BadRequest};

/// How long a client is listened to that was refused in the middle of its request.
/// To hang up at once could destroy the answer on its way (RFC 9112 section 9.6).
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How many bytes of it.
const MAX_LINGER_BYTES: usize = 1 << 20;

/// How many bytes of requests are answered before it is the turn of another connection
/// of the thread. Who sends one request after the other comes nowhere near.
const MAX_TURN_BYTES: usize = 64 * 1024;

/// A connection that speaks HTTP/1.
pub struct Http1Connection<'c> {
    context: ConnectionContext<'c>,
    deadline: Rc<Deadline>,
    stream: MaybeTlsStream,
    /// Bytes read and not taken.
    rest: Vec<u8>,
    /// How many of them are known not to hold a whole head.
    scanned: usize,
    /// Answers that the client has not taken yet.
    unsent: ResponseBuffer,
    /// Whether nothing of what was taken is still on its way through TLS.
    is_flushed: bool,
    /// What to do when they are sent.
    next_action: Option<NextAction<'c>>,
    phase: Http1Phase,
}

/// What a connection waits for, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http1Phase {
    /// Nothing: it has just got on.
    Busy,
    /// A request.
    Idle,
    /// The rest of a head.
    Head,
    /// The client, to take its answers.
    Writing,
}

/// The client has gone.
struct ConnectionLost;

impl<'c> Http1Connection<'c> {
    /// A connection of which so much was read already.
    pub fn new(
        context: ConnectionContext<'c>,
        deadline: Rc<Deadline>,
        stream: MaybeTlsStream,
        rest: Vec<u8>,
    ) -> Self {
        let unsent = ResponseBuffer::default();
        Self {
            context,
            deadline,
            stream,
            rest,
            scanned: 0,
            unsent,
            is_flushed: true,
            next_action: None,
            phase: Http1Phase::Busy,
        }
    }

    /// Serves it to its end.
    pub async fn serve(mut self) {
        let deadline = Rc::clone(&self.deadline);
        loop {
            match deadline.poll_fn(|cx| self.poll_step(cx)).await {
                Ok(Ok(NextAction::Answer(pending))) => Box::pin(self.answer(*pending)).await,
                Ok(Ok(NextAction::Close { is_sending })) => {
                    return Box::pin(self.close(is_sending)).await;
                }
                Ok(Err(ConnectionLost)) => return,
                Err(DeadlineElapsed) if self.phase == Http1Phase::Head => {
                    self.next_action =
                        Some(refuse(self.context, &HEAD_TOO_SLOW, false, &mut self.unsent));
                    self.phase = Http1Phase::Busy;
                }
                // Under TLS even this is said.
                Err(DeadlineElapsed) if self.phase == Http1Phase::Idle => {
                    return Box::pin(self.close(false)).await;
                }
                Err(DeadlineElapsed) => return,
            }
        }
    }

    /// Sends and reads, and answers what can be answered at once.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<NextAction<'c>, ConnectionLost>> {
        let mut read = 0;
        loop {
            ready!(self.poll_send(cx)).map_err(|_| ConnectionLost)?;
            if let Some(action) = self.next_action.take() {
                return Poll::Ready(Ok(action));
            }
            if read >= MAX_TURN_BYTES {
                self.deadline.due_within(self.context.worker.timeouts.idle);
                yield_to_ready(cx);
                return Poll::Pending;
            }
            // Some of it may be left over from before a request that took a while.
            if self.scanned == self.rest.len() {
                read += ready!(self.poll_take(cx)).map_err(|_| ConnectionLost)?;
            } else {
                let bytes = mem::take(&mut self.rest);
                self.process(&bytes);
            }
        }
    }

    /// Reads more, and answers what can be answered at once. Returns how much was read.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.context.worker.buffers.take_input();
        let kept = self.rest.len();
        buffer[..kept].copy_from_slice(&self.rest);
        let polled = self.stream.poll_read_some(cx, &mut buffer[kept..]);
        match polled {
            Poll::Ready(Ok(read)) => self.process(&buffer[..kept + read]),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.enter(if kept == 0 { Http1Phase::Idle } else { Http1Phase::Head })
            }
        }
        self.context.worker.buffers.return_input(buffer);
        polled
    }

    fn process(&mut self, bytes: &[u8]) {
        self.context.worker.buffers.lend_output(&mut self.unsent.0);
        let taken = answer_requests(self.context, bytes, self.scanned, &mut self.unsent);
        let rest = &bytes[taken.bytes..];
        match rest {
            // Idle connections own no memory.
            [] => self.rest = Vec::new(),
            rest => {
                self.rest.clear();
                self.rest.extend_from_slice(rest);
            }
        }
        if taken.bytes > 0 {
            // What comes next is another request, with a time of its own.
            self.phase = Http1Phase::Busy;
        }
        (self.scanned, self.next_action) = (taken.scanned, taken.action);
    }

    /// Sends the answers there are.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.0.is_empty() && self.is_flushed {
            return Poll::Ready(Ok(()));
        }
        let mut sent = 0;
        while sent < self.unsent.0.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.unsent.0[sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => sent += written,
                Poll::Pending => {
                    self.unsent.0.drain(..sent);
                    self.enter(Http1Phase::Writing);
                    return Poll::Pending;
                }
            }
        }
        self.context.worker.buffers.return_output(&mut self.unsent.0);
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS takes more than the socket does: what it holds has to be seen off too.
        self.is_flushed = flushed.is_ready();
        if !self.is_flushed {
            self.enter(Http1Phase::Writing);
        }
        flushed
    }

    /// Begins to wait for something, unless it waits for it already: who sends a byte
    /// now and then does not get more time for it.
    fn enter(&mut self, phase: Http1Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let timeouts = &self.context.worker.timeouts;
        match phase {
            Http1Phase::Idle => self.deadline.idle_for(timeouts.idle),
            Http1Phase::Head => self.deadline.due_within(timeouts.head),
            Http1Phase::Writing | Http1Phase::Busy => self.deadline.due_within(timeouts.body),
        }
    }

    /// Answers a request whose answer takes a while.
    async fn answer(&mut self, pending: PendingExchange<'c>) {
        let PendingExchange { request, framing, expects_continue, mut options, mut is_sending } =
            pending;
        self.enter(Http1Phase::Busy);
        let received = if request.reads_body {
            self.receive(&request, framing, expects_continue).await
        } else {
            Ok(Bytes::new())
        };
        let reply = match received {
            Ok(body) => {
                // However long it takes: whoever answers has limits of its own.
                self.deadline.due_within(Duration::MAX);
                match request.answer(&body, &mut self.unsent.writer(options)) {
                    Some(answering) => answering.await,
                    None => {
                        self.next_action = (options.persistence == Persistence::Close)
                            .then_some(NextAction::Close { is_sending });
                        return;
                    }
                }
            }
            Err(BodyReceiveError::ConnectionLost) => {
                self.next_action = Some(NextAction::Close { is_sending: false });
                return;
            }
            Err(BodyReceiveError::Refused(bad_request)) => {
                (options.persistence, is_sending) = (Persistence::Close, true);
                request.refuse(&bad_request)
            }
        };
        if self.deadline.is_draining() {
            options.persistence = Persistence::Close;
        }
        self.unsent.response(&reply.response, options);
        self.next_action =
            (options.persistence == Persistence::Close).then_some(NextAction::Close { is_sending });
        self.phase = Http1Phase::Busy;
    }

    /// Receives the body of a request.
    async fn receive(
        &mut self,
        request: &PendingRequest<'_>,
        framing: Framing,
        mut expects: bool,
    ) -> Result<Bytes, BodyReceiveError> {
        let max_bytes = request.max_body_bytes();
        let mut body = IncomingBody::new(framing, max_bytes)
            .map_err(|fault| BodyReceiveError::of(fault, max_bytes))?;
        self.deadline.due_within(self.context.worker.timeouts.body);
        loop {
            let taken =
                body.take(&self.rest).map_err(|fault| BodyReceiveError::of(fault, max_bytes))?;
            self.rest.drain(..taken);
            if body.is_complete() {
                return Ok(body.bytes.into());
            }
            if mem::take(&mut expects) && self.rest.is_empty() {
                self.unsent.0.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let deadline = Rc::clone(&self.deadline);
            match deadline.poll_fn(|cx| self.poll_more(cx)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(BodyReceiveError::ConnectionLost),
                Err(DeadlineElapsed) => return Err(BODY_TOO_SLOW.into()),
            }
        }
    }

    /// Reads more into what is left over.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        let mut buffer = self.context.worker.buffers.take_input();
        let polled = self.stream.poll_read_some(cx, &mut buffer);
        if let Poll::Ready(Ok(read)) = &polled {
            self.rest.extend_from_slice(&buffer[..*read]);
        }
        self.context.worker.buffers.return_input(buffer);
        polled.map_ok(|_| ())
    }

    /// Closes; first, while the client is sending, listens to it for a while.
    async fn close(&mut self, is_sending: bool) {
        // What has come already and is not answered may not be all there is.
        let is_sending = is_sending || !self.rest.is_empty();
        let deadline = Rc::clone(&self.deadline);
        deadline.due_within(LINGER_TIMEOUT);
        if is_sending || self.stream.is_encrypted() {
            let _whatever_comes = deadline.run(self.stream.shutdown()).await;
        }
        let mut discarded = 0;
        while is_sending && discarded < MAX_LINGER_BYTES {
            self.rest.clear();
            match deadline.poll_fn(|cx| self.poll_more(cx)).await {
                Ok(Ok(())) => discarded += self.rest.len(),
                Ok(Err(_)) | Err(DeadlineElapsed) => return,
            }
        }
    }
}

/// Why a body was not received.
enum BodyReceiveError {
    /// The client has gone.
    ConnectionLost,
    /// It is refused.
    Refused(BadRequest),
}

impl From<BadRequest> for BodyReceiveError {
    fn from(bad_request: BadRequest) -> Self {
        Self::Refused(bad_request)
    }
}

impl BodyReceiveError {
    fn of(fault: BodyError, max_bytes: usize) -> Self {
        Self::Refused(match fault {
            BodyError::TooLarge => BadRequest::body_too_large(max_bytes),
            BodyError::Malformed(detail) => BadRequest::new("body", detail),
        })
    }
}

const HEAD_TOO_SLOW: BadRequest =
    BadRequest::too_slow("head_timeout", "the head of the request took too long to arrive");
