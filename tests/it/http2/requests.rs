use std::collections::HashSet;

use countersign_front::http2::error::Http2ErrorCode;
use countersign_tests::{
    binary::Sandbox,
    frames::{Frame, RawConnection, flag, kind, section, setting},
};

use super::{
    assert_answered_early, assert_goaway, assert_healthy, assert_reset, assert_served, auth_frame,
    client, end, fields, serve, verify,
};
use crate::fixture;

#[test]
fn streams_are_answered_in_any_order() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    let streams: Vec<_> = (0..128).map(|number| 2 * number + 1).collect();
    raw.send(&streams.iter().map(|stream| verify(*stream)).collect::<Vec<_>>());
    raw.send(
        &streams.iter().rev().map(|stream| end(*stream, fixture::good_token())).collect::<Vec<_>>(),
    );
    let mut unanswered: HashSet<_> = streams.into_iter().collect();
    while !unanswered.is_empty() {
        let frame = raw.receive().expect("an answer on each stream");
        if frame.kind == kind::HEADERS {
            assert_eq!(frame.status(), 200);
            assert!(unanswered.remove(&frame.stream), "answered twice: {frame:?}");
        }
    }
}

#[test]
fn many_short_requests_are_all_answered() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    let streams = || (0..1500).map(|number| 2 * number + 1);
    raw.send(&streams().map(auth_frame).collect::<Vec<_>>());
    for stream in streams() {
        assert_eq!(raw.receive_status(stream), 401);
    }
}

#[test]
fn stream_above_the_limit_is_refused() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&(0..128).map(|number| verify(2 * number + 1)).collect::<Vec<_>>());
    raw.send(&[auth_frame(257)]);
    assert_eq!(
        raw.receive_frame(kind::RST_STREAM, 257).code(),
        Http2ErrorCode::RefusedStream.number()
    );
    // A stream that ends makes room for another.
    raw.send(&[end(3, fixture::good_token())]);
    assert_eq!(raw.receive_status(3), 200);
    assert_served(&mut raw, 259);
}

#[test]
fn oversized_head_gets_431() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut client = client(&server);
    let problem = |answer: countersign_tests::http::Response| {
        (answer.status, answer.json()["code"].as_str().map(str::to_owned))
    };
    let lines = client.request(&format!("GET /auth HTTP/1.1\r\n{}", "X: y\r\n".repeat(200)), b"");
    assert_eq!(problem(lines), (431, Some("head_too_large".into())));
    assert_eq!(
        client.request(&format!("GET /auth HTTP/1.1\r\n{}", "X: y\r\n".repeat(199)), b"").status,
        401
    );
    let large =
        client.request(&format!("GET /auth HTTP/1.1\r\nX: {}\r\n", "y".repeat(65 * 1024)), b"");
    assert_eq!(problem(large), (431, Some("head_too_large".into())));
    assert_eq!(
        client
            .request(&format!("GET /auth HTTP/1.1\r\nX: {}\r\n", "y".repeat(62 * 1024)), b"")
            .status,
        401
    );
    assert_healthy(&server);
}

#[test]
fn authority_and_host_must_agree() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    let base = [(":method", "GET"), (":scheme", "http"), (":path", "/auth")];
    let good: [&[(&str, &str)]; 3] =
        [&[(":authority", "t")], &[(":authority", "t"), ("host", "T")], &[("host", "t")]];
    let malformed: [&[(&str, &str)]; 7] = [
        &[],
        &[(":authority", "t"), ("host", "other")],
        &[(":authority", "t"), ("host", "")],
        &[(":authority", "t"), ("host", "t"), ("host", "t")],
        &[("host", "t"), ("host", "other")],
        &[("host", "a, b")],
        &[(":authority", "user@t")],
    ];
    let mut streams = (0..).map(|number| 4 * number + 1);
    for (stream, names) in streams.by_ref().zip(good) {
        raw.send(&[Frame::request(stream, &[&base, names].concat())]);
        assert_eq!(raw.receive_status(stream), 401, "{names:?}");
    }
    for (stream, names) in streams.zip(malformed) {
        raw.send(&[Frame::request(stream, &[&base, names].concat())]);
        assert_reset(&mut raw, stream, Http2ErrorCode::ProtocolError);
    }
}

