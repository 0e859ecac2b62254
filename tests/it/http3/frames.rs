//! Valid and invalid streams, and the error codes of the invalid ones.

use countersign_front::http3::error::Http3ErrorCode;
use countersign_tests::quic::{error_code, frame, headers, integer, request};

use super::{Fixture, auth_request};

#[test]
fn requests_may_arrive_in_any_pieces() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let whole = client.request(&auth_request()).unwrap();
    assert_eq!(
        (whole.status, whole.line("x-auth-subject"), whole.body.as_str()),
        (200, Some("bob"), "")
    );
    let auth_request = auth_request();
    for cut in [1, 3, 9, 20, auth_request.len() - 1] {
        let (mut send, mut receive) = client.open(&auth_request[..cut]);
        // Another request is not delayed by it.
        assert_eq!(client.request(&auth_request).unwrap().status, 200);
        client.wait(send.write_all(&auth_request[cut..])).unwrap();
        send.finish().unwrap();
        let answer = client.receive_response(&mut receive).unwrap();
        assert_eq!((answer.status, answer.line("x-auth-subject")), (200, Some("bob")));
    }
}

#[test]
fn auth_does_not_wait_for_its_body() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let (send, mut receive) = client.open(&[auth_request(), frame(0, b"more of it")].concat());
    assert_eq!(client.receive_response(&mut receive).unwrap().status, 200);
    assert_eq!(
        client.wait(send.stopped()).unwrap(),
        Some(error_code(Http3ErrorCode::NoError)),
        "the rest of the body is not read"
    );
}

#[test]
fn body_skips_unknown_frames() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let token = crate::fixture::good_token();
    let (one, other) = token.split_at(7);
    let strange = frame(0x21, &[7; 3000]);
    let lines = [("content-length", &*token.len().to_string())];
    let parts = [
        strange.clone(),
        request("POST", "/v1/verify", &lines),
        strange.clone(),
        frame(0, one.as_bytes()),
        frame(0, b""),
        strange.clone(),
        frame(0, other.as_bytes()),
        headers(&[("x-trailer", "ignored")]),
        strange,
    ];
    let answer = client.request(&parts.concat()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains(r#""subject":"bob""#));
}

#[test]
fn malformed_request_resets_only_its_stream() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let pseudo =
        [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/auth")];
    let with = |lines: &[(&str, &str)]| headers(&[&pseudo, lines].concat());
    let without =
        |name: &str| headers(&pseudo.into_iter().filter(|line| line.0 != name).collect::<Vec<_>>());
    for bytes in [
        without(":method"),
        without(":path"),
        without(":authority"),
        with(&[(":path", "/auth")]),
        with(&[(":status", "200")]),
        with(&[("X-Upper", "case")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("te", "gzip")]),
        with(&[("x-a", "line\nfeed")]),
        with(&[("host", "elsewhere")]),
        with(&[("content-length", "+1")]),
        headers(&[&[("x-first", "1")][..], &pseudo].concat()),
        [request("POST", "/v1/verify", &[("content-length", "5")]), frame(0, b"four")].concat(),
    ] {
        assert_eq!(client.request(&bytes), Err(error_code(Http3ErrorCode::MessageError)));
    }
    assert_eq!(client.request(b""), Err(error_code(Http3ErrorCode::RequestIncomplete)));
    assert_eq!(client.request(&auth_request()).unwrap().status, 200, "the connection stays open");
}

#[test]
fn protocol_violation_ends_the_connection() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    for (bytes, code) in [
        (frame(0, b"data"), Http3ErrorCode::FrameUnexpected),
        // The body of this route is read, so the frame after the head is parsed.
        (
            [request("POST", "/v1/verify", &[]), frame(0x4, b"")].concat(),
            Http3ErrorCode::FrameUnexpected,
        ),
        (frame(0x5, b"push"), Http3ErrorCode::FrameUnexpected),
        (frame(0x6, b"an HTTP/2 ping"), Http3ErrorCode::FrameUnexpected),
        (frame(0x1, &[1, 0]), Http3ErrorCode::QpackDecompressionFailed),
        (frame(0x1, &[0, 0, 0x80]), Http3ErrorCode::QpackDecompressionFailed),
        (integer(0x1).into(), Http3ErrorCode::FrameError),
    ] {
        let client = fixture.connect(&server);
        let (mut send, _receive) = client.open(&bytes);
        let _ignored = send.finish();
        assert_eq!(client.close_code(), code.number());
    }
    let settings = [integer(0).to_vec(), frame(0x4, b"")].concat();
    for (bytes, code) in [
        ([integer(0).to_vec(), frame(0x7, &[0])].concat(), Http3ErrorCode::MissingSettings),
        ([settings.clone(), frame(0x4, b"")].concat(), Http3ErrorCode::FrameUnexpected),
        ([integer(0).to_vec(), frame(0x4, &[0x2, 0])].concat(), Http3ErrorCode::SettingsError),
        ([settings.clone(), frame(0x0, b"data")].concat(), Http3ErrorCode::FrameUnexpected),
        (integer(1).into(), Http3ErrorCode::StreamCreationError),
        (
            [integer(2).to_vec(), vec![0x3f, 0xff, 0x01]].concat(),
            Http3ErrorCode::QpackEncoderStreamError,
        ),
    ] {
        let client = fixture.connect(&server);
        let _open = client.open_one_way(&bytes);
        assert_eq!(client.close_code(), code.number(), "{bytes:?}");
    }
    let client = fixture.connect(&server);
    let (_one, _other) = (client.open_one_way(&settings), client.open_one_way(&settings));
    assert_eq!(client.close_code(), Http3ErrorCode::StreamCreationError.number());
    let client = fixture.connect(&server);
    client.open_one_way(&settings).finish().unwrap();
    assert_eq!(client.close_code(), Http3ErrorCode::ClosedCriticalStream.number());
}

