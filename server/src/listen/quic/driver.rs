//! One connection of QUIC: what comes for it, its timers, and what it sends. What the
//! streams carry is for others to know.

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
use crate::{clock, listen::watch::yield_to_ready};

/// The datagrams that have come for a connection and were not taken yet.
#[derive(Default)]
pub(super) struct DatagramQueue {
    datagrams: RefCell<VecDeque<ConnectionEvent>>,
    waker: RefCell<Option<Waker>>,
}

/// The most datagrams that wait for one connection: twice what its windows allow. More
/// are lost, by which whoever sends them learns to send less.
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

/// A connection with its ways in and out.
pub(crate) struct ConnectionDriver {
    shared: Rc<EndpointState>,
    handle: ConnectionHandle,
    /// The connection itself.
    pub(crate) connection: Connection,
    inbox: Rc<DatagramQueue>,
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off, which may be before anything is due.
    timer_at: Option<Instant>,
    /// What the socket had no room for.
    unsent: Option<PendingTransmit>,
}

struct PendingTransmit {
    transmit: Transmit,
    contents: Vec<u8>,
    writable: Pin<Box<dyn Future<Output = io::Result<()>>>>,
}

/// The datagrams that are taken, and those that are sent, before it is the turn of another
/// connection of the thread: whoever sends as fast as it can is not to hold up others.
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

    /// Takes what has come, and what its timers say.
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

    /// Sends what there is to send, and sets the timer. Says whether the connection is
    /// over and done with.
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
            let answer = self.shared.endpoint.borrow_mut().handle_event(self.handle, event);
            if let Some(answer) = answer {
                self.connection.handle_event(answer);
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) {
        if self.poll_unsent(cx).is_pending() {
            return;
        }
        let now = clock::instant();
        let mut memory = self.shared.memory.borrow_mut();
        let mut sent = 0;
        while sent < MAX_SENT_PER_POLL {
            memory.clear();
            let Some(transmit) =
                self.connection.poll_transmit(now, self.shared.socket.max_segments(), &mut memory)
            else {
                return;
            };
            sent += transmit.segment_size.map_or(1, |size| transmit.size.div_ceil(size));
            let contents = &memory[..transmit.size];
            match self.shared.socket.send(&transmit, contents) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let shared = Rc::clone(&self.shared);
                    let writable = Box::pin(async move { shared.socket.writable().await });
                    self.unsent =
                        Some(PendingTransmit { contents: contents.into(), transmit, writable });
                    // So that it is known when there is room.
                    cx.waker().wake_by_ref();
                    return;
                }
                // As good as lost, which it is sent again for.
                _ => {}
            }
        }
        yield_to_ready(cx);
    }

    /// Sends what the socket had no room for.
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

    /// A timer that goes off too early is cheaper than one that is set anew for every
    /// datagram.
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
    /// Whatever comes for it now is for nobody.
    fn drop(&mut self) {
        self.shared.unregister(self.handle);
    }
}
