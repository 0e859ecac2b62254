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

use super::{frame::Frame, preface::PREFACE, *};
use crate::{
    stream::Socket,
    test_service::{TestService, connection, worker},
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
            serve(connection(worker), worker.deadlines.register().await, stream, Vec::new()).await
        });
        Self { runtime, worker, serving, client }
    }

    /// Sends bytes and returns the frames that come back: kind, flags and payload. `None` is added
    /// if the connection closes.
    fn exchange(&mut self, bytes: &[u8]) -> Vec<Option<(u8, u8, Vec<u8>)>> {
        self.client.write_all(bytes).unwrap();
        let Self { runtime, serving, client, .. } = self;
        let is_over = runtime.block_on(async {
            for _ in 0..10 {
                yield_now().await;
                if poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx).is_ready())).await {
                    return true;
                }
            }
            false
        });
        let mut received = Vec::new();
        let _ignored = client.read_to_end(&mut received);
        let (mut rest, mut frames) = (&received[..], Vec::new());
        while let Some(Frame { kind, flags, payload, .. }) = Frame::take(&mut rest).unwrap() {
            frames.push(Some((kind, flags, payload.to_vec())));
        }
        frames.extend(is_over.then_some(None));
        frames
    }

    fn advance(&self, time: Duration) {
        (0..=time.as_millis() / TICK.as_millis() + 1).for_each(|_| self.worker.deadlines.sweep());
    }
}

fn begin(connection: &mut TestConnection) {
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let kinds: Vec<_> = connection
        .exchange(&settings)
        .into_iter()
        .flatten()
        .map(|(kind, flags, _)| (kind, flags))
        .collect();
    assert_eq!(
        kinds,
        [(0x4, 0), (0x8, 0), (0x4, 1)],
        "SETTINGS, WINDOW_UPDATE and the acknowledgement of the client's SETTINGS"
    );
}

fn ping(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::frame(&mut out, 0x6, flags, 0, payload);
    out
}

#[test]
fn a_quiet_client_is_asked_whether_it_is_there() {
    let mut connection = TestConnection::new();
    begin(&mut connection);
    connection.advance(PING_INTERVAL / 2);
    assert_eq!(connection.exchange(&[]), []);
    for _ in 0..3 {
        connection.advance(PING_INTERVAL);
        let pinged = connection.exchange(&[]);
        let [Some((0x6, 0, payload))] = &pinged[..] else { panic!("expected PING: {pinged:?}") };
        assert_eq!(connection.exchange(&ping(1, payload)), []);
        // The client was heard of, and is not pinged again at once.
        connection.advance(PING_INTERVAL / 2);
        assert_eq!(connection.exchange(&[]), []);
    }
}

#[test]
fn a_client_that_is_not_there_is_not_waited_for() {
    let mut connection = TestConnection::new();
    begin(&mut connection);
    connection.advance(PING_INTERVAL);
    assert_eq!(connection.exchange(&[]).len(), 1);
    connection.advance(connection.worker.timeouts.head);
    assert_eq!(connection.exchange(&[]), [None]);
}

#[test]
fn a_client_that_says_half_of_a_head_is_not_waited_for() {
    let mut connection = TestConnection::new();
    begin(&mut connection);
    assert_eq!(connection.exchange(&[0, 0, 5, 1, 4, 0, 0, 0, 1, 0x82]), []);
    connection.advance(connection.worker.timeouts.head);
    let frames = connection.exchange(&[]);
    let [Some((0x7, 0, payload))] = &frames[..] else { panic!("expected GOAWAY: {frames:?}") };
    assert_eq!(payload[..8], [0; 8]);
}

#[test]
fn a_server_that_stops_waits_for_what_is_on_its_way() {
    let mut connection = TestConnection::new();
    begin(&mut connection);
    connection.worker.deadlines.drain();
    let frames = connection.exchange(&[]);
    let [Some((0x7, 0, first)), Some((0x6, 0, last_ping))] = &frames[..] else {
        panic!("expected GOAWAY and PING: {frames:?}")
    };
    assert_eq!(first[..4], [0x7f, 0xff, 0xff, 0xff]);
    // A request that was in flight: it is answered.
    let mut in_flight = Vec::new();
    let fields = [&[0x82, 0x86, 0x04, 5][..], b"/auth", &[0x01, 1, b't']].concat();
    frame::frame(&mut in_flight, 0x1, 0x5, 1, &fields);
    let frames = connection.exchange(&[&in_flight[..], &ping(1, last_ping)].concat());
    let [Some((0x1, 0x5, _)), Some((0x7, 0, last)), ..] = &frames[..] else {
        panic!("expected a response and GOAWAY: {frames:?}")
    };
    assert_eq!(last[..4], [0, 0, 0, 1]);
}

fn request(stream: u32, flags: u8, method: &[u8], path: &str) -> Vec<u8> {
    let path = [&[0x04, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
    let mut out = Vec::new();
    frame::frame(
        &mut out,
        0x1,
        flags,
        stream,
        &[method, &[0x86], &path, &[0x01, 1, b't']].concat(),
    );
    out
}

#[test]
fn what_takes_a_while_goes_on_while_a_client_takes_no_answers() {
    let mut connection = TestConnection::new();
    begin(&mut connection);
    let bytes: Vec<u8> = (0..3000)
        .flat_map(|number| match number % 10 {
            0 => request(2 * number + 1, 0x5, b"\x02\x04HEAD", "/v1/verify"),
            _ => request(2 * number + 1, 0x5, b"\x82", "/auth"),
        })
        .collect();
    connection.exchange(&bytes);
    let TestService { answered_at_once, answered_later, .. } = &connection.worker.service;
    let (questions, others) = (answered_at_once.get(), answered_later.get());
    assert!(
        (100..2700).contains(&questions),
        "{questions} requests answered although the client reads nothing"
    );
    assert!(
        others * 9 >= questions,
        "{others} pending requests answered beside {questions} immediate ones"
    );
}

#[test]
fn who_never_stops_sending_has_no_more_time_for_a_body() {
    let mut connection = TestConnection::new();
    begin(&mut connection);
    assert_eq!(connection.exchange(&request(1, 0x4, b"\x83", "/v1/verify")), []);
    std::thread::sleep(connection.worker.timeouts.body);
    let mut more = Vec::new();
    for _ in 0..5 {
        frame::frame(&mut more, 0xbe, 0, 0, &[0; 16 * 1024]);
    }
    let frames = connection.exchange(&more);
    let [Some((0x1, 0x4, _)), Some((0x0, 0x1, _)), Some((0x3, 0, _))] = &frames[..] else {
        panic!("expected a 408 response and RST_STREAM: {frames:?}")
    };
}
