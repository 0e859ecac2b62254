use std::net::TcpStream;

use countersign_tests::{
    binary::{Sandbox, Server},
    frames::{Frame, PREFACE, Raw, code, flag, kind, section, setting},
    grpc::{CHECK, framed},
};

use super::{end, fields, question, serve, served, taken_back, told_to_go, unharmed, verify};
use crate::given;

/// What a client is told that sends this, behind its preface and its settings.
#[track_caller]
fn ends_with(server: &Server<'_>, expected: u32, frames: &[Frame]) {
    let mut raw = Raw::open(server.address, &[]);
    raw.send(frames);
    let said = raw.receive_all();
    let last = said.iter().rfind(|frame| frame.kind == kind::GOAWAY);
    assert_eq!(last.map(Frame::code), Some(expected), "{frames:?}: {said:?}");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind, flags, stream, payload)
}

fn update(stream: u32, more: u32) -> Frame {
    frame(kind::WINDOW_UPDATE, flag::NONE, stream, more.to_be_bytes())
}

/// The first part of a head.
fn beginning(stream: u32) -> Frame {
    frame(kind::HEADERS, flag::END_STREAM, stream, section(&fields("GET", "/auth")))
}

#[test]
fn a_frame_has_the_length_that_it_must_have() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    for frames in [
        vec![frame(kind::PING, flag::NONE, 0, [0; 7])],
        vec![frame(kind::PING, flag::NONE, 0, [0; 9])],
        vec![frame(kind::SETTINGS, flag::NONE, 0, [0; 5])],
        vec![frame(kind::SETTINGS, flag::ACK, 0, [0; 6])],
        vec![frame(kind::GOAWAY, flag::NONE, 0, [0; 7])],
        vec![question(1), frame(kind::RST_STREAM, flag::NONE, 1, [0; 3])],
        vec![question(1), frame(kind::WINDOW_UPDATE, flag::NONE, 1, [0; 5])],
        vec![frame(kind::WINDOW_UPDATE, flag::NONE, 0, [0; 3])],
        vec![frame(0x2, flag::NONE, 1, [0; 4])],
        vec![verify(1), frame(kind::DATA, flag::NONE, 1, [0; 16 * 1024 + 1])],
        vec![frame(0xbe, flag::NONE, 0, [0; 16 * 1024 + 1])],
        vec![frame(kind::HEADERS, flag::END_HEADERS | 0x20, 1, [0; 4])],
        vec![frame(kind::HEADERS, flag::END_HEADERS | 0x8, 1, [])],
        vec![verify(1), frame(kind::DATA, 0x8, 1, [])],
    ] {
        ends_with(&server, code::FRAME_SIZE_ERROR, &frames);
    }
    // What is not longer than a frame may be is one.
    let mut raw = Raw::open(server.address, &[]);
    raw.send(&[frame(0xbe, flag::NONE, 0, [0; 16 * 1024])]);
    served(&mut raw, 1);
    // The length of a priority is a matter of its stream.
    raw.send(&[frame(0x2, flag::NONE, 1, [0; 6])]);
    taken_back(&mut raw, 1, code::FRAME_SIZE_ERROR);
    unharmed(&server);
}

#[test]
fn a_frame_is_about_what_it_can_be_about() {
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
        vec![question(1), frame(kind::CONTINUATION, flag::END_HEADERS, 1, [0x82])],
        // A stream that is idle has nothing but a head.
        vec![frame(kind::DATA, flag::NONE, 1, "x")],
        vec![question(1), frame(kind::DATA, flag::NONE, 3, "x")],
        vec![frame(kind::RST_STREAM, flag::NONE, 1, [0; 4])],
        vec![update(1, 1)],
        vec![question(3), update(2, 1)],
        // Numbers are odd and go up.
        vec![question(2)],
        vec![question(3), question(1)],
        vec![question(3), question(3)],
        vec![
            question(1),
            frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, section(&[("x", "y")])),
        ],
    ] {
        ends_with(&server, code::PROTOCOL_ERROR, &frames);
    }
    unharmed(&server);
}

