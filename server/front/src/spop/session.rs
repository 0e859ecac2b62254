//! The protocol state of a connection, without its socket: received bytes in, bytes to send out.
//!
//! A NOTIFY frame that [`Service::notify`] answers at once takes no task and no future. One that
//! has to wait is a future of the session, and does not keep the frames behind it waiting.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{
    SpopNotification,
    action::ActionList,
    error::{SpopError, SpopStatus},
    frame::{FrameIds, MAX_FRAME_BYTES, SpopFrame, begin_frame, end_frame, kind, put_frame},
    hello::{HelloRequest, disconnect},
};
use crate::{
    clock::Stopwatch,
    connection::ConnectionContext,
    frame_stream::FrameSession,
    request_memory::{ConnectionMemory, HeldMemory, MemoryPurpose},
    service::{PendingActions, Service, Step},
};

/// Maximum number of frames of a connection that wait. HAProxy has 20 unanswered frames at most,
/// unless `max-waiting-frames` allows more.
const MAX_PENDING: usize = 128;
/// Size of the send buffer above which no more frames are parsed.
const MAX_OUTGOING: usize = 32 * 1024;

/// The protocol state of a connection.
pub(super) struct SpopSession<'c, S: Service> {
    connection: ConnectionContext<'c, S>,
    state: HandshakeState,
    /// The largest frame of either side.
    max_frame: usize,
    pending: FuturesUnordered<PendingAck<'c>>,
    /// Bytes to send.
    outgoing: Vec<u8>,
    memory: Rc<ConnectionMemory<'c>>,
    /// Memory held by input that is not parsed yet.
    held_input: HeldMemory<'c>,
}

/// The actions of an ACK frame, once they are known.
type PendingAck<'c> = Pin<Box<dyn Future<Output = (FrameIds, Bytes)> + 'c>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandshakeState {
    /// HAPROXY-HELLO has not arrived.
    Expected,
    /// The handshake is complete.
    Complete,
    /// The last frame was written. Input is ignored.
    Closed,
}

impl<'c, S: Service> SpopSession<'c, S> {
    /// Creates the state of a new connection.
    pub(super) fn new(connection: ConnectionContext<'c, S>) -> Self {
        let memory = ConnectionMemory::new(connection);
        Self {
            connection,
            state: HandshakeState::Expected,
            max_frame: MAX_FRAME_BYTES,
            pending: FuturesUnordered::new(),
            outgoing: Vec::new(),
            held_input: memory.hold_nothing(MemoryPurpose::Other),
            memory,
        }
    }

    fn take_frames(&mut self, bytes: &mut &[u8]) -> Result<(), SpopError> {
        let settings = self.connection.worker.service.settings();
        while !self.is_full()
            && !self.is_closed()
            && let Some(frame) = SpopFrame::take(bytes, self.max_frame)?
        {
            self.handle_frame(frame, &settings)?;
        }
        Ok(())
    }

    fn hold_input(&mut self, bytes: usize) -> Result<(), SpopError> {
        const TOO_MUCH: SpopError =
            SpopError::new(SpopStatus::Resources, "incomplete frames hold too much memory");
        self.held_input.resize(bytes).map_err(|_| TOO_MUCH)
    }

    fn handle_frame(
        &mut self,
        frame: SpopFrame<'_>,
        settings: &S::Settings,
    ) -> Result<(), SpopError> {
        match (self.state, frame.kind) {
            (HandshakeState::Expected, kind::HAPROXY_HELLO) => self.hello(frame),
            (HandshakeState::Complete, kind::NOTIFY) => self.notify(frame, settings),
            (_, kind::HAPROXY_DISCONNECT) => {
                self.close();
                Ok(())
            }
            (HandshakeState::Expected, _) => {
                Err(SpopError::invalid("the first frame is not HAPROXY-HELLO"))
            }
            _ => Err(SpopError::invalid("an unexpected frame")),
        }
    }

