//! The byte stream of a connection whose protocol has frames: HTTP/2 and SPOP.
//!
//! Frames are parsed in place in a buffer of the worker. Only an incomplete frame is copied out of
//! it, so that an idle connection owns no buffer.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite as _;

use crate::{
    deadline::Deadline, lingering_close, stream::MaybeTlsStream, worker_context::BufferPool,
};

/// The protocol state of a connection, without its socket: received bytes in, bytes to send out.
pub(crate) trait FrameSession {
    /// Parses the frames at the start of `bytes` and answers them. Returns how many bytes were
    /// consumed. Complete frames may remain if the send buffer [is full](Self::is_full).
    fn receive(&mut self, bytes: &[u8]) -> usize;

    /// Returns the send buffer.
    fn outgoing(&mut self) -> &mut Vec<u8>;

    /// Whether the send buffer is so full that no more frames are parsed.
    fn is_full(&self) -> bool;
}

/// The stream of a connection, with what was read but not parsed, and what was sent so far.
pub(crate) struct FrameStream {
    stream: MaybeTlsStream,
    /// Bytes that were read but not parsed. They hold no complete frame, unless
    /// [`has_deferred_frames`](Self::has_deferred_frames) is set.
    rest: Vec<u8>,
    has_deferred_frames: bool,
    /// Number of bytes of the send buffer that have been written.
    sent: usize,
    /// Whether TLS has passed everything written to it on to the socket.
    is_flushed: bool,
}

impl FrameStream {
    /// A stream from which nothing has been parsed.
    pub(crate) fn new(stream: MaybeTlsStream) -> Self {
        Self { stream, rest: Vec::new(), has_deferred_frames: false, sent: 0, is_flushed: true }
    }

    /// Whether all bytes that were read have been parsed.
    pub(crate) fn is_parsed(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether frames that were read may be complete, but deferred until the send buffer drains.
    pub(crate) fn has_deferred_frames(&self) -> bool {
        self.has_deferred_frames
    }

    /// Lets the session parse deferred frames, or else reads more. Returns the number of bytes that
    /// it consumed.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &BufferPool,
        session: &mut impl FrameSession,
    ) -> Poll<io::Result<usize>> {
        if self.has_deferred_frames {
            let bytes = mem::take(&mut self.rest);
            return Poll::Ready(Ok(self.receive(&bytes, buffers, session)));
        }
        // An incomplete frame is shorter than the buffer.
        let mut buffer = buffers.take_input();
        let leftover = self.rest.len();
        buffer[..leftover].copy_from_slice(&self.rest);
        let polled = self.stream.poll_read_some(cx, &mut buffer[leftover..]);
        let received =
            polled.map_ok(|read| self.receive(&buffer[..leftover + read], buffers, session));
        buffers.return_input(buffer);
        received
    }

    /// Lets the session parse bytes that were read, and keeps the rest. Returns the number of bytes
    /// that the session consumed.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        buffers: &BufferPool,
        session: &mut impl FrameSession,
    ) -> usize {
        buffers.lend_output(session.outgoing());
        let consumed = session.receive(bytes);
        self.has_deferred_frames = session.is_full();
        match &bytes[consumed..] {
            // An idle connection owns no buffer.
            [] => self.rest = Vec::new(),
            rest => {
                self.rest.clear();
                self.rest.extend_from_slice(rest);
            }
        }
        consumed
    }

    /// Writes the send buffer of the session to the socket and flushes it.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &BufferPool,
        session: &mut impl FrameSession,
    ) -> Poll<io::Result<()>> {
        let unsent = session.outgoing();
        if unsent.is_empty() && self.is_flushed {
            buffers.return_output(unsent);
            return Poll::Ready(Ok(()));
        }
        while self.sent < unsent.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &unsent[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.sent = 0;
        buffers.return_output(unsent);
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS buffers more than the socket accepts, so its own buffer has to be flushed too.
        self.is_flushed = flushed.is_ready();
        flushed
    }

    /// Closes our side. The peer [may still be sending](lingering_close::close).
    pub(crate) async fn close(mut self, deadline: &Deadline, buffers: &BufferPool) {
        lingering_close::close(deadline, buffers, &mut self.stream).await;
    }
}
