//! The fronts of HTTP/1 and HTTP/2 in the process of the test: their connections end at a
//! pair of sockets, so that what it makes of bytes can be seen thousands of times a second.

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

use countersign_server::{
    admission::Peer,
    app::App,
    config::{Config, ConfigFormat, RawConfig},
    listen::{
        exchange::ConnectionContext,
        http1::Http1Connection,
        http2,
        stream::{MaybeTlsStream, Socket},
    },
    revocation::RevocationService,
    worker::WorkerContext,
};
use http::Version;
use tokio::{
    runtime::{Builder, Runtime},
    task::{LocalSet, spawn_local, yield_now},
    time::timeout,
};

/// One thread's front.
pub struct Front {
    worker: &'static WorkerContext,
    runtime: Runtime,
}

/// What came back over a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// All answers.
    pub bytes: Vec<u8>,
    /// Whether it was the front that closed.
    pub is_closed: bool,
}

/// Where the connections come from.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

impl Front {
    /// A front with this configuration, which lives as long as the process.
    pub fn new(configuration: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("there are files");
        Self { worker: Box::leak(Box::new(WorkerContext::new(app(configuration)))), runtime }
    }

    /// Hears what comes back in one turn, before other connections have theirs, when all
    /// of this has come. The socket has to hold it, and the answers.
    pub fn hear_one_turn(&self, bytes: &[u8]) -> Heard {
        LocalSet::new().block_on(&self.runtime, async {
            let (mut ours, theirs) = pair();
            ours.write_all(bytes).expect("the socket holds it");
            let mut serving = pin!(serve(self.worker, theirs, Version::HTTP_11));
            let mut heard = Heard::default();
            while heard.bytes.is_empty() {
                poll_fn(|cx| {
                    let is_done = serving.as_mut().poll(cx).is_ready();
                    assert!(!is_done, "the client has not gone");
                    Poll::Ready(())
                })
                .await;
                heard.listen(&mut ours).await;
            }
            heard
        })
    }

    /// Sends these pieces over one connection of HTTP/1, each when the one before has had
    /// its effect, and hears what comes back until nothing more does.
    pub fn hear<'p>(&self, pieces: impl IntoIterator<Item = &'p [u8]>) -> Heard {
        self.hear_of(Version::HTTP_11, pieces)
    }

    /// The same over one of HTTP/2.
    pub fn hear_http2<'p>(&self, pieces: impl IntoIterator<Item = &'p [u8]>) -> Heard {
        self.hear_of(Version::HTTP_2, pieces)
    }

    fn hear_of<'p>(&self, version: Version, pieces: impl IntoIterator<Item = &'p [u8]>) -> Heard {
        LocalSet::new().block_on(&self.runtime, async {
            let (mut ours, theirs) = pair();
            let served = spawn_local(serve(self.worker, theirs, version));
            let mut heard = Heard::default();
            for piece in pieces {
                let mut rest = piece;
                while !rest.is_empty() && !heard.is_closed {
                    let sent = match ours.write(rest) {
                        Ok(sent) => sent,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                        Err(_) => break,
                    };
                    rest = &rest[sent..];
                    heard.listen(&mut ours).await;
                }
                while heard.listen(&mut ours).await {}
            }
            // It may have gone already.
            let _not_connected = ours.shutdown(Shutdown::Write);
            timeout(Duration::from_secs(20), served)
                .await
                .expect("a client that has gone is noticed")
                .expect("no panic");
            // Forgets the connection.
            self.worker.deadlines.sweep();
            heard
        })
    }
}

/// The server behind it.
///
/// # Panics
/// The configuration is none.
pub fn app(configuration: &str) -> Arc<App> {
    let (mut raw, mut problems) = (RawConfig::default(), Vec::new());
    raw.add("test", configuration, ConfigFormat::Ini, &mut problems);
    let config = Config::from_raw(raw).expect("the configuration is one");
    let desk = RevocationService::open(Err("there is no store".into()), 0, None)
        .expect("there are threads");
    App::new(config, 1, desk, None).expect("the keys are some")
}

/// Two ends of a connection, which do not block.
fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().expect("there are files");
    for socket in [&one, &other] {
        socket.set_nonblocking(true).expect("sockets can wait");
    }
    (one, other)
}

async fn serve(worker: &'static WorkerContext, socket: UnixStream, version: Version) {
    let stream = MaybeTlsStream::Plain(Socket::new(socket.into(), true).expect("it is a socket"));
    let peer =
        Peer { admission: &worker.admission, address: CLIENT, listener: 0, certificate: None };
    let deadline = worker.deadlines.register().await;
    let context = ConnectionContext { worker, peer };
    match version {
        Version::HTTP_2 => http2::serve(context, deadline, stream, Vec::new()).await,
        _ => Http1Connection::new(context, deadline, stream, Vec::new()).serve().await,
    }
}

impl Heard {
    /// Lets the front do what it can, and returns whether that was to be heard.
    async fn listen(&mut self, socket: &mut UnixStream) -> bool {
        // The system is asked for news between two tasks, so that it takes a few.
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

    /// The answers one by one, without their dates. That to a HEAD request has no body
    /// whatever it says; which those are is asked by their place.
    ///
    /// # Panics
    /// One of them is none.
    pub fn answers(&self, is_to_head: impl Fn(usize) -> bool) -> Vec<Answer> {
        let (mut rest, mut answers, mut place) = (&*self.bytes, Vec::new(), 0);
        while !rest.is_empty() {
            let mut lines = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut lines);
            let Ok(httparse::Status::Complete(head)) = response.parse(rest) else {
                panic!("no answer: {}", rest.escape_ascii())
            };
            assert_eq!(response.version, Some(1));
            let lines =
                response.headers.iter().filter(|line| !line.name.eq_ignore_ascii_case("date"));
            let text = |value| String::from_utf8(<[u8]>::to_vec(value)).expect("a line is text");
            let headers: Vec<_> =
                lines.map(|line| (line.name.to_lowercase(), text(line.value))).collect();
            let mut answer =
                Answer { status: response.code.unwrap_or(0), headers, body: Vec::new() };
            rest = &rest[head..];
            if answer.status != 100 {
                let length = answer.header("content-length").expect("every answer has a length");
                let length: usize = length.parse().expect("a length is a number");
                // One that is malformed is refused with a body whatever its method.
                let is_refused = answer.closes() && rest.len() == length;
                let length = if is_to_head(place) && !is_refused { 0 } else { length };
                place += 1;
                (answer.body, rest) = (rest[..length].to_vec(), &rest[length..]);
            }
            answers.push(answer);
        }
        answers
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header lines but the date, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The only line of a header.
    ///
    /// # Panics
    /// There are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(header, _)| header == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} is there twice: {self:?}");
        Some(&line.1)
    }

    /// Whether it says that it is the last.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}
