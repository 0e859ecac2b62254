//! The [`Service`] trait: the interface between this crate and the program that uses it.

use std::{convert::Infallible, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use rustls::ServerConfig;

use crate::{
    clock::Stopwatch,
    connection::{ConnectionContext, Peer},
    exchange::{BodyExchange, StreamedReply},
    message::{BadRequest, Reply, RequestHead},
    protocols::Protocols,
    spop::{SpopNotification, action::ActionList, error::SpopError},
};

/// The outcome of a step that may have to wait.
pub enum Step<T, W> {
    /// The step is complete, with this result.
    Done(T),
    /// The step continues with this value after a wait.
    Wait(W),
}

/// A program that answers requests. Each worker thread has its own value.
///
/// [`respond`](Self::respond) receives every well-formed request, [`reject`](Self::reject) every
/// malformed one. The provided methods have defaults for HTTP/1.1 without TLS. A `listener` is the
/// index with which the program started the listener, in [`WorkerPool::serve`] or a
/// [`UdpBinding`].
///
/// [`WorkerPool::serve`]: crate::WorkerPool::serve
/// [`UdpBinding`]: crate::quic::UdpBinding
pub trait Service: Sized + 'static {
    /// A snapshot of the settings. It is loaded once per read from the socket, so that a reload
    /// never changes the settings in the middle of a request.
    type Settings;
    /// Identifies the handler of a request; the result of [`route`](Self::route).
    type Route: Copy;
    /// A request that is not answered at once; it outlives the read buffer. [`Infallible`] if every
    /// request is answered at once.
    type Pending<'c>: PendingRequest<'c>;

    /// Loads the current settings.
    fn settings(&self) -> Self::Settings;

    /// Finds the handler of a request target on a listener.
    fn route(&self, settings: &Self::Settings, listener: usize, target: &str) -> Self::Route;

    /// Whether the body of a request is received for its handler. A service that refuses a request
    /// whatever its body is should return `false`, so that no memory is held for the body.
    ///
    /// Over HTTP/1, a body that is not read is skipped if it has arrived in full; otherwise the
    /// connection closes after the response.
    fn reads_body<H: RequestHead>(request: &IncomingRequest<'_, '_, Self, H>) -> bool;

    /// Writes the response with `writer`, or returns the request as
    /// [`Pending`](Self::Pending) if the response needs the body or a wait. Must not block.
    ///
    /// # Errors
    /// A [`BadRequest`] if the request cannot be converted for its handler, as in
    /// [`KeptHead::new`](crate::KeptHead::new). The response is then that of
    /// [`reject`](Self::reject).
    fn respond<'c, H: RequestHead>(
        request: &IncomingRequest<'_, 'c, Self, H>,
        writer: &mut impl ResponseWriter,
    ) -> Result<Step<(), Self::Pending<'c>>, BadRequest>;

    /// Answers the messages of a NOTIFY frame (SPOP): writes the variables that HAProxy sets, or
    /// returns them as [`PendingActions`] after a wait. Must not block. Written actions do not count
    /// if it returns an error or a wait.
    ///
    /// # Errors
    /// The messages are not those that the service expects. The connection closes.
    fn notify<'c>(
        _notification: &SpopNotification<'_, 'c, Self>,
        _actions: &mut ActionList<'_>,
    ) -> Result<Step<(), PendingActions<'c>>, SpopError> {
        Ok(Step::Done(()))
    }

    /// Records a NOTIFY frame that was answered without actions, because a wait for them would take
    /// too much memory, or too many frames wait already.
    fn record_dropped_notification(&self) {}

    /// Returns the response to a malformed request over this version of HTTP.
    fn reject(&self, peer: Peer<'_>, version: Version, reason: &BadRequest) -> Reply;

    /// The protocols that a listener speaks.
    fn protocols(&self, _listener: usize) -> Protocols {
        Protocols::HTTP1
    }

    /// The TLS configuration of a listener for connections over TCP.
    fn tls(&self, _listener: usize) -> Option<Arc<ServerConfig>> {
        None
    }

    /// The TLS configuration of a listener for connections over QUIC.
    fn quic_tls(&self, _listener: usize) -> Option<Arc<ServerConfig>> {
        None
    }

    /// The `Alt-Svc` value (RFC 7838 section 3) of a listener that offers HTTP/3.
    fn alt_svc(&self, _listener: usize) -> Option<&HeaderValue> {
        None
    }

    /// Whether connections from this address begin with a [PROXY protocol
    /// header](crate::proxy_protocol).
    fn expects_proxy_header(&self, _listener: usize, _address: IpAddr) -> bool {
        false
    }

    /// The delay before a new connection from this address is served.
    fn reconnect_delay(&self, _listener: usize, _address: IpAddr) -> Duration {
        Duration::ZERO
    }

    /// Returns the source address whose share of the [request memory](crate::request_memory) a peer
    /// uses. `None` exempts the peer from the shares of sources and connections, as fits a proxy
    /// that carries the requests of many clients.
    fn memory_source(&self, peer: Peer<'_>) -> Option<IpAddr> {
        Some(peer.address)
    }

    /// Records that a connection over TCP or a Unix socket was accepted.
    fn connection_opened(&self, _listener: usize) {}

    /// Records that such a connection was closed, after this time.
    fn connection_closed(&self, _listener: usize, _open_for: Duration) {}

    /// Records that a connection was closed for abuse: rapid resets, a flood of control frames, or
    /// unfinished requests without end.
    fn record_abuse(&self, _peer: Peer<'_>) {}

    /// The HTTP/1.1 response to a plain-text connection above
    /// [`Timeouts::connections`](crate::Timeouts::connections). It must fit into an empty send
    /// buffer. A connection with TLS, or of SPOP, is closed without a response.
    fn overloaded(&self) -> &'static [u8] {
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\
          connection: close\r\n\r\n"
    }
}

