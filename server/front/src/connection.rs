//! What the requests of one connection have in common.

use std::net::IpAddr;

use http::HeaderValue;
use rustls::pki_types::CertificateDer;

use crate::{service::Service, worker_context::WorkerContext};

/// The other end of a connection, and the listener that accepted it.
#[derive(Clone, Copy)]
pub struct Peer<'c> {
    /// The address that the connection comes from.
    pub address: IpAddr,
    /// The index of the listener.
    pub listener: usize,
    /// The verified client certificate, if the client has shown one.
    pub certificate: Option<&'c CertificateDer<'static>>,
}

/// A connection: its peer, and the worker that serves it.
pub struct ConnectionContext<'c, S> {
    /// What the connections of the thread share.
    pub worker: &'c WorkerContext<S>,
    /// The other end.
    pub peer: Peer<'c>,
}

// Not derived: a service need not be `Copy` for a reference to it to be.
impl<S> Clone for ConnectionContext<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for ConnectionContext<'_, S> {}

impl<'c, S: Service> ConnectionContext<'c, S> {
    /// Reports that the connection is closed for abuse. The service may delay the next
    /// connections of the address.
    pub(crate) fn record_abuse(&self) {
        self.worker.service.record_abuse(self.peer);
    }

    /// `Alt-Svc` of the listener (RFC 7838 section 3), if it speaks HTTP/3.
    pub(crate) fn alt_svc(&self) -> Option<&'c HeaderValue> {
        self.worker.service.alt_svc(self.peer.listener)
    }
}
