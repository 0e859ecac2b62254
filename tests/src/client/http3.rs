//! HTTP/3 connection of the test client, by `h3` over `quinn`.

use std::{
    future::poll_fn,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use bytes::{Buf as _, Bytes};
use h3::client::{self, RequestStream, SendRequest};
use h3_quinn::OpenStreams;
use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use rustls::ClientConfig;
use tokio::spawn;

use super::{OutgoingRequest, into_response};
use crate::http::Response;

/// Connection with its driver task.
pub(super) struct Connection {
    requests: SendRequest<OpenStreams, Bytes>,
    quic: quinn::Connection,
}

impl Connection {
    pub(super) fn open(
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
    ) -> impl Future<Output = Result<Self, String>> + Send + use<> {
        let tls = QuicClientConfig::try_from(Arc::clone(tls)).expect("a TLS 1.3 cipher suite");
        async move {
            let local = if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            };
            let endpoint =
                Endpoint::client(SocketAddr::new(local, 0)).map_err(|error| error.to_string())?;
            let config = quinn::ClientConfig::new(Arc::new(tls));
            let connecting = endpoint
                .connect_with(config, address, "localhost")
                .map_err(|error| error.to_string())?;
            Self::handshake(connecting.await.map_err(|error| error.to_string())?).await
        }
    }

    async fn handshake(quic: quinn::Connection) -> Result<Self, String> {
        let connection = h3_quinn::Connection::new(quic.clone());
        let (mut driver, requests) =
            client::new(connection).await.map_err(|error| error.to_string())?;
        spawn(async move { poll_fn(|context| driver.poll_close(context)).await });
        Ok(Self { requests, quic })
    }

    pub(super) fn is_open(&self) -> bool {
        self.quic.close_reason().is_none()
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
    mut requests: SendRequest<OpenStreams, Bytes>,
    request: OutgoingRequest,
) -> Result<Response, h3::error::StreamError> {
    let (sending, mut receiving) = requests.send_request(request.request).await?.split();
    // The server may respond, and end the request, before the whole body is sent.
    let sending = spawn(send(sending, request.body));
    let head = receiving.recv_response().await?;
    let mut body = Vec::new();
    while let Some(mut piece) = receiving.recv_data().await? {
        body.extend(piece.copy_to_bytes(piece.remaining()));
    }
    sending.abort();
    Ok(into_response(&head, body))
}

/// Sends a body, until the server stops the stream.
async fn send(mut stream: RequestStream<h3_quinn::SendStream<Bytes>, Bytes>, body: Bytes) {
    if !body.is_empty() && stream.send_data(body).await.is_err() {
        return;
    }
    let _ignored = stream.finish().await;
}
