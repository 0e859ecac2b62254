//! The seam: what the front asks the program that uses it.

use std::{convert::Infallible, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode};
use rustls::ServerConfig;

use crate::{
    clock::Stopwatch,
    connection::{ConnectionContext, Peer},
    message::{BadRequest, Reply, RequestHead},
    protocols::Protocols,
};

/// The outcome of something that may have to wait: a value, or what to wait with.
pub enum Step<T, W> {
    /// It is done.
    Done(T),
    /// Something has to be waited for first.
    Wait(W),
}

/// A program that answers requests. There is one value per worker thread.
///
/// Requests come to [`respond`](Self::respond); everything else has a default that suits a
/// plain HTTP/1.1 server.
pub trait Service: Sized + 'static {
    /// Settings that hold for all requests that were read together. They are loaded once per
    /// read, so that a reload never changes them between the parts of one request.
    type Settings;
    /// The handler of a request, found by its target.
    type Route: Copy;
    /// A request that is not answered at once; [`Infallible`] if every request is.
    type Pending<'c>: PendingRequest<'c>;

    /// Loads the settings.
    fn settings(&self) -> Self::Settings;

    /// Finds the handler of a request target on a listener.
    fn route(&self, settings: &Self::Settings, listener: usize, target: &str) -> Self::Route;

    /// Whether the handler reads the body of a request with this method. A body that is not
    /// read is skipped if it has arrived, and otherwise costs the connection.
    fn reads_body(&self, route: Self::Route, method: &str) -> bool;

    /// Answers a request, if that takes no waiting and no body.
    ///
    /// # Errors
    /// The request cannot be expressed in the vocabulary of the handler; the front answers it
    /// with [`reject`](Self::reject).
    fn respond<'c, H: RequestHead>(
        request: &IncomingRequest<'_, 'c, Self, H>,
        writer: &mut impl ResponseWriter,
    ) -> Result<Step<(), Self::Pending<'c>>, BadRequest>;

    /// Returns the response to bytes that are not a request.
    fn reject(&self, peer: Peer<'_>, reason: &BadRequest) -> Reply;

    /// The versions of HTTP that a listener speaks.
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

    /// `Alt-Svc` of a listener, for clients that could use HTTP/3.
    fn alt_svc(&self, _listener: usize) -> Option<&HeaderValue> {
        None
    }

    /// Whether a connection from this address begins with a PROXY protocol header.
    fn expects_proxy_header(&self, _listener: usize, _address: IpAddr) -> bool {
        false
    }

    /// The time that a new connection from this address waits before it is served.
    fn reconnect_delay(&self, _listener: usize, _address: IpAddr) -> Duration {
        Duration::ZERO
    }

    /// Notes that a connection was closed because the client made the server work in vain.
    fn record_abuse(&self, _peer: Peer<'_>) {}

    /// The bytes sent to a plain-text HTTP/1.1 connection beyond the most that may be open.
    fn overloaded(&self) -> &'static [u8] {
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\
          connection: close\r\n\r\n"
    }
}

/// A request whose head has been read.
pub struct IncomingRequest<'r, 'c, S: Service, H> {
    /// The connection that it came over.
    pub connection: ConnectionContext<'c, S>,
    /// The settings in force.
    pub settings: &'r S::Settings,
    /// Method, target and header lines.
    pub head: &'r H,
    /// Its handler.
    pub route: S::Route,
    /// Running since the head was read.
    pub started: Stopwatch,
}

impl<'r, 'c, S: Service, H: RequestHead> IncomingRequest<'r, 'c, S, H> {
    /// A request that has just been read.
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

    /// The service that answers it.
    #[must_use]
    pub fn service(&self) -> &'c S {
        &self.connection.worker.service
    }

    /// Whether its body is read.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.service().reads_body(self.route, self.head.method())
    }
}

/// A request that is answered after its body has arrived, or something else has happened.
pub trait PendingRequest<'c> {
    /// The longest body it may have, in bytes.
    fn max_body_bytes(&self) -> usize;

    /// Returns the response to it when its body cannot be received.
    fn refuse(self, reason: &BadRequest) -> Reply;

    /// Answers it, given its body.
    fn respond(self, body: &[u8], writer: &mut impl ResponseWriter) -> Step<(), ReplyFuture<'c>>;
}

/// For services that answer every request at once.
impl<'c> PendingRequest<'c> for Infallible {
    fn max_body_bytes(&self) -> usize {
        match *self {}
    }

    fn refuse(self, _reason: &BadRequest) -> Reply {
        match self {}
    }

    fn respond(self, _body: &[u8], _writer: &mut impl ResponseWriter) -> Step<(), ReplyFuture<'c>> {
        match self {}
    }
}

/// A response that takes waiting.
pub type ReplyFuture<'c> = Pin<Box<dyn Future<Output = Reply> + 'c>>;

/// Writes responses in one version of HTTP.
pub trait ResponseWriter {
    /// Writes a response without a body and with these header lines.
    fn headers_only<'l>(
        &mut self,
        status: StatusCode,
        lines: impl Iterator<Item = (&'l HeaderName, &'l [u8])>,
    );

    /// Writes a response.
    fn reply(&mut self, reply: &Reply);
}

/// Answers bytes that are not a request.
pub(crate) fn reject<S: Service>(
    connection: ConnectionContext<'_, S>,
    reason: &BadRequest,
    writer: &mut impl ResponseWriter,
) {
    writer.reply(&connection.worker.service.reject(connection.peer, reason));
}
