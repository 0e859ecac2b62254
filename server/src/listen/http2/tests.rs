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
    admission::Peer,
    app::App,
    config::{Config, ConfigFormat, RawConfig},
    listen::stream::Socket,
    revocation::RevocationService,
    routes::Route,
    worker::WorkerContext,
};

/// A connection and its client, with deadlines swept by hand.
struct TestConnection {
    runtime: Runtime,
    worker: &'static WorkerContext,
    serving: Pin<Box<dyn Future<Output = ()>>>,
    client: UnixStream,
}

/// A worker with this configuration.
pub(super) fn worker(configuration: &str) -> &'static WorkerContext {
    let (mut raw, mut problems) = (RawConfig::default(), Vec::new());
    raw.add("test", configuration, ConfigFormat::Ini, &mut problems);
    let desk = RevocationService::open(Err("no revocation store".into()), 0, None).unwrap();
    let app = App::new(Config::from_raw(raw).unwrap(), 1, desk, None).unwrap();
    Box::leak(Box::new(WorkerContext::new(app)))
}

/// A client of the worker.
pub(super) fn context(worker: &'static WorkerContext) -> ConnectionContext<'static> {
    ConnectionContext {
        worker,
        peer: Peer {
            admission: &worker.admission,
            address: [192, 0, 2, 1].into(),
            listener: 0,
            certificate: None,
        },
    }
}

impl TestConnection {
    fn new(configuration: &str) -> Self {
        let worker = worker(configuration);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        // A small socket buffer, so that writes block soon when nothing is read.
        rustix::net::sockopt::set_socket_send_buffer_size(&server, 16 * 1024).unwrap();
        let stream = runtime
            .block_on(async { MaybeTlsStream::Plain(Socket::new(server.into(), true).unwrap()) });
        let serving = Box::pin(async move {
            serve(context(worker), worker.deadlines.register().await, stream, Vec::new()).await
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

fn begin(given: &mut TestConnection) {
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let kinds: Vec<_> = given
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
fn idle_client_is_pinged() {
    let mut given = TestConnection::new("[limits]\nidle_timeout=3600");
    begin(&mut given);
    given.advance(PING_INTERVAL / 2);
    assert_eq!(given.exchange(&[]), []);
    for _ in 0..3 {
        given.advance(PING_INTERVAL);
        let pinged = given.exchange(&[]);
        let [Some((0x6, 0, payload))] = &pinged[..] else { panic!("expected PING: {pinged:?}") };
        assert_eq!(given.exchange(&ping(1, payload)), []);
        // The client was heard of, and is not pinged again at once.
        given.advance(PING_INTERVAL / 2);
        assert_eq!(given.exchange(&[]), []);
    }
}

#[test]
fn client_without_pong_is_disconnected() {
    let mut given = TestConnection::new("[limits]\nidle_timeout=3600");
    begin(&mut given);
    given.advance(PING_INTERVAL);
    assert_eq!(given.exchange(&[]).len(), 1);
    given.advance(given.worker.timeouts.head);
    assert_eq!(given.exchange(&[]), [None]);
}

#[test]
fn incomplete_head_times_out() {
    let mut given = TestConnection::new("[limits]\nidle_timeout=3600");
    begin(&mut given);
    assert_eq!(given.exchange(&[0, 0, 5, 1, 4, 0, 0, 0, 1, 0x82]), []);
    given.advance(given.worker.timeouts.head);
    let frames = given.exchange(&[]);
    let [Some((0x7, 0, payload))] = &frames[..] else { panic!("expected GOAWAY: {frames:?}") };
    assert_eq!(payload[..8], [0; 8]);
}

#[test]
fn shutdown_answers_requests_in_flight() {
    let mut given = TestConnection::new("");
    begin(&mut given);
    given.worker.deadlines.drain();
    let frames = given.exchange(&[]);
    let [Some((0x7, 0, first)), Some((0x6, 0, last_ping))] = &frames[..] else {
        panic!("expected GOAWAY and PING: {frames:?}")
    };
    assert_eq!(first[..4], [0x7f, 0xff, 0xff, 0xff]);
    // A request that was in flight: it is answered.
    let mut in_flight = Vec::new();
    let fields = [&[0x82, 0x86, 0x04, 5][..], b"/auth", &[0x01, 1, b't']].concat();
    frame::frame(&mut in_flight, 0x1, 0x5, 1, &fields);
    let frames = given.exchange(&[&in_flight[..], &ping(1, last_ping)].concat());
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
fn pending_replies_progress_while_writes_block() {
    let mut given = TestConnection::new("");
    begin(&mut given);
    let bytes: Vec<u8> = (0..3000)
        .flat_map(|number| match number % 10 {
            0 => request(2 * number + 1, 0x5, b"\x02\x04HEAD", "/v1/verify"),
            _ => request(2 * number + 1, 0x5, b"\x82", "/auth"),
        })
        .collect();
    given.exchange(&bytes);
    let answered = |route| given.worker.app.metrics.answers(route).iter().sum::<u64>();
    let (questions, others) = (answered(Route::Auth), answered(Route::Verify));
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
fn steady_sender_gains_no_time_for_a_body() {
    let mut given = TestConnection::new("[limits]\nbody_timeout=1");
    begin(&mut given);
    assert_eq!(given.exchange(&request(1, 0x4, b"\x83", "/v1/verify")), []);
    std::thread::sleep(given.worker.timeouts.body);
    let mut more = Vec::new();
    for _ in 0..5 {
        frame::frame(&mut more, 0xbe, 0, 0, &[0; 16 * 1024]);
    }
    let frames = given.exchange(&more);
    let [Some((0x1, 0x4, _)), Some((0x0, 0x1, _)), Some((0x3, 0, _))] = &frames[..] else {
        panic!("expected a 408 response and RST_STREAM: {frames:?}")
    };
}
