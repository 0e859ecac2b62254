use std::net::TcpStream;

use countersign_front::http2::error::Http2ErrorCode;
use countersign_tests::{
    binary::{Sandbox, Server},
    frames::{Frame, PREFACE, RawConnection, flag, kind, section, setting},
    grpc::{CHECK, framed},
};

use super::{
    assert_goaway, assert_healthy, assert_reset, assert_served, auth_frame, end, fields, serve,
    verify,
};
use crate::fixture;

/// Sends frames after the preface and SETTINGS, and checks the code of the GOAWAY.
#[track_caller]
fn assert_goaway_after(server: &Server<'_>, expected: Http2ErrorCode, frames: &[Frame]) {
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(frames);
    let received = raw.receive_all();
    let last = received.iter().rfind(|frame| frame.kind == kind::GOAWAY);
    assert_eq!(last.map(Frame::code), Some(expected.number()), "{frames:?}: {received:?}");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind, flags, stream, payload)
}

fn update(stream: u32, more: u32) -> Frame {
    frame(kind::WINDOW_UPDATE, flag::NONE, stream, more.to_be_bytes())
}

/// Returns the first part of a head, without END_HEADERS.
fn beginning(stream: u32) -> Frame {
    frame(kind::HEADERS, flag::END_STREAM, stream, section(&fields("GET", "/auth")))
}

#[test]
fn frame_of_a_wrong_length_is_refused() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    for frames in [
        vec![frame(kind::PING, flag::NONE, 0, [0; 7])],
        vec![frame(kind::PING, flag::NONE, 0, [0; 9])],
        vec![frame(kind::SETTINGS, flag::NONE, 0, [0; 5])],
        vec![frame(kind::SETTINGS, flag::ACK, 0, [0; 6])],
        vec![frame(kind::GOAWAY, flag::NONE, 0, [0; 7])],
        vec![auth_frame(1), frame(kind::RST_STREAM, flag::NONE, 1, [0; 3])],
        vec![auth_frame(1), frame(kind::WINDOW_UPDATE, flag::NONE, 1, [0; 5])],
        vec![frame(kind::WINDOW_UPDATE, flag::NONE, 0, [0; 3])],
        vec![frame(0x2, flag::NONE, 1, [0; 4])],
        vec![verify(1), frame(kind::DATA, flag::NONE, 1, [0; 16 * 1024 + 1])],
        vec![frame(0xbe, flag::NONE, 0, [0; 16 * 1024 + 1])],
        vec![frame(kind::HEADERS, flag::END_HEADERS | 0x20, 1, [0; 4])],
        vec![frame(kind::HEADERS, flag::END_HEADERS | 0x8, 1, [])],
        vec![verify(1), frame(kind::DATA, 0x8, 1, [])],
    ] {
        assert_goaway_after(&server, Http2ErrorCode::FrameSizeError, &frames);
    }
    // A frame of exactly the maximum size is accepted.
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&[frame(0xbe, flag::NONE, 0, [0; 16 * 1024])]);
    assert_served(&mut raw, 1);
    // A PRIORITY frame of the wrong length is a stream error.
    raw.send(&[frame(0x2, flag::NONE, 1, [0; 6])]);
    assert_reset(&mut raw, 1, Http2ErrorCode::FrameSizeError);
    assert_healthy(&server);
}

