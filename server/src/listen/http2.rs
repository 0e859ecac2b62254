//! HTTP/2 (RFC 9113), our own: under TLS by ALPN, without by prior knowledge. What gRPC
//! runs on, and Envoy with it.
//!
//! Requests that have come together are answered together: all of them are read where
//! they lie, answered by appending to bytes, and sent, so that reading and writing are two
//! system calls and not two for each. One that waits is a future among others of its
//! connection; there are never more than there may be streams.
//!
//! What a client could have us keep or do has bounds: streams, field sections and what
//! they may be decoded to, the dynamic table, windows, and requests that come to nothing
//! and frames that are about nothing, which the answers in between pay for. While a client
//! takes no answers nothing of it is read, and a connection reads 64 KiB before the other
//! connections of its thread have theirs.

mod answer;
pub mod fault;
mod frame;
pub mod hpack;
mod patience;
pub mod preface;
mod session;
mod settings;
mod stream;

use std::{
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use self::{
    fault::{Http2Error, Http2ErrorCode},
    session::{Http2Session, LINGER_TIMEOUT},
};
use super::{
    exchange::ConnectionContext,
    stream::MaybeTlsStream,
    watch::{Deadline, DeadlineElapsed, TICK, yield_to_ready},
};
use crate::clock::Stopwatch;

/// How many bytes are read before it is the turn of another connection of the thread.
const MAX_READ_PER_POLL: usize = 64 * 1024;
/// How long nothing is heard of an idle client before it is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How much of a client is read and thrown away that was told that nothing is answered
/// any more. To hang up at once could destroy what it was told on its way.
const MAX_LINGER_BYTES: usize = 1 << 20;

/// Serves a connection to its end; `ahead` of it was read already.
pub async fn serve(
    context: ConnectionContext<'_>,
    deadline: Rc<Deadline>,
    stream: MaybeTlsStream,
    ahead: Vec<u8>,
) {
    let mut session = Http2Session::new(context);
    let taken = session.receive(&ahead);
    let connection = Http2Connection {
        context,
        deadline,
        stream,
        session,
        rest: ahead[taken..].to_vec(),
        has_deferred_frames: false,
        sent: 0,
        is_flushed: true,
        phase: Http2Phase::Busy,
        idle: Stopwatch::start(),
    };
    connection.serve().await;
}

/// A connection that speaks HTTP/2.
struct Http2Connection<'c> {
    context: ConnectionContext<'c>,
    deadline: Rc<Deadline>,
    stream: MaybeTlsStream,
    session: Http2Session<'c>,
    /// Bytes read and not taken: no whole frame, unless it is behind.
    rest: Vec<u8>,
    /// Whether there may be whole frames in it, which had to wait until something is sent.
    has_deferred_frames: bool,
    /// How much is sent of what is to be sent.
    sent: usize,
    /// Whether nothing of what was taken is still on its way through TLS.
    is_flushed: bool,
    phase: Http2Phase,
    /// Since the last request.
    idle: Stopwatch,
}

/// What a connection waits for, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http2Phase {
    /// Nothing: it has just got on.
    Busy,
    /// A request.
    Idle,
    /// The beginning of the connection, or the rest of a head.
    Head,
    /// The client, to send the rest of a request or to take more of an answer; or us.
    Streams,
    /// The client, to take anything.
    Writing,
    /// The client, to say that it is there.
    AwaitingPong,
    /// The client, to go as it was told.
    ShuttingDown,
}

/// The connection is over.
enum ConnectionClosed {
    /// There is nobody to talk to.
    Disconnected,
    /// The client was told.
    GoawaySent,
}

