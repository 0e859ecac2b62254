//! Tests of the HTTP/3 client against a server of the `h3` crate: sent requests, early
//! responses and missing responses.

use h3::server::{self, RequestStream};
use h3_quinn::BidiStream;
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use rustls::ServerConfig;

use super::*;
use crate::certificates::ours;

/// Starts a server and returns its address.
fn serve() -> SocketAddr {
    let issued = &ours().1;
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut tls = builder.with_single_cert(issued.chain.clone(), issued.private_key()).unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let _guard = runtime().enter();
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let connection = h3_quinn::Connection::new(incoming.await.unwrap());
            let mut connection: server::Connection<_, Bytes> =
                server::Connection::new(connection).await.unwrap();
            while let Ok(Some(resolver)) = connection.accept().await {
                tokio::spawn(async move {
                    let (request, stream) = resolver.resolve_request().await.unwrap();
                    respond(request, stream).await;
                });
            }
        }
    });
    address
}

/// Echoes a request. `/early` is answered without reading the body, and `/never` is
/// rejected.
async fn respond(request: Request<()>, mut stream: RequestStream<BidiStream<Bytes>, Bytes>) {
    let mut body = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        body += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    if request.uri().path() == "/never" {
        return stream.stop_stream(h3::error::Code::H3_REQUEST_REJECTED);
    }
    if request.uri().path() == "/early" {
        stream.stop_sending(h3::error::Code::H3_NO_ERROR);
    } else {
        use bytes::Buf as _;
        while let Some(mut piece) = stream.recv_data().await.unwrap() {
            body += &format!("{} bytes\n", piece.copy_to_bytes(piece.remaining()).len());
        }
    }
    let head = ::http::Response::builder()
        .status(203)
        .header("x-one", "1")
        .header("X-Two", "2")
        .body(())
        .unwrap();
    stream.send_response(head).await.unwrap();
    stream.send_data(body.into()).await.unwrap();
    stream.finish().await.unwrap();
}

#[test]
fn http3_request_in_http1_syntax_is_sent_unchanged() {
    let mut client = Client::new(Protocol::Http3, serve(), &ours().0);
    for _ in 0..3 {
        let response =
            client.request("PROPFIND /a/..//%2e?q= HTTP/1.1\r\nX-A: b c\r\nX-A:  d\r\n", b"body");
        assert_eq!(
            (response.status, response.header("x-one"), response.header("x-two")),
            (203, Some("1"), Some("2"))
        );
        assert_eq!(
            response.body,
            "PROPFIND https://test/a/..//%2e?q=\nx-a: b c\nx-a: d\ncontent-length: 4\n4 bytes\n"
        );
    }
    assert_eq!(client.request("GET http://evil/x HTTP/1.1\r\n", b"").body, "GET http://evil/x\n");
}

#[test]
fn http3_concurrent_responses_keep_request_order() {
    let mut client = Client::new(Protocol::Http3, serve(), &ours().0);
    let heads: Vec<_> = (0..50).map(|number| format!("GET /{number} HTTP/1.1\r\n")).collect();
    let requests: Vec<_> = heads.iter().map(|head| (head.as_str(), &b""[..])).collect();
    for (number, response) in client.request_all(&requests).iter().enumerate() {
        assert_eq!(response.body, format!("GET https://test/{number}\n"));
    }
}

#[test]
fn http3_early_response_is_read_before_the_body_ends() {
    let mut client = Client::new(Protocol::Http3, serve(), &ours().0);
    let response = client.request("POST /early HTTP/1.1\r\n", &vec![0; 10_000_000]);
    assert_eq!(response.body, "POST https://test/early\ncontent-length: 10000000\n");
    assert!(client.try_request("GET /never HTTP/1.1\r\n", b"").is_err());
    assert_eq!(
        client.request("GET / HTTP/1.1\r\n", b"").status,
        203,
        "other streams are not affected"
    );
}
