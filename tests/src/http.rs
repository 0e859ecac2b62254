//! A plain HTTP/1.1 client that sends exactly the bytes a test writes.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
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
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
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
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer but {line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().unwrap());
        let mut body = vec![0; if to_head { 0 } else { length }];
        self.reader.read_exact(&mut body).unwrap();
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
