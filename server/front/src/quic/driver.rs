//! Drives one QUIC connection: its received datagrams, its timer, and its transmissions. Streams
//! are handled by [`http3`](crate::http3).

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future as _,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use quinn_proto::{Connection, ConnectionEvent, ConnectionHandle, Transmit};
use tokio::time::{Sleep, sleep_until};

use super::EndpointState;
use crate::{clock, deadline::yield_to_ready};

/// Datagrams received for a connection and not handled yet.
#[derive(Default)]
pub(super) struct DatagramQueue {
    datagrams: RefCell<VecDeque<ConnectionEvent>>,
    waker: RefCell<Option<Waker>>,
}

/// Maximum queued datagrams per connection: twice what its windows allow. More are dropped, and
/// congestion control slows the sender down.
const MAX_QUEUED_DATAGRAMS: usize = 512;

impl DatagramQueue {
    pub(super) fn put(&self, datagram: ConnectionEvent) {
        let mut datagrams = self.datagrams.borrow_mut();
        if datagrams.len() < MAX_QUEUED_DATAGRAMS {
            datagrams.push_back(datagram);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A connection with its input queue, timer and transmissions.
pub(crate) struct ConnectionDriver {
    shared: Rc<EndpointState>,
    handle: ConnectionHandle,
    /// The protocol state.
    pub(crate) connection: Connection,
    inbox: Rc<DatagramQueue>,
    timer: Pin<Box<Sleep>>,
    /// Time at which the timer fires, which may be before the next timeout.
    timer_at: Option<Instant>,
    /// A datagram that the [`QuicSocket`](super::socket::QuicSocket) had no room for.
    unsent: Option<PendingTransmit>,
}

struct PendingTransmit {
    transmit: Transmit,
    contents: Vec<u8>,
    writable: Pin<Box<dyn Future<Output = io::Result<()>>>>,
}

/// Datagrams handled and sent per poll, before other connections of the worker have their turn. A
/// fast sender must not delay them.
const MAX_RECEIVED_PER_POLL: usize = 16;
const MAX_SENT_PER_POLL: usize = 64;

impl ConnectionDriver {
    pub(super) fn new(
        shared: Rc<EndpointState>,
        handle: ConnectionHandle,
        connection: Connection,
        inbox: Rc<DatagramQueue>,
    ) -> Self {
        let now = clock::instant();
        let timer = Box::pin(sleep_until(now.into()));
        Self { shared, handle, connection, inbox, timer, timer_at: None, unsent: None }
    }

    /// Handles received datagrams and elapsed timeouts.
    pub(crate) fn poll_in(&mut self, cx: &mut Context<'_>) {
        self.inbox.waker.replace(Some(cx.waker().clone()));
        let mut datagrams = self.inbox.datagrams.borrow_mut();
        let taken = datagrams.len().min(MAX_RECEIVED_PER_POLL);
        datagrams.drain(..taken).for_each(|datagram| self.connection.handle_event(datagram));
        if !datagrams.is_empty() {
            yield_to_ready(cx);
        }
        drop(datagrams);
        let now = clock::instant();
        if self.connection.poll_timeout().is_some_and(|due| due <= now) {
            self.connection.handle_timeout(now);
        }
    }

    /// Transmits the datagrams that are due, and sets the timer. Returns ready when the connection
    /// is drained.
    pub(crate) fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.exchange_endpoint_events();
        self.poll_send(cx);
        self.exchange_endpoint_events();
        if self.connection.is_drained() {
            return Poll::Ready(());
        }
        self.set_timer(cx);
        Poll::Pending
    }

    fn exchange_endpoint_events(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            let event = self.shared.endpoint.borrow_mut().handle_event(self.handle, event);
            if let Some(event) = event {
                self.connection.handle_event(event);
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) {
        if self.poll_unsent(cx).is_pending() {
            return;
        }
        let now = clock::instant();
        let mut buffer = self.shared.transmit_buffer.borrow_mut();
        let mut sent = 0;
        while sent < MAX_SENT_PER_POLL {
            buffer.clear();
            let Some(transmit) =
                self.connection.poll_transmit(now, self.shared.socket.max_segments(), &mut buffer)
            else {
                return;
            };
            sent += transmit.segment_size.map_or(1, |size| transmit.size.div_ceil(size));
            let contents = &buffer[..transmit.size];
            match self.shared.socket.send(&transmit, contents) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let shared = Rc::clone(&self.shared);
                    let writable = Box::pin(async move { shared.socket.writable().await });
                    self.unsent =
                        Some(PendingTransmit { contents: contents.into(), transmit, writable });
                    // Polled again at once, to register for the socket becoming writable.
                    cx.waker().wake_by_ref();
                    return;
                }
                // Other errors are treated as packet loss, and QUIC retransmits.
                _ => {}
            }
        }
        yield_to_ready(cx);
    }

    /// Sends the datagram that the socket had no room for.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(unsent) = &mut self.unsent {
            if unsent.writable.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.shared.socket.send(&unsent.transmit, &unsent.contents) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let shared = Rc::clone(&self.shared);
                    unsent.writable = Box::pin(async move { shared.socket.writable().await });
                }
                _ => self.unsent = None,
            }
        }
        Poll::Ready(())
    }

    /// Sets the timer only if it would fire too late. A spurious wake-up is cheaper than resetting
    /// the timer for every datagram.
    fn set_timer(&mut self, cx: &mut Context<'_>) {
        let Some(due) = self.connection.poll_timeout() else { return };
        if self.timer_at.is_none_or(|at| due < at) {
            self.timer.as_mut().reset(due.into());
            self.timer_at = Some(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if due <= clock::instant() {
                self.timer_at = None;
                return cx.waker().wake_by_ref();
            }
            self.timer.as_mut().reset(due.into());
            self.timer_at = Some(due);
        }
    }
}

impl Drop for ConnectionDriver {
    /// Unregisters the connection, so that late datagrams for it are dropped.
    fn drop(&mut self) {
        self.shared.unregister(self.handle);
    }
}
