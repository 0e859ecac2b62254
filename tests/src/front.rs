//! The HTTP/1, HTTP/2 and SPOP fronts in the test process. A [`Front`] serves one end of a socket
//! pair, which allows thousands of exchanges per second.

use std::{
    future::poll_fn,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown},
    os::unix::net::UnixStream,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use countersign_front::{
    ConnectionContext, Peer, Service, WorkerContext,
    http1::Http1Connection,
    http2, spop,
    stream::{MaybeTlsStream, Socket},
};
use countersign_server::{
    app::{App, AppService},
    config::{Config, ConfigFormat, RawConfig},
    revocation::{RevocationService, settings::RevocationSettings},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::{LocalSet, spawn_local, yield_now},
    time::timeout,
};

/// HTTP front on the current thread.
pub struct Front<S: Service = AppService> {
    worker: &'static WorkerContext<S>,
    runtime: Runtime,
}

/// Protocol of a connection.
#[derive(Clone, Copy)]
enum FrontProtocol {
    Http1,
    Http2,
    Spop,
}

/// Output of the server on one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOutput {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Whether the server closed the connection.
    pub is_closed: bool,
}

/// Client address of the connections.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

impl Front {
    /// Creates a front of the server with this configuration. It is never freed.
    pub fn new(configuration: &str) -> Self {
        Self::serving(AppService::worker(app(configuration), 0))
    }
}

impl<S: Service> Front<S> {
    /// Creates a front with this service. It is never freed.
    pub fn serving(worker: WorkerContext<S>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("there are files");
        Self { worker: Box::leak(Box::new(worker)), runtime }
    }

    /// Sends `bytes` over one connection of HTTP/1 and returns the output of a single poll of
    /// its task, before other connections are polled. Input and output have to fit into the
    /// socket buffer.
    pub fn exchange_one_turn(&self, bytes: &[u8]) -> ConnectionOutput {
        LocalSet::new().block_on(&self.runtime, async {
            let (mut ours, theirs) = pair();
            ours.write_all(bytes).expect("the socket holds it");
            let mut serving = pin!(serve(self.worker, theirs, FrontProtocol::Http1));
            let mut output = ConnectionOutput::default();
            while output.bytes.is_empty() {
                poll_fn(|cx| {
                    let is_done = serving.as_mut().poll(cx).is_ready();
                    assert!(!is_done, "the client has not gone");
                    Poll::Ready(())
                })
                .await;
                output.read_available(&mut ours).await;
            }
            output
        })
    }

    /// Sends pieces over one connection of HTTP/1, each after the server has processed the one
    /// before. Returns the output up to the end of the connection.
    pub fn exchange<'p>(&self, pieces: impl IntoIterator<Item = &'p [u8]>) -> ConnectionOutput {
        self.exchange_over(FrontProtocol::Http1, pieces)
    }

    /// Like [`exchange`](Self::exchange), over HTTP/2.
    pub fn exchange_http2<'p>(
        &self,
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> ConnectionOutput {
        self.exchange_over(FrontProtocol::Http2, pieces)
    }

    /// Like [`exchange`](Self::exchange), over SPOP.
    pub fn exchange_spop<'p>(
        &self,
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> ConnectionOutput {
        self.exchange_over(FrontProtocol::Spop, pieces)
    }

    fn exchange_over<'p>(
        &self,
        protocol: FrontProtocol,
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> ConnectionOutput {
        LocalSet::new().block_on(&self.runtime, async {
            let (mut ours, theirs) = pair();
            let served = spawn_local(serve(self.worker, theirs, protocol));
            let mut output = ConnectionOutput::default();
            for piece in pieces {
                let mut rest = piece;
                while !rest.is_empty() && !output.is_closed {
                    let sent = match ours.write(rest) {
                        Ok(sent) => sent,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                        Err(_) => break,
                    };
                    rest = &rest[sent..];
                    output.read_available(&mut ours).await;
                }
                while output.read_available(&mut ours).await {}
            }
            // The server may have closed already.
            let _ignored = ours.shutdown(Shutdown::Write);
            timeout(Duration::from_secs(20), served)
                .await
                .expect("the server notices the end of the connection")
                .expect("no panic");
            // Removes the connection's deadline.
            self.worker.deadlines.sweep();
            output
        })
    }
}