impl Http2Connection<'_> {
    async fn serve(mut self) {
        let deadline = Rc::clone(&self.deadline);
        loop {
            let over = match deadline.poll_fn(|cx| self.poll(cx)).await {
                Ok(over) => Some(over),
                Err(DeadlineElapsed) => self.handle_deadline(),
            };
            match over {
                None => {}
                Some(ConnectionClosed::Disconnected) => return,
                Some(ConnectionClosed::GoawaySent) => return Box::pin(self.close()).await,
            }
        }
    }

    /// Reads, answers and sends all there is.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionClosed> {
        if self.deadline.is_draining() {
            self.session.begin_shutdown();
        }
        if self.session.shutdown_time_left() == Some(Duration::ZERO) {
            self.session.finish_shutdown();
        }
        let mut read = 0;
        loop {
            // First, and whether they can be sent or not: to those that they wait for it makes
            // a difference, and there are never more of them than streams.
            self.session.poll_replies(cx);
            match self.poll_send(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(ConnectionClosed::Disconnected),
                Poll::Pending => {
                    self.enter_phase(Http2Phase::Writing);
                    return Poll::Pending;
                }
            }
            if self.session.is_finished() {
                return Poll::Ready(ConnectionClosed::GoawaySent);
            }
            // Few bytes can ask for much: what has to be sent first is a turn too.
            if read >= MAX_READ_PER_POLL || self.has_deferred_frames && read > 0 {
                // Who never stops sending has no more time for the rest than others.
                let limit = self.context.worker.timeouts.body;
                if self.session.time_to_deadline(limit).is_zero() {
                    self.session.expire(limit);
                }
                self.enter_phase(Http2Phase::Busy);
                yield_to_ready(cx);
                return Poll::Pending;
            }
            match self.poll_receive(cx) {
                Poll::Ready(Ok(length)) => read += length,
                Poll::Ready(Err(_)) => return Poll::Ready(ConnectionClosed::Disconnected),
                Poll::Pending => break,
            }
        }
        self.enter_waiting_phase();
        Poll::Pending
    }

    /// Waits for what is missing.
    fn enter_waiting_phase(&mut self) {
        self.enter_phase(match self.phase {
            _ if self.session.has_streams() => Http2Phase::Streams,
            _ if self.session.shutdown_time_left().is_some() => Http2Phase::ShuttingDown,
            _ if !self.session.is_between_requests() || !self.rest.is_empty() => Http2Phase::Head,
            Http2Phase::AwaitingPong => Http2Phase::AwaitingPong,
            _ => Http2Phase::Idle,
        });
    }

    /// Reads more, unless it is behind with that, and answers what can be answered at once.
    /// Returns how much there was.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.has_deferred_frames {
            let bytes = mem::take(&mut self.rest);
            self.receive(&bytes);
            return Poll::Ready(Ok(bytes.len() - self.rest.len()));
        }
        let mut buffer = self.context.worker.buffers.take_input();
        let kept = self.rest.len();
        buffer[..kept].copy_from_slice(&self.rest);
        let polled = self.stream.poll_read_some(cx, &mut buffer[kept..]);
        if let Poll::Ready(Ok(read)) = polled {
            self.receive(&buffer[..kept + read]);
        }
        self.context.worker.buffers.return_input(buffer);
        polled
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.context.worker.buffers.lend_output(self.session.outgoing());
        let taken = self.session.receive(bytes);
        self.has_deferred_frames = self.session.is_full();
        match &bytes[taken..] {
            // Idle connections own no memory.
            [] => self.rest = Vec::new(),
            rest => {
                self.rest.clear();
                self.rest.extend_from_slice(rest);
            }
        }
        let has_new_request = self.session.take_has_new_request();
        if has_new_request {
            self.idle = Stopwatch::start();
        }
        if has_new_request || self.phase == Http2Phase::AwaitingPong {
            self.phase = Http2Phase::Busy;
        }
    }

    /// Sends what there is to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let unsent = self.session.outgoing();
        if unsent.is_empty() && self.is_flushed {
            self.context.worker.buffers.return_output(unsent);
            return Poll::Ready(Ok(()));
        }
        while self.sent < unsent.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &unsent[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.sent = 0;
        self.context.worker.buffers.return_output(unsent);
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS takes more than the socket does: what it holds has to be seen off too.
        self.is_flushed = flushed.is_ready();
        flushed
    }

    /// Begins to wait for something, unless it waits for it already: who sends a byte
    /// now and then does not get more time for it.
    fn enter_phase(&mut self, phase: Http2Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let timeouts = &self.context.worker.timeouts;
        match phase {
            Http2Phase::Idle => self
                .deadline
                .idle_for(PING_INTERVAL.min(timeouts.idle.saturating_sub(self.idle.elapsed()))),
            Http2Phase::Head | Http2Phase::AwaitingPong => self.deadline.due_within(timeouts.head),
            Http2Phase::Streams => {
                self.deadline.due_within(self.session.time_to_deadline(timeouts.body))
            }
            Http2Phase::Writing => self.deadline.due_within(timeouts.body),
            Http2Phase::ShuttingDown => self
                .deadline
                .due_within(self.session.shutdown_time_left().unwrap_or(LINGER_TIMEOUT)),
            Http2Phase::Busy => self.deadline.due_within(Duration::MAX),
        }
    }

    /// Something has taken too long.
    fn handle_deadline(&mut self) -> Option<ConnectionClosed> {
        // To be waited for anew.
        self.deadline.due_within(Duration::MAX);
        match mem::replace(&mut self.phase, Http2Phase::Busy) {
            Http2Phase::Idle => self.handle_idle_deadline(),
            Http2Phase::Streams => self.session.expire(self.context.worker.timeouts.body),
            Http2Phase::ShuttingDown => self.session.finish_shutdown(),
            Http2Phase::Head => self.session.fail(Http2Error::new(
                Http2ErrorCode::NoError,
                "the head of a request took too long to arrive",
            )),
            Http2Phase::Writing | Http2Phase::AwaitingPong | Http2Phase::Busy => {
                return Some(ConnectionClosed::Disconnected);
            }
        }
        None
    }

    /// Nothing was heard for a while.
    fn handle_idle_deadline(&mut self) {
        // Sweeps are rarely exact.
        if self.idle.elapsed() + TICK >= self.context.worker.timeouts.idle
            || self.deadline.is_draining()
        {
            self.session.begin_shutdown();
        } else {
            self.session.send_keepalive_ping();
            self.enter_phase(Http2Phase::AwaitingPong);
        }
    }

    /// Closes; first, as the client may be sending, listens to it for a while.
    async fn close(&mut self) {
        let deadline = Rc::clone(&self.deadline);
        deadline.due_within(LINGER_TIMEOUT);
        let _whatever_comes = deadline.run(self.stream.shutdown()).await;
        let mut heard = 0;
        while heard < MAX_LINGER_BYTES {
            match deadline.poll_fn(|cx| self.poll_discard(cx)).await {
                Ok(Ok(length)) => heard += length,
                Ok(Err(_)) | Err(DeadlineElapsed) => return,
            }
        }
    }

    /// Reads and throws away.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.context.worker.buffers.take_input();
        let polled = self.stream.poll_read_some(cx, &mut buffer);
        self.context.worker.buffers.return_input(buffer);
        polled
    }
}

#[cfg(test)]
mod tests;