/// A request whose head has been read.
pub struct IncomingRequest<'r, 'c, S: Service, H> {
    /// The connection it arrived on.
    pub connection: ConnectionContext<'c, S>,
    /// The settings loaded for it.
    pub settings: &'r S::Settings,
    /// Its method, target and header lines.
    pub head: &'r H,
    /// Its handler.
    pub route: S::Route,
    /// Running since the head was read.
    pub started: Stopwatch,
}

impl<'r, 'c, S: Service, H: RequestHead> IncomingRequest<'r, 'c, S, H> {
    /// Creates the request, finds its handler, and starts its stopwatch.
    #[must_use]
    pub fn new(
        connection: ConnectionContext<'c, S>,
        settings: &'r S::Settings,
        head: &'r H,
    ) -> Self {
        let started = Stopwatch::start();
        let listener = connection.peer.listener;
        let route = connection.worker.service.route(settings, listener, head.target());
        Self { connection, settings, head, route, started }
    }

    /// Returns the service of its worker.
    #[must_use]
    pub fn service(&self) -> &'c S {
        &self.connection.worker.service
    }
}

/// A request that is answered once its body has arrived, or after another wait.
pub trait PendingRequest<'c> {
    /// The maximum length of its body, in bytes.
    fn max_body_bytes(&self) -> usize;

    /// The memory that it holds, in bytes, itself included.
    fn held_bytes(&self) -> usize;

    /// Returns the response if the body was not received.
    fn refuse(self, reason: &BadRequest) -> Reply;

    /// Whether a wait for the response ends when the client closes the connection. HTTP/1 cannot
    /// distinguish a client that has gone from one that only sends no more, so by default it is
    /// answered.
    fn ends_with_client(&self) -> bool {
        false
    }

    /// Writes the response with `writer`, given the body (empty if the handler reads none), or
    /// returns the future of the response.
    fn respond(self, body: &[u8], writer: &mut impl ResponseWriter) -> Step<(), ReplyFuture<'c>>;

    /// Whether body and response are [streams](crate::exchange) of any length, so that
    /// [`stream`](Self::stream) answers the request in place of [`respond`](Self::respond).
    fn is_streamed(&self) -> bool {
        false
    }

    /// Returns the response, whose handler reads the body and writes the response by `exchange`.
    /// The default is an empty one.
    fn stream(self, _exchange: BodyExchange) -> StreamedReply<'c>
    where
        Self: Sized,
    {
        StreamedReply { head: Response::new(()), handler: Box::pin(std::future::ready(())) }
    }
}

/// The actions of an ACK frame (SPOP), which are known after a wait.
pub struct PendingActions<'c> {
    /// The memory that they hold meanwhile, in bytes.
    pub held_bytes: usize,
    /// Returns the bytes that an [`ActionList`] has written. It runs on the thread of its
    /// connection.
    pub actions: Pin<Box<dyn Future<Output = Bytes> + 'c>>,
}

/// For services that answer every request at once.
impl<'c> PendingRequest<'c> for Infallible {
    fn max_body_bytes(&self) -> usize {
        match *self {}
    }

    fn held_bytes(&self) -> usize {
        match *self {}
    }

    fn refuse(self, _reason: &BadRequest) -> Reply {
        match self {}
    }

    fn respond(self, _body: &[u8], _writer: &mut impl ResponseWriter) -> Step<(), ReplyFuture<'c>> {
        match self {}
    }
}

/// The future of a response. It runs on the thread of its connection.
pub type ReplyFuture<'c> = Pin<Box<dyn Future<Output = Reply> + 'c>>;

/// Writes one response in one version of HTTP. The writer adds `Content-Length`, `Date`, `Alt-Svc`
/// and `Connection` where the version has them.
pub trait ResponseWriter {
    /// The version of HTTP.
    fn version(&self) -> Version;

    /// Writes a response with these header lines and no body.
    fn headers_only<'l>(
        &mut self,
        status: StatusCode,
        lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    );

    /// Writes a complete response.
    fn reply(&mut self, reply: &Reply);
}

/// Writes the service's response to a malformed request.
pub(crate) fn reject<S: Service>(
    connection: ConnectionContext<'_, S>,
    reason: &BadRequest,
    writer: &mut impl ResponseWriter,
) {
    let (service, version) = (&connection.worker.service, writer.version());
    writer.reply(&service.reject(connection.peer, version, reason));
}