#[test]
fn malformed_request_resets_only_its_stream() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    let with = |field: (&'static str, &'static str)| [fields("GET", "/auth"), vec![field]].concat();
    let malformed = [
        with(("connection", "close")),
        with(("connection", "authorization")),
        with(("keep-alive", "5")),
        with(("proxy-connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("upgrade", "websocket")),
        with(("te", "gzip")),
        with((":path", "/v1/verify")),
        with(("content-length", "x")),
        with(("content-length", "5")),
        vec![
            (":method", "GET"),
            (":scheme", "http"),
            ("x", "y"),
            (":path", "/auth"),
            (":authority", "t"),
        ],
        vec![(":scheme", "http"), (":path", "/auth"), (":authority", "t")],
        vec![(":method", "GET"), (":path", "/auth"), (":authority", "t")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "t")],
        fields("GET", ""),
    ];
    for (stream, fields) in (0..).map(|number| 4 * number + 1).zip(malformed) {
        raw.send(&[Frame::request(stream, &fields)]);
        let reset = raw.receive_frame(kind::RST_STREAM, stream);
        assert_eq!(reset.code(), Http2ErrorCode::ProtocolError.number(), "{fields:?}");
        assert_served(&mut raw, stream + 2);
    }
    assert_healthy(&server);
}

#[test]
fn protocol_violation_ends_the_connection() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    for frames in [
        // An invalid field section, and a table size update above the limit.
        vec![Frame::new(kind::HEADERS, flag::END_HEADERS, 1, *b"\xff\xff\xff\xff\xff\xff")],
        vec![Frame::new(kind::HEADERS, flag::END_HEADERS, 1, *b"\x3f\xff\xff\x7f\x82")],
        vec![Frame::new(kind::DATA, flag::NONE, 1, *b"x")],
        vec![Frame::new(kind::DATA, flag::NONE, 0, *b"x")],
        vec![auth_frame(2)],
        vec![auth_frame(3), auth_frame(1)],
        vec![Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, 1, *b"\0\0\0\x02\x82")],
        vec![Frame::new(kind::CONTINUATION, flag::END_HEADERS, 1, *b"\x82")],
        vec![
            Frame::new(kind::HEADERS, flag::NONE, 1, section(&fields("GET", "/auth"))),
            auth_frame(3),
        ],
        vec![Frame::new(kind::PING, flag::NONE, 0, *b"short")],
        vec![Frame::new(kind::SETTINGS, flag::NONE, 0, *b"short")],
        vec![Frame::new(kind::DATA, flag::NONE, 1, vec![0; 16 * 1024 + 1])],
        vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, u32::MAX)])],
        vec![Frame::new(kind::WINDOW_UPDATE, flag::NONE, 0, 0x7fff_ffffu32.to_be_bytes())],
    ] {
        let mut raw = RawConnection::open(server.address, &[]);
        raw.send(&frames);
        let received = raw.receive_all();
        let is_goaway = received.last().is_some_and(|last| {
            last.kind == kind::GOAWAY && last.code() != Http2ErrorCode::NoError.number()
        });
        assert!(is_goaway, "{frames:?}: {received:?}");
    }
    assert_healthy(&server);
}

#[test]
fn invalid_fields_are_never_answered() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let with = |field: (&'static str, &'static str)| [fields("GET", "/auth"), vec![field]].concat();
    for fields in [
        with(("X-Capital", "x")),
        with(("x y", "x")),
        with(("x\r\ny", "x")),
        with(("x", "a\r\nb")),
        with(("x", "a\0b")),
        with(("", "x")),
        with((":unknown", "x")),
        with((":status", "200")),
        fields("G T", "/auth"),
        fields("GET", "/a b"),
        fields("GET", "/a\tb"),
    ] {
        let mut raw = RawConnection::open(server.address, &[]);
        raw.send(&[Frame::request(1, &fields), Frame::new(kind::GOAWAY, flag::NONE, 0, [0; 8])]);
        let received = raw.receive_all();
        assert!(
            received.iter().all(|frame| frame.kind != kind::HEADERS),
            "{fields:?}: {received:?}"
        );
        let is_reset = |frame: &Frame| {
            frame.kind == kind::RST_STREAM && frame.code() == Http2ErrorCode::ProtocolError.number()
        };
        assert!(received.iter().any(is_reset), "{fields:?}: {received:?}");
    }
    assert_healthy(&server);
}

#[test]
fn unknown_frames_are_skipped() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[(0xf0f0, 5)]);
    raw.send(&[
        Frame::new(0x2, flag::NONE, 1, [0; 5]),
        Frame::new(0xbe, 0xff, 0, *b"grease"),
        Frame::new(0x10, 0, 0, *b"\0\0\0\0"),
    ]);
    // CVE-2026-27141: a server without a handler for the types above CONTINUATION panicked.
    for kind in 0xa..0x10 {
        raw.send(&[Frame::new(kind, flag::NONE, 0, [0; 8])]);
    }
    assert_served(&mut raw, 1);
}