#[test]
fn settings_come_first_and_within_their_bounds() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    for first in [
        question(1),
        frame(kind::PING, flag::NONE, 0, [0; 8]),
        update(0, 1),
        frame(0xbe, flag::NONE, 0, []),
        frame(kind::SETTINGS, flag::ACK, 0, []),
    ] {
        let mut raw = Raw::over(TcpStream::connect(server.address).unwrap());
        raw.send_raw(PREFACE);
        raw.send(&[first]);
        told_to_go(&mut raw, code::PROTOCOL_ERROR);
    }
    for (name, value, expected) in [
        (0x2, 2, code::PROTOCOL_ERROR),
        (0x5, 16_383, code::PROTOCOL_ERROR),
        (0x5, 1 << 24, code::PROTOCOL_ERROR),
        (setting::INITIAL_WINDOW_SIZE, 1 << 31, code::FLOW_CONTROL_ERROR),
        (setting::INITIAL_WINDOW_SIZE, u32::MAX, code::FLOW_CONTROL_ERROR),
    ] {
        ends_with(&server, expected, &[Frame::settings(&[(name, value)])]);
    }
    let mut raw = Raw::open(
        server.address,
        &[(0x2, 0), (0x2, 1), (0x5, 16_384), (0x5, (1 << 24) - 1), (0xf0f0, u32::MAX)],
    );
    served(&mut raw, 1);
}

#[test]
fn nothing_stands_between_the_parts_of_a_head() {
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
        Frame::reset(1, code::CANCEL),
        question(3),
        rest(3),
    ] {
        ends_with(&server, code::PROTOCOL_ERROR, &[beginning(1), between, rest(1)]);
    }
    let mut raw = Raw::open(server.address, &[]);
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
    assert_eq!(raw.answer(1), 401);
}

#[test]
fn padding_is_passed_over_and_no_longer_than_its_frame() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    const PADDED: u8 = 0x8;
    let padded = |length: u8, payload: &[u8], padding: usize| {
        [&[length], payload, &vec![0; padding]].concat()
    };
    for (length, payload, padding) in [(1, &b""[..], 0), (5, b"abcd", 0), (255, b"x", 253)] {
        let payload = padded(length, payload, padding);
        ends_with(
            &server,
            code::PROTOCOL_ERROR,
            &[verify(1), frame(kind::DATA, PADDED, 1, payload.clone())],
        );
        ends_with(
            &server,
            code::PROTOCOL_ERROR,
            &[frame(kind::HEADERS, flag::END_HEADERS | PADDED, 1, payload)],
        );
    }
    let mut raw = Raw::open(server.address, &[]);
    let head = section(&fields("POST", "/v1/verify"));
    let weighed = [&[0, 0, 0, 0, 16][..], &head].concat();
    raw.send(&[
        frame(kind::HEADERS, flag::END_HEADERS | PADDED | 0x20, 1, padded(200, &weighed, 200)),
        frame(kind::DATA, PADDED, 1, padded(10, b"", 10)),
        frame(
            kind::DATA,
            PADDED | flag::END_STREAM,
            1,
            padded(255, given::good_token().as_bytes(), 255),
        ),
    ]);
    assert_eq!(raw.answer(1), 200);
}

#[test]
fn windows_have_bounds() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    const MOST: u32 = (1 << 31) - 1;
    ends_with(&server, code::FLOW_CONTROL_ERROR, &[update(0, MOST)]);
    ends_with(&server, code::PROTOCOL_ERROR, &[update(0, 0)]);
    let mut raw = Raw::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 10)]);
    raw.send(&[verify(1), update(1, MOST)]);
    taken_back(&mut raw, 1, code::FLOW_CONTROL_ERROR);
    raw.send(&[verify(5), update(5, 0)]);
    taken_back(&mut raw, 5, code::PROTOCOL_ERROR);
    raw.send(&[verify(9), update(9, MOST - 10), end(9, given::good_token())]);
    assert_eq!(raw.answer(9), 200);
    // One that waits has a window which settings take beyond all bounds.
    let mut raw = Raw::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    raw.send(&[
        verify(1),
        update(1, 1000),
        Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, MOST)]),
    ]);
    told_to_go(&mut raw, code::FLOW_CONTROL_ERROR);
    // What is said of a stream that was answered is late, and no mistake.
    let mut raw = Raw::open(server.address, &[]);
    raw.send(&[question(1), update(1, MOST), update(1, MOST), update(1, 0)]);
    assert_eq!(raw.answer(1), 401);
    served(&mut raw, 3);
    unharmed(&server);
}

