//! Exchanges: requests whose body and response are streams of any length.
//!
//! The handler of an exchange is a future, polled by its connection. It reads the body through a
//! [`BodyExchange`] as it arrives, and writes the response in parts. Both directions have bounded
//! buffers, whose size is charged to the [request memory](crate::request_memory) for as long as the
//! exchange lasts. The client is held back in the way of its protocol: by the window of its stream
//! over HTTP/2 and HTTP/3, and by not reading from the socket over HTTP/1.
//!
//! A client has [`Timeouts::body`](crate::Timeouts::body) from the head to the first part of the
//! response, and from each part that was passed on as a whole to the next. A slow sender and a slow
//! reader are both bounded by it: the exchange is cut off.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::Response;

use crate::clock::Stopwatch;

/// Maximum length of the part of a response that is written at once. A longer one is allowed
/// where it cannot be divided, and holds more memory than is charged.
pub const MAX_RESPONSE_PART: usize = 40 * 1024;
/// Maximum length of the part of a body that a handler keeps.
const MAX_KEPT: usize = 32 * 1024;
/// Maximum length of the part of a body that waits for the handler: the window of a stream.
pub(crate) const MAX_UNREAD: usize = 64 * 1024;

/// The response to a request whose body and response are streams.
pub struct StreamedReply<'c> {
    /// Status and header lines.
    pub head: Response<()>,
    /// Reads the body and writes the response. The response is complete when it is ready.
    pub handler: Pin<Box<dyn Future<Output = ()> + 'c>>,
}

/// The handler's side of an exchange.
pub struct BodyExchange(Rc<ExchangeBuffers>);

impl BodyExchange {
    /// Moves at most `max` bytes of the body to the end of `buffer`, and waits until some have
    /// arrived. Returns whether any were moved; otherwise the body has ended, or the client has
    /// gone.
    pub async fn read(&self, buffer: &mut Vec<u8>, max: usize) -> bool {
        poll_fn(|cx| self.0.poll_read(cx, buffer, max)).await
    }

    /// Whether [`read`](Self::read) has to wait.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.0.unread.borrow().is_empty() && !self.0.is_ended.get()
    }

    /// Appends a part to the response, and leaves `part` empty. Waits until it is taken to be sent,
    /// so that a handler and its connection hold two parts at most.
    pub async fn write(&self, part: &mut Vec<u8>) {
        if !part.is_empty() {
            poll_fn(|cx| self.0.poll_write(cx, part)).await;
        }
    }
}

/// The buffers between a connection and the handler of an exchange.
#[derive(Default)]
struct ExchangeBuffers {
    /// The part of the body that the handler has not read.
    unread: RefCell<Vec<u8>>,
    /// Whether the rest of the body is in `unread`, or never comes.
    is_ended: Cell<bool>,
    /// The part of the response that the connection has not taken.
    part: RefCell<Vec<u8>>,
    /// Whether the connection takes no more parts.
    is_closed: Cell<bool>,
    handler: RefCell<Option<Waker>>,
}

impl ExchangeBuffers {
    fn poll_read(&self, cx: &Context<'_>, buffer: &mut Vec<u8>, max: usize) -> Poll<bool> {
        let mut unread = self.unread.borrow_mut();
        if !unread.is_empty() {
            let length = unread.len().min(max);
            buffer.extend(unread.drain(..length));
            return Poll::Ready(true);
        }
        if self.is_ended.get() {
            return Poll::Ready(false);
        }
        self.wait(cx)
    }

    fn poll_write(&self, cx: &Context<'_>, part: &mut Vec<u8>) -> Poll<()> {
        if self.is_closed.get() {
            part.clear();
            return Poll::Ready(());
        }
        let mut untaken = self.part.borrow_mut();
        if untaken.is_empty() {
            if part.is_empty() {
                return Poll::Ready(());
            }
            mem::swap(&mut *untaken, part);
        }
        self.wait(cx)
    }

    fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        *self.handler.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wake(&self) {
        // Taken first: the waker may run code that borrows it.
        let waker = self.handler.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The connection's side of an exchange. When it is dropped, the body ends for the handler, and
/// parts of the response are discarded.
pub(crate) struct ExchangePipe {
    buffers: Rc<ExchangeBuffers>,
    /// Running since a part of the response was passed on as a whole.
    since: Stopwatch,
}

impl ExchangePipe {
    /// The memory that an exchange holds at most: the body that is unread, and that which the
    /// handler has read; a part of the response that is sent, and the next one.
    pub(crate) const HELD_BYTES: usize = MAX_UNREAD + MAX_KEPT + 2 * MAX_RESPONSE_PART;

    /// Creates both sides of an exchange.
    pub(crate) fn new() -> (Self, BodyExchange) {
        let buffers = Rc::new(ExchangeBuffers::default());
        let handler = BodyExchange(Rc::clone(&buffers));
        (Self { buffers, since: Stopwatch::start() }, handler)
    }

    /// Appends to the body.
    pub(crate) fn push(&self, data: &[u8]) {
        self.buffers.unread.borrow_mut().extend_from_slice(data);
        self.buffers.wake();
    }

    /// Ends the body.
    pub(crate) fn end(&self) {
        self.buffers.is_ended.set(true);
        self.buffers.wake();
    }

    /// Whether the body has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.buffers.is_ended.get()
    }

    /// Returns the length of the part of the body that the handler has not read.
    pub(crate) fn unread(&self) -> usize {
        self.buffers.unread.borrow().len()
    }

    /// Takes the next part of the response, if it is written.
    pub(crate) fn take_part(&self) -> Option<Vec<u8>> {
        let part = mem::take(&mut *self.buffers.part.borrow_mut());
        if part.is_empty() {
            return None;
        }
        self.buffers.wake();
        Some(part)
    }

    /// Whether a part of the response is written, and not taken.
    pub(crate) fn has_part(&self) -> bool {
        !self.buffers.part.borrow().is_empty()
    }

    /// Records that a part was passed on as a whole, which gives the client time for the next.
    pub(crate) fn record_progress(&mut self) {
        self.since = Stopwatch::start();
    }

    /// Returns the time that is left to the client, of `limit` for a part.
    pub(crate) fn time_left(&self, limit: Duration) -> Duration {
        limit.saturating_sub(self.since.elapsed())
    }
}

impl Drop for ExchangePipe {
    fn drop(&mut self) {
        self.buffers.is_closed.set(true);
        self.buffers.unread.borrow_mut().clear();
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<T>(future: &mut Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn body_is_read_in_pieces_until_its_end() {
        let (pipe, handler) = ExchangePipe::new();
        let mut buffer = Vec::new();
        assert!(handler.is_drained() && poll(&mut pin!(handler.read(&mut buffer, 3))).is_pending());
        pipe.push(b"abc");
        pipe.push(b"de");
        assert_eq!(poll(&mut pin!(handler.read(&mut buffer, 3))), Poll::Ready(true));
        assert_eq!((&buffer[..], pipe.unread(), handler.is_drained()), (&b"abc"[..], 2, false));
        pipe.end();
        assert_eq!(poll(&mut pin!(handler.read(&mut buffer, 9))), Poll::Ready(true));
        assert_eq!(poll(&mut pin!(handler.read(&mut buffer, 9))), Poll::Ready(false));
        assert_eq!((&buffer[..], handler.is_drained()), (&b"abcde"[..], false));
    }

    #[test]
    fn handler_waits_until_its_part_is_taken() {
        let (pipe, handler) = ExchangePipe::new();
        let (mut part, mut empty) = (b"part".to_vec(), Vec::new());
        assert!(poll(&mut pin!(handler.write(&mut empty))).is_ready() && !pipe.has_part());
        let mut write = pin!(handler.write(&mut part));
        for _ in 0..2 {
            assert!(poll(&mut write).is_pending() && pipe.has_part());
        }
        assert_eq!(pipe.take_part().as_deref(), Some(&b"part"[..]));
        assert!(poll(&mut write).is_ready() && pipe.take_part().is_none());
    }

    #[test]
    fn handler_of_a_closed_exchange_ends() {
        let (pipe, handler) = ExchangePipe::new();
        let (mut part, mut buffer) = (b"part".to_vec(), Vec::new());
        pipe.push(b"unread");
        drop(pipe);
        assert!(poll(&mut pin!(handler.write(&mut part))).is_ready() && part.is_empty());
        assert_eq!(poll(&mut pin!(handler.read(&mut buffer, 9))), Poll::Ready(false));
        assert!(buffer.is_empty());
    }
}
