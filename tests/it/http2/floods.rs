use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use countersign_tests::{
    binary::{Sandbox, Server},
    frames::{Frame, Raw, code, flag, kind, section},
};

use super::{end, fields, question, serve, served, told_to_go, unharmed, verify};
use crate::{
    given,
    hardening::{kilobytes, proxied},
};

/// What a flood may make the server grow by, in KiB.
const MOST: u64 = 32 * 1024;

/// Sends frames batch by batch until the server hangs up, while another connection is
/// answered, and returns why it did; `None` if it took all of them, which is as good.
/// Either way it keeps to its memory.
#[track_caller]
fn flood(
    server: &Server<'_>,
    batches: u32,
    batch: impl Fn(u32) -> Vec<Frame> + Send,
) -> Option<u32> {
    let (mut hostile, mut other) = (Raw::open(server.address, &[]), Raw::open(server.address, &[]));
    served(&mut other, 1);
    let before = kilobytes(server, "VmHWM");
    let mut heard = Raw::over(hostile.stream().try_clone().unwrap());
    let code = thread::scope(|scope| {
        // Somebody who reads what he is told, so that this is not what stops him.
        let hearing = scope.spawn(move || {
            let goaways =
                std::iter::from_fn(|| heard.receive()).filter(|frame| frame.kind == kind::GOAWAY);
            goaways.last().map(|frame| frame.code())
        });
        scope.spawn(move || {
            let _is_taken = (0..batches).all(|number| hostile.try_send(&batch(number)).is_ok());
            drop(hostile.stream().shutdown(Shutdown::Write));
        });
        for stream in (3..).step_by(2).take_while(|_| !hearing.is_finished()) {
            served(&mut other, stream);
            thread::sleep(Duration::from_millis(1));
        }
        hearing.join().unwrap()
    });
    let after = kilobytes(server, "VmHWM");
    assert!(after < before + MOST, "{before} KiB grew to {after} KiB");
    unharmed(server);
    code.filter(|code| *code != code::NO_ERROR)
}

/// The streams of a batch.
fn streams(batch: u32, size: u32) -> impl Iterator<Item = u32> {
    (batch * size..(batch + 1) * size).map(|number| 2 * number + 1)
}

#[test]
fn requests_that_are_taken_back_at_once_are_counted() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    for request in [question, verify] {
        let code = flood(&server, 200, |batch| {
            streams(batch, 100)
                .flat_map(|stream| [request(stream), Frame::reset(stream, code::CANCEL)])
                .collect()
        });
        assert!([None, Some(code::ENHANCE_YOUR_CALM)].contains(&code), "{code:?}");
    }
    assert!(!server.log().contains("WARN"), "a flood fills no log: {}", server.log());
}

#[test]
fn what_is_answered_and_taken_back_costs_little_and_not_without_end() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let unended = |stream: u32| Frame::head(stream, &fields("GET", "/auth"));
    // The second ones are ended by us first, as they have no end themselves.
    for (request, number) in [(question as fn(u32) -> Frame, 250), (unended, 1000)] {
        let mut raw = Raw::open(server.address, &[]);
        for stream in streams(0, number) {
            raw.send(&[request(stream), Frame::reset(stream, code::CANCEL)]);
            assert_eq!(raw.answer(stream), 401);
        }
        served(&mut raw, 2 * number + 1);
    }
    let mut raw = Raw::open(server.address, &[]);
    // It may have hung up before all of it is sent.
    let _cut_off = raw.try_send(
        &streams(0, 20_000)
            .flat_map(|stream| [question(stream), Frame::reset(stream, code::CANCEL)])
            .collect::<Vec<_>>(),
    );
    told_to_go(&mut raw, code::ENHANCE_YOUR_CALM);
    // While nothing is earned with others.
    let mut raw = Raw::open(server.address, &[]);
    raw.send(
        &streams(0, 256)
            .flat_map(|stream| [verify(stream), Frame::reset(stream, code::CANCEL)])
            .collect::<Vec<_>>(),
    );
    told_to_go(&mut raw, code::ENHANCE_YOUR_CALM);
    unharmed(&server);
}