    fn hello(&mut self, frame: SpopFrame<'_>) -> Result<(), SpopError> {
        if frame.ids != FrameIds::default() {
            return Err(SpopError::invalid("HAPROXY-HELLO belongs to no stream"));
        }
        let hello = HelloRequest::read(frame.payload)?;
        hello.answer(&mut self.outgoing);
        self.max_frame = hello.max_frame;
        self.state = match hello.is_health_check {
            true => HandshakeState::Closed,
            false => HandshakeState::Complete,
        };
        Ok(())
    }

    fn notify(&mut self, frame: SpopFrame<'_>, settings: &S::Settings) -> Result<(), SpopError> {
        let notification = SpopNotification {
            connection: self.connection,
            settings,
            payload: frame.payload,
            started: Stopwatch::start(),
        };
        let start = begin_frame(&mut self.outgoing, kind::ACK, frame.ids);
        match S::notify(&notification, &mut ActionList::new(&mut self.outgoing)) {
            Ok(Step::Done(())) => self.end_ack(start, frame.ids),
            Ok(Step::Wait(pending)) => {
                self.outgoing.truncate(start);
                self.wait_for(pending, frame.ids);
            }
            Err(error) => {
                self.outgoing.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends the ACK that begins at `start`. One that is longer than HAProxy accepts loses its
    /// actions, so that the request is refused.
    fn end_ack(&mut self, start: usize, ids: FrameIds) {
        if end_frame(&mut self.outgoing, start) > self.max_frame {
            tracing::debug!("SPOP: the actions of a frame are longer than max-frame-size");
            self.outgoing.truncate(start);
            self.put_ack(ids, &[]);
        }
    }

    /// Waits for the actions of a frame. If that would take too much memory, or too many frames wait,
    /// it is answered without actions, so that the request is refused.
    fn wait_for(&mut self, pending: PendingActions<'c>, ids: FrameIds) {
        let PendingActions { held_bytes, actions } = pending;
        let held = self.memory.hold(MemoryPurpose::Other, held_bytes);
        match held {
            Ok(held) if self.pending.len() < MAX_PENDING => {
                self.pending.push(Box::pin(async move {
                    let actions = actions.await;
                    drop(held);
                    (ids, actions)
                }));
            }
            _ => {
                self.connection.worker.service.record_dropped_notification();
                self.put_ack(ids, &[]);
            }
        }
    }

    /// Writes the ACK frames whose actions have become known.
    pub(super) fn poll_pending(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some((ids, actions))) = self.pending.poll_next_unpin(cx) {
            self.connection.worker.buffers.lend_output(&mut self.outgoing);
            self.put_ack(ids, &actions);
        }
    }

    fn put_ack(&mut self, ids: FrameIds, actions: &[u8]) {
        let start = begin_frame(&mut self.outgoing, kind::ACK, ids);
        self.outgoing.extend_from_slice(actions);
        if end_frame(&mut self.outgoing, start) > self.max_frame {
            self.outgoing.truncate(start);
            put_frame(&mut self.outgoing, kind::ACK, ids, |_| {});
        }
    }

    /// Whether any frame waits for its actions.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        self.state == HandshakeState::Complete
    }

    /// Whether the connection closes once the send buffer is empty.
    pub(super) fn is_closed(&self) -> bool {
        self.state == HandshakeState::Closed
    }

    /// Closes the connection without an error.
    pub(super) fn close(&mut self) {
        self.disconnect(SpopError::new(SpopStatus::Normal, "closed"));
    }

    /// Closes the connection with an error.
    pub(super) fn fail(&mut self, error: SpopError) {
        let client = self.connection.peer.address;
        tracing::debug!(%client, status = ?error.status, "SPOP: {}", error.reason);
        self.disconnect(error);
    }

    fn disconnect(&mut self, error: SpopError) {
        disconnect(&mut self.outgoing, error);
        self.state = HandshakeState::Closed;
        self.pending.clear();
    }
}

impl<S: Service> FrameSession for SpopSession<'_, S> {
    fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let taken = self.take_frames(&mut rest).and_then(|()| self.hold_input(rest.len()));
        if let Err(error) = taken {
            self.fail(error);
        }
        if self.is_closed() { bytes.len() } else { bytes.len() - rest.len() }
    }

    fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    fn is_full(&self) -> bool {
        self.outgoing.len() >= MAX_OUTGOING
    }
}

#[cfg(test)]
mod tests;
