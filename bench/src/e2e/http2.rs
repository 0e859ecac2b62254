//! HTTP/2 client over h2: with TLS by ALPN, without TLS by prior knowledge. Requests that the slots
//! of one connection send in one turn leave in one write, as from a proxy.

mod gathered;
mod storm;

use std::{convert::Infallible, io, net::SocketAddr, rc::Rc};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, header::AUTHORIZATION, response::Parts};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::{JoinHandle, spawn_local},
};

use self::gathered::CoalescingStream;
use super::{
    credential::{Credential, RequestBytes},
    protocol::{Protocol, RequestSlot, ResetStorm, SharedConnections},
    tls::Tls,
};

/// HTTP/2 client of one server, or of several that share the load.
pub struct Http2(Http2Connections);

impl Http2 {
    /// Creates a client of these addresses, in plain text unless `tls` is given. Connections go to
    /// each address in turn.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, tls: Option<Rc<Tls>>) -> Self {
        Self(Http2Connections::new(addresses, tls))
    }
}

/// A request without a body.
pub struct Http2Request {
    head: Request<()>,
    /// The value of Authorization, if it changes in every request.
    fresh: Option<RequestBytes>,
}

impl Protocol for Http2 {
    type Wire = Http2Request;
    type RequestSlot = Http2Slot;

    fn encode(&self, credential: Option<&Credential>) -> Http2Request {
        let mut head = Request::new(());
        *head.uri_mut() = self.0.uri("/auth");
        let bearer =
            credential.map(|credential| (format!("Bearer {}", credential.text), credential.fresh));
        if let Some((text, _)) = &bearer {
            head.headers_mut().insert(AUTHORIZATION, value(text.clone().into()));
        }
        let fresh = bearer.and_then(|(text, fresh)| {
            Some(RequestBytes::new(text.into_bytes(), Some(fresh? + "Bearer ".len())))
        });
        Http2Request { head, fresh }
    }

    async fn open(&self, connection: usize) -> io::Result<Http2Slot> {
        Ok(Http2Slot(self.0.stream(connection).await?))
    }

    async fn storm(&self, storm: &ResetStorm) -> io::Result<Infallible> {
        self.0.storm(storm).await
    }
}

fn value(bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes)
        .unwrap_or_else(|_| unreachable!("tokens are valid header values"))
}

/// A request slot on an HTTP/2 connection: one stream at a time.
pub struct Http2Slot(Http2Stream);

impl RequestSlot for Http2Slot {
    type Wire = Http2Request;

    async fn exchange(&mut self, wire: &Http2Request, serial: u64) -> io::Result<u16> {
        let mut head = wire.head.clone();
        if let Some(authorization) = &wire.fresh {
            head.headers_mut().insert(AUTHORIZATION, value(authorization.with_serial(serial)));
        }
        Ok(self.0.exchange(head, Bytes::new()).await?.head.status.as_u16())
    }

    fn last_answer(&self) -> String {
        self.0.last_answer()
    }

    async fn close(self) -> io::Result<()> {
        self.0.close().await
    }
}

/// HTTP/2 connections to the same servers, shared by their request slots.
pub(super) struct Http2Connections {
    addresses: Vec<SocketAddr>,
    tls: Option<Rc<Tls>>,
    shared: SharedConnections<Http2Connection>,
}

/// One connection, and the task that reads and writes it.
struct Http2Connection {
    send: SendRequest<Bytes>,
    task: JoinHandle<Result<(), h2::Error>>,
}

impl Http2Connections {
    pub(super) fn new(addresses: Vec<SocketAddr>, tls: Option<Rc<Tls>>) -> Self {
        Self { addresses, tls, shared: SharedConnections::default() }
    }

    /// Returns the URI of this path.
    pub(super) fn uri(&self, path: &'static str) -> http::Uri {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri =
            http::Uri::builder().scheme(scheme).authority("bench").path_and_query(path).build();
        uri.unwrap_or_else(|_| unreachable!("the paths are constants"))
    }