#[test]
fn requests_that_are_none_are_counted() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let malformed = [fields("GET", "/auth"), vec![("connection", "close")]].concat();
    let code = flood(&server, 200, |batch| {
        streams(batch, 100).map(|stream| Frame::request(stream, &malformed)).collect()
    });
    assert_eq!(code, Some(code::ENHANCE_YOUR_CALM));
}

#[test]
fn a_head_has_an_end() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let head = Frame::new(kind::HEADERS, flag::NONE, 1, section(&fields("GET", "/auth")));
    for piece in [section(&[("x", &"y".repeat(16_000))]), section(&[("x", "y")]), Vec::new()] {
        let code = flood(&server, 200, |batch| {
            let pieces =
                (0..100).map(|_| Frame::new(kind::CONTINUATION, flag::NONE, 1, piece.as_slice()));
            (batch == 0).then(|| head.clone()).into_iter().chain(pieces).collect()
        });
        assert_eq!(code, Some(code::ENHANCE_YOUR_CALM), "{} bytes each", piece.len());
    }
}

#[test]
fn a_small_head_is_not_a_large_one() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    // One line that the table remembers, and fifteen thousand times that one: 60 MB.
    let remembered =
        [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000], &[0xbe; 12_000]].concat();
    let large = [section(&fields("GET", "/auth")), remembered].concat();
    let head = |stream: u32| {
        Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, large.as_slice())
    };
    let code = flood(&server, 100, |batch| streams(batch, 5).map(head).collect());
    assert_eq!(code, Some(code::ENHANCE_YOUR_CALM));
}

#[test]
fn what_costs_nothing_to_say_costs_nothing_to_hear() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let token = given::good_token();
    for frame in [
        Frame::new(kind::PING, flag::NONE, 0, *b"and more"),
        Frame::new(kind::PING, flag::ACK, 0, *b"and more"),
        Frame::settings(&[]),
        Frame::settings(&[(0x4, 0), (0x4, 65_535), (0x6, 1)]),
        Frame::new(kind::WINDOW_UPDATE, flag::NONE, 0, 1u32.to_be_bytes()),
        Frame::new(0x2, flag::NONE, 7, [0; 5]),
        Frame::new(0xbe, flag::NONE, 0, [0; 100]),
        Frame::new(kind::DATA, flag::NONE, 1, *b""),
        Frame::reset(1, code::CANCEL),
    ] {
        let code = flood(&server, 200, |batch| {
            let request = match frame.kind {
                kind::DATA => verify(1),
                _ => question(1),
            };
            let flood = vec![frame.clone(); 500];
            (batch == 0).then_some(request).into_iter().chain(flood).collect()
        });
        assert!([None, Some(code::ENHANCE_YOUR_CALM)].contains(&code), "{frame:?}: {code:?}");
    }
    let mut raw = Raw::open(server.address, &[]);
    raw.send(&[verify(1), Frame::new(kind::DATA, flag::NONE, 1, *b""), end(1, token)]);
    assert_eq!(raw.answer(1), 200, "an empty one is none too many");
}

#[test]
fn who_hears_nothing_of_what_he_is_told_is_cut_off() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nbody_timeout=1");
    unharmed(&server);
    for frames in [
        vec![Frame::new(kind::PING, flag::NONE, 0, *b"and more"); 1000],
        vec![Frame::settings(&[]); 1000],
        Vec::new(),
    ] {
        let before = kilobytes(&server, "VmHWM");
        let mut hostile = Raw::open(server.address, &[]);
        let is_questions = frames.is_empty();
        let end = (0..1_000_000).find(|batch| {
            let questions =
                is_questions.then(|| streams(*batch, 100).map(question)).into_iter().flatten();
            hostile.try_send(&frames.iter().cloned().chain(questions).collect::<Vec<_>>()).is_err()
        });
        assert!(end.is_some(), "there is no end");
        let after = kilobytes(&server, "VmHWM");
        assert!(after < before + MOST, "{before} KiB grew to {after} KiB");
        unharmed(&server);
    }
}

