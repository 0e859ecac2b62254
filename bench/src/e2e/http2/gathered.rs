//! Coalesced writes. h2 sends each frame of a body by itself, while proxies put all frames of one
//! turn on a connection into one write.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that buffers writes until [`send`](CoalescingStream::send) runs, or until
/// [`MAX_WRITE_BYTES`] are buffered.
pub(super) struct CoalescingStream<S>(Rc<RefCell<Inner<S>>>);

struct Inner<S> {
    stream: S,
    bytes: Vec<u8>,
    /// Number of these bytes already written to the stream.
    sent: usize,
}

/// Maximum number of buffered bytes.
const MAX_WRITE_BYTES: usize = 64 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> CoalescingStream<S> {
    /// Returns the stream, and the handle that sends the buffered bytes.
    pub(super) fn new(stream: S) -> (Self, Self) {
        let inner = Rc::new(RefCell::new(Inner {
            stream,
            bytes: Vec::with_capacity(2 * MAX_WRITE_BYTES),
            sent: 0,
        }));
        (Self(Rc::clone(&inner)), Self(inner))
    }

    /// Runs the future that reads from and writes to the stream. Whenever it waits, its writes are
    /// sent.
    pub(super) async fn send<T>(
        &self,
        user: impl Future<Output = Result<T, h2::Error>>,
    ) -> Result<T, h2::Error> {
        let mut user = pin!(user);
        poll_fn(|context| {
            let result = user.as_mut().poll(context);
            // A write that has to wait wakes this task when it can continue. A write error shows
            // when the user reads.
            let _ignored = self.0.borrow_mut().poll_send(context);
            result
        })
        .await
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.bytes[self.sent..]))?
            {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.sent += length,
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CoalescingStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CoalescingStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if inner.bytes.len() >= MAX_WRITE_BYTES {
            ready!(inner.poll_send(context))?;
        }
        inner.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Does nothing: more frames may follow in this turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_send(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn writes_of_one_turn_are_sent_together() {
        let (ours, mut theirs) = duplex(1 << 20);
        let (mut stream, sender) = CoalescingStream::new(ours);
        let other = async {
            let mut piece = vec![0; 1 << 20];
            let mut lengths = Vec::new();
            while lengths.iter().sum::<usize>() < 3 * MAX_WRITE_BYTES + 8 {
                lengths.push(theirs.read(&mut piece).await.unwrap());
            }
            lengths
        };
        let user = async {
            stream.write_all(b"abcd").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"efgh").await.unwrap();
            tokio::task::yield_now().await;
            for _ in 0..3 {
                stream.write_all(&[0; MAX_WRITE_BYTES]).await.unwrap();
            }
            tokio::task::yield_now().await;
            Ok(())
        };
        let (result, lengths) = tokio::join!(sender.send(user), other);
        assert!(result.is_ok());
        assert_eq!(lengths[0], 8, "{lengths:?}");
    }
}
