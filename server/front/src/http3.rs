//! HTTP/3 (RFC 9114) server connections over [QUIC](super::quic). Received data is parsed in place,
//! and responses are appended to a buffer.
//!
//! A request that [`Service::respond`] answers at once takes no task, no future and no header map.

mod connection;
mod stream;
mod response;
pub mod unidirectional;
pub mod control;
pub mod frame;
pub mod varint;
pub mod qpack;
pub mod error;

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use quinn_proto::{Event, VarInt};
use rustls::{ProtocolVersion, pki_types::CertificateDer};

use self::connection::Http3Connection;
use crate::{
    clock,
    connection::{ConnectionContext, Peer, TlsParameters},
    deadline::Deadline,
    quic::{ConnectionDriver, UnvalidatedHandshake},
    service::Service,
    worker_context::WorkerContext,
};

/// Serves a connection from its handshake until it closes.
pub(crate) async fn serve<S: Service>(
    worker: &WorkerContext<S>,
    listener: usize,
    mut driver: ConnectionDriver,
    unvalidated: Option<UnvalidatedHandshake>,
) {
    let deadline = worker.deadlines.register().await;
    // The address is read before the handshake, which has to complete from it. After the handshake,
    // a single datagram from another, unvalidated address could migrate the connection.
    let address = driver.connection.remote_address().ip();
    if !Box::pin(complete_handshake(worker, &deadline, &mut driver)).await {
        return;
    }
    // The handshake has validated the client's address.
    drop(unvalidated);
    let certificates = certificates(&driver);
    // QUIC has no other version of TLS (RFC 9001 section 4.2).
    let tls = TlsParameters { version: ProtocolVersion::TLSv1_3, cipher_suite: None };
    let peer = Peer { address, listener, certificates: &certificates, tls: Some(tls) };
    Http3Connection::new(ConnectionContext { worker, peer }, deadline, driver).serve().await;
}

/// Completes the handshake. Returns whether the connection is established.
async fn complete_handshake<S>(
    worker: &WorkerContext<S>,
    deadline: &Deadline,
    driver: &mut ConnectionDriver,
) -> bool {
    deadline.due_within(worker.timeouts.head);
    let mut is_established = false;
    let mut progress = |cx: &mut Context<'_>| {
        driver.poll_in(cx);
        // Later events are left to [`Http3Connection`].
        while let Some(event) = (!is_established).then(|| driver.connection.poll()).flatten() {
            is_established = matches!(event, Event::Connected);
        }
        let is_over = driver.poll_out(cx).is_ready();
        if is_established || is_over {
            Poll::Ready(is_established && !is_over)
        } else {
            Poll::Pending
        }
    };
    match deadline.poll_fn(&mut progress).await {
        Ok(is_established) => is_established,
        Err(_) => {
            driver.connection.close(
                clock::instant(),
                VarInt::from_u32(0),
                "handshake timed out".into(),
            );
            poll_fn(|cx| {
                driver.poll_in(cx);
                driver.poll_out(cx)
            })
            .await;
            false
        }
    }
}

/// Returns the certificates that the client presented in the handshake, its own first.
fn certificates(driver: &ConnectionDriver) -> Vec<CertificateDer<'static>> {
    let chain = driver.connection.crypto_session().peer_identity();
    let chain = chain.and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    chain.map(|chain| *chain).unwrap_or_default()
}
