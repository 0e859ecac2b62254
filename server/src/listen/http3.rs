//! HTTP/3 (RFC 9114) over QUIC, our own: what comes over a stream is read where it lies,
//! and answered by appending to bytes.
//!
//! A question of a proxy takes neither a task nor a future nor a header map.

mod answer;
mod connection;
pub mod control;
pub mod fault;
pub mod frame;
pub mod qpack;
mod stream;
pub mod unidirectional;
pub mod varint;

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use quinn_proto::{Event, VarInt};
use rustls::pki_types::CertificateDer;

use self::connection::Http3Connection;
use super::{
    exchange::ConnectionContext,
    quic::{ConnectionDriver, UnvalidatedHandshake},
    watch::Deadline,
};
use crate::{admission::Peer, clock, worker::WorkerContext};

/// Serves a connection from its handshake to its end.
pub(crate) async fn serve(
    worker: &WorkerContext,
    listener: usize,
    mut driver: ConnectionDriver,
    unvalidated: Option<UnvalidatedHandshake>,
) {
    let deadline = worker.deadlines.register().await;
    // Where the handshake goes to and comes from: behind it a single datagram with another
    // address on it, which nobody has proven, can move the connection.
    let address = driver.connection.remote_address().ip();
    if !Box::pin(complete_handshake(worker, &deadline, &mut driver)).await {
        return;
    }
    // It has answered from where it says it is.
    drop(unvalidated);
    let certificate = certificate(&driver);
    let peer =
        Peer { admission: &worker.admission, address, listener, certificate: certificate.as_ref() };
    Http3Connection::new(ConnectionContext { worker, peer }, deadline, driver).serve().await;
}

/// Whether a connection came about.
async fn complete_handshake(
    worker: &WorkerContext,
    deadline: &Deadline,
    driver: &mut ConnectionDriver,
) -> bool {
    deadline.due_within(worker.timeouts.head);
    let mut is_there = false;
    let mut shake = |cx: &mut Context<'_>| {
        driver.poll_in(cx);
        // What comes behind it is for others.
        while let Some(event) = (!is_there).then(|| driver.connection.poll()).flatten() {
            is_there = matches!(event, Event::Connected);
        }
        let is_over = driver.poll_out(cx).is_ready();
        if is_there || is_over { Poll::Ready(is_there && !is_over) } else { Poll::Pending }
    };
    match deadline.poll_fn(&mut shake).await {
        Ok(is_there) => is_there,
        Err(_) => {
            driver.connection.close(
                clock::instant(),
                VarInt::from_u32(0),
                "the handshake took too long".into(),
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

/// The certificate that the client has shown, and that was verified.
fn certificate(driver: &ConnectionDriver) -> Option<CertificateDer<'static>> {
    let shown = driver.connection.crypto_session().peer_identity()?;
    shown.downcast::<Vec<CertificateDer<'static>>>().ok()?.into_iter().next()
}
