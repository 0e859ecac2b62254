//! The bytes under HTTP/2, seen from the side: what is left to h2 says neither how much
//! it has read nor that it cannot write.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::stream::Stream;

/// What a connection has done.
#[derive(Default)]
pub(super) struct Meter {
    /// How many bytes it has read in this turn.
    read: Cell<usize>,
    /// Whether the client takes no more.
    is_blocked: Cell<bool>,
}

/// How many bytes are read before it is the turn of another connection of the thread.
const TURN: usize = 64 * 1024;

impl Meter {
    pub(super) fn begin_turn(&self) {
        self.read.set(0);
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }
}

/// A stream with a meter.
pub(super) struct Metered {
    stream: Stream,
    /// What was read already, to be read again.
    ahead: Vec<u8>,
    meter: Rc<Meter>,
}

impl Metered {
    pub(super) fn new(stream: Stream, ahead: Vec<u8>, meter: Rc<Meter>) -> Self {
        Self { stream, ahead, meter }
    }

    fn noting<R>(&self, polled: Poll<R>) -> Poll<R> {
        self.meter.is_blocked.set(polled.is_pending());
        polled
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..length]);
            self.ahead.drain(..length);
            return Poll::Ready(Ok(()));
        }
        if self.meter.read.get() >= TURN {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.meter.read.set(self.meter.read.get() + buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noting(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.noting(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.noting(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