#[test]
fn bodies_that_nobody_reads_yet_have_bounds() {
    const CONNECTIONS: u64 = 50;
    /// KiB of one connection: four times what its window lets it have on its way.
    const MOST: u64 = 1024;
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    unharmed(&server);
    let before = kilobytes(&server, "VmHWM");
    // As much as the windows of a connection let anybody have on its way, and no end of any.
    let mut crowd: Vec<Raw<TcpStream>> =
        (0..CONNECTIONS).map(|_| Raw::open(server.address, &[])).collect();
    for raw in &mut crowd {
        for stream in streams(0, 5) {
            raw.send(&[verify(stream)]);
            raw.send(&vec![Frame::new(kind::DATA, flag::NONE, stream, [b'a'; 12 * 1024]); 4]);
        }
        served(raw, 11);
    }
    let after = kilobytes(&server, "VmHWM");
    assert!(after < before + CONNECTIONS * MOST, "{before} KiB grew to {after} KiB");
    unharmed(&server);
}

/// Takes back more than is listened to on all of these together, and is told to go.
#[track_caller]
fn are_cut_off<S: Read + Write>(mut crowd: Vec<Raw<S>>) {
    for raw in &mut crowd {
        // Whoever is answered does not wait any more.
        served(raw, 1);
    }
    // Twice as many as any may, as time gives some back.
    let taken_back: Vec<_> = streams(1, 512)
        .flat_map(|stream| [verify(stream), Frame::reset(stream, code::CANCEL)])
        .collect();
    for raw in &mut crowd {
        raw.send(&taken_back);
    }
    for mut raw in crowd {
        told_to_go(&mut raw, code::ENHANCE_YOUR_CALM);
    }
}

/// As many as owe for four seconds at least.
const CROWD: u64 = 30;

fn counted(server: &Server<'_>) -> (u64, u64) {
    let count = |what: &str| server.metric(&format!("countersign_connections_{what}_total"));
    (count("cut_off"), count("held_up"))
}

#[test]
fn an_address_that_is_cut_off_again_and_again_waits_for_its_next_connections() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "threads=1\nproxy_protocol=true\ntrusted_proxies=127.0.0.1");
    let from = |last: u8| {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut raw = Raw::over(stream);
        raw.send_raw(&proxied([198, 51, 100, last]));
        raw.begin(&[]);
        raw
    };
    let crowd = |size: u64| (0..size).map(|_| from(1)).collect::<Vec<_>>();
    let mut early = from(1);
    served(&mut early, 1);
    are_cut_off(crowd(10));
    served(&mut from(1), 1);
    assert_eq!(counted(&server), (10, 0), "ten are free");
    are_cut_off(crowd(CROWD));
    served(&mut from(2), 1);
    served(&mut early, 3);
    assert_eq!(counted(&server), (10 + CROWD, 0), "others, and what was there before, do not wait");
    // Nor is anybody from there turned away, however many there are.
    let mut waiting = crowd(5);
    for raw in &mut waiting {
        served(raw, 1);
    }
    assert_eq!(counted(&server), (10 + CROWD, 5));
}

#[test]
fn a_proxy_that_is_trusted_waits_for_nobody() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "threads=1\ntrusted_proxies=127.0.0.1");
    are_cut_off((0..CROWD).map(|_| Raw::open(server.address, &[])).collect());
    served(&mut Raw::open(server.address, &[]), 1);
    assert_eq!(counted(&server), (CROWD, 0));
}

#[test]
fn operators_do_not_wait_for_anybody() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "threads=1");
    are_cut_off((0..CROWD).map(|_| Raw::open(server.address, &[])).collect());
    let before = counted(&server);
    assert_eq!(server.operations("/live").status, 200);
    assert_eq!((before, counted(&server)), ((CROWD, 0), (CROWD, 0)));
    served(&mut Raw::open(server.address, &[]), 1);
    assert_eq!(counted(&server), (CROWD, 1), "as all others do");
}