#[test]
fn body_may_arrive_in_any_pieces() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    let token = fixture::good_token();
    let pieces = |stream: u32, size: usize| {
        let pieces = token
            .as_bytes()
            .chunks(size)
            .map(move |piece| Frame::new(kind::DATA, flag::NONE, stream, piece));
        [vec![verify(stream)], pieces.collect(), vec![end(stream, "")]].concat()
    };
    for (stream, size) in [(1, 1), (3, 2), (5, 100), (7, 10_000)] {
        raw.send(&pieces(stream, size));
        assert_eq!(raw.receive_status(stream), 200, "{size} at a time");
    }
    // Two streams whose frames alternate.
    let turns = pieces(9, 3).into_iter().zip(pieces(11, 3)).flat_map(|(one, other)| [one, other]);
    raw.send(&turns.collect::<Vec<_>>());
    assert_eq!((raw.receive_status(9), raw.receive_status(11)), (200, 200));
    // With trailers, and with padding.
    raw.send(&[
        verify(13),
        Frame::new(kind::DATA, flag::NONE, 13, token.as_bytes()),
        Frame::request(13, &[("x-trailer", "y")]),
    ]);
    assert_eq!(raw.receive_status(13), 200);
    let padded = [&[5], token.as_bytes(), &[0; 5]].concat();
    raw.send(&[verify(15), Frame::new(kind::DATA, 0x8 | flag::END_STREAM, 15, padded)]);
    assert_eq!(raw.receive_status(15), 200);
}

#[test]
fn body_length_must_match_content_length() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    let head = |stream: u32, length: &'static str| {
        Frame::head(
            stream,
            &[fields("POST", "/v1/verify"), vec![("content-length", length)]].concat(),
        )
    };
    raw.send(&[head(1, "5"), end(1, "a.b.c")]);
    assert_eq!(raw.receive_status(1), 401);
    for (stream, length) in [(3, "4"), (7, "6"), (11, "0"), (15, "99999999999999999999")] {
        raw.send(&[head(stream, length), end(stream, "a.b.c")]);
        assert_reset(&mut raw, stream, Http2ErrorCode::ProtocolError);
    }
}

#[test]
fn oversized_body_is_refused_early() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut client = client(&server);
    for length in [65_537, 1_000_000] {
        let answer = client.request("POST /v1/verify HTTP/1.1\r\n", &vec![b'a'; length]);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("body_too_large")));
    }
    let mut raw = RawConnection::open(server.address, &[]);
    let piece = |stream| Frame::new(kind::DATA, flag::NONE, stream, [b'a'; 16 * 1024]);
    // Refused by its Content-Length, and by the data received.
    raw.send(&[Frame::head(
        1,
        &[fields("POST", "/v1/verify"), vec![("content-length", "65537")]].concat(),
    )]);
    assert_answered_early(&mut raw, 1, 413);
    raw.send(&[verify(5), piece(5), piece(5), piece(5)]);
    raw.receive_frame(kind::WINDOW_UPDATE, 5);
    raw.send(&[piece(5), piece(5)]);
    assert_answered_early(&mut raw, 5, 413);
}

#[test]
fn auth_does_not_wait_for_its_body() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    // A proxy that forwards the client's Content-Length without the body.
    raw.send(&[Frame::head(
        1,
        &[fields("GET", "/auth"), vec![("content-length", "1000")]].concat(),
    )]);
    assert_answered_early(&mut raw, 1, 401);
    // Data that arrives anyway is discarded and does not use up the connection window.
    let piece = Frame::new(kind::DATA, flag::NONE, 1, [b'a'; 16 * 1024]);
    for number in 0..100 {
        raw.send(std::slice::from_ref(&piece));
        assert_served(&mut raw, 2 * number + 5);
    }
}

#[test]
fn body_timeout_answers_408() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nbody_timeout=1");
    let mut raw = RawConnection::open(server.address, &[]);
    raw.send(&[verify(1), Frame::new(kind::DATA, flag::NONE, 1, "abc")]);
    assert_answered_early(&mut raw, 1, 408);
    assert_eq!(
        server.metric(
            "countersign_requests_total{route=\"verify\",status=\"408\",http_version=\"2\"}"
        ),
        1
    );
}

#[test]
fn unread_answer_is_cancelled() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nbody_timeout=1");
    let mut raw = RawConnection::open(server.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    raw.send(&[verify(1), end(1, fixture::good_token())]);
    assert_eq!(raw.receive_status(1), 200);
    assert_reset(&mut raw, 1, Http2ErrorCode::Cancel);
    // An answer that is read slowly, but in time, is sent completely.
    raw.send(&[verify(5), end(5, fixture::good_token())]);
    assert_eq!(raw.receive_status(5), 200);
    let mut body = Vec::new();
    loop {
        raw.send(&[Frame::new(kind::WINDOW_UPDATE, flag::NONE, 5, 100u32.to_be_bytes())]);
        let piece = raw.receive_frame(kind::DATA, 5);
        assert!(piece.payload.len() <= 100);
        body.extend(piece.payload);
        if piece.flags & flag::END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["ok"], true);
}

#[test]
fn client_goaway_closes_the_connection() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    assert_served(&mut raw, 1);
    raw.send(&[Frame::new(kind::GOAWAY, flag::NONE, 0, [0; 8])]);
    assert_goaway(&mut raw, Http2ErrorCode::NoError);
    assert_healthy(&server);
}
