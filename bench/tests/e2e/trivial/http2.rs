//! HTTP/2 server over h2, and gRPC.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_local,
};
use tokio_rustls::TlsAcceptor;

use super::{Answer, ServerCounters, bearer, count, spawn_runtime};

pub(super) fn start(
    tls: Option<Arc<ServerConfig>>,
    counters: Arc<ServerCounters>,
    answer: Arc<Answer>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    spawn_runtime(move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count(&counters.connections);
            let (tls, counters, answer) = (tls.clone(), Arc::clone(&counters), Arc::clone(&answer));
            // Errors of a connection show in the generator.
            spawn_local(async move {
                match tls {
                    None => drop(serve(stream, counters, answer).await),
                    Some(config) => {
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            drop(serve(stream, counters, answer).await);
                        }
                    }
                }
            });
        }
    });
    address
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    counters: Arc<ServerCounters>,
    answer: Arc<Answer>,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        counters.request_started();
        let (counters, answer) = (Arc::clone(&counters), Arc::clone(&answer));
        spawn_local(async move {
            if reply(request, respond, &*answer).await.is_err() {
                count(&counters.resets);
            }
            counters.request_ended();
        });
    }
    Ok(())
}

async fn reply(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    answer: &Answer,
) -> Result<(), h2::Error> {
    let is_check =
        request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/grpc");
    if is_check {
        check(request.into_body(), respond, answer).await
    } else {
        plain(&request, respond, answer).await
    }
}

async fn plain(
    request: &Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    answer: &Answer,
) -> Result<(), h2::Error> {
    let credential =
        request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
    let status = answer(credential.and_then(bearer));
    // A client that resets its request does so at once.
    tokio::task::yield_now().await;
    let response = Response::builder().status(status).header("x-trivial", "yes").body(()).unwrap();
    respond.send_response(response, false)?.send_data(Bytes::from_static(b"{}"), true)
}

async fn check(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    answer: &Answer,
) -> Result<(), h2::Error> {
    let mut message = BytesMut::new();
    while let Some(piece) = body.data().await {
        message.extend_from_slice(&piece?);
    }
    let text = String::from_utf8_lossy(&message).into_owned();
    let credential = text.split("Bearer ").nth(1).map(|rest| {
        let end = rest.find(|one: char| !(one.is_ascii_alphanumeric() || "-_.".contains(one)));
        &rest[..end.unwrap_or(rest.len())]
    });
    let response = match answer(credential) {
        200 => b"\x0a\0".to_vec(),
        // UNAUTHENTICATED, and the status for the client as a varint of two bytes.
        status => {
            let [high, low] = [status >> 7, status & 0x7f | 0x80].map(|byte| byte.to_le_bytes()[0]);
            [&b"\x0a\x02\x08\x10\x12\x05\x0a\x03\x08"[..], &[low, high]].concat()
        }
    };
    let body = [&[0, 0, 0, 0, response.len().to_le_bytes()[0]], &response[..]].concat();
    let head =
        Response::builder().header(header::CONTENT_TYPE, "application/grpc").body(()).unwrap();
    let mut sending = respond.send_response(head, false)?;
    sending.send_data(body.into(), false)?;
    sending.send_trailers(HeaderMap::from_iter([(
        "grpc-status".parse().unwrap(),
        HeaderValue::from_static("0"),
    )]))
}