#[test]
fn frame_on_a_wrong_stream_is_refused() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    for frames in [
        vec![frame(kind::DATA, flag::NONE, 0, "x")],
        vec![frame(kind::HEADERS, flag::END_HEADERS, 0, [0x82])],
        vec![frame(0x2, flag::NONE, 0, [0; 5])],
        vec![frame(kind::RST_STREAM, flag::NONE, 0, [0; 4])],
        vec![frame(kind::SETTINGS, flag::NONE, 1, [])],
        vec![frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, *b"\0\0\0\x02\x82")],
        vec![frame(kind::PING, flag::NONE, 1, [0; 8])],
        vec![frame(kind::GOAWAY, flag::NONE, 1, [0; 8])],
        vec![frame(kind::CONTINUATION, flag::END_HEADERS, 1, [0x82])],
        vec![auth_frame(1), frame(kind::CONTINUATION, flag::END_HEADERS, 1, [0x82])],
        // On an idle stream only HEADERS is allowed.
        vec![frame(kind::DATA, flag::NONE, 1, "x")],
        vec![auth_frame(1), frame(kind::DATA, flag::NONE, 3, "x")],
        vec![frame(kind::RST_STREAM, flag::NONE, 1, [0; 4])],
        vec![update(1, 1)],
        vec![auth_frame(3), update(2, 1)],
        // A client's stream ids are odd and increase.
        vec![auth_frame(2)],
        vec![auth_frame(3), auth_frame(1)],
        vec![auth_frame(3), auth_frame(3)],
        vec![
            auth_frame(1),
            frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, section(&[("x", "y")])),
        ],
    ] {
        assert_goaway_after(&server, Http2ErrorCode::ProtocolError, &frames);
    }
    assert_healthy(&server);
}

#[test]
fn settings_come_first_and_are_validated() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    for first in [
        auth_frame(1),
        frame(kind::PING, flag::NONE, 0, [0; 8]),
        update(0, 1),
        frame(0xbe, flag::NONE, 0, []),
        frame(kind::SETTINGS, flag::ACK, 0, []),
    ] {
        let mut raw = RawConnection::over(TcpStream::connect(server.address).unwrap());
        raw.send_raw(PREFACE);
        raw.send(&[first]);
        assert_goaway(&mut raw, Http2ErrorCode::ProtocolError);
    }
    for (name, value, expected) in [
        (0x2, 2, Http2ErrorCode::ProtocolError),
        (0x5, 16_383, Http2ErrorCode::ProtocolError),
        (0x5, 1 << 24, Http2ErrorCode::ProtocolError),
        (setting::INITIAL_WINDOW_SIZE, 1 << 31, Http2ErrorCode::FlowControlError),
        (setting::INITIAL_WINDOW_SIZE, u32::MAX, Http2ErrorCode::FlowControlError),
    ] {
        assert_goaway_after(&server, expected, &[Frame::settings(&[(name, value)])]);
    }
    let mut raw = RawConnection::open(
        server.address,
        &[(0x2, 0), (0x2, 1), (0x5, 16_384), (0x5, (1 << 24) - 1), (0xf0f0, u32::MAX)],
    );
    assert_served(&mut raw, 1);
}

#[test]
fn header_block_must_not_be_interrupted() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let rest =
        |stream: u32| frame(kind::CONTINUATION, flag::END_HEADERS, stream, section(&[("x", "y")]));
    for between in [
        frame(kind::PING, flag::NONE, 0, [0; 8]),
        Frame::settings(&[]),
        update(0, 1),
        frame(kind::DATA, flag::NONE, 1, "x"),
        frame(0xbe, flag::NONE, 0, "x"),
        frame(0x2, flag::NONE, 1, [0; 5]),
        Frame::reset(1, Http2ErrorCode::Cancel),
        auth_frame(3),
        rest(3),
    ] {
        assert_goaway_after(
            &server,
            Http2ErrorCode::ProtocolError,
            &[beginning(1), between, rest(1)],
        );
    }
    let mut raw = RawConnection::open(server.address, &[]);
    let piece = |byte: u8| frame(kind::CONTINUATION, flag::NONE, 1, [byte]);
    let pieces = section(&[("x", "y")]).into_iter().map(piece);
    raw.send(
        &[
            vec![beginning(1)],
            pieces.collect(),
            vec![frame(kind::CONTINUATION, flag::END_HEADERS, 1, [])],
        ]
        .concat(),
    );
    assert_eq!(raw.receive_status(1), 401);
}

