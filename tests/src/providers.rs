//! Key providers: servers that publish a key set, of the tests' own making, and
//! that misbehave when they are told to.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{eventually, http::Request, openssl::certified};

/// What a [`JwksServer`] does when it is asked.
#[derive(Clone, Debug)]
pub struct Answer {
    bytes: String,
    etag: Option<String>,
    manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    AtOnce,
    Late(Duration),
    /// A byte at a time, with this pause after each.
    Dripping(Duration),
    /// Nothing, until there is another answer for this path.
    Silent,
}

impl Answer {
    /// Exactly these bytes, and then the end of the connection.
    pub fn raw(bytes: &str) -> Self {
        Self { bytes: bytes.into(), etag: None, manner: Manner::AtOnce }
    }

    /// Status 200 with this body, which need not be what it says it is.
    pub fn json(body: &str) -> Self {
        Self::raw(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// No body.
    pub fn status(status: &str) -> Self {
        Self::raw(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
    }

    /// To another URI, or another path.
    pub fn redirect(location: &str) -> Self {
        Self::status("302 Found").header("Location", location)
    }

    /// A body in chunks, which says its length nowhere.
    pub fn chunked(body: &str) -> Self {
        const CHUNK: usize = 8 * 1024;
        let chunks = body.as_bytes().chunks(CHUNK).map(String::from_utf8_lossy);
        let chunks: String =
            chunks.map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
        Self::raw(&format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ))
    }

    /// The connection is accepted, and closed when the request has been read.
    pub fn hang_up() -> Self {
        Self::raw("")
    }

    /// The connection is accepted, and stays open without an answer until the
    /// server is given another one.
    pub fn silence() -> Self {
        Self { manner: Manner::Silent, ..Self::raw("") }
    }

    /// With one more header line.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        let (status, rest) = self.bytes.split_once("\r\n").unwrap();
        Self { bytes: format!("{status}\r\n{name}: {value}\r\n{rest}"), ..self }
    }

    /// With this `ETag`; whoever already has it is answered 304.
    #[must_use]
    pub fn etag(self, etag: &str) -> Self {
        Self { etag: Some(etag.into()), ..self }.header("ETag", etag)
    }

    /// The same, after a while.
    #[must_use]
    pub fn late(self, pause: Duration) -> Self {
        Self { manner: Manner::Late(pause), ..self }
    }

    /// The same, a byte at a time.
    #[must_use]
    pub fn dripping(self, pause: Duration) -> Self {
        Self { manner: Manner::Dripping(pause), ..self }
    }

    fn write(&self, stream: &mut TcpStream, request: &Request) -> io::Result<()> {
        let is_known =
            self.etag.is_some() && request.header("if-none-match") == self.etag.as_deref();
        let etag = self.etag.as_deref().unwrap_or_default();
        let bytes = if is_known {
            format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n")
        } else {
            self.bytes.clone()
        };
        match self.manner {
            Manner::Late(pause) => std::thread::sleep(pause),
            Manner::Dripping(pause) => {
                return bytes.as_bytes().iter().try_for_each(|byte| {
                    std::thread::sleep(pause);
                    stream.write_all(&[*byte])
                });
            }
            Manner::AtOnce | Manner::Silent => {}
        }
        stream.write_all(bytes.as_bytes())
    }
}

/// A JWKS server over plain HTTP. It lives as long as the process, and serves each
/// connection on a thread of its own, one request each.
pub struct JwksServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: Answer,
    /// The answers of single paths, before that of all others.
    by_path: HashMap<String, Answer>,
    requests: Vec<Request>,
}

impl JwksServer {
    /// Serves this key set with status 200.
    pub fn start(jwks: &str) -> Self {
        Self::start_with(Answer::json(jwks))
    }

    /// Serves exactly these bytes as its answer.
    pub fn start_raw(answer: &str) -> Self {
        Self::start_with(Answer::raw(answer))
    }

    /// Does this whenever it is asked.
    pub fn start_with(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { answer, by_path: HashMap::new(), requests: Vec::new() };
        let server = Self { address, state: Arc::new(Mutex::new(state)) };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                // Whoever asked may have gone away; that is not the server's trouble.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        server
    }

    /// Replaces the key set.
    pub fn publish(&self, jwks: &str) {
        self.behave(Answer::json(jwks));
    }

    /// Does this from now on, for every path that has no answer of its own.
    pub fn behave(&self, answer: Answer) {
        self.state.lock().unwrap().answer = answer;
    }

    /// Does this from now on for one path.
    pub fn behave_at(&self, path: &str, answer: Answer) {
        self.state.lock().unwrap().by_path.insert(path.into(), answer);
    }

    /// Where it is: scheme, host and port.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its keys are.
    pub fn uri(&self) -> String {
        format!("{}/jwks.json", self.origin())
    }

    /// How many requests have reached it.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    /// These requests.
    pub fn received(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What each of these requests said in one header, named in lower case.
    pub fn sent(&self, header: &str) -> Vec<Option<String>> {
        let state = self.state.lock().unwrap();
        state.requests.iter().map(|request| request.header(header).map(str::to_owned)).collect()
    }

    /// Waits until so many more requests have reached it.
    #[track_caller]
    pub fn wait_for_requests(&self, more: usize) {
        let before = self.requests();
        eventually(|| self.requests() >= before + more);
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
    let mut stream = reader.into_inner();
    // Together: whoever sees the request counted knows which answer it will have.
    let mut answer = state.lock().unwrap().receive(&request);
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    while answer.manner == Manner::Silent {
        if stream.read(&mut [0]).is_ok_and(|read| read == 0) {
            return Ok(());
        }
        answer = state.lock().unwrap().answer_to(&request);
    }
    answer.write(&mut stream, &request)
}

impl State {
    fn receive(&mut self, request: &Request) -> Answer {
        self.requests.push(request.clone());
        self.answer_to(request)
    }

    fn answer_to(&self, request: &Request) -> Answer {
        self.by_path.get(&request.target).unwrap_or(&self.answer).clone()
    }
}

/// `openssl s_server` serving files: a TLS server no one here wrote, with a
/// certificate by an authority that only it knows.
pub struct TlsProvider {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl TlsProvider {
    /// Starts one that serves nothing yet, and waits until it listens.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        certified(directory.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-quiet",
                "-HTTP",
                "-cert",
                "tls.crt",
                "-key",
                "tls.key",
                "-accept",
                &port.to_string(),
            ])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, directory, port }
    }

    /// Serves this document under a name, and returns its URI.
    pub fn serve(&self, name: &str, document: &Value) -> String {
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{document}");
        std::fs::write(self.directory.path().join(name), answer).unwrap();
        format!("https://localhost:{}/{name}", self.port)
    }

    /// The file with its authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }
}

impl Drop for TlsProvider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