#[test]
fn unknown_unidirectional_streams_are_stopped() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    // More streams than may be open at a time.
    for _ in 0..40 {
        let stream = client.open_one_way(&[&integer(0x21)[..], &[0; 100]].concat());
        assert_eq!(
            client.wait(stream.stopped()).unwrap(),
            Some(error_code(Http3ErrorCode::StreamCreationError))
        );
    }
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
}

#[test]
fn settings_come_first_without_a_dynamic_table() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let mut control = client.wait(client.connection.accept_uni()).unwrap();
    let mut bytes = [0; 16];
    let length = client.wait(control.read(&mut bytes)).unwrap().unwrap();
    // The stream type, then SETTINGS.
    assert_eq!(&bytes[..2], [0, 4]);
    assert_eq!(usize::from(bytes[2]) + 3, length, "no frame after SETTINGS");
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
}

#[test]
fn grpc_status_is_sent_as_a_trailer() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let lines = [("content-type", "application/grpc"), ("te", "trailers")];
    let health =
        [request("POST", "/grpc.health.v1.Health/Check", &lines), frame(0, &[0; 5])].concat();
    let answer = client.request(&health).unwrap();
    assert_eq!((answer.status, answer.line("content-type")), (200, Some("application/grpc")));
    assert_eq!(answer.body.as_bytes(), [0, 0, 0, 0, 2, 8, 1], "one message: SERVING");
    let (mut send, mut receive) = client.open(&health);
    send.finish().unwrap();
    let bytes = client.wait(receive.read_to_end(1 << 16)).unwrap();
    let last = bytes.windows(11).position(|name| name == b"grpc-status").unwrap();
    // The value is a string of one character.
    assert_eq!(bytes[last + 11..], [1, b'0']);
    let unknown =
        [request("POST", "/grpc.health.v1.Health/List", &lines), frame(0, &[0; 5])].concat();
    assert_eq!(client.request(&unknown).unwrap().line("grpc-status"), Some("12"));
}
