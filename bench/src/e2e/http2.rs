//! HTTP/2, by h2: under TLS by ALPN, without by prior knowledge. What lanes of one
//! connection send in one turn leaves in one write, as from a proxy.

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

use self::gathered::Gathered;
use super::{
    corpus::{Credential, FRESH, write_fresh},
    protocol::{Lane, Protocol, Shared, Storm},
    tls::Tls,
};

/// HTTP/2 towards one server, or several that share the load.
pub struct Http2(Channels);

impl Http2 {
    /// To these addresses, one connection each in turn, in plain text unless there is TLS.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, tls: Option<Rc<Tls>>) -> Self {
        Self(Channels::new(addresses, tls))
    }
}

/// A request without a body.
pub struct Get {
    head: Request<()>,
    /// The credential, if it changes with every sending.
    fresh: Option<(Vec<u8>, usize)>,
}

impl Protocol for Http2 {
    type Wire = Get;
    type Lane = Http2Lane;

    fn encode(&self, credential: Option<&Credential>) -> Get {
        let mut head = Request::new(());
        *head.uri_mut() = self.0.uri("/auth");
        let bearer =
            credential.map(|credential| (format!("Bearer {}", credential.text), credential.fresh));
        if let Some((text, _)) = &bearer {
            head.headers_mut().insert(AUTHORIZATION, value(text.as_bytes()));
        }
        let fresh =
            bearer.and_then(|(text, fresh)| Some((text.into_bytes(), fresh? + "Bearer ".len())));
        Get { head, fresh }
    }

    async fn open(&self, connection: usize) -> io::Result<Http2Lane> {
        Ok(Http2Lane(self.0.stream(connection).await?))
    }

    async fn storm(&self, storm: &Storm) -> io::Result<Infallible> {
        self.0.storm(storm).await
    }
}

fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes)
        .unwrap_or_else(|_| unreachable!("tokens are of letters, digits and a few marks"))
}

/// One of the streams of a connection.
pub struct Http2Lane(Stream);

impl Lane for Http2Lane {
    type Wire = Get;

    async fn ask(&mut self, wire: &Get, serial: u64) -> io::Result<u16> {
        let mut head = wire.head.clone();
        if let Some((text, at)) = &wire.fresh {
            let mut text = text.clone();
            write_fresh(&mut text[*at..*at + FRESH], serial);
            head.headers_mut().insert(AUTHORIZATION, value(&text));
        }
        Ok(self.0.exchange(head, Bytes::new()).await?.head.status.as_u16())
    }

    fn said(&self) -> String {
        self.0.said()
    }

    async fn close(self) -> io::Result<()> {
        self.0.close().await
    }
}

/// Connections of HTTP/2 to the same servers.
pub(super) struct Channels {
    addresses: Vec<SocketAddr>,
    tls: Option<Rc<Tls>>,
    shared: Shared<Channel>,
}

/// One of them, and the task that reads and writes.
struct Channel {
    send: SendRequest<Bytes>,
    task: JoinHandle<Result<(), h2::Error>>,
}

impl Channels {
    pub(super) fn new(addresses: Vec<SocketAddr>, tls: Option<Rc<Tls>>) -> Self {
        Self { addresses, tls, shared: Shared::default() }
    }

    /// This path, of the server that we ask.
    pub(super) fn uri(&self, path: &'static str) -> http::Uri {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri =
            http::Uri::builder().scheme(scheme).authority("bench").path_and_query(path).build();
        uri.unwrap_or_else(|_| unreachable!("paths are written down here"))
    }

    pub(super) async fn stream(&self, connection: usize) -> io::Result<Stream> {
        let channel = self.shared.get(connection, self.connect(connection)).await?;
        Ok(Stream { send: channel.send.clone(), channel, last: None })
    }

    async fn connect(&self, number: usize) -> io::Result<Channel> {
        let stream = self.tcp(number).await?;
        match &self.tls {
            None => begin(stream).await,
            Some(tls) => begin(tls.connect(stream, number).await?).await,
        }
    }

    async fn tcp(&self, number: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.addresses[number % self.addresses.len()]).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(super) async fn storm(&self, storm: &Storm) -> io::Result<Infallible> {
        loop {
            let stream = self.tcp(0).await?;
            storm.connected();
            match &self.tls {
                None => storm::ride(stream, storm).await,
                Some(tls) => storm::ride(tls.connect(stream, 0).await?, storm).await,
            }
        }
    }
}

async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> io::Result<Channel> {
    let (stream, sender) = Gathered::new(stream);
    let shaken = sender.send(h2::client::handshake(stream)).await;
    let (send, connection) = shaken.map_err(io::Error::other)?;
    Ok(Channel { send, task: spawn_local(async move { sender.send(connection).await }) })
}

/// A place for one stream at a time.
pub(super) struct Stream {
    channel: Rc<Channel>,
    send: SendRequest<Bytes>,
    last: Option<Answer>,
}

/// All of an answer.
pub(super) struct Answer {
    pub(super) head: Parts,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Stream {
    /// Sends a request and receives its answer.
    pub(super) async fn exchange(&mut self, head: Request<()>, body: Bytes) -> io::Result<&Answer> {
        let answer = self.answer(head, body).await.map_err(io::Error::other)?;
        Ok(self.last.insert(answer))
    }

    async fn answer(&mut self, head: Request<()>, body: Bytes) -> Result<Answer, h2::Error> {
        // Waits where the server allows fewer streams than there are lanes.
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
        // One that ended with its body or its head has none to be waited for.
        let trailers = if receiving.is_end_stream() { None } else { receiving.trailers().await? };
        Ok(Answer { head, body: body.freeze(), trailers })
    }

    pub(super) fn said(&self) -> String {
        let Some(Answer { head, body, trailers }) = &self.last else { return String::new() };
        format!(
            "{} {:?}\n{}\n{trailers:?}",
            head.status,
            head.headers,
            String::from_utf8_lossy(body)
        )
    }

    pub(super) async fn close(self) -> io::Result<()> {
        let Self { channel, send, .. } = self;
        drop(send);
        let Some(Channel { send, task }) = Rc::into_inner(channel) else { return Ok(()) };
        // Nobody can ask any more: the task says so to the server, and ends.
        drop(send);
        task.await?.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_credential_and_knows_where_it_changes() {
        let protocol = Http2::new(vec![([127, 0, 0, 1], 1).into()], None);
        let wire =
            protocol.encode(Some(&Credential { text: "a.b.0123456789".into(), fresh: Some(5) }));
        assert_eq!(wire.head.uri(), "http://bench/auth");
        assert_eq!(wire.head.headers()[AUTHORIZATION], "Bearer a.b.0123456789");
        let (text, at) = wire.fresh.unwrap();
        assert!(text[at..].starts_with(b"123456"));
        let wire = protocol.encode(None);
        assert!(wire.head.headers().is_empty() && wire.fresh.is_none());
    }
}
