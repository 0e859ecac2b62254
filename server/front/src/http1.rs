//! HTTP/1.1 and 1.0 (RFC 9112), optimized for forward-auth checks.
//!
//! A request that [`Service::respond`] answers at once is parsed and answered in one synchronous
//! call of the [`pipeline`], without a future or a header map of its own. Any other request becomes
//! a [`Http1PendingRequest`], which the connection completes before it reads the next request.
//!
//! An idle connection owns no buffers. Bytes are read into buffers of the worker's
//! [`BufferPool`](crate::worker_context::BufferPool), and only an incomplete request is copied out of them.

pub mod head;
pub mod body;
pub mod response;
pub mod pipeline;
mod streamed;

use std::{
    future::poll_fn,
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use self::{
    body::{BodyError, IncomingBody},
    head::{Framing, Persistence},
    pipeline::{Http1PendingRequest, NextAction, answer_requests, refuse},
    response::ResponseBuffer,
};
use crate::{
    connection::ConnectionContext,
    deadline::{Deadline, DeadlineElapsed, yield_to_ready},
    message::{BODY_TOO_SLOW, BadRequest, Reply},
    request_memory::{ConnectionMemory, HeldMemory, MemoryPurpose},
    service::{PendingRequest as _, ReplyFuture, Service, Step},
    stream::MaybeTlsStream,
};

/// Time for which input is still read from a client that was rejected in the middle of its request.
/// Closing at once sends a reset, which could destroy the response on its way (RFC 9112
/// section 9.6).
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of bytes read and discarded during [`LINGER_TIMEOUT`].
const MAX_LINGER_BYTES: usize = 1 << 20;

/// Maximum number of request bytes that are answered before the task yields to other connections
/// of its thread. A client that waits for each response never reaches it.
const MAX_TURN_BYTES: usize = 64 * 1024;

/// An HTTP/1 connection.
pub struct Http1Connection<'c, S: Service> {
    connection: ConnectionContext<'c, S>,
    deadline: Rc<Deadline>,
    stream: MaybeTlsStream,
    /// Bytes that were read but not consumed.
    rest: Vec<u8>,
    memory: Rc<ConnectionMemory<'c>>,
    /// Memory held by `rest` and by responses that the client does not receive.
    held: HeldMemory<'c>,
    /// The length of the prefix of `rest` that is known not to contain a complete head.
    scanned: usize,
    /// Responses that are not written to the stream yet.
    unsent: ResponseBuffer,
    /// Whether TLS has passed everything that was written on to the socket.
    is_flushed: bool,
    /// The action to take when all responses are sent.
    next_action: Option<NextAction<'c, S>>,
    phase: Http1Phase,
}

/// The phase of a connection. Each has its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http1Phase {
    /// Making progress: not waiting for the client.
    Busy,
    /// Waiting for a request.
    Idle,
    /// Waiting for the rest of a head.
    Head,
    /// Waiting for the client to receive responses.
    Writing,
}

/// The client has closed the connection, or it failed.
struct ConnectionLost;

impl<'c, S: Service> Http1Connection<'c, S> {
    /// Creates a connection from which `rest` has already been read.
    pub fn new(
        connection: ConnectionContext<'c, S>,
        deadline: Rc<Deadline>,
        stream: MaybeTlsStream,
        rest: Vec<u8>,
    ) -> Self {
        let (unsent, memory) = (ResponseBuffer::default(), ConnectionMemory::new(connection));
        Self {
            connection,
            deadline,
            stream,
            rest,
            held: memory.hold_nothing(MemoryPurpose::Other),
            memory,
            scanned: 0,
            unsent,
            is_flushed: true,
            next_action: None,
            phase: Http1Phase::Busy,
        }
    }

    /// Serves the connection until it closes.
    pub async fn serve(mut self) {
        let deadline = Rc::clone(&self.deadline);
        loop {
            match deadline.poll_fn(|cx| self.poll_step(cx)).await {
                Ok(Ok(NextAction::Answer(pending))) if pending.request.is_streamed() => {
                    Box::pin(self.stream(*pending)).await;
                }
                Ok(Ok(NextAction::Answer(pending))) => Box::pin(self.answer(*pending)).await,
                Ok(Ok(NextAction::Close { is_sending })) => {
                    return Box::pin(self.close(is_sending)).await;
                }
                Ok(Err(ConnectionLost)) => return,
                Err(DeadlineElapsed) if self.phase == Http1Phase::Head => {
                    self.next_action =
                        Some(refuse(self.connection, &HEAD_TOO_SLOW, false, &mut self.unsent));
                    self.phase = Http1Phase::Busy;
                }
                // TLS needs a closing alert even here, so this is not a plain return.
                Err(DeadlineElapsed) if self.phase == Http1Phase::Idle => {
                    return Box::pin(self.close(false)).await;
                }
                Err(DeadlineElapsed) => return,
            }
        }
    }

