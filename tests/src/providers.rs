//! Key providers for tests: [`JwksServer`], which can misbehave on demand, and
//! [`TlsProvider`], an independent TLS server.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{eventually, http::Request, openssl::certificate_with_ca};

/// Response of a [`JwksServer`], and how it is sent.
#[derive(Clone, Debug)]
pub struct CannedResponse {
    bytes: Vec<u8>,
    etag: Option<String>,
    delivery: Delivery,
}

/// Timing of a [`CannedResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Immediate,
    Delayed(Duration),
    /// One byte at a time, with this pause before each.
    ByteByByte(Duration),
    /// Nothing, until the path has another response.
    Never,
}

impl CannedResponse {
    /// Creates a response of exactly these bytes, after which the connection closes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { bytes: bytes.as_ref().into(), etag: None, delivery: Delivery::Immediate }
    }

    /// Creates a response with status 200, type JSON and any body.
    pub fn json(body: &str) -> Self {
        Self::raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Creates a response with status 200, type JSON and a body in this content coding.
    pub fn coded(body: &[u8], coding: &str) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        Self::raw([head.as_bytes(), body].concat())
    }

    /// Creates a response with this status and no body.
    pub fn status(status: &str) -> Self {
        Self::raw(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
    }

    /// Creates a redirect to a URI or path.
    pub fn redirect(location: &str) -> Self {
        Self::status("302 Found").header("Location", location)
    }

    /// Creates a chunked response, without a content length.
    pub fn chunked(body: &str) -> Self {
        const CHUNK: usize = 8 * 1024;
        let chunks = body.as_bytes().chunks(CHUNK).map(String::from_utf8_lossy);
        let chunks: String =
            chunks.map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
        Self::raw(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"))
    }

    /// Closes the connection after the request, without a response.
    pub fn close() -> Self {
        Self::raw("")
    }

    /// Keeps the connection open without a response until the server gets another one.
    pub fn hang() -> Self {
        Self { delivery: Delivery::Never, ..Self::raw("") }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        let end = self.bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let (status, rest) = self.bytes.split_at(end);
        let line = format!("\r\n{name}: {value}");
        Self { bytes: [status, line.as_bytes(), rest].concat(), ..self }
    }

    /// Adds an `ETag`. A request with the same `If-None-Match` gets status 304.
    #[must_use]
    pub fn etag(self, etag: &str) -> Self {
        Self { etag: Some(etag.into()), ..self }.header("ETag", etag)
    }

    /// Delays the response.
    #[must_use]
    pub fn delayed(self, pause: Duration) -> Self {
        Self { delivery: Delivery::Delayed(pause), ..self }
    }

    /// Sends the response one byte at a time.
    #[must_use]
    pub fn byte_by_byte(self, pause: Duration) -> Self {
        Self { delivery: Delivery::ByteByByte(pause), ..self }
    }

    fn write(&self, stream: &mut TcpStream, request: &Request) -> io::Result<()> {
        let is_known =
            self.etag.is_some() && request.header("if-none-match") == self.etag.as_deref();
        let etag = self.etag.as_deref().unwrap_or_default();
        let bytes = if is_known {
            format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n").into_bytes()
        } else {
            self.bytes.clone()
        };
        match self.delivery {
            Delivery::Delayed(pause) => std::thread::sleep(pause),
            Delivery::ByteByByte(pause) => {
                return bytes.iter().try_for_each(|byte| {
                    std::thread::sleep(pause);
                    stream.write_all(&[*byte])
                });
            }
            Delivery::Immediate | Delivery::Never => {}
        }
        stream.write_all(&bytes)
    }
}

/// Compresses a body in the content coding `gzip`.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Compresses a body in the content coding `deflate`, which is the zlib format.
pub fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// JWKS server over cleartext HTTP. It runs until the process ends, and serves one request per
/// connection, each on its own thread.
pub struct JwksServer {
    address: SocketAddr,
    state: Arc<Mutex<ProviderState>>,
}

struct ProviderState {
    response: CannedResponse,
    /// Responses of single paths, which precede the common one.
    by_path: HashMap<String, CannedResponse>,
    requests: Vec<Request>,
}

impl JwksServer {
    /// Starts a server of this key set.
    pub fn start(jwks: &str) -> Self {
        Self::start_with(CannedResponse::json(jwks))
    }

    /// Starts a server that responds with exactly these bytes.
    pub fn start_raw(response: &str) -> Self {
        Self::start_with(CannedResponse::raw(response))
    }

    /// Starts a server with this response to all requests.
    pub fn start_with(response: CannedResponse) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = ProviderState { response, by_path: HashMap::new(), requests: Vec::new() };
        let server = Self { address, state: Arc::new(Mutex::new(state)) };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                // The client may have disconnected, which is not an error here.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        server
    }

    /// Replaces the key set.
    pub fn publish(&self, jwks: &str) {
        self.respond_with(CannedResponse::json(jwks));
    }

    /// Changes the response of all paths without their own.
    pub fn respond_with(&self, response: CannedResponse) {
        self.state.lock().unwrap().response = response;
    }

    /// Changes the response of one path.
    pub fn respond_at(&self, path: &str, response: CannedResponse) {
        self.state.lock().unwrap().by_path.insert(path.into(), response);
    }

    /// Returns its origin: scheme, host and port.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URI of its keys.
    pub fn uri(&self) -> String {
        format!("{}/jwks.json", self.origin())
    }

    /// Returns the number of requests so far.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    /// Returns the requests so far.
    pub fn received(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the value of one header, named in lower case, in each request so far.
    pub fn header_values(&self, header: &str) -> Vec<Option<String>> {
        let state = self.state.lock().unwrap();
        state.requests.iter().map(|request| request.header(header).map(str::to_owned)).collect()
    }

    /// Waits for `more` further requests.
    #[track_caller]
    pub fn wait_for_requests(&self, more: usize) {
        let before = self.requests();
        eventually(|| self.requests() >= before + more);
    }
}

fn serve(stream: TcpStream, state: &Mutex<ProviderState>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
    let mut stream = reader.into_inner();
    // Counts the request and selects its response under one lock, so that a test that has
    // seen the count can change the response without affecting this request.
    let mut response = state.lock().unwrap().receive(&request);
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    while response.delivery == Delivery::Never {
        if stream.read(&mut [0]).is_ok_and(|read| read == 0) {
            return Ok(());
        }
        response = state.lock().unwrap().response_to(&request);
    }
    response.write(&mut stream, &request)
}

impl ProviderState {
    fn receive(&mut self, request: &Request) -> CannedResponse {
        self.requests.push(request.clone());
        self.response_to(request)
    }

    fn response_to(&self, request: &Request) -> CannedResponse {
        self.by_path.get(&request.target).unwrap_or(&self.response).clone()
    }
}

/// `openssl s_server` serving files, as an independent TLS server. Its certificate is issued by
/// its own authority.
pub struct TlsProvider {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl TlsProvider {
    /// Starts a server without documents and waits until it listens.
    pub fn start() -> Self {
        Self::start_with(certificate_with_ca)
    }

    /// Like [`start`](Self::start), with the files `ca.crt`, `tls.crt` and `tls.key` that
    /// `certify` writes.
    pub fn start_with(certify: impl FnOnce(&Path)) -> Self {
        const MAX_ATTEMPTS: usize = 5;
        let directory = tempfile::tempdir().unwrap();
        certify(directory.path());
        let started = (0..MAX_ATTEMPTS).find_map(|_| start_openssl(directory.path()));
        let (child, port) = started.expect("openssl listens");
        Self { child, directory, port }
    }

    /// Adds a document and returns its URI.
    pub fn serve(&self, name: &str, document: &Value) -> String {
        let response =
            format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{document}");
        let file = self.directory.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, response).unwrap();
        format!("https://localhost:{}/{name}", self.port)
    }

    /// Returns the file of its authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }
}

/// Starts `openssl s_server` on a free port. Returns `None` if another program took it meanwhile.
fn start_openssl(directory: &Path) -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new("openssl")
        .args(["s_server", "-quiet", "-HTTP", "-cert", "tls.crt", "-key", "tls.key", "-accept"])
        .arg(port.to_string())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut has_ended = || child.try_wait().unwrap().is_some();
    eventually(|| has_ended() || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (!has_ended()).then_some((child, port))
}

impl Drop for TlsProvider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
