//! HTTP/1.1 client, with or without TLS. Written by hand, so that the generator uses little CPU
//! compared with the servers.

use std::{convert::Infallible, io, net::SocketAddr, rc::Rc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    credential::{Credential, RequestBytes},
    protocol::{Protocol, RequestSlot, ResetStorm},
    tls::Tls,
};

/// HTTP/1.1 client of one server, or of several that share the load.
pub struct Http1 {
    addresses: Vec<SocketAddr>,
    tls: Option<Rc<Tls>>,
    header_lines: Vec<String>,
}

impl Http1 {
    /// Creates a client of these addresses, in plain text unless `tls` is given. Connections go to
    /// each address in turn.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, tls: Option<Rc<Tls>>) -> Self {
        Self { addresses, tls, header_lines: Vec::new() }
    }

    /// Adds header lines to all requests.
    #[must_use]
    pub fn with_header_lines(self, header_lines: Vec<String>) -> Self {
        Self { header_lines, ..self }
    }
}

impl Protocol for Http1 {
    type Wire = RequestBytes;
    type RequestSlot = Http1Slot;

    fn encode(&self, credential: Option<&Credential>) -> RequestBytes {
        let mut text = String::from("GET /auth HTTP/1.1\r\nHost: bench\r\n");
        for line in &self.header_lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        let mut fresh = None;
        if let Some(credential) = credential {
            text.push_str("Authorization: Bearer ");
            fresh = credential.fresh.map(|at| text.len() + at);
            text.push_str(&credential.text);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        RequestBytes::new(text.into_bytes(), fresh)
    }

    async fn open(&self, connection: usize) -> io::Result<Http1Slot> {
        let stream = TcpStream::connect(self.addresses[connection % self.addresses.len()]).await?;
        stream.set_nodelay(true)?;
        let stream = match &self.tls {
            None => ClientStream::Plain(stream),
            Some(tls) => ClientStream::Tls(Box::new(tls.connect(stream, connection).await?)),
        };
        Ok(Http1Slot { stream, buffer: Box::new([0; MAX_ANSWER_BYTES]), filled: 0 })
    }

    async fn storm(&self, _: &ResetStorm) -> io::Result<Infallible> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "an HTTP/1.1 request cannot be reset"))
    }
}

/// Maximum length of an answer, head and body.
const MAX_ANSWER_BYTES: usize = 8 * 1024;

/// A request slot: one HTTP/1.1 connection.
pub struct Http1Slot {
    stream: ClientStream,
    buffer: Box<[u8; MAX_ANSWER_BYTES]>,
    filled: usize,
}

impl RequestSlot for Http1Slot {
    type Wire = RequestBytes;

    async fn exchange(&mut self, wire: &RequestBytes, serial: u64) -> io::Result<u16> {
        self.stream.write(&wire.with_serial(serial)).await?;
        self.answer().await
    }

    fn last_answer(&self) -> String {
        String::from_utf8_lossy(&self.buffer[..self.filled]).into_owned()
    }

    async fn close(self) -> io::Result<()> {
        match self.stream {
            // Dropping the stream closes it: the whole answer has been read.
            ClientStream::Plain(_) => Ok(()),
            ClientStream::Tls(mut stream) => stream.shutdown().await,
        }
    }
}

impl Http1Slot {
    async fn answer(&mut self) -> io::Result<u16> {
        self.filled = 0;
        let head = loop {
            self.read().await?;
            if let Some(head) = ResponseHead::read(&self.buffer[..self.filled])? {
                break head;
            }
        };
        while self.filled < head.length {
            self.read().await?;
        }
        if self.filled == head.length {
            Ok(head.status)
        } else {
            Err(self.error("data after the answer"))
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let buffer = &mut self.buffer[self.filled..];
        if buffer.is_empty() {
            return Err(self.error("the answer is too long"));
        }
        let read = self.stream.read(buffer).await?;
        if read == 0 {
            return Err(self.error("the server closed the connection"));
        }
        self.filled += read;
        Ok(())
    }

    fn error(&self, what: &str) -> io::Error {
        io::Error::other(format!("{what}, after {:?}", self.last_answer()))
    }
}

/// Head of an answer.
#[derive(Debug, PartialEq)]
struct ResponseHead {
    status: u16,
    /// Length of the whole answer, including its body.
    length: usize,
}

impl ResponseHead {
    /// Parses the head; `None` while it is incomplete.
    fn read(bytes: &[u8]) -> io::Result<Option<Self>> {
        const END: &[u8] = b"\r\n\r\n";
        let Some(end) = bytes.windows(END.len()).position(|window| window == END) else {
            return Ok(None);
        };
        let error = || {
            io::Error::other(format!(
                "not an HTTP/1.1 answer: {:?}",
                String::from_utf8_lossy(bytes)
            ))
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| error())?;
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        // Without Content-Length the body would be chunked; none of the servers does that.
        let body: Option<usize> = length.and_then(|(_, value)| value.trim().parse().ok());
        let (Some(status), Some(body)) = (status, body) else { return Err(error()) };
        Ok(Some(Self { status, length: end + END.len() + body }))
    }
}

enum ClientStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_head_is_parsed_once_complete() {
        let head = |text: &str| ResponseHead::read(text.as_bytes()).unwrap();
        assert_eq!(head("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"), None);
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(head(whole), Some(ResponseHead { status: 200, length: whole.len() }));
        let more = "HTTP/1.1 401 Unauthorized\r\nContent-Length:2\r\n\r\n{}";
        assert_eq!(head(more), Some(ResponseHead { status: 401, length: more.len() }));
        assert_eq!(
            head(&more[..more.len() - 2]),
            Some(ResponseHead { status: 401, length: more.len() })
        );
    }

    #[test]
    fn malformed_answer_is_an_error() {
        for text in [
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(ResponseHead::read(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn request_contains_the_credential_at_its_offset() {
        let protocol = Http1::new(vec![([127, 0, 0, 1], 1).into()], None);
        let wire =
            protocol.encode(Some(&Credential { text: "a.b.0123456789".into(), fresh: Some(5) }));
        assert_eq!(
            wire.with_serial(0)[..],
            b"GET /auth HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer a.b.0AAAAAA789\r\n\r\n"[..]
        );
        let plain = protocol.encode(None).with_serial(0);
        assert_eq!(plain[..], b"GET /auth HTTP/1.1\r\nHost: bench\r\n\r\n"[..]);
    }
}
