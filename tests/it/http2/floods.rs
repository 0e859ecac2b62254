use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use countersign_front::http2::error::Http2ErrorCode;
use countersign_tests::{
    binary::{Sandbox, Server},
    frames::{Frame, RawConnection, flag, kind, section, setting},
};

use super::{assert_goaway, assert_healthy, assert_served, auth_frame, end, fields, serve, verify};
use crate::{
    fixture,
    hardening::{kilobytes, proxied},
};

/// The limit for the server's growth of memory during a flood, in KiB.
const MAX_GROWTH_KIB: u64 = 32 * 1024;

/// Sends frames batch by batch until the server closes, while another connection is served. Returns
/// the GOAWAY code, or `None` if the server processed all batches, which is allowed. Checks in both
/// cases that the server keeps to its memory.
#[track_caller]
fn flood(
    server: &Server<'_>,
    batches: u32,
    batch: impl Fn(u32) -> Vec<Frame> + Send,
) -> Option<u32> {
    let (mut hostile, mut other) =
        (RawConnection::open(server.address, &[]), RawConnection::open(server.address, &[]));
    assert_served(&mut other, 1);
    let before = kilobytes(server, "VmHWM");
    let mut reader = RawConnection::over(hostile.stream().try_clone().unwrap());
    let code = thread::scope(|scope| {
        // The client reads its answers, so that unread answers are not the reason for the close.
        let reading = scope.spawn(move || {
            let goaways =
                std::iter::from_fn(|| reader.receive()).filter(|frame| frame.kind == kind::GOAWAY);
            goaways.last().map(|frame| frame.code())
        });
        scope.spawn(move || {
            let _ignored = (0..batches).all(|number| hostile.try_send(&batch(number)).is_ok());
            drop(hostile.stream().shutdown(Shutdown::Write));
        });
        for stream in (3..).step_by(2).take_while(|_| !reading.is_finished()) {
            assert_served(&mut other, stream);
            thread::sleep(Duration::from_millis(1));
        }
        reading.join().unwrap()
    });
    let after = kilobytes(server, "VmHWM");
    assert!(after < before + MAX_GROWTH_KIB, "{before} KiB grew to {after} KiB");
    assert_healthy(server);
    code.filter(|code| *code != Http2ErrorCode::NoError.number())
}

/// Returns the stream ids of a batch.
fn streams(batch: u32, size: u32) -> impl Iterator<Item = u32> {
    (batch * size..(batch + 1) * size).map(|number| 2 * number + 1)
}

#[test]
fn rapid_resets_exhaust_the_budget() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    for request in [auth_frame, verify] {
        let code = flood(&server, 200, |batch| {
            streams(batch, 100)
                .flat_map(|stream| [request(stream), Frame::reset(stream, Http2ErrorCode::Cancel)])
                .collect()
        });
        assert!([None, Some(Http2ErrorCode::EnhanceYourCalm.number())].contains(&code), "{code:?}");
    }
    assert!(!server.log().contains("WARN"), "a flood must not fill the log: {}", server.log());
}

#[test]
fn resets_of_answered_streams_cost_less() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let unended = |stream: u32| Frame::head(stream, &fields("GET", "/auth"));
    // Requests of the second kind have no end, so the server resets them first.
    for (request, number) in [(auth_frame as fn(u32) -> Frame, 250), (unended, 1000)] {
        let mut raw = RawConnection::open(server.address, &[]);
        for stream in streams(0, number) {
            raw.send(&[request(stream), Frame::reset(stream, Http2ErrorCode::Cancel)]);
            assert_eq!(raw.receive_status(stream), 401);
        }
        assert_served(&mut raw, 2 * number + 1);
    }
    let mut raw = RawConnection::open(server.address, &[]);
    // The server may close before everything is sent.
    let _ignored = raw.try_send(
        &streams(0, 20_000)
            .flat_map(|stream| [auth_frame(stream), Frame::reset(stream, Http2ErrorCode::Cancel)])
            .collect::<Vec<_>>(),
    );
    assert_goaway(&mut raw, Http2ErrorCode::EnhanceYourCalm);
    // Without completed requests in between, the budget is not refilled.
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(
        &streams(0, 256)
            .flat_map(|stream| [verify(stream), Frame::reset(stream, Http2ErrorCode::Cancel)])
            .collect::<Vec<_>>(),
    );
    assert_goaway(&mut raw, Http2ErrorCode::EnhanceYourCalm);
    assert_healthy(&server);
}

