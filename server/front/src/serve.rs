//! Serving one connection over TCP or a Unix socket, from accept to close.

use std::{net::IpAddr, rc::Rc};

use tokio::{task::spawn_local, time::sleep};
use tokio_rustls::TlsAcceptor;

use crate::{
    accept::AcceptedConnection,
    address::UNIX_PEER,
    clock::Stopwatch,
    connection::{ConnectionContext, Peer},
    deadline::Deadline,
    http1,
    http2::{self, preface},
    proxy_protocol,
    service::Service,
    spop,
    stream::{MaybeTlsStream, Socket},
    worker_context::WorkerContext,
};

/// Serves a connection in a new task on this thread. `guard` is dropped when the connection is
/// closed.
pub fn serve<S: Service>(
    worker: Rc<WorkerContext<S>>,
    listener: usize,
    accepted: AcceptedConnection,
    guard: impl Sized + 'static,
) {
    spawn_local(async move {
        let opened = Stopwatch::start();
        worker.service.connection_opened(listener);
        serve_connection(&worker, listener, accepted).await;
        worker.service.connection_closed(listener, opened.elapsed());
        drop(guard);
    });
}

async fn serve_connection<S: Service>(
    worker: &WorkerContext<S>,
    listener: usize,
    accepted: AcceptedConnection,
) {
    let deadline = worker.deadlines.register().await;
    deadline.due_within(worker.timeouts.head);
    // Boxed, so that the handshake's state is freed when it is done.
    let opened = Box::pin(open(worker, &deadline, listener, accepted)).await;
    if let Some((stream, address)) = opened {
        let certificates = stream.client_certificates().to_vec();
        let tls = stream.tls_parameters();
        let peer = Peer { address, listener, certificates: &certificates, tls };
        serve_requests(ConnectionContext { worker, peer }, deadline, stream).await;
    }
}

/// Serves SPOP, or the negotiated version of HTTP, if the listener supports it.
async fn serve_requests<S: Service>(
    connection: ConnectionContext<'_, S>,
    deadline: Rc<Deadline>,
    mut stream: MaybeTlsStream,
) {
    let protocols = connection.worker.service.protocols(connection.peer.listener);
    if protocols.spop {
        return Box::pin(spop::serve(connection, deadline, stream)).await;
    }
    let (is_http2, ahead) = match &stream {
        MaybeTlsStream::Tls(tls) => (tls.get_ref().1.alpn_protocol() == Some(b"h2"), Vec::new()),
        MaybeTlsStream::Plain(_) if protocols.http2 => {
            match preface::read(connection, &deadline, &mut stream).await {
                Some(read) => read,
                None => return,
            }
        }
        MaybeTlsStream::Plain(_) => (false, Vec::new()),
    };
    if is_http2 {
        Box::pin(http2::serve(connection, deadline, stream, ahead)).await;
    } else if protocols.http1 {
        http1::Http1Connection::new(connection, deadline, stream, ahead).serve().await;
    }
}

/// Reads the PROXY protocol header, waits for the reconnect delay, and performs the TLS handshake.
/// Returns the stream and its source address; `None` on an error or timeout, which is logged.
async fn open<S: Service>(
    worker: &WorkerContext<S>,
    deadline: &Deadline,
    listener: usize,
    accepted: AcceptedConnection,
) -> Option<(MaybeTlsStream, IpAddr)> {
    let AcceptedConnection { socket, mut address } = accepted;
    let service = &worker.service;
    let opened = async {
        let mut socket = Socket::new(socket, address == UNIX_PEER)?;
        if service.expects_proxy_header(listener, address) {
            address = proxy_protocol::read(&mut socket).await?.unwrap_or(address);
        }
        let delay = service.reconnect_delay(listener, address);
        if !delay.is_zero() {
            // The delay does not shorten the time for the handshake and the first request.
            deadline.due_within(delay + worker.timeouts.head);
            sleep(delay).await;
        }
        match service.tls(listener) {
            None => Ok(MaybeTlsStream::Plain(socket)),
            Some(tls) => {
                let accepting = TlsAcceptor::from(tls).accept(socket);
                accepting.await.map(|stream| MaybeTlsStream::Tls(Box::new(stream)))
            }
        }
    };
    match deadline.run(opened).await {
        Ok(Ok(stream)) => return Some((stream, address)),
        Ok(Err(error)) => tracing::debug!(client = %address, "connection not established: {error}"),
        Err(_) => tracing::debug!(client = %address, "connection not established in time"),
    }
    None
}
