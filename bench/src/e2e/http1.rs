//! HTTP/1.1, with or without TLS. Written by hand, so that the generator costs little
//! beside what it measures.

use std::{convert::Infallible, io, net::SocketAddr, rc::Rc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    corpus::{Credential, FRESH, write_fresh},
    protocol::{Lane, Protocol, Storm},
    tls::Tls,
};

/// HTTP/1.1 towards one server, or several that share the load.
pub struct Http1 {
    addresses: Vec<SocketAddr>,
    tls: Option<Rc<Tls>>,
}

impl Http1 {
    /// To these addresses, one connection each in turn, in plain text unless there is TLS.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, tls: Option<Rc<Tls>>) -> Self {
        Self { addresses, tls }
    }
}

/// The bytes of a request.
pub struct Bytes {
    bytes: Vec<u8>,
    /// Where in them the characters are that change with every sending.
    fresh: Option<usize>,
}

impl Protocol for Http1 {
    type Wire = Bytes;
    type Lane = Http1Lane;

    fn encode(&self, credential: Option<&Credential>) -> Bytes {
        let mut text = String::from("GET /auth HTTP/1.1\r\nHost: bench\r\n");
        let mut fresh = None;
        if let Some(credential) = credential {
            text.push_str("Authorization: Bearer ");
            fresh = credential.fresh.map(|at| text.len() + at);
            text.push_str(&credential.text);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        Bytes { bytes: text.into_bytes(), fresh }
    }

    async fn open(&self, connection: usize) -> io::Result<Http1Lane> {
        let stream = TcpStream::connect(self.addresses[connection % self.addresses.len()]).await?;
        stream.set_nodelay(true)?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => Stream::Tls(Box::new(tls.connect(stream, connection).await?)),
        };
        Ok(Http1Lane { stream, changed: Vec::new(), buffer: Box::new([0; MOST]), filled: 0 })
    }

    async fn storm(&self, _: &Storm) -> io::Result<Infallible> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a request of HTTP/1.1 cannot be taken back",
        ))
    }
}

/// The longest answer there may be.
const MOST: usize = 8 * 1024;

/// One connection.
pub struct Http1Lane {
    stream: Stream,
    /// The request that is sent, if it is not as it was made.
    changed: Vec<u8>,
    buffer: Box<[u8; MOST]>,
    filled: usize,
}

impl Lane for Http1Lane {
    type Wire = Bytes;

    async fn ask(&mut self, wire: &Bytes, serial: u64) -> io::Result<u16> {
        match wire.fresh {
            None => self.stream.write(&wire.bytes).await?,
            Some(at) => {
                self.changed.clear();
                self.changed.extend_from_slice(&wire.bytes);
                write_fresh(&mut self.changed[at..at + FRESH], serial);
                self.stream.write(&self.changed).await?;
            }
        }
        self.answer().await
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.buffer[..self.filled]).into_owned()
    }

    async fn close(self) -> io::Result<()> {
        match self.stream {
            // Closed when it is dropped: there is nothing left to be read.
            Stream::Plain(_) => Ok(()),
            Stream::Tls(mut stream) => stream.shutdown().await,
        }
    }
}

impl Http1Lane {
    async fn answer(&mut self) -> io::Result<u16> {
        self.filled = 0;
        let head = loop {
            self.read().await?;
            if let Some(head) = Head::read(&self.buffer[..self.filled])? {
                break head;
            }
        };
        while self.filled < head.length {
            self.read().await?;
        }
        if self.filled == head.length {
            Ok(head.status)
        } else {
            Err(self.fault("more than one answer"))
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let room = &mut self.buffer[self.filled..];
        if room.is_empty() {
            return Err(self.fault("an answer that is too long"));
        }
        let read = self.stream.read(room).await?;
        if read == 0 {
            return Err(self.fault("the server hung up"));
        }
        self.filled += read;
        Ok(())
    }

    fn fault(&self, what: &str) -> io::Error {
        io::Error::other(format!("{what}, after {:?}", self.said()))
    }
}

/// What an answer starts with.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    /// Of the whole answer, with its body.
    length: usize,
}

impl Head {
    /// `None` while it is not complete.
    fn read(bytes: &[u8]) -> io::Result<Option<Self>> {
        const END: &[u8] = b"\r\n\r\n";
        let Some(end) = bytes.windows(END.len()).position(|window| window == END) else {
            return Ok(None);
        };
        let fault = || {
            io::Error::other(format!(
                "not an answer of HTTP/1.1: {:?}",
                String::from_utf8_lossy(bytes)
            ))
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| fault())?;
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        // Without one the body would be in chunks, which nobody uses whom we ask.
        let body: Option<usize> = length.and_then(|(_, value)| value.trim().parse().ok());
        let (Some(status), Some(body)) = (status, body) else { return Err(fault()) };
        Ok(Some(Self { status, length: end + END.len() + body }))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(room).await,
            Self::Tls(stream) => stream.read(room).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_its_body_and_not_before_its_head_is_there() {
        let head = |text: &str| Head::read(text.as_bytes()).unwrap();
        assert_eq!(head("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"), None);
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(head(whole), Some(Head { status: 200, length: whole.len() }));
        let more = "HTTP/1.1 401 Unauthorized\r\nContent-Length:2\r\n\r\n{}";
        assert_eq!(head(more), Some(Head { status: 401, length: more.len() }));
        assert_eq!(head(&more[..more.len() - 2]), Some(Head { status: 401, length: more.len() }));
    }

    #[test]
    fn what_is_no_answer_is_a_fault() {
        for text in [
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(Head::read(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_request_has_its_credential_and_knows_where_it_changes() {
        let protocol = Http1::new(vec![([127, 0, 0, 1], 1).into()], None);
        let wire =
            protocol.encode(Some(&Credential { text: "a.b.0123456789".into(), fresh: Some(5) }));
        assert_eq!(
            wire.bytes,
            b"GET /auth HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer a.b.0123456789\r\n\r\n"
        );
        assert!(wire.bytes[wire.fresh.unwrap()..].starts_with(b"123456"));
        assert_eq!(protocol.encode(None).bytes, b"GET /auth HTTP/1.1\r\nHost: bench\r\n\r\n");
    }
}