#[test]
fn malformed_requests_exhaust_the_budget() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let malformed = [fields("GET", "/auth"), vec![("connection", "close")]].concat();
    let code = flood(&server, 200, |batch| {
        streams(batch, 100).map(|stream| Frame::request(stream, &malformed)).collect()
    });
    assert_eq!(code, Some(Http2ErrorCode::EnhanceYourCalm.number()));
}

/// MadeYouReset, CVE-2025-8671: the client causes the server to reset each stream.
#[test]
fn server_resets_exhaust_the_budget() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let window = |stream: u32, by: u32| {
        Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, by.to_be_bytes())
    };
    let mistakes: [&(dyn Fn(u32) -> Vec<Frame> + Sync); 5] = [
        &|stream| vec![verify(stream), window(stream, 0)],
        &|stream| vec![verify(stream), window(stream, (1 << 31) - 1)],
        &|stream| vec![auth_frame(stream), Frame::request(stream, &[("x", "y")])],
        &|stream| vec![verify(stream), Frame::request(stream, &[(":path", "/")])],
        &|stream| vec![verify(stream), Frame::new(0x2, flag::NONE, stream, stream.to_be_bytes())],
    ];
    for (number, mistake) in mistakes.into_iter().enumerate() {
        let code = flood(&server, 200, |batch| streams(batch, 100).flat_map(mistake).collect());
        assert!(code.is_some(), "mistake {number} is repeated without an end");
    }
}

/// 0-Length Headers Leak, CVE-2019-9516.
#[test]
fn empty_field_names_exhaust_the_budget() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    // Literals with incremental indexing, plain and in Huffman code.
    for empty in [[0x40, 0, 0], [0x40, 0x80, 0x80]] {
        let section = [section(&fields("GET", "/auth")), empty.repeat(50)].concat();
        let head = |stream: u32| {
            let flags = flag::END_HEADERS | flag::END_STREAM;
            Frame::new(kind::HEADERS, flags, stream, section.as_slice())
        };
        let code = flood(&server, 200, |batch| streams(batch, 50).map(head).collect());
        assert_eq!(code, Some(Http2ErrorCode::EnhanceYourCalm.number()));
    }
}

/// Data Dribble, CVE-2019-9511: each answer is taken byte by byte.
#[test]
fn answers_in_single_bytes_are_bounded() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let code = flood(&server, 200, |batch| {
        let window = (batch == 0).then(|| Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1)]));
        let byte =
            |stream: u32| Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, 1u32.to_be_bytes());
        let requests = streams(batch, 100).map(|stream| {
            let request = Frame::request(stream, &fields("GET", "/nothing"));
            [vec![request], vec![byte(stream); 20]].concat()
        });
        window.into_iter().chain(requests.flatten()).collect()
    });
    assert!([None, Some(Http2ErrorCode::EnhanceYourCalm.number())].contains(&code), "{code:?}");
}

/// CVE-2022-41723: a field block in Huffman code that is expensive to decode.
#[test]
fn huffman_coded_fields_are_bounded() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    // `0` has five bits, the shortest code, so that 10,000 bytes decode to 16,000.
    let value: Vec<u8> = vec![0; 10_000];
    let literal = [&[0x00, 1, b'x', 0xff, 0x91, 0x4d][..], &value].concat();
    let head = Frame::new(kind::HEADERS, flag::NONE, 1, section(&fields("GET", "/auth")));
    let code = flood(&server, 200, |batch| {
        let pieces =
            (0..50).map(|_| Frame::new(kind::CONTINUATION, flag::NONE, 1, literal.as_slice()));
        (batch == 0).then(|| head.clone()).into_iter().chain(pieces).collect()
    });
    assert_eq!(code, Some(Http2ErrorCode::EnhanceYourCalm.number()));
}

