//! Byte streams of a connection: TCP or Unix sockets, plain or under TLS.

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

use crate::connection::TlsParameters;

/// An accepted socket, registered with the runtime of the thread that serves it.
pub enum Socket {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A Unix socket connection.
    Unix(UnixStream),
}

/// The stream that requests are read from and responses are written to.
pub enum MaybeTlsStream {
    /// Without TLS.
    Plain(Socket),
    /// Under TLS. Boxed, so that an idle plain connection does not pay for its size.
    Tls(Box<TlsStream<Socket>>),
}

impl Socket {
    /// Registers a non-blocking socket with the runtime of this thread.
    ///
    /// # Errors
    /// The system's error.
    pub fn new(socket: OwnedFd, is_unix: bool) -> io::Result<Self> {
        if is_unix {
            return UnixStream::from_std(socket.into()).map(Self::Unix);
        }
        TcpStream::from_std(socket.into()).map(Self::Tcp)
    }
}

impl MaybeTlsStream {
    /// Reads the bytes that are available. End of input is reported as
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    pub fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        match buffer.filled().len() {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            read => Poll::Ready(Ok(read)),
        }
    }

    /// Whether the stream is under TLS, so that closing it needs a `close_notify` alert.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Returns the negotiated parameters of TLS, if the handshake is complete.
    #[must_use]
    pub fn tls_parameters(&self) -> Option<TlsParameters> {
        let Self::Tls(stream) = self else { return None };
        let connection = &stream.get_ref().1;
        let cipher_suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        Some(TlsParameters { version: connection.protocol_version()?, cipher_suite })
    }

    /// Returns the certificates that the client presented, its own first.
    #[must_use]
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Plain(_) => &[],
            Self::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }
}

/// Forwards a method call to the variant's inner stream.
macro_rules! forward {
    ($self:expr, $one:path | $other:path, |$inner:ident| $call:expr) => {
        match $self.get_mut() {
            $one($inner) => $call,
            $other($inner) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, Self::Tcp | Self::Unix, |inner| Pin::new(inner).poll_read(cx, into))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, Self::Tcp | Self::Unix, |inner| Pin::new(inner).poll_write(cx, bytes))
    }

    // rustls writes several TLS records in one call. It relies on vectored writes for the closing
    // alert too.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, Self::Tcp | Self::Unix, |inner| Pin::new(inner)
            .poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Unix(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Tcp | Self::Unix, |inner| Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Tcp | Self::Unix, |inner| Pin::new(inner).poll_shutdown(cx))
    }
}

impl AsyncRead for MaybeTlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, Self::Plain | Self::Tls, |inner| Pin::new(inner).poll_read(cx, into))
    }
}

impl AsyncWrite for MaybeTlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, Self::Plain | Self::Tls, |inner| Pin::new(inner).poll_write(cx, bytes))
    }

    // rustls writes several TLS records in one call. It relies on vectored writes for the closing
    // alert too.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, Self::Plain | Self::Tls, |inner| Pin::new(inner)
            .poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Plain | Self::Tls, |inner| Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Plain | Self::Tls, |inner| Pin::new(inner).poll_shutdown(cx))
    }
}
