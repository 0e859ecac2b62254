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

/// A connection, and the client at its other end, in a time that passes by hand.
struct Given {
    runtime: Runtime,
    worker: &'static WorkerContext,
    serving: Pin<Box<dyn Future<Output = ()>>>,
    client: UnixStream,
}

/// A thread of a server that is configured so.
pub(super) fn worker(configuration: &str) -> &'static WorkerContext {
    let (mut raw, mut problems) = (RawConfig::default(), Vec::new());
    raw.add("test", configuration, ConfigFormat::Ini, &mut problems);
    let desk = RevocationService::open(Err("there is no store".into()), 0, None).unwrap();
    let app = App::new(Config::from_raw(raw).unwrap(), 1, desk, None).unwrap();
    Box::leak(Box::new(WorkerContext::new(app)))
}

/// A client of it.
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

impl Given {
    fn new(configuration: &str) -> Self {
        let worker = worker(configuration);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        // So that it does not take much that nobody reads.
        rustix::net::sockopt::set_socket_send_buffer_size(&server, 16 * 1024).unwrap();
        let stream = runtime
            .block_on(async { MaybeTlsStream::Plain(Socket::new(server.into(), true).unwrap()) });
        let serving = Box::pin(async move {
            serve(context(worker), worker.deadlines.register().await, stream, Vec::new()).await
        });
        Self { runtime, worker, serving, client }
    }

    /// Sends this, and returns what is said to it: kind, flags and payload of each frame.
    /// `None` behind it if the connection is over.
    fn say(&mut self, bytes: &[u8]) -> Vec<Option<(u8, u8, Vec<u8>)>> {
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
        let mut heard = Vec::new();
        let _would_block = client.read_to_end(&mut heard);
        let (mut rest, mut frames) = (&heard[..], Vec::new());
        while let Some(Frame { kind, flags, payload, .. }) = Frame::take(&mut rest).unwrap() {
            frames.push(Some((kind, flags, payload.to_vec())));
        }
        frames.extend(is_over.then_some(None));
        frames
    }

    fn pass(&self, time: Duration) {
        (0..=time.as_millis() / TICK.as_millis() + 1).for_each(|_| self.worker.deadlines.sweep());
    }
}

fn begin(given: &mut Given) {
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let kinds: Vec<_> =
        given.say(&settings).into_iter().flatten().map(|(kind, flags, _)| (kind, flags)).collect();
    assert_eq!(
        kinds,
        [(0x4, 0), (0x8, 0), (0x4, 1)],
        "settings, a window, and that theirs are known"
    );
}

fn ping(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::frame(&mut out, 0x6, flags, 0, payload);
    out
}

#[test]
fn a_quiet_client_is_asked_whether_it_is_there() {
    let mut given = Given::new("[limits]\nidle_timeout=3600");
    begin(&mut given);
    given.pass(PING_INTERVAL / 2);
    assert_eq!(given.say(&[]), []);
    for _ in 0..3 {
        given.pass(PING_INTERVAL);
        let asked = given.say(&[]);
        let [Some((0x6, 0, payload))] = &asked[..] else { panic!("no ping: {asked:?}") };
        assert_eq!(given.say(&ping(1, payload)), []);
        // It is heard of, and not asked again at once.
        given.pass(PING_INTERVAL / 2);
        assert_eq!(given.say(&[]), []);
    }
}

#[test]
fn a_client_that_is_not_there_is_not_waited_for() {
    let mut given = Given::new("[limits]\nidle_timeout=3600");
    begin(&mut given);
    given.pass(PING_INTERVAL);
    assert_eq!(given.say(&[]).len(), 1);
    given.pass(given.worker.timeouts.head);
    assert_eq!(given.say(&[]), [None]);
}

#[test]
fn a_client_that_says_half_of_a_head_is_not_waited_for() {
    let mut given = Given::new("[limits]\nidle_timeout=3600");
    begin(&mut given);
    assert_eq!(given.say(&[0, 0, 5, 1, 4, 0, 0, 0, 1, 0x82]), []);
    given.pass(given.worker.timeouts.head);
    let said = given.say(&[]);
    let [Some((0x7, 0, payload))] = &said[..] else { panic!("no end: {said:?}") };
    assert_eq!(payload[..8], [0; 8]);
}

#[test]
fn a_server_that_stops_waits_for_what_is_on_its_way() {
    let mut given = Given::new("");
    begin(&mut given);
    given.worker.deadlines.drain();
    let said = given.say(&[]);
    let [Some((0x7, 0, first)), Some((0x6, 0, last_ping))] = &said[..] else {
        panic!("no word: {said:?}")
    };
    assert_eq!(first[..4], [0x7f, 0xff, 0xff, 0xff]);
    // A question that was on its way: answered.
    let mut question = Vec::new();
    let fields = [&[0x82, 0x86, 0x04, 5][..], b"/auth", &[0x01, 1, b't']].concat();
    frame::frame(&mut question, 0x1, 0x5, 1, &fields);
    let said = given.say(&[&question[..], &ping(1, last_ping)].concat());
    let [Some((0x1, 0x5, _)), Some((0x7, 0, last)), ..] = &said[..] else {
        panic!("no answer: {said:?}")
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
    let mut given = Given::new("");
    begin(&mut given);
    let bytes: Vec<u8> = (0..3000)
        .flat_map(|number| match number % 10 {
            0 => request(2 * number + 1, 0x5, b"\x02\x04HEAD", "/v1/verify"),
            _ => request(2 * number + 1, 0x5, b"\x82", "/auth"),
        })
        .collect();
    given.say(&bytes);
    let answered = |route| given.worker.app.metrics.answers(route).iter().sum::<u64>();
    let (questions, others) = (answered(Route::Auth), answered(Route::Verify));
    assert!(
        (100..2700).contains(&questions),
        "{questions} is all there are: somebody takes the answers"
    );
    assert!(others * 9 >= questions, "{others} others to {questions} questions");
}

#[test]
fn who_never_stops_sending_has_no_more_time_for_a_body() {
    let mut given = Given::new("[limits]\nbody_timeout=1");
    begin(&mut given);
    assert_eq!(given.say(&request(1, 0x4, b"\x83", "/v1/verify")), []);
    std::thread::sleep(given.worker.timeouts.body);
    let mut more = Vec::new();
    for _ in 0..5 {
        frame::frame(&mut more, 0xbe, 0, 0, &[0; 16 * 1024]);
    }
    let said = given.say(&more);
    let [Some((0x1, 0x4, _)), Some((0x0, 0x1, _)), Some((0x3, 0, _))] = &said[..] else {
        panic!("no answer: {said:?}")
    };
}