#[test]
fn padding_is_skipped_and_validated() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    const PADDED: u8 = 0x8;
    let padded = |length: u8, payload: &[u8], padding: usize| {
        [&[length], payload, &vec![0; padding]].concat()
    };
    for (length, payload, padding) in [(1, &b""[..], 0), (5, b"abcd", 0), (255, b"x", 253)] {
        let payload = padded(length, payload, padding);
        assert_goaway_after(
            &server,
            Http2ErrorCode::ProtocolError,
            &[verify(1), frame(kind::DATA, PADDED, 1, payload.clone())],
        );
        assert_goaway_after(
            &server,
            Http2ErrorCode::ProtocolError,
            &[frame(kind::HEADERS, flag::END_HEADERS | PADDED, 1, payload)],
        );
    }
    let mut raw = RawConnection::open(server.address, &[]);
    let head = section(&fields("POST", "/v1/verify"));
    let weighed = [&[0, 0, 0, 0, 16][..], &head].concat();
    raw.send(&[
        frame(kind::HEADERS, flag::END_HEADERS | PADDED | 0x20, 1, padded(200, &weighed, 200)),
        frame(kind::DATA, PADDED, 1, padded(10, b"", 10)),
        frame(
            kind::DATA,
            PADDED | flag::END_STREAM,
            1,
            padded(255, fixture::good_token().as_bytes(), 255),
        ),
    ]);
    assert_eq!(raw.receive_status(1), 200);
}

#[test]
fn window_overflow_is_refused() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    const MAX_WINDOW: u32 = (1 << 31) - 1;
    assert_goaway_after(&server, Http2ErrorCode::FlowControlError, &[update(0, MAX_WINDOW)]);
    assert_goaway_after(&server, Http2ErrorCode::ProtocolError, &[update(0, 0)]);
    let mut raw = RawConnection::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 10)]);
    raw.send(&[verify(1), update(1, MAX_WINDOW)]);
    assert_reset(&mut raw, 1, Http2ErrorCode::FlowControlError);
    raw.send(&[verify(5), update(5, 0)]);
    assert_reset(&mut raw, 5, Http2ErrorCode::ProtocolError);
    raw.send(&[verify(9), update(9, MAX_WINDOW - 10), end(9, fixture::good_token())]);
    assert_eq!(raw.receive_status(9), 200);
    // A SETTINGS change makes the window of a pending answer overflow.
    let mut raw = RawConnection::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    raw.send(&[
        verify(1),
        update(1, 1000),
        Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, MAX_WINDOW)]),
    ]);
    assert_goaway(&mut raw, Http2ErrorCode::FlowControlError);
    // WINDOW_UPDATE after the answer is late but not an error.
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&[auth_frame(1), update(1, MAX_WINDOW), update(1, MAX_WINDOW), update(1, 0)]);
    assert_eq!(raw.receive_status(1), 401);
    assert_served(&mut raw, 3);
    assert_healthy(&server);
}

#[test]
fn answer_follows_window_changes() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    raw.send(&[verify(1), end(1, fixture::good_token())]);
    assert_eq!(raw.receive_status(1), 200);
    let mut body = Vec::new();
    for window in [20, 50, 40, 60] {
        // A window of forty is less than what was sent: it becomes minus ten.
        raw.send(&[Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, window)])]);
        // The acknowledgement of SETTINGS precedes the data that they allow.
        let acknowledged = raw.receive().expect("an acknowledgement");
        assert_eq!((acknowledged.kind, acknowledged.flags), (kind::SETTINGS, flag::ACK));
        while body.len() < window as usize {
            body.extend(raw.receive_frame(kind::DATA, 1).payload);
        }
        assert!(body.len() <= 60);
    }
    assert_eq!(body.len(), 60);
    raw.send(&[update(1, 100_000)]);
    loop {
        let piece = raw.receive_frame(kind::DATA, 1);
        body.extend(piece.payload);
        if piece.flags & flag::END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["ok"], true);
}

