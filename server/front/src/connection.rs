//! The context of a connection: its peer, and the worker that serves it.

use std::net::IpAddr;

use http::HeaderValue;
use rustls::{CipherSuite, ProtocolVersion, pki_types::CertificateDer};

use crate::{service::Service, worker_context::WorkerContext};

/// The peer of a connection, and the listener that accepted it.
#[derive(Clone, Copy)]
pub struct Peer<'c> {
    /// The source address: of the PROXY protocol header if present, otherwise of the socket.
    /// [`UNIX_PEER`] or [`UNKNOWN_PEER`] without an IP address.
    ///
    /// [`UNIX_PEER`]: crate::address::UNIX_PEER
    /// [`UNKNOWN_PEER`]: crate::address::UNKNOWN_PEER
    pub address: IpAddr,
    /// The index of the listener, as passed to [`WorkerPool::serve`](crate::WorkerPool::serve).
    pub listener: usize,
    /// The certificates that the client presented in the TLS handshake, its own first; none without
    /// a client certificate. The handshake has proven that the client has the key of the first.
    /// Whether they are verified depends on the listener's [`ServerConfig`](rustls::ServerConfig).
    pub certificates: &'c [CertificateDer<'static>],
    /// TLS of the connection, if it has any.
    pub tls: Option<TlsParameters>,
}

/// The version of TLS and the cipher suite that were negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsParameters {
    /// The version.
    pub version: ProtocolVersion,
    /// The cipher suite; `None` over QUIC, which does not report it.
    pub cipher_suite: Option<CipherSuite>,
}

impl<'c> Peer<'c> {
    /// Returns the client's own certificate, if it presented one.
    #[must_use]
    pub fn certificate(&self) -> Option<&'c CertificateDer<'static>> {
        self.certificates.first()
    }
}

/// The context of a connection, passed with each of its requests.
pub struct ConnectionContext<'c, S> {
    /// The worker that serves it.
    pub worker: &'c WorkerContext<S>,
    /// Its peer.
    pub peer: Peer<'c>,
}

// Not derived: the derive would require `S: Copy`.
impl<S> Clone for ConnectionContext<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for ConnectionContext<'_, S> {}

impl<'c, S: Service> ConnectionContext<'c, S> {
    /// Reports to the service that the connection is closed for abuse.
    pub(crate) fn record_abuse(&self) {
        self.worker.service.record_abuse(self.peer);
    }

    /// Returns the `Alt-Svc` value of the listener, if it offers HTTP/3.
    pub(crate) fn alt_svc(&self) -> Option<&'c HeaderValue> {
        self.worker.service.alt_svc(self.peer.listener)
    }
}
