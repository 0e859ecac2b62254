//! HTTP/2 connection of the test client, by the `h2` crate.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{self, SendRequest},
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    spawn,
};
use tokio_rustls::TlsConnector;

use super::{OutgoingRequest, into_response, server_name};
use crate::http::Response;

/// Connection with its driver task.
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    is_closed: Arc<AtomicBool>,
}

impl Connection {
    pub(super) async fn open(
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some(tls) = tls else { return Self::handshake(stream).await };
        let stream = TlsConnector::from(tls)
            .connect(server_name(), stream)
            .await
            .map_err(|error| error.to_string())?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::handshake(stream).await
    }

    async fn handshake(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, String> {
        let (requests, connection) =
            client::handshake(stream).await.map_err(|error| error.to_string())?;
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        spawn(async move {
            // Pending requests receive the error too.
            let _ignored = connection.await;
            closed.store(true, Ordering::Relaxed);
        });
        Ok(Self { requests, is_closed })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }

    pub(super) fn exchange(
        &self,
        request: OutgoingRequest,
    ) -> impl Future<Output = Result<Response, String>> + Send + use<> {
        let requests = self.requests.clone();
        async { exchange(requests, request).await.map_err(|error| error.to_string()) }
    }
}

async fn exchange(
    requests: SendRequest<Bytes>,
    request: OutgoingRequest,
) -> Result<Response, h2::Error> {
    let OutgoingRequest { request, body } = request;
    let (pending, stream) = requests.ready().await?.send_request(request, body.is_empty())?;
    // The server may respond, and end the request, before the whole body is sent.
    let sending = (!body.is_empty()).then(|| spawn(send(stream, body)));
    let (head, mut received) = pending.await?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = received.data().await {
        let piece = piece?;
        received.flow_control().release_capacity(piece.len())?;
        body.extend(piece);
    }
    sending.inspect(|sending| sending.abort());
    Ok(into_response(&::http::Response::from_parts(head, ()), body))
}

/// Sends a body as flow control allows, until the server resets the stream.
async fn send(mut stream: SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(Ok(capacity)) = capacity else { return };
        let piece = body.split_to(capacity.min(body.len()));
        if stream.send_data(piece, body.is_empty()).is_err() {
            return;
        }
    }
}
