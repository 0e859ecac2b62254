//! HTTP/3 by h3 and quinn.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use bytes::Bytes;
use h3::server::RequestResolver;
use http::{Response, header};
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime, crypto::rustls::QuicServerConfig};
use rustls::ServerConfig;

use super::{Answer, Seen, bearer, count, on_its_own};

type Result = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub(super) fn start(tls: Arc<ServerConfig>, seen: Arc<Seen>, answer: Arc<Answer>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    on_its_own(move || async move {
        let endpoint =
            Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
                .unwrap();
        while let Some(incoming) = endpoint.accept().await {
            count(&seen.connections);
            // How a connection ends is the generator's business.
            tokio::spawn(serve(incoming, Arc::clone(&seen), Arc::clone(&answer)));
        }
    });
    address
}

async fn serve(incoming: Incoming, seen: Arc<Seen>, answer: Arc<Answer>) -> Result {
    let connection = h3_quinn::Connection::new(incoming.await?);
    let mut requests = h3::server::Connection::<_, Bytes>::new(connection).await?;
    loop {
        match requests.accept().await {
            Ok(Some(request)) => {
                seen.begun();
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move {
                    if reply(request, &*answer).await.is_err() {
                        count(&seen.resets);
                    }
                    seen.ended();
                });
            }
            Err(error) if error.is_h3_no_error() => {
                count(&seen.closed);
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
    let response = Response::builder().status(status).header("x-says", "so").body(()).unwrap();
    // Not before all of the request is there, which a client that takes it back never sends.
    while stream.recv_data().await?.is_some() {}
    stream.send_response(response).await?;
    stream.send_data(Bytes::from_static(b"{}")).await?;
    Ok(stream.finish().await?)
}