#[test]
fn discarded_body_keeps_a_pending_answer() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let head =
        Frame::head(1, &[fields("POST", "/v1/verify"), vec![("content-length", "70000")]].concat());
    raw.send(&[vec![head], vec![frame(kind::DATA, flag::NONE, 1, [b'a'; 16 * 1024]); 4]].concat());
    assert_eq!(raw.receive_status(1), 413);
    raw.send(&[update(1, 100_000)]);
    assert_ne!(raw.receive_frame(kind::DATA, 1).flags & flag::END_STREAM, 0);
    assert_reset(&mut raw, 1, Http2ErrorCode::NoError);
    // Data beyond the window is a flow-control error, even if it is discarded.
    raw.send(&[Frame::head(
        5,
        &[fields("POST", "/v1/verify"), vec![("content-length", "70000")]].concat(),
    )]);
    assert_eq!(raw.receive_status(5), 413);
    raw.send(&vec![frame(kind::DATA, flag::NONE, 5, [b'a'; 16 * 1024]); 5]);
    assert_reset(&mut raw, 5, Http2ErrorCode::FlowControlError);
}

#[test]
fn frames_after_end_stream_are_stream_closed() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    // One stream that is answered, and one whose answer is still pending.
    raw.send(&[auth_frame(1), frame(kind::DATA, flag::NONE, 1, "x")]);
    assert_reset(&mut raw, 1, Http2ErrorCode::StreamClosed);
    for late in [frame(kind::DATA, flag::NONE, 5, "x"), Frame::head(5, &[("x", "y")])] {
        let mut raw = RawConnection::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        raw.send(&[verify(5), end(5, fixture::good_token()), late]);
        assert_reset(&mut raw, 5, Http2ErrorCode::StreamClosed);
    }
    // After an answer that did not wait for it, the frame is only late.
    raw.send(&[Frame::head(9, &fields("GET", "/auth"))]);
    assert_eq!(raw.receive_status(9), 401);
    assert_eq!(raw.receive_frame(kind::RST_STREAM, 9).code(), Http2ErrorCode::NoError.number());
    raw.send(&[
        frame(kind::DATA, flag::NONE, 9, "x"),
        frame(kind::HEADERS, 0x5, 9, section(&[("x", "y")])),
    ]);
    assert_served(&mut raw, 11);
    assert_healthy(&server);
}

#[test]
fn trailers_end_the_body_and_are_validated() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    let token = || frame(kind::DATA, flag::NONE, 0, fixture::good_token());
    let of = |stream, frame: Frame| Frame { stream, ..frame };
    raw.send(&[verify(1), of(1, token()), Frame::request(1, &[("x-checksum", "1")])]);
    assert_eq!(raw.receive_status(1), 200);
    for (stream, trailers) in [
        (3, Frame::request(3, &[(":path", "/auth")])),
        (7, Frame::request(7, &[("X", "y")])),
        (11, Frame::request(11, &[("connection", "close")])),
        (15, Frame::head(15, &[("x", "y")])),
    ] {
        raw.send(&[verify(stream), of(stream, token()), trailers]);
        assert_reset(&mut raw, stream, Http2ErrorCode::ProtocolError);
    }
}

#[test]
fn reduced_hpack_table_size_is_signalled() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    // The client reduces the table size before its first request. The change is signalled once.
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&[auth_frame(1), auth_frame(3)]);
    let heads = [1, 3].map(|stream| raw.receive_frame(kind::HEADERS, stream).payload);
    assert_eq!(heads.map(|head| head[0] == 0x20), [true, false]);
    // The client reduces the table size while a call is answered. The next field section may be
    // trailers.
    let mut raw = RawConnection::over(TcpStream::connect(server.address).unwrap());
    raw.send_raw(PREFACE);
    let call =
        [fields("POST", CHECK), vec![("content-type", "application/grpc"), ("te", "trailers")]]
            .concat();
    raw.send(&[
        Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]),
        Frame::head(1, &call),
        end(1, framed(b"")),
    ]);
    let head = raw.receive_frame(kind::HEADERS, 1);
    raw.send(&[
        Frame::settings(&[(setting::HEADER_TABLE_SIZE, 0)]),
        update(1, 100_000),
        auth_frame(3),
    ]);
    let sections = [head, raw.receive_frame(kind::HEADERS, 1), raw.receive_frame(kind::HEADERS, 3)];
    assert_eq!(
        sections.each_ref().map(|frame| frame.flags & flag::END_STREAM != 0),
        [false, true, true]
    );
    assert_eq!(sections.map(|frame| frame.payload[0] == 0x20), [false, true, false]);
}