/// Creates the server's [`App`] from a configuration.
///
/// # Panics
/// The configuration is invalid.
pub fn app(configuration: &str) -> Arc<App> {
    let mut raw = RawConfig::default();
    raw.add("test", configuration, ConfigFormat::Ini);
    let config = Config::from_raw(raw).expect("the configuration is one");
    let settings = RevocationSettings { capacity: 0, ..config.revocation.clone() };
    let desk = RevocationService::open(Err("not stored".into()), &settings, None)
        .expect("there are threads");
    App::new(config, 1, desk, None).expect("the keys are some")
}

/// Creates a non-blocking socket pair.
fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().expect("file descriptors are available");
    for socket in [&one, &other] {
        socket.set_nonblocking(true).expect("sockets can wait");
    }
    (one, other)
}

async fn serve<S: Service>(
    worker: &'static WorkerContext<S>,
    socket: UnixStream,
    protocol: FrontProtocol,
) {
    let stream = MaybeTlsStream::Plain(Socket::new(socket.into(), true).expect("it is a socket"));
    let peer = Peer { address: CLIENT, listener: 0, certificates: &[], tls: None };
    let deadline = worker.deadlines.register().await;
    let cx = ConnectionContext { worker, peer };
    match protocol {
        FrontProtocol::Http1 => {
            Http1Connection::new(cx, deadline, stream, Vec::new()).serve().await;
        }
        FrontProtocol::Http2 => http2::serve(cx, deadline, stream, Vec::new()).await,
        FrontProtocol::Spop => spop::serve(cx, deadline, stream).await,
    }
}

impl ConnectionOutput {
    /// Lets the server run and reads its output. Returns whether there was any.
    async fn read_available(&mut self, socket: &mut UnixStream) -> bool {
        // The runtime polls for I/O events between tasks, so a few yields are needed.
        for _ in 0..4 {
            yield_now().await;
        }
        let (before, mut buffer) = (self.bytes.len(), [0; 16 * 1024]);
        while let Ok(length) = socket.read(&mut buffer) {
            if length == 0 {
                self.is_closed = true;
                break;
            }
            self.bytes.extend_from_slice(&buffer[..length]);
        }
        self.bytes.len() > before
    }

    /// Parses the output into responses without their dates. `is_to_head` returns whether the
    /// response with this index is to a HEAD request and has no body.
    ///
    /// # Panics
    /// The output is not a sequence of complete responses.
    pub fn responses(&self, is_to_head: impl Fn(usize) -> bool) -> Vec<ParsedResponse> {
        let (mut rest, mut responses, mut index) = (&*self.bytes, Vec::new(), 0);
        while !rest.is_empty() {
            let mut lines = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Response::new(&mut lines);
            let Ok(httparse::Status::Complete(head)) = parsed.parse(rest) else {
                panic!("not a response: {}", rest.escape_ascii())
            };
            assert_eq!(parsed.version, Some(1));
            let lines =
                parsed.headers.iter().filter(|line| !line.name.eq_ignore_ascii_case("date"));
            let text =
                |value| String::from_utf8(<[u8]>::to_vec(value)).expect("a header value is UTF-8");
            let headers: Vec<_> =
                lines.map(|line| (line.name.to_lowercase(), text(line.value))).collect();
            let mut response =
                ParsedResponse { status: parsed.code.unwrap_or(0), headers, body: Vec::new() };
            rest = &rest[head..];
            if response.status != 100 {
                let length =
                    response.header("content-length").expect("every response has a content length");
                let length: usize = length.parse().expect("a length is a number");
                // A malformed request is refused with a body, whatever its method.
                let is_refused = response.closes() && rest.len() == length;
                let length = if is_to_head(index) && !is_refused { 0 } else { length };
                index += 1;
                (response.body, rest) = (rest[..length].to_vec(), &rest[length..]);
            }
            responses.push(response);
        }
        responses
    }
}

/// Parsed response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedResponse {
    /// Status code.
    pub status: u16,
    /// Header lines except the date, in order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl ParsedResponse {
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

    /// Returns whether it has `Http1Connection: close`.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}
