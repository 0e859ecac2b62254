//! HTTP/2 (RFC 9113) server connections: over TLS by ALPN, over plain TCP by prior knowledge.
//!
//! Requests that arrive together are answered together. They are parsed in place, their responses
//! are appended to one buffer, and that buffer is sent. A batch costs two system calls, one read
//! and one write, rather than two per request. A request that has to wait for its reply is one
//! future in the connection's [`FuturesUnordered`](futures_util::stream::FuturesUnordered), and
//! there are never more of these than streams.
//!
//! Everything a client can make the server store or do is bounded: streams, field sections and
//! their decoded size, the [dynamic table](hpack::DynamicTable), and flow-control windows. Abuse
//! budgets bound reset requests and control frames; each completed response restores part of them.
//! Nothing is read from a client that does not read its responses. A connection parses at most
//! 64 KiB before it yields to the other connections of its worker.

pub mod preface;
mod session;
mod stream;
mod response;
mod frame;
mod settings;
pub mod hpack;
pub mod error;

use std::{
    io, mem,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use self::{
    error::{Http2Error, Http2ErrorCode},
    session::{Http2Session, LINGER_TIMEOUT},
};
use crate::{
    clock::Stopwatch,
    connection::ConnectionContext,
    deadline::{Deadline, DeadlineElapsed, TICK, yield_to_ready},
    frame_stream::FrameStream,
    service::Service,
    stream::MaybeTlsStream,
};

/// Bytes parsed before a connection yields to the others of its worker.
const MAX_RECEIVED_PER_POLL: usize = 64 * 1024;
/// Time without input after which an idle client is sent a [keepalive
/// ping](Http2Session::send_keepalive_ping).
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Serves a connection until it closes. `ahead` holds the bytes that were already read from it.
pub async fn serve<S: Service>(
    connection: ConnectionContext<'_, S>,
    deadline: Rc<Deadline>,
    stream: MaybeTlsStream,
    ahead: Vec<u8>,
) {
    let (mut session, mut stream) = (Http2Session::new(connection), FrameStream::new(stream));
    stream.receive(&ahead, &connection.worker.buffers, &mut session);
    let connection = Http2Connection {
        connection,
        deadline,
        stream,
        session,
        phase: Http2Phase::Busy,
        idle: Stopwatch::start(),
    };
    connection.serve().await;
}

/// An HTTP/2 connection: an [`Http2Session`] and its socket.
struct Http2Connection<'c, S: Service> {
    connection: ConnectionContext<'c, S>,
    deadline: Rc<Deadline>,
    stream: FrameStream,
    session: Http2Session<'c, S>,
    phase: Http2Phase,
    /// Time since the last request.
    idle: Stopwatch,
}

/// The phase of a connection, named by what it waits for. Each phase has its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http2Phase {
    /// Nothing: it has just made progress.
    Busy,
    /// A request.
    Idle,
    /// The connection preface, or the rest of a field block.
    Head,
    /// Open streams: the rest of a request, window for a response, or our own reply.
    Streams,
    /// The client, to read responses.
    Writing,
    /// The client, to acknowledge a keepalive ping.
    AwaitingPong,
    /// The client, to close its side after the first GOAWAY.
    ShuttingDown,
}

/// The end of a connection.
enum ConnectionClosed {
    /// The client disconnected, so nothing can be sent.
    Disconnected,
    /// The last GOAWAY was sent.
    GoawaySent,
}