#[test]
fn hpack_table_lasts_for_the_connection() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let token = format!("Bearer {}", fixture::good_token());
    let indexed = |name: &str, value: &str| {
        let mut line = section(&[(name, value)]);
        line[0] = 0x40;
        line
    };
    let mut raw = RawConnection::open(server.address, &[]);
    let request = |stream: u32, lines: &[&[u8]]| {
        let head = [&section(&fields("GET", "/auth"))[..], &lines.concat()].concat();
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, head)
    };
    raw.send(&[request(1, &[&indexed("authorization", &token)])]);
    assert_eq!(raw.receive_status(1), 200);
    raw.send(&[request(3, &[&[0x80 | 62]])]);
    assert_eq!(raw.receive_status(3), 200);
    // The field section of a rejected request still updates the table.
    raw.send(&[request(5, &[&indexed("connection", "x")])]);
    assert_reset(&mut raw, 5, Http2ErrorCode::ProtocolError);
    raw.send(&[request(9, &[&[0x80 | 63]])]);
    assert_eq!(raw.receive_status(9), 200);
    // Another connection has a table of its own.
    assert_goaway_after(&server, Http2ErrorCode::CompressionError, &[request(1, &[&[0x80 | 62]])]);
    // A table size of zero evicts all entries.
    let emptied = |stream: u32, index: u8| {
        let head = [&[0x20][..], &section(&fields("GET", "/auth")), &[0x80 | index]].concat();
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, head)
    };
    raw.send(&[emptied(11, 62)]);
    assert_goaway(&mut raw, Http2ErrorCode::CompressionError);
}

#[test]
fn frames_can_be_split_at_any_byte() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let frames = [
        auth_frame(1),
        verify(3),
        frame(
            kind::DATA,
            0x8,
            3,
            [&[3][..], &fixture::good_token().as_bytes()[..10], &[0; 3]].concat(),
        ),
        frame(kind::PING, flag::NONE, 0, *b"whatever"),
        end(3, &fixture::good_token()[10..]),
        beginning(5),
        frame(kind::CONTINUATION, flag::END_HEADERS, 5, section(&[("x", "y")])),
    ];
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    let token = fixture::good_token().len();
    // Within a long body only every fiftieth position is tried.
    let cuts = (0..bytes.len())
        .filter(|cut| *cut < 300 || *cut + 200 > bytes.len() || cut % 50 == 0 || token < 100);
    for cut in cuts {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = RawConnection::over(stream);
        raw.send_preface(&[]);
        raw.send_raw(&bytes[..cut]);
        std::thread::sleep(std::time::Duration::from_micros(500));
        raw.send_raw(&bytes[cut..]);
        let (mut statuses, mut pongs) = (Vec::new(), 0);
        while statuses.len() < 3 {
            let frame = raw.receive().expect("an answer on each stream");
            match frame.kind {
                kind::HEADERS => statuses.push((frame.stream, frame.status())),
                kind::PING => pongs += 1,
                _ => assert!(
                    [kind::DATA, kind::SETTINGS, kind::WINDOW_UPDATE].contains(&frame.kind),
                    "{frame:?}"
                ),
            }
        }
        statuses.sort_unstable();
        assert_eq!((statuses, pongs), (vec![(1, 401), (3, 200), (5, 401)], 1), "cut at {cut}");
    }
}
