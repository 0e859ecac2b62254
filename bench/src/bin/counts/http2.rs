//! Requests of HTTP/2, from their frames to those of the answers: a connection with both
//! of its ends in this process. The kernel's part is not counted, the runtime's is.

use std::{
    future::poll_fn,
    io::{ErrorKind, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use countersign_bench::literal;
use countersign_server::{
    admission::Peer,
    app::App,
    listen::{
        exchange::ConnectionContext,
        http2,
        stream::{MaybeTlsStream, Socket},
        watch::Deadlines,
    },
    worker::WorkerContext,
};
use tokio::runtime::Runtime;

/// A client and the server it has connected to.
pub(crate) struct Connection {
    runtime: Runtime,
    serving: Pin<Box<dyn Future<Output = ()>>>,
    client: UnixStream,
    next: u32,
    received: Vec<u8>,
}

impl Connection {
    /// Connects to a server that is there for as long as the process.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new(app: Arc<App>) -> std::io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (mut client, server) = UnixStream::pair()?;
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
        client.set_nonblocking(true)?;
        server.set_nonblocking(true)?;
        let stream = runtime.block_on(async { Socket::new(server.into(), true) })?;
        let worker: &WorkerContext = Box::leak(Box::new(WorkerContext::new(app)));
        let peer = Peer {
            admission: &worker.admission,
            address: Ipv4Addr::LOCALHOST.into(),
            listener: 0,
            certificate: None,
        };
        let serving = Box::pin(async move {
            let deadline = std::rc::Rc::new(Deadlines::default()).register().await;
            http2::serve(
                ConnectionContext { worker, peer },
                deadline,
                MaybeTlsStream::Plain(stream),
                Vec::new(),
            )
            .await;
        });
        Ok(Self { runtime, serving, client, next: 1, received: Vec::new() })
    }

    /// Sends requests with these heads at once, and says how many are answered 200.
    pub(crate) fn ask(&mut self, heads: &[&[u8]]) -> usize {
        let mut frames = Vec::new();
        for head in heads {
            push_frame(&mut frames, self.next, head);
            self.next += 2;
        }
        if self.client.write_all(&frames).is_err() {
            return 0;
        }
        self.received.clear();
        let Self { runtime, serving, client, received, .. } = self;
        runtime.block_on(poll_fn(|context| poll(serving, client, received, heads.len(), context)))
    }
}

/// HEADERS with all of a request.
fn push_frame(frames: &mut Vec<u8>, stream: u32, head: &[u8]) {
    const HEADERS: u8 = 0x01;
    const END_STREAM_AND_HEADERS: u8 = 0x05;
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes();
    frames.extend([length[1], length[2], length[3], HEADERS, END_STREAM_AND_HEADERS]);
    frames.extend(stream.to_be_bytes());
    frames.extend_from_slice(head);
}

/// Lets the server work until there are so many answers.
fn poll(
    serving: &mut Pin<Box<dyn Future<Output = ()>>>,
    client: &mut UnixStream,
    received: &mut Vec<u8>,
    wanted: usize,
    context: &mut Context<'_>,
) -> Poll<usize> {
    if serving.as_mut().poll(context).is_ready() {
        return Poll::Ready(0);
    }
    match client.read_to_end(received) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        _ => return Poll::Ready(0),
    }
    let (answers, right) = answers(received);
    if answers < wanted { Poll::Pending } else { Poll::Ready(right) }
}

/// How many heads of answers there are in these frames, and of those with 200.
fn answers(mut frames: &[u8]) -> (usize, usize) {
    const HEADERS: u8 = 0x01;
    /// Of the static table (RFC 7541 appendix A).
    const OK: u8 = 0x88;
    let (mut answers, mut right) = (0, 0);
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        let Some((payload, rest)) =
            usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
        else {
            break;
        };
        if *kind == HEADERS {
            answers += 1;
            right += usize::from(payload.first() == Some(&OK));
        }
        frames = rest;
    }
    (answers, right)
}

/// The head of a request as a proxy makes it. The first one brings what others refer to:
/// all but the token, which is new to every request.
pub(crate) fn head(authorization: &str, is_first: bool) -> Vec<u8> {
    const LINES: [(&str, &str); 6] = [
        ("x-original-method", "GET"),
        ("x-original-uri", "/page?x=1"),
        ("x-forwarded-for", "192.0.2.7"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
    ];
    const GET_HTTP: [u8; 2] = [0x82, 0x86];
    const NAMED_PATH: u8 = 0x44;
    const NAMED_AUTHORITY: u8 = 0x41;
    const TO_BE_REMEMBERED: u8 = 0x40;
    /// 23, of which 15 are in the first byte. Nobody remembers tokens.
    const AUTHORIZATION: [u8; 2] = [0x0f, 23 - 15];
    /// Where what was remembered last is.
    const LAST: u8 = 0x80 | 62;
    let mut head = GET_HTTP.to_vec();
    if is_first {
        for (name, value) in [(NAMED_PATH, "/auth"), (NAMED_AUTHORITY, "countersign")] {
            head.push(name);
            literal::push(&mut head, value);
        }
        for (name, value) in LINES {
            head.push(TO_BE_REMEMBERED);
            literal::push(&mut head, name);
            literal::push(&mut head, value);
        }
    } else {
        let remembered = u8::try_from(LINES.len() + 2).unwrap_or(u8::MAX);
        head.extend((0..remembered).rev().map(|before_last| LAST + before_last));
    }
    head.extend(AUTHORIZATION);
    literal::push(&mut head, authorization);
    head
}