#[test]
fn an_answer_goes_on_as_windows_are_widened_or_changed() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = Raw::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    raw.send(&[verify(1), end(1, given::good_token())]);
    assert_eq!(raw.answer(1), 200);
    let mut body = Vec::new();
    for window in [20, 50, 40, 60] {
        // Forty is less than what was sent: there is a debt of ten.
        raw.send(&[Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, window)])]);
        // That they are known comes before what they allow.
        let known = raw.receive().expect("an acknowledgement");
        assert_eq!((known.kind, known.flags), (kind::SETTINGS, flag::ACK));
        while body.len() < window as usize {
            body.extend(raw.receive_of(kind::DATA, 1).payload);
        }
        assert!(body.len() <= 60);
    }
    assert_eq!(body.len(), 60);
    raw.send(&[update(1, 100_000)]);
    loop {
        let piece = raw.receive_of(kind::DATA, 1);
        body.extend(piece.payload);
        if piece.flags & flag::END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["ok"], true);
}

#[test]
fn a_body_on_its_way_leaves_an_answer_that_waits_alone() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = Raw::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let head =
        Frame::head(1, &[fields("POST", "/v1/verify"), vec![("content-length", "70000")]].concat());
    raw.send(&[vec![head], vec![frame(kind::DATA, flag::NONE, 1, [b'a'; 16 * 1024]); 4]].concat());
    assert_eq!(raw.answer(1), 413);
    raw.send(&[update(1, 100_000)]);
    assert_ne!(raw.receive_of(kind::DATA, 1).flags & flag::END_STREAM, 0);
    taken_back(&mut raw, 1, code::NO_ERROR);
    // More than that is too much whether it is read or not.
    raw.send(&[Frame::head(
        5,
        &[fields("POST", "/v1/verify"), vec![("content-length", "70000")]].concat(),
    )]);
    assert_eq!(raw.answer(5), 413);
    raw.send(&vec![frame(kind::DATA, flag::NONE, 5, [b'a'; 16 * 1024]); 5]);
    taken_back(&mut raw, 5, code::FLOW_CONTROL_ERROR);
}

#[test]
fn what_comes_behind_the_end_of_a_stream_is_told_so() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = Raw::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    // One that is answered, and one that is answered slowly.
    raw.send(&[question(1), frame(kind::DATA, flag::NONE, 1, "x")]);
    taken_back(&mut raw, 1, code::STREAM_CLOSED);
    for late in [frame(kind::DATA, flag::NONE, 5, "x"), Frame::head(5, &[("x", "y")])] {
        let mut raw = Raw::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        raw.send(&[verify(5), end(5, given::good_token()), late]);
        taken_back(&mut raw, 5, code::STREAM_CLOSED);
    }
    // Behind an answer that did not wait for it, it is only late.
    raw.send(&[Frame::head(9, &fields("GET", "/auth"))]);
    assert_eq!(raw.answer(9), 401);
    assert_eq!(raw.receive_of(kind::RST_STREAM, 9).code(), code::NO_ERROR);
    raw.send(&[
        frame(kind::DATA, flag::NONE, 9, "x"),
        frame(kind::HEADERS, 0x5, 9, section(&[("x", "y")])),
    ]);
    served(&mut raw, 11);
    unharmed(&server);
}

#[test]
fn trailers_end_a_body_and_are_no_head() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = Raw::open(server.address, &[]);
    let token = || frame(kind::DATA, flag::NONE, 0, given::good_token());
    let of = |stream, frame: Frame| Frame { stream, ..frame };
    raw.send(&[verify(1), of(1, token()), Frame::request(1, &[("x-checksum", "1")])]);
    assert_eq!(raw.answer(1), 200);
    for (stream, trailers) in [
        (3, Frame::request(3, &[(":path", "/auth")])),
        (7, Frame::request(7, &[("X", "y")])),
        (11, Frame::request(11, &[("connection", "close")])),
        (15, Frame::head(15, &[("x", "y")])),
    ] {
        raw.send(&[verify(stream), of(stream, token()), trailers]);
        taken_back(&mut raw, stream, code::PROTOCOL_ERROR);
    }
}