#[test]
fn continuation_flood_is_closed() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let head = Frame::new(kind::HEADERS, flag::NONE, 1, section(&fields("GET", "/auth")));
    for piece in [section(&[("x", &"y".repeat(16_000))]), section(&[("x", "y")]), Vec::new()] {
        let code = flood(&server, 200, |batch| {
            let pieces =
                (0..100).map(|_| Frame::new(kind::CONTINUATION, flag::NONE, 1, piece.as_slice()));
            (batch == 0).then(|| head.clone()).into_iter().chain(pieces).collect()
        });
        assert_eq!(
            code,
            Some(Http2ErrorCode::EnhanceYourCalm.number()),
            "{} bytes each",
            piece.len()
        );
    }
}

#[test]
fn hpack_bomb_is_closed() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    // One field in the dynamic table, referenced twelve thousand times: about 48 MB.
    let indexed = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000], &[0xbe; 12_000]].concat();
    let large = [section(&fields("GET", "/auth")), indexed].concat();
    let head = |stream: u32| {
        Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, large.as_slice())
    };
    let code = flood(&server, 100, |batch| streams(batch, 5).map(head).collect());
    assert_eq!(code, Some(Http2ErrorCode::EnhanceYourCalm.number()));
}

#[test]
fn control_frame_floods_are_bounded() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let token = fixture::good_token();
    for frame in [
        Frame::new(kind::PING, flag::NONE, 0, *b"and more"),
        Frame::new(kind::PING, flag::ACK, 0, *b"and more"),
        Frame::settings(&[]),
        Frame::settings(&[(0x4, 0), (0x4, 65_535), (0x6, 1)]),
        Frame::new(kind::WINDOW_UPDATE, flag::NONE, 0, 1u32.to_be_bytes()),
        Frame::new(0x2, flag::NONE, 7, [0; 5]),
        Frame::new(0xbe, flag::NONE, 0, [0; 100]),
        Frame::new(kind::DATA, flag::NONE, 1, *b""),
        Frame::reset(1, Http2ErrorCode::Cancel),
    ] {
        let code = flood(&server, 200, |batch| {
            let request = match frame.kind {
                kind::DATA => verify(1),
                _ => auth_frame(1),
            };
            let flood = vec![frame.clone(); 500];
            (batch == 0).then_some(request).into_iter().chain(flood).collect()
        });
        assert!(
            [None, Some(Http2ErrorCode::EnhanceYourCalm.number())].contains(&code),
            "{frame:?}: {code:?}"
        );
    }
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&[verify(1), Frame::new(kind::DATA, flag::NONE, 1, *b""), end(1, token)]);
    assert_eq!(raw.receive_status(1), 200, "a single empty DATA frame is allowed");
}

#[test]
fn unread_answers_close_the_connection() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nbody_timeout=1");
    assert_healthy(&server);
    for frames in [
        vec![Frame::new(kind::PING, flag::NONE, 0, *b"and more"); 1000],
        vec![Frame::settings(&[]); 1000],
        Vec::new(),
    ] {
        let before = kilobytes(&server, "VmHWM");
        let mut hostile = RawConnection::open(server.address, &[]);
        let sends_requests = frames.is_empty();
        let end = (0..1_000_000).find(|batch| {
            let requests =
                sends_requests.then(|| streams(*batch, 100).map(auth_frame)).into_iter().flatten();
            hostile.try_send(&frames.iter().cloned().chain(requests).collect::<Vec<_>>()).is_err()
        });
        assert!(end.is_some(), "the server never closes the connection");
        let after = kilobytes(&server, "VmHWM");
        assert!(after < before + MAX_GROWTH_KIB, "{before} KiB grew to {after} KiB");
        assert_healthy(&server);
    }
}

#[test]
fn unfinished_bodies_are_bounded() {
    const CONNECTIONS: u64 = 50;
    /// KiB per connection: four times its flow-control window.
    const MAX_GROWTH_PER_CONNECTION: u64 = 1024;
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    assert_healthy(&server);
    let before = kilobytes(&server, "VmHWM");
    // Each connection fills its window with bodies that do not end.
    let mut crowd: Vec<RawConnection<TcpStream>> =
        (0..CONNECTIONS).map(|_| RawConnection::open(server.address, &[])).collect();
    for raw in &mut crowd {
        for stream in streams(0, 5) {
            raw.send(&[verify(stream)]);
            raw.send(&vec![Frame::new(kind::DATA, flag::NONE, stream, [b'a'; 12 * 1024]); 4]);
        }
        assert_served(raw, 11);
    }
    let after = kilobytes(&server, "VmHWM");
    assert!(
        after < before + CONNECTIONS * MAX_GROWTH_PER_CONNECTION,
        "{before} KiB grew to {after} KiB"
    );
    assert_healthy(&server);
}

