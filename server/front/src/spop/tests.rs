use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    pin::Pin,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};

use super::{
    frame::{FrameIds, MAX_FRAME_BYTES, SpopFrame, kind, put_frame},
    value::{SpopValue, put_text},
    *,
};
use crate::{
    deadline::TICK,
    stream::Socket,
    test_service::{TIMEOUTS, TestService, connection, worker},
    worker_context::WorkerContext,
};

/// A connection and its client, with deadlines swept by hand.
struct TestConnection {
    runtime: Runtime,
    worker: &'static WorkerContext<TestService>,
    serving: Pin<Box<dyn Future<Output = ()>>>,
    client: UnixStream,
}

impl TestConnection {
    /// Opens a connection without a handshake.
    fn new() -> Self {
        let worker = worker();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        // A small socket buffer, so that writes block soon when nothing is read.
        rustix::net::sockopt::set_socket_send_buffer_size(&server, 16 * 1024).unwrap();
        let stream = runtime
            .block_on(async { MaybeTlsStream::Plain(Socket::new(server.into(), true).unwrap()) });
        let serving = Box::pin(async move {
            serve(connection(worker), worker.deadlines.register().await, stream).await
        });
        Self { runtime, worker, serving, client }
    }

    /// Opens a connection with a handshake.
    fn open() -> Self {
        let mut connection = Self::new();
        assert_eq!(connection.exchange(&hello()), [Some(kind::AGENT_HELLO)]);
        connection
    }

    /// Sends bytes and returns the kinds of the frames that come back. `None` is added if the
    /// connection closes its side.
    fn exchange(&mut self, bytes: &[u8]) -> Vec<Option<u8>> {
        self.client.write_all(bytes).unwrap();
        self.run();
        let mut received = Vec::new();
        let is_over = self.client.read_to_end(&mut received).is_ok();
        let (mut rest, mut kinds) = (&received[..], Vec::new());
        while let Some(frame) = SpopFrame::take(&mut rest, MAX_FRAME_BYTES).unwrap() {
            kinds.push(Some(frame.kind));
        }
        kinds.extend(is_over.then_some(None));
        kinds
    }

    /// Runs the connection, and returns whether it has ended.
    fn run(&mut self) -> bool {
        let Self { runtime, serving, .. } = self;
        runtime.block_on(async {
            for _ in 0..10 {
                yield_now().await;
                if poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx).is_ready())).await {
                    return true;
                }
            }
            false
        })
    }

    fn advance(&self, time: Duration) {
        (0..=time.as_millis() / TICK.as_millis() + 1).for_each(|_| self.worker.deadlines.sweep());
    }
}

fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, kind::HAPROXY_HELLO, FrameIds::default(), |out| {
        for (name, value) in [
            ("supported-versions", SpopValue::Text(b"2.0")),
            ("max-frame-size", SpopValue::Integer(16_380)),
            ("capabilities", SpopValue::Text(b"pipelining")),
        ] {
            put_text(out, name.as_bytes());
            value.put(out);
        }
    });
    out
}

fn notify(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let ids = FrameIds { stream: 1, frame: 1 };
    put_frame(&mut out, kind::NOTIFY, ids, |out| out.extend_from_slice(payload));
    out
}

const NOTHING: [Option<u8>; 0] = [];
const DISCONNECTED: [Option<u8>; 2] = [Some(kind::AGENT_DISCONNECT), None];

#[test]
fn frames_are_answered_on_a_kept_connection() {
    let mut connection = TestConnection::open();
    assert_eq!(connection.exchange(&notify(b"")), [Some(kind::ACK)]);
    let three = [notify(b"wait"), notify(b""), notify(b"long")].concat();
    assert_eq!(connection.exchange(&three), [Some(kind::ACK); 3]);
}

#[test]
fn slow_handshake_and_slow_frame_time_out() {
    for (mut connection, bytes) in
        [(TestConnection::new(), hello()), (TestConnection::open(), notify(b""))]
    {
        assert_eq!(connection.exchange(&bytes[..bytes.len() - 1]), NOTHING);
        connection.advance(TIMEOUTS.head);
        assert_eq!(connection.exchange(b""), DISCONNECTED);
    }
    let mut silent = TestConnection::new();
    silent.run();
    silent.advance(TIMEOUTS.head);
    assert_eq!(silent.exchange(b""), DISCONNECTED);
}

#[test]
fn bytes_now_and_then_gain_no_time() {
    let mut connection = TestConnection::open();
    let bytes = notify(&[0; 64]);
    for byte in bytes.chunks(1).take(5) {
        assert_eq!(connection.exchange(byte), NOTHING);
        connection.advance(TIMEOUTS.head / 20);
    }
    connection.advance(TIMEOUTS.head / 2);
    assert_eq!(connection.exchange(b""), DISCONNECTED);
}

#[test]
fn idle_connection_closes_and_one_that_waits_does_not() {
    let mut idle = TestConnection::open();
    idle.advance(TIMEOUTS.idle);
    assert_eq!(idle.exchange(b""), DISCONNECTED);
    let mut waiting = TestConnection::open();
    assert_eq!(waiting.exchange(&notify(b"never")), NOTHING);
    waiting.advance(TIMEOUTS.idle);
    assert_eq!(waiting.exchange(&notify(b"")), [Some(kind::ACK)]);
}

#[test]
fn drain_closes_what_is_answered() {
    let mut idle = TestConnection::open();
    idle.worker.deadlines.drain();
    assert_eq!(idle.exchange(b""), NOTHING);
    // A frame that was on its way.
    let expected = [Some(kind::ACK), Some(kind::AGENT_DISCONNECT), None];
    assert_eq!(idle.exchange(&notify(b"")), expected);
    let mut unused = TestConnection::open();
    unused.worker.deadlines.drain();
    unused.advance(TICK);
    assert_eq!(unused.exchange(b""), DISCONNECTED);
    let mut waiting = TestConnection::open();
    assert_eq!(waiting.exchange(&notify(b"never")), NOTHING);
    waiting.worker.deadlines.drain();
    waiting.advance(TICK);
    assert_eq!(waiting.exchange(b""), NOTHING);
}

#[test]
fn client_that_reads_nothing_is_disconnected() {
    let mut connection = TestConnection::open();
    let many = notify(b"").repeat(1000);
    let mut is_over = false;
    for _ in 0..1000 {
        if connection.client.write(&many).is_err() {
            break;
        }
        is_over |= connection.run();
    }
    assert!(!is_over);
    connection.advance(TIMEOUTS.body);
    assert!(connection.run());
}

#[test]
fn end_of_input_ends_the_connection() {
    let mut connection = TestConnection::open();
    connection.client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(connection.run());
}