    pub(super) async fn stream(&self, connection: usize) -> io::Result<Http2Stream> {
        let connection = self.shared.get(connection, self.connect(connection)).await?;
        Ok(Http2Stream { send: connection.send.clone(), connection, last: None })
    }

    async fn connect(&self, number: usize) -> io::Result<Http2Connection> {
        let stream = self.tcp(number).await?;
        match &self.tls {
            None => handshake(stream).await,
            Some(tls) => handshake(tls.connect(stream, number).await?).await,
        }
    }

    async fn tcp(&self, number: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.addresses[number % self.addresses.len()]).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(super) async fn storm(&self, storm: &ResetStorm) -> io::Result<Infallible> {
        loop {
            let stream = self.tcp(0).await?;
            storm.connected();
            match &self.tls {
                None => storm::run_connection(stream, storm).await,
                Some(tls) => storm::run_connection(tls.connect(stream, 0).await?, storm).await,
            }
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> io::Result<Http2Connection> {
    let (stream, sender) = CoalescingStream::new(stream);
    let handshake = sender.send(h2::client::handshake(stream)).await;
    let (send, connection) = handshake.map_err(io::Error::other)?;
    Ok(Http2Connection { send, task: spawn_local(async move { sender.send(connection).await }) })
}

/// A connection's handle for one stream at a time.
pub(super) struct Http2Stream {
    connection: Rc<Http2Connection>,
    send: SendRequest<Bytes>,
    last: Option<Http2Response>,
}

/// A complete response.
pub(super) struct Http2Response {
    pub(super) head: Parts,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Http2Stream {
    /// Sends a request and receives its response.
    pub(super) async fn exchange(
        &mut self,
        head: Request<()>,
        body: Bytes,
    ) -> io::Result<&Http2Response> {
        let answer = self.answer(head, body).await.map_err(io::Error::other)?;
        Ok(self.last.insert(answer))
    }

    async fn answer(&mut self, head: Request<()>, body: Bytes) -> Result<Http2Response, h2::Error> {
        // Waits if the server allows fewer streams than there are slots.
        std::future::poll_fn(|context| self.send.poll_ready(context)).await?;
        let (response, mut sending) = self.send.send_request(head, body.is_empty())?;
        if !body.is_empty() {
            sending.send_data(body, true)?;
        }
        let (head, mut receiving) = response.await?.into_parts();
        let mut body = BytesMut::new();
        while let Some(piece) = receiving.data().await {
            let piece = piece?;
            receiving.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        // A response that has ended has no trailers to wait for.
        let trailers = if receiving.is_end_stream() { None } else { receiving.trailers().await? };
        Ok(Http2Response { head, body: body.freeze(), trailers })
    }

    pub(super) fn last_answer(&self) -> String {
        let Some(Http2Response { head, body, trailers }) = &self.last else { return String::new() };
        format!(
            "{} {:?}\n{}\n{trailers:?}",
            head.status,
            head.headers,
            String::from_utf8_lossy(body)
        )
    }

    pub(super) async fn close(self) -> io::Result<()> {
        let Self { connection, send, .. } = self;
        drop(send);
        let Some(Http2Connection { send, task }) = Rc::into_inner(connection) else {
            return Ok(());
        };
        // Without a sender the task sends GOAWAY, and ends.
        drop(send);
        task.await?.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_contains_the_credential_at_its_offset() {
        let protocol = Http2::new(vec![([127, 0, 0, 1], 1).into()], None);
        let wire =
            protocol.encode(Some(&Credential { text: "a.b.0123456789".into(), fresh: Some(5) }));
        assert_eq!(wire.head.uri(), "http://bench/auth");
        assert_eq!(wire.head.headers()[AUTHORIZATION], "Bearer a.b.0123456789");
        assert_eq!(wire.fresh.unwrap().with_serial(0)[..], *b"Bearer a.b.0AAAAAA789");
        let wire = protocol.encode(None);
        assert!(wire.head.headers().is_empty() && wire.fresh.is_none());
    }
}
