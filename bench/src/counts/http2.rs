//! HTTP/2 requests, from request frames to response frames, on a connection with both ends in this
//! process. The kernel's instructions are not counted, the runtime's are.

use std::{
    future::poll_fn,
    io::{ErrorKind, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    pin::Pin,
    task::{Context, Poll},
};

use countersign_front::{
    ConnectionContext, Peer, Service, WorkerContext,
    deadline::Deadlines,
    http2,
    stream::{MaybeTlsStream, Socket},
};
use tokio::runtime::Runtime;

use crate::literal;

/// A client connection, and the server's future for it.
pub struct Connection {
    runtime: Runtime,
    serving: Pin<Box<dyn Future<Output = ()>>>,
    client: UnixStream,
    next: u32,
    received: Vec<u8>,
}

impl Connection {
    /// Connects to a server that lives as long as the process.
    ///
    /// # Errors
    /// The system cannot create the sockets.
    pub fn new<S: Service>(worker: WorkerContext<S>) -> std::io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (mut client, server) = UnixStream::pair()?;
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
        client.set_nonblocking(true)?;
        server.set_nonblocking(true)?;
        let stream = runtime.block_on(async { Socket::new(server.into(), true) })?;
        let worker: &WorkerContext<S> = Box::leak(Box::new(worker));
        let peer =
            Peer { address: Ipv4Addr::LOCALHOST.into(), listener: 0, certificates: &[], tls: None };
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

    /// Sends requests with these field sections in one write, and returns how many are answered
    /// 200.
    pub fn ask(&mut self, heads: &[&[u8]]) -> usize {
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

/// Appends a HEADERS frame with a whole request.
fn push_frame(frames: &mut Vec<u8>, stream: u32, head: &[u8]) {
    const HEADERS: u8 = 0x01;
    const END_STREAM_AND_HEADERS: u8 = 0x05;
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes();
    frames.extend([length[1], length[2], length[3], HEADERS, END_STREAM_AND_HEADERS]);
    frames.extend(stream.to_be_bytes());
    frames.extend_from_slice(head);
}

/// Polls the server until this many answers have arrived.
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

/// Returns the number of responses in these frames, and the number of those with status 200.
fn answers(mut frames: &[u8]) -> (usize, usize) {
    const HEADERS: u8 = 0x01;
    /// Index 8 of the static table (RFC 7541 appendix A).
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

/// Encodes the field section of a proxy's request. The first one adds all fields but the token to
/// the dynamic table, and later ones refer to them. The token differs in each request.
pub fn head(authorization: &str, is_first: bool) -> Vec<u8> {
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
    const INCREMENTAL_INDEXING: u8 = 0x40;
    /// Literal without indexing, with the name at index 23, of which the first byte holds 15.
    /// Clients do not index tokens.
    const AUTHORIZATION: [u8; 2] = [0x0f, 23 - 15];
    /// Index of the newest entry of the dynamic table.
    const NEWEST: u8 = 0x80 | 62;
    let mut head = GET_HTTP.to_vec();
    if is_first {
        for (name, value) in [(NAMED_PATH, "/auth"), (NAMED_AUTHORITY, "countersign")] {
            head.push(name);
            literal::push(&mut head, value);
        }
        for (name, value) in LINES {
            head.push(INCREMENTAL_INDEXING);
            literal::push(&mut head, name);
            literal::push(&mut head, value);
        }
    } else {
        let indexed = u8::try_from(LINES.len() + 2).unwrap_or(u8::MAX);
        head.extend((0..indexed).rev().map(|age| NEWEST + age));
    }
    head.extend(AUTHORIZATION);
    literal::push(&mut head, authorization);
    head
}
