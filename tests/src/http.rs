//! An HTTP/1.1 client that sends exactly the bytes of a test ([`Connection`]), and a parser
//! of requests for test servers ([`Request`]).

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// HTTP response.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines in order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Response {
    /// Returns the value of a header, or `None` if it is absent.
    ///
    /// # Panics
    /// The header occurs more than once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(header, _)| header == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} occurs twice: {self:?}");
        Some(&line.1)
    }

    /// Parses the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends one request on a new connection and reads its [`Response`]. `head` is the request
/// line and the header lines, each ended by CRLF. Host and Content-Length are added.
pub fn request(address: SocketAddr, head: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(address);
    connection.send(head, body);
    connection.receive(head.starts_with("HEAD "))
}

/// Like [`request`], to this host.
pub fn request_to(host: &str, address: SocketAddr, head: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(address);
    let lines = format!("{head}Host: {host}\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.send_raw(&[lines.as_bytes(), body].concat());
    connection.receive(head.starts_with("HEAD "))
}

/// Persistent client connection.
pub struct Connection<S = TcpStream> {
    reader: BufReader<S>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap()
    }

    /// Like [`open`](Self::open), but returns a failure.
    ///
    /// # Errors
    /// The address does not accept connections.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self::over(stream))
    }
}

impl<S: Read + Write> Connection<S> {
    /// Wraps another stream, such as TLS.
    pub fn over(stream: S) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// Returns the underlying stream.
    pub fn stream(&self) -> &S {
        self.reader.get_ref()
    }

    /// Sends a request as [`request`] does.
    pub fn send(&mut self, head: &str, body: &[u8]) {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        self.send_raw(&[format!("{head}Host: test\r\n{length}\r\n").as_bytes(), body].concat());
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap();
    }

    /// Like [`send_raw`](Self::send_raw), but returns a failure.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one response. With `to_head` it has no body, whatever its content length.
    pub fn receive(&mut self, to_head: bool) -> Response {
        self.try_receive(to_head).unwrap()
    }

    /// Like [`receive`](Self::receive), but returns a failure.
    ///
    /// # Errors
    /// The connection ended before the end of the response, or the bytes are not a response.
    pub fn try_receive(&mut self, to_head: bool) -> io::Result<Response> {
        let line = next_line(&mut self.reader)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status =
            status.ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = next_line(&mut self.reader)?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let value =
            |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| value);
        let body = match (value("transfer-encoding"), value("content-length")) {
            _ if to_head => Vec::new(),
            // Countersign sends only streams in chunks, but proxies convert other responses too.
            (Some(_), _) => {
                let body = read_chunks(&mut self.reader)?;
                next_line(&mut self.reader)?;
                body
            }
            (None, length) => {
                let length = length.map_or(Ok(0), |length| length.parse());
                read_exactly(&mut self.reader, length.map_err(io::Error::other)?)?
            }
        };
        let body = String::from_utf8(body).map_err(io::Error::other)?;
        Ok(Response { status, headers, body })
    }

    /// Reads exactly this many bytes.
    pub fn receive_bytes(&mut self, length: usize) -> Vec<u8> {
        read_exactly(&mut self.reader, length).unwrap()
    }

    /// Waits for a response without reading it.
    pub fn wait(&mut self) -> io::Result<()> {
        let is_closed = self.reader.fill_buf()?.is_empty();
        if is_closed { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads until the server closes or resets the connection.
    pub fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ignored = self.reader.read_to_end(&mut bytes);
        bytes
    }

    /// Returns whether the server has closed the connection without sending more.
    pub fn is_closed(&mut self) -> bool {
        self.reader.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}

/// Request as parsed by a test server.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Request target, usually a path.
    pub target: String,
    /// Header lines, then trailers, in order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, decoded if chunked.
    pub body: String,
}

impl Request {
    /// Reads a request. Returns `None` if the connection ended before it began.
    ///
    /// # Errors
    /// The request is incomplete or malformed.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let line = next_line(reader)?;
        if line.is_empty() {
            return Ok(None);
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(io::Error::other(line));
        };
        let mut request = Self { method, target, ..Self::default() };
        request.read_fields(reader)?;
        let body = match (request.header("transfer-encoding"), request.header("content-length")) {
            (Some(_), _) => {
                let body = read_chunks(reader)?;
                request.read_fields(reader)?;
                body
            }
            (None, Some(length)) => {
                read_exactly(reader, length.parse().map_err(io::Error::other)?)?
            }
            (None, None) => Vec::new(),
        };
        request.body = String::from_utf8(body).map_err(io::Error::other)?;
        Ok(Some(request))
    }

    /// Reads header lines or trailers up to and including the empty line.
    fn read_fields(&mut self, reader: &mut impl BufRead) -> io::Result<()> {
        loop {
            let line = next_line(reader)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => {
                    self.headers.push((name.to_lowercase(), value.trim().to_owned()))
                }
                None if line.trim_end().is_empty() && !line.is_empty() => return Ok(()),
                None => return Err(io::Error::other(line)),
            }
        }
    }

    /// Returns the first line of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Returns all lines of a header.
    pub fn lines(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

fn next_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line)
}

fn read_exactly(reader: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads and joins the chunks, up to the trailers.
fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = next_line(reader)?;
        let length = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        if length == 0 {
            return Ok(body);
        }
        body.extend(read_exactly(reader, length)?);
        next_line(reader)?;
    }
}
