//! HTTP/3 server over h3 and quinn.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use bytes::Bytes;
use h3::server::RequestResolver;
use http::{Response, header};
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime, crypto::rustls::QuicServerConfig};
use rustls::ServerConfig;

use super::{Answer, ServerCounters, bearer, count, spawn_runtime};

type Result = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub(super) fn start(
    tls: Arc<ServerConfig>,
    counters: Arc<ServerCounters>,
    answer: Arc<Answer>,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    spawn_runtime(move || async move {
        let endpoint =
            Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
                .unwrap();
        while let Some(incoming) = endpoint.accept().await {
            count(&counters.connections);
            // Errors of a connection show in the generator.
            tokio::spawn(serve(incoming, Arc::clone(&counters), Arc::clone(&answer)));
        }
    });
    address
}

async fn serve(incoming: Incoming, counters: Arc<ServerCounters>, answer: Arc<Answer>) -> Result {
    let connection = h3_quinn::Connection::new(incoming.await?);
    let mut requests = h3::server::Connection::<_, Bytes>::new(connection).await?;
    loop {
        match requests.accept().await {
            Ok(Some(request)) => {
                counters.request_started();
                let (counters, answer) = (Arc::clone(&counters), Arc::clone(&answer));
                tokio::spawn(async move {
                    if reply(request, &*answer).await.is_err() {
                        count(&counters.resets);
                    }
                    counters.request_ended();
                });
            }
            Err(error) if error.is_h3_no_error() => {
                count(&counters.closed);
                return Ok(());
            }
            ended => return Ok(ended.map(drop)?),
        }
    }
}

async fn reply(request: RequestResolver<h3_quinn::Connection, Bytes>, answer: &Answer) -> Result {
    let (request, mut stream) = request.resolve_request().await?;
    let credential =
        request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
    let status = answer(credential.and_then(bearer));
    let response = Response::builder().status(status).header("x-trivial", "yes").body(()).unwrap();
    // Answer only complete requests: a client that resets its request never completes it.
    while stream.recv_data().await?.is_some() {}
    stream.send_response(response).await?;
    stream.send_data(Bytes::from_static(b"{}")).await?;
    Ok(stream.finish().await?)
}
