//! HTTP/2 by h2.

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

use super::{Question, answer, server_name};
use crate::http::Response;

pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    is_over: Arc<AtomicBool>,
}

impl Connection {
    pub(super) async fn open(
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some(tls) = tls else { return Self::over(stream).await };
        let stream = TlsConnector::from(tls)
            .connect(server_name(), stream)
            .await
            .map_err(|error| error.to_string())?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, String> {
        let (requests, connection) =
            client::handshake(stream).await.map_err(|error| error.to_string())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        spawn(async move {
            // Why it ended is told to those who wait for an answer.
            let _ended = connection.await;
            told.store(true, Ordering::Relaxed);
        });
        Ok(Self { requests, is_over })
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn exchange(
        &self,
        question: Question,
    ) -> impl Future<Output = Result<Response, String>> + Send + use<> {
        let requests = self.requests.clone();
        async { exchange(requests, question).await.map_err(|error| error.to_string()) }
    }
}

async fn exchange(requests: SendRequest<Bytes>, question: Question) -> Result<Response, h2::Error> {
    let Question { request, body } = question;
    let (response, stream) = requests.ready().await?.send_request(request, body.is_empty())?;
    // An answer may come, and end the request, before all of its body has gone.
    let sending = (!body.is_empty()).then(|| spawn(send(stream, body)));
    let (head, mut received) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = received.data().await {
        let piece = piece?;
        received.flow_control().release_capacity(piece.len())?;
        body.extend(piece);
    }
    sending.inspect(|sending| sending.abort());
    Ok(answer(&::http::Response::from_parts(head, ()), body))
}

/// Sends a body as the server takes it, or as much of it as the server wants.
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