impl<S: Service> Http2Connection<'_, S> {
    async fn serve(mut self) {
        let deadline = Rc::clone(&self.deadline);
        loop {
            let closed = match deadline.poll_fn(|cx| self.poll(cx)).await {
                Ok(closed) => Some(closed),
                Err(DeadlineElapsed) => self.handle_deadline(),
            };
            match closed {
                None => {}
                Some(ConnectionClosed::Disconnected) => return,
                Some(ConnectionClosed::GoawaySent) => {
                    // The client may still be sending.
                    let buffers = &self.connection.worker.buffers;
                    return Box::pin(self.stream.close(&deadline, buffers)).await;
                }
            }
        }
    }

    /// Reads, answers and sends until no more progress is possible.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionClosed> {
        if self.deadline.is_draining() {
            self.session.begin_shutdown();
        }
        if self.session.shutdown_time_left() == Some(Duration::ZERO) {
            self.session.finish_shutdown();
        }
        let buffers = &self.connection.worker.buffers;
        let mut received = 0;
        loop {
            // Replies are polled first, even if they cannot be sent yet. The tasks behind them (a
            // database query, a key fetch) must make progress, and there are never more of them
            // than streams.
            self.session.poll_replies(cx);
            match self.stream.poll_send(cx, buffers, &mut self.session) {
                Poll::Ready(Ok(())) => {
                    if self.phase == Http2Phase::Writing {
                        // The client has received everything, and has time for what follows.
                        self.phase = Http2Phase::Busy;
                    }
                    if self.session.refill() {
                        continue;
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(ConnectionClosed::Disconnected),
                Poll::Pending => {
                    self.enter_phase(Http2Phase::Writing);
                    return Poll::Pending;
                }
            }
            if self.session.is_finished() {
                return Poll::Ready(ConnectionClosed::GoawaySent);
            }
            // A few bytes can request a large output, so a full send buffer also ends the turn.
            if received >= MAX_RECEIVED_PER_POLL
                || self.stream.has_deferred_frames() && received > 0
            {
                // The deadline sweep only sees connections that wait. A client that never stops
                // sending must not gain time for its request bodies that way.
                let limit = self.connection.worker.timeouts.body;
                if self.session.time_to_deadline(limit).is_zero() {
                    self.session.expire(limit);
                }
                self.enter_phase(Http2Phase::Busy);
                yield_to_ready(cx);
                return Poll::Pending;
            }
            match self.poll_receive(cx) {
                Poll::Ready(Ok(length)) => received += length,
                Poll::Ready(Err(_)) => return Poll::Ready(ConnectionClosed::Disconnected),
                Poll::Pending => break,
            }
        }
        self.enter_waiting_phase();
        Poll::Pending
    }

    /// Enters the waiting phase that fits the state of the session.
    fn enter_waiting_phase(&mut self) {
        if self.session.take_has_new_drain() {
            // Its deadline may be the next one.
            self.phase = Http2Phase::Busy;
        }
        self.enter_phase(match self.phase {
            _ if self.session.has_streams() => Http2Phase::Streams,
            _ if self.session.shutdown_time_left().is_some() => Http2Phase::ShuttingDown,
            _ if !self.session.is_between_requests() || !self.stream.is_parsed() => {
                Http2Phase::Head
            }
            Http2Phase::AwaitingPong => Http2Phase::AwaitingPong,
            _ => Http2Phase::Idle,
        });
    }

    /// Parses deferred frames, or else reads more, and answers what can be answered at once.
    /// Returns the number of bytes consumed.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buffers = &self.connection.worker.buffers;
        let consumed = ready!(self.stream.poll_receive(cx, buffers, &mut self.session))?;
        let has_new_request = self.session.take_has_new_request();
        if has_new_request {
            self.idle = Stopwatch::start();
        }
        if has_new_request || self.phase == Http2Phase::AwaitingPong {
            self.phase = Http2Phase::Busy;
        }
        Poll::Ready(Ok(consumed))
    }

    /// Starts the timeout of a phase, unless the connection is already in it. A client that sends
    /// one byte now and then gains no time.
    fn enter_phase(&mut self, phase: Http2Phase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let timeouts = &self.connection.worker.timeouts;
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

    /// Acts on an elapsed deadline.
    fn handle_deadline(&mut self) -> Option<ConnectionClosed> {
        // The next phase sets its own deadline.
        self.deadline.due_within(Duration::MAX);
        match mem::replace(&mut self.phase, Http2Phase::Busy) {
            Http2Phase::Idle => self.handle_idle_deadline(),
            Http2Phase::Streams => self.session.expire(self.connection.worker.timeouts.body),
            Http2Phase::ShuttingDown => self.session.finish_shutdown(),
            Http2Phase::Head => self.session.fail(Http2Error::new(
                Http2ErrorCode::NoError,
                "timed out waiting for the rest of the request head",
            )),
            Http2Phase::Writing | Http2Phase::AwaitingPong | Http2Phase::Busy => {
                return Some(ConnectionClosed::Disconnected);
            }
        }
        None
    }

    /// Shuts down a connection that reached the idle timeout, and pings one that did not.
    fn handle_idle_deadline(&mut self) {
        // The sweep is only as exact as its [`TICK`].
        if self.idle.elapsed() + TICK >= self.connection.worker.timeouts.idle
            || self.deadline.is_draining()
        {
            self.session.begin_shutdown();
        } else {
            self.session.send_keepalive_ping();
            self.enter_phase(Http2Phase::AwaitingPong);
        }
    }
}

#[cfg(test)]
mod tests;