#[test]
fn a_table_that_a_client_makes_smaller_is_not_used() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    // The client has said so before it asks, and hears that it is known, once.
    let mut raw = Raw::open(server.address, &[]);
    raw.send(&[question(1), question(3)]);
    let heads = [1, 3].map(|stream| raw.receive_of(kind::HEADERS, stream).payload);
    assert_eq!(heads.map(|head| head[0] == 0x20), [true, false]);
    // One that it makes smaller while a call is being answered: the next section may be one
    // that is no head.
    let mut raw = Raw::over(TcpStream::connect(server.address).unwrap());
    raw.send_raw(PREFACE);
    let call =
        [fields("POST", CHECK), vec![("content-type", "application/grpc"), ("te", "trailers")]]
            .concat();
    raw.send(&[
        Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]),
        Frame::head(1, &call),
        end(1, framed(b"")),
    ]);
    let head = raw.receive_of(kind::HEADERS, 1);
    raw.send(&[
        Frame::settings(&[(setting::HEADER_TABLE_SIZE, 0)]),
        update(1, 100_000),
        question(3),
    ]);
    let sections = [head, raw.receive_of(kind::HEADERS, 1), raw.receive_of(kind::HEADERS, 3)];
    assert_eq!(
        sections.each_ref().map(|frame| frame.flags & flag::END_STREAM != 0),
        [false, true, true]
    );
    assert_eq!(sections.map(|frame| frame.payload[0] == 0x20), [false, true, false]);
}

#[test]
fn what_a_client_lets_us_remember_is_remembered_until_it_is_forgotten() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let token = format!("Bearer {}", given::good_token());
    let kept = |name: &str, value: &str| {
        let mut line = section(&[(name, value)]);
        line[0] = 0x40;
        line
    };
    let mut raw = Raw::open(server.address, &[]);
    let request = |stream: u32, lines: &[&[u8]]| {
        let head = [&section(&fields("GET", "/auth"))[..], &lines.concat()].concat();
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, head)
    };
    raw.send(&[request(1, &[&kept("authorization", &token)])]);
    assert_eq!(raw.answer(1), 200);
    raw.send(&[request(3, &[&[0x80 | 62]])]);
    assert_eq!(raw.answer(3), 200);
    // A request that nobody answers says something for later ones all the same.
    raw.send(&[request(5, &[&kept("connection", "x")])]);
    taken_back(&mut raw, 5, code::PROTOCOL_ERROR);
    raw.send(&[request(9, &[&[0x80 | 63]])]);
    assert_eq!(raw.answer(9), 200);
    // Not so over another connection.
    ends_with(&server, 0x9, &[request(1, &[&[0x80 | 62]])]);
    // Forgotten, with the size of the table.
    let emptied = |stream: u32, index: u8| {
        let head = [&[0x20][..], &section(&fields("GET", "/auth")), &[0x80 | index]].concat();
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, head)
    };
    raw.send(&[emptied(11, 62)]);
    told_to_go(&mut raw, 0x9);
}

#[test]
fn frames_are_the_same_wherever_they_are_cut() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let frames = [
        question(1),
        verify(3),
        frame(
            kind::DATA,
            0x8,
            3,
            [&[3][..], &given::good_token().as_bytes()[..10], &[0; 3]].concat(),
        ),
        frame(kind::PING, flag::NONE, 0, *b"whatever"),
        end(3, &given::good_token()[10..]),
        beginning(5),
        frame(kind::CONTINUATION, flag::END_HEADERS, 5, section(&[("x", "y")])),
    ];
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    let token = given::good_token().len();
    // Within the first and the last of a body nothing is to be seen.
    let cuts = (0..bytes.len())
        .filter(|cut| *cut < 300 || *cut + 200 > bytes.len() || cut % 50 == 0 || token < 100);
    for cut in cuts {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Raw::over(stream);
        raw.begin(&[]);
        raw.send_raw(&bytes[..cut]);
        std::thread::sleep(std::time::Duration::from_micros(500));
        raw.send_raw(&bytes[cut..]);
        let (mut statuses, mut pongs) = (Vec::new(), 0);
        while statuses.len() < 3 {
            let frame = raw.receive().expect("an answer to each");
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