    /// Sends responses, reads requests, and answers those that can be answered at once.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<NextAction<'c, S>, ConnectionLost>> {
        let mut read = 0;
        loop {
            ready!(self.poll_send(cx)).map_err(|_| ConnectionLost)?;
            if let Some(action) = self.next_action.take() {
                return Poll::Ready(Ok(action));
            }
            if read >= MAX_TURN_BYTES {
                self.deadline.due_within(self.connection.worker.timeouts.idle);
                yield_to_ready(cx);
                return Poll::Pending;
            }
            // `rest` may contain pipelined requests that arrived before one that had to wait.
            if self.scanned == self.rest.len() {
                read += ready!(self.poll_receive(cx)).map_err(|_| ConnectionLost)?;
            } else {
                self.process_rest();
            }
        }
    }

    /// Reads once, answers the requests that can be answered at once, and returns the number of bytes
    /// read.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.connection.worker.buffers.take_input();
        let polled = self.stream.poll_read_some(cx, &mut buffer);
        match polled {
            Poll::Ready(Ok(read)) if self.rest.is_empty() => {
                let taken = self.process(&buffer[..read]);
                self.rest = buffer[taken..read].to_vec();
                self.hold_rest();
            }
            Poll::Ready(Ok(read)) => {
                self.rest.extend_from_slice(&buffer[..read]);
                self.process_rest();
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending if self.rest.is_empty() => self.enter(Http1Phase::Idle),
            Poll::Pending => self.enter(Http1Phase::Head),
        }
        self.connection.worker.buffers.return_input(buffer);
        polled
    }

    /// Answers the requests at the start of [`rest`](Self::rest). An incomplete one stays where it
    /// is, so that the pieces of a long head are not copied again and again.
    fn process_rest(&mut self) {
        let mut bytes = mem::take(&mut self.rest);
        let taken = self.process(&bytes);
        // Dropping the vector frees its memory: idle connections own none.
        if taken < bytes.len() {
            bytes.drain(..taken);
            self.rest = bytes;
        }
        self.hold_rest();
    }

    /// Answers the requests at the start of `bytes`, and returns how many bytes they have.
    fn process(&mut self, bytes: &[u8]) -> usize {
        self.connection.worker.buffers.lend_output(&mut self.unsent.0);
        let taken = answer_requests(self.connection, bytes, self.scanned, &mut self.unsent);
        if taken.bytes > 0 {
            // The next bytes belong to another request, which has its own timeout.
            self.phase = Http1Phase::Busy;
        }
        (self.scanned, self.next_action) = (taken.scanned, taken.action);
        taken.bytes
    }

    /// Holds the memory of [`rest`](Self::rest), or refuses the request that begins there.
    fn hold_rest(&mut self) {
        if let Err(exceeded) = self.held.resize(self.rest.capacity())
            && self.next_action.is_none()
        {
            let reason = exceeded.refuse_head();
            self.next_action = Some(refuse(self.connection, &reason, false, &mut self.unsent));
        }
    }

    /// Sends the pending responses.
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
                    // Over the bound, the connection closes: a client that reads no responses
                    // cannot be sent another one.
                    let bytes = self.rest.capacity() + self.unsent.0.capacity();
                    let held = self.held.resize_for(MemoryPurpose::Response, bytes);
                    held.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
                    return Poll::Pending;
                }
            }
        }
        self.connection.worker.buffers.return_output(&mut self.unsent.0);
        if self.phase == Http1Phase::Writing {
            let _less = self.held.resize_for(MemoryPurpose::Other, self.rest.capacity());
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS accepts more bytes than the socket does, so its own buffer has to be flushed too.
        self.is_flushed = flushed.is_ready();
        if !self.is_flushed {
            self.enter(Http1Phase::Writing);
        }
        flushed
    }

    /// Enters a phase and starts its timeout, unless the connection is already in it. So a client
    /// that sends a byte now and then does not extend the timeout.
    fn enter(&mut self, phase: Http1Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let timeouts = &self.connection.worker.timeouts;
        match phase {
            Http1Phase::Idle => self.deadline.idle_for(timeouts.idle),
            Http1Phase::Head => self.deadline.due_within(timeouts.head),
            Http1Phase::Writing | Http1Phase::Busy => self.deadline.due_within(timeouts.body),
        }
    }

    /// Answers a request that has to wait, for its body or for the service.
    async fn answer(&mut self, pending: Http1PendingRequest<'c, S>) {
        let Http1PendingRequest {
            request,
            reads_body,
            framing,
            expects_continue,
            mut options,
            mut is_sending,
            ..
        } = pending;
        self.enter(Http1Phase::Busy);
        // Holds the memory of the request until it is answered.
        let mut held = self.memory.hold_nothing(if reads_body {
            MemoryPurpose::IncompleteBody
        } else {
            MemoryPurpose::Other
        });
        let received = match held.resize(request.held_bytes()) {
            Ok(()) if reads_body => {
                self.receive(&request, framing, expects_continue, &mut held).await
            }
            Ok(()) => Ok(Bytes::new()),
            Err(exceeded) => Err(exceeded.refuse_head().into()),
        };
        let reply = match received {
            Ok(body) => {
                // No deadline here: the service has timeouts of its own.
                self.deadline.due_within(Duration::MAX);
                let ends_with_client = request.ends_with_client();
                match request.respond(&body, &mut self.unsent.writer(options)) {
                    Step::Wait(reply) if ends_with_client => match self.while_open(reply).await {
                        Ok(reply) => reply,
                        Err(ConnectionLost) => {
                            self.next_action = Some(NextAction::Close { is_sending: false });
                            return;
                        }
                    },
                    Step::Wait(reply) => reply.await,
                    Step::Done(()) => {
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

    /// Waits for a reply until the client closes the connection. Bytes of a next request end the
    /// watch.
    async fn while_open(&mut self, mut reply: ReplyFuture<'c>) -> Result<Reply, ConnectionLost> {
        poll_fn(|cx| {
            if let Poll::Ready(reply) = reply.as_mut().poll(cx) {
                return Poll::Ready(Ok(reply));
            }
            while self.rest.is_empty() {
                ready!(self.poll_receive_more(cx)).map_err(|_| ConnectionLost)?;
            }
            Poll::Pending
        })
        .await
    }

    /// Receives the body of a request.
    async fn receive(
        &mut self,
        request: &S::Pending<'_>,
        framing: Framing,
        mut expects: bool,
        held: &mut HeldMemory<'c>,
    ) -> Result<Bytes, BodyReceiveError> {
        let max_bytes = request.max_body_bytes();
        let mut body = IncomingBody::new(framing, max_bytes, self.connection.worker.limits)
            .map_err(|error| BodyReceiveError::of(error, max_bytes))?;
        self.deadline.due_within(self.connection.worker.timeouts.body);
        loop {
            let taken = body
                .take(&self.rest, held)
                .map_err(|error| BodyReceiveError::of(error, max_bytes))?;
            self.rest.drain(..taken);
            if body.is_complete() {
                return Ok(body.bytes.into());
            }
            if mem::take(&mut expects) && self.rest.is_empty() {
                self.unsent.0.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let deadline = Rc::clone(&self.deadline);
            match deadline.poll_fn(|cx| self.poll_receive_more(cx)).await {
                // Bytes that are not taken yet, such as trailers.
                Ok(Ok(())) => self
                    .held
                    .resize(self.rest.capacity())
                    .map_err(|exceeded| BodyReceiveError::Refused(exceeded.refuse_body()))?,
                Ok(Err(_)) => return Err(BodyReceiveError::ConnectionLost),
                Err(DeadlineElapsed) => return Err(BODY_TOO_SLOW.into()),
            }
        }
    }

    /// Sends pending responses and appends newly read bytes to `rest`.
    fn poll_receive_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        let mut buffer = self.connection.worker.buffers.take_input();
        let polled = self.stream.poll_read_some(cx, &mut buffer);
        if let Poll::Ready(Ok(read)) = &polled {
            self.rest.extend_from_slice(&buffer[..*read]);
        }
        self.connection.worker.buffers.return_input(buffer);
        polled.map_ok(|_| ())
    }

    /// Closes the connection. While the client is still sending, its input is read and discarded
    /// first, for at most [`LINGER_TIMEOUT`] and [`MAX_LINGER_BYTES`].
    async fn close(&mut self, is_sending: bool) {
        // If unanswered bytes have arrived, more may follow.
        let is_sending = is_sending || !self.rest.is_empty();
        let deadline = Rc::clone(&self.deadline);
        deadline.due_within(LINGER_TIMEOUT);
        if is_sending || self.stream.is_encrypted() {
            let _ignored = deadline.run(self.stream.shutdown()).await;
        }
        let mut discarded = 0;
        while is_sending && discarded < MAX_LINGER_BYTES {
            self.rest.clear();
            match deadline.poll_fn(|cx| self.poll_receive_more(cx)).await {
                Ok(Ok(())) => discarded += self.rest.len(),
                Ok(Err(_)) | Err(DeadlineElapsed) => return,
            }
        }
    }
}

/// Error of receiving a request body.
enum BodyReceiveError {
    /// The client has closed the connection, or it failed.
    ConnectionLost,
    /// The body is rejected.
    Refused(BadRequest),
}

impl From<BadRequest> for BodyReceiveError {
    fn from(bad_request: BadRequest) -> Self {
        Self::Refused(bad_request)
    }
}

impl BodyReceiveError {
    fn of(error: BodyError, max_bytes: usize) -> Self {
        Self::Refused(match error {
            BodyError::TooLarge => BadRequest::body_too_large(max_bytes),
            BodyError::Memory(exceeded) => exceeded.refuse_body(),
            BodyError::Malformed(detail) => BadRequest::new("body", detail),
        })
    }
}

const HEAD_TOO_SLOW: BadRequest =
    BadRequest::too_slow("head_timeout", "the head of the request took too long to arrive");