/// Exceeds the reset budget on all of these connections together and checks that each is closed.
#[track_caller]
fn assert_closed_for_abuse<S: Read + Write>(mut crowd: Vec<RawConnection<S>>) {
    for raw in &mut crowd {
        // An answer proves that the connection is no longer delayed.
        assert_served(raw, 1);
    }
    // Twice the budget, because part of it is refilled in the meantime.
    let resets: Vec<_> = streams(1, 512)
        .flat_map(|stream| [verify(stream), Frame::reset(stream, Http2ErrorCode::Cancel)])
        .collect();
    for raw in &mut crowd {
        raw.send(&resets);
    }
    for mut raw in crowd {
        assert_goaway(&mut raw, Http2ErrorCode::EnhanceYourCalm);
    }
}

/// Enough closed connections for a reconnect delay of at least four seconds.
const ABUSIVE_CONNECTIONS: u64 = 30;

fn closed_and_delayed(server: &Server<'_>) -> (u64, u64) {
    let count = |event: &str| server.metric(&format!("countersign_connections_{event}_total"));
    (count("cut_off"), count("held_up"))
}

#[test]
fn repeated_abuse_delays_reconnects() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "threads=1\nproxy_protocol=true\ntrusted_proxies=127.0.0.1");
    let from = |last: u8| {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut raw = RawConnection::over(stream);
        raw.send_raw(&proxied([198, 51, 100, last]));
        raw.send_preface(&[]);
        raw
    };
    let crowd = |size: u64| (0..size).map(|_| from(1)).collect::<Vec<_>>();
    let mut early = from(1);
    assert_served(&mut early, 1);
    assert_closed_for_abuse(crowd(10));
    assert_served(&mut from(1), 1);
    assert_eq!(closed_and_delayed(&server), (10, 0), "ten closes cause no delay");
    assert_closed_for_abuse(crowd(ABUSIVE_CONNECTIONS));
    assert_served(&mut from(2), 1);
    assert_served(&mut early, 3);
    assert_eq!(
        closed_and_delayed(&server),
        (10 + ABUSIVE_CONNECTIONS, 0),
        "other addresses and open connections are not delayed"
    );
    // Delayed connections are not refused, however many there are.
    let mut waiting = crowd(5);
    for raw in &mut waiting {
        assert_served(raw, 1);
    }
    assert_eq!(closed_and_delayed(&server), (10 + ABUSIVE_CONNECTIONS, 5));
}

#[test]
fn trusted_proxy_is_not_delayed() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "threads=1\ntrusted_proxies=127.0.0.1");
    assert_closed_for_abuse(
        (0..ABUSIVE_CONNECTIONS).map(|_| RawConnection::open(server.address, &[])).collect(),
    );
    assert_served(&mut RawConnection::open(server.address, &[]), 1);
    assert_eq!(closed_and_delayed(&server), (ABUSIVE_CONNECTIONS, 0));
}

#[test]
fn operations_listener_is_not_delayed() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "threads=1");
    assert_closed_for_abuse(
        (0..ABUSIVE_CONNECTIONS).map(|_| RawConnection::open(server.address, &[])).collect(),
    );
    let before = closed_and_delayed(&server);
    assert_eq!(server.operations("/live").status, 200);
    assert_eq!(
        (before, closed_and_delayed(&server)),
        ((ABUSIVE_CONNECTIONS, 0), (ABUSIVE_CONNECTIONS, 0))
    );
    assert_served(&mut RawConnection::open(server.address, &[]), 1);
    assert_eq!(
        closed_and_delayed(&server),
        (ABUSIVE_CONNECTIONS, 1),
        "clients of the main listener are delayed"
    );
}
