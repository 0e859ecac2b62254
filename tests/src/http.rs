//! A plain HTTP/1.1 client that sends exactly the bytes a test writes, and what a
//! server of the tests reads.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// The only line of a header; `None` if it is absent.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(header, _)| header == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} is there twice: {self:?}");
        Some(&line.1)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends one request and reads its answer. `head` is the request line and the
/// header lines, each ended by CRLF; Host and Content-Length are added.
pub fn request(address: SocketAddr, head: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(address);
    connection.send(head, body);
    connection.receive(head.starts_with("HEAD "))
}

/// A connection kept open.
pub struct Connection<S = TcpStream> {
    reader: BufReader<S>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> Connection<S> {
    /// A connection over something else, such as TLS.
    pub fn over(stream: S) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// What it is over.
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
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Reads one answer; that to a HEAD request has no body whatever it says.
    pub fn receive(&mut self, to_head: bool) -> Response {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let status = line
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no answer but {line:?}"))
            .parse()
            .unwrap();
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let value =
            |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| value);
        let body = match (value("transfer-encoding"), value("content-length")) {
            _ if to_head => Vec::new(),
            // We have no such answers, but proxies make them of ours.
            (Some(_), _) => {
                let body = read_chunks(&mut self.reader).unwrap();
                self.reader.read_line(&mut line).unwrap();
                body
            }
            (None, length) => {
                read_exactly(&mut self.reader, length.map_or(0, |length| length.parse().unwrap()))
                    .unwrap()
            }
        };
        Response { status, headers, body: String::from_utf8(body).unwrap() }
    }

    /// Waits for an answer without reading it.
    pub fn wait(&mut self) -> io::Result<()> {
        let is_closed = self.reader.fill_buf()?.is_empty();
        if is_closed { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads whatever comes until the other side closes or breaks off.
    pub fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _broken_off = self.reader.read_to_end(&mut bytes);
        bytes
    }

    /// Whether the other side has closed the connection and sent nothing more.
    pub fn is_closed(&mut self) -> bool {
        self.reader.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}

/// A request, as whoever received it read it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// What stands behind it, a path most of the time.
    pub target: String,
    /// The header lines, names in lower case, in order; after them the trailers.
    pub headers: Vec<(String, String)>,
    /// The body; the chunks put together.
    pub body: String,
}

impl Request {
    /// Reads one. `None` if the connection ended before the request began.
    ///
    /// # Errors
    /// If it ended later, or the request is none.
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

    /// Reads header lines or trailers to the empty line behind them.
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

    /// The first line of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// All lines of a header.
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

/// The chunks, without what comes after the last of them.
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
