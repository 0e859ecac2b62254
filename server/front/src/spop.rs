//! SPOP 2.0, the protocol in which HAProxy asks an agent about requests (SPOE).
//!
//! HAProxy opens a connection with HAPROXY-HELLO, which AGENT-HELLO answers. A NOTIFY frame then
//! has messages about a request, and an ACK frame answers it with variables for HAProxy to set.
//! Many NOTIFY frames may be under way, and are answered in any order (pipelining). Frames that
//! arrive together are answered together: a batch costs one read and one write.
//!
//! Frames are bounded by the maximum that HAProxy asks for, and by [`frame::MAX_FRAME_BYTES`].
//! Fragmented payloads are refused: a request fits into one frame. A frame that
//! is malformed ends the connection: the clients behind HAProxy only choose the contents of values.
//! Without an answer, HAProxy sets no variable, and its configuration refuses the request.

pub mod error;
pub mod value;
pub mod frame;
pub mod hello;
pub mod action;
mod session;

use std::{
    io, mem,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use self::{
    error::{SpopError, SpopStatus},
    session::SpopSession,
};
use crate::{
    clock::Stopwatch,
    connection::ConnectionContext,
    deadline::{Deadline, DeadlineElapsed, yield_to_ready},
    frame_stream::FrameStream,
    service::Service,
    stream::MaybeTlsStream,
};

/// The payload of a NOTIFY frame: a list of messages.
pub struct SpopNotification<'r, 'c, S: Service> {
    /// The connection it arrived on.
    pub connection: ConnectionContext<'c, S>,
    /// The settings loaded for it.
    pub settings: &'r S::Settings,
    /// The list of messages.
    pub payload: &'r [u8],
    /// Running since the frame was read.
    pub started: Stopwatch,
}

/// Bytes parsed before a connection yields to the others of its worker.
const MAX_RECEIVED_PER_POLL: usize = 64 * 1024;

/// Serves a connection until it closes.
pub async fn serve<S: Service>(
    connection: ConnectionContext<'_, S>,
    deadline: Rc<Deadline>,
    stream: MaybeTlsStream,
) {
    let connection = SpopConnection {
        connection,
        deadline,
        stream: FrameStream::new(stream),
        session: SpopSession::new(connection),
        phase: SpopPhase::Busy,
    };
    connection.serve().await;
}

/// A connection of HAProxy: a [`SpopSession`] and its socket.
struct SpopConnection<'c, S: Service> {
    connection: ConnectionContext<'c, S>,
    deadline: Rc<Deadline>,
    stream: FrameStream,
    session: SpopSession<'c, S>,
    phase: SpopPhase,
}

/// The phase of a connection, named by what it waits for. Each phase has its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpopPhase {
    /// Nothing: it has just made progress.
    Busy,
    /// A frame.
    Idle,
    /// The handshake, or the rest of a frame.
    Frame,
    /// Our own answers.
    Answers,
    /// HAProxy, to read answers.
    Writing,
}

/// The end of a connection.
enum SpopClosed {
    /// HAProxy disconnected, so nothing can be sent.
    Lost,
    /// The last frame was sent.
    Disconnected,
}

impl<S: Service> SpopConnection<'_, S> {
    async fn serve(mut self) {
        let deadline = Rc::clone(&self.deadline);
        loop {
            match deadline.poll_fn(|cx| self.poll(cx)).await {
                Ok(SpopClosed::Lost) => return,
                Ok(SpopClosed::Disconnected) => {
                    let buffers = &self.connection.worker.buffers;
                    return Box::pin(self.stream.close(&deadline, buffers)).await;
                }
                Err(DeadlineElapsed) if self.phase == SpopPhase::Writing => return,
                Err(DeadlineElapsed) => self.handle_deadline(),
            }
        }
    }

    /// Reads, answers and sends until no more progress is possible.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SpopClosed> {
        let buffers = &self.connection.worker.buffers;
        let mut received = 0;
        loop {
            self.session.poll_pending(cx);
            match self.stream.poll_send(cx, buffers, &mut self.session) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(SpopClosed::Lost),
                Poll::Pending => {
                    self.enter_phase(SpopPhase::Writing);
                    return Poll::Pending;
                }
            }
            if self.session.is_closed() {
                return Poll::Ready(SpopClosed::Disconnected);
            }
            if received >= MAX_RECEIVED_PER_POLL {
                self.phase = SpopPhase::Busy;
                self.deadline.due_within(Duration::MAX);
                yield_to_ready(cx);
                return Poll::Pending;
            }
            match self.poll_receive(cx) {
                Poll::Ready(Ok(length)) => received += length,
                Poll::Ready(Err(_)) => return Poll::Ready(SpopClosed::Lost),
                Poll::Pending if self.is_drained() => self.session.close(),
                Poll::Pending => break,
            }
        }
        self.enter_phase(match self.session.has_pending() {
            _ if !self.session.is_open() || !self.stream.is_parsed() => SpopPhase::Frame,
            true => SpopPhase::Answers,
            false => SpopPhase::Idle,
        });
        Poll::Pending
    }

    /// Whether the connection closes for a shutdown: it has answered everything it received. One
    /// that was idle when the shutdown began stays open until its deadline, because a frame may be
    /// on its way.
    fn is_drained(&self) -> bool {
        self.deadline.is_draining()
            && self.phase != SpopPhase::Idle
            && self.session.is_open()
            && self.stream.is_parsed()
            && !self.session.has_pending()
    }

    /// Parses deferred frames, or else reads more, and answers what can be answered at once.
    /// Returns the number of bytes consumed.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buffers = &self.connection.worker.buffers;
        let consumed = ready!(self.stream.poll_receive(cx, buffers, &mut self.session))?;
        if consumed > 0 {
            // The next bytes belong to another frame, which has its own timeout.
            self.phase = SpopPhase::Busy;
        }
        Poll::Ready(Ok(consumed))
    }

    /// Starts the timeout of a phase, unless the connection is already in it. A peer that sends one
    /// byte now and then gains no time.
    fn enter_phase(&mut self, phase: SpopPhase) {
        if mem::replace(&mut self.phase, phase) == phase {
            return;
        }
        let timeouts = &self.connection.worker.timeouts;
        match phase {
            SpopPhase::Idle => self.deadline.idle_for(timeouts.idle),
            SpopPhase::Frame => self.deadline.due_within(timeouts.head),
            SpopPhase::Writing => self.deadline.due_within(timeouts.body),
            // The service has timeouts of its own.
            SpopPhase::Answers | SpopPhase::Busy => self.deadline.due_within(Duration::MAX),
        }
    }

    /// Acts on an elapsed deadline.
    fn handle_deadline(&mut self) {
        const TOO_SLOW: SpopError =
            SpopError::new(SpopStatus::Timeout, "a frame took too long to arrive");
        match self.phase {
            SpopPhase::Frame => self.session.fail(TOO_SLOW),
            _ => self.session.close(),
        }
        self.enter_phase(SpopPhase::Busy);
    }
}

#[cfg(test)]
mod tests;
