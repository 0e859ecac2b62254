//! Floods, and bugs of the HTTP/3 libraries that floods uncovered. Each flood keeps to its memory
//! limit while other clients are served.

use countersign_front::http3::error::Http3ErrorCode;
use countersign_tests::{
    binary::{NO_BUDGETS, Server},
    quic::{QuicClient, error_code, frame, headers, integer, request},
};

use super::{Fixture, auth_request};
use crate::hardening::kilobytes;

/// Returns the server's resident memory, in KiB.
fn memory(server: &Server<'_>) -> u64 {
    kilobytes(server, "VmRSS")
}

/// h3 0.0.8 panics when a request has more fields than its header map can hold.
#[test]
fn too_many_fields_get_431() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let many: Vec<_> = (0..200).map(|_| ("a", "")).collect();
    assert_eq!(client.request(&request("GET", "/auth", &many)).unwrap().status, 431);
    // One byte per field, so that the fields fit into the limit for a frame.
    let mut section = vec![0, 0];
    section.extend(std::iter::repeat_n(0xc0 | 4, 60_000));
    assert_eq!(client.request(&frame(0x1, &section)).unwrap().status, 431);
    let long = "x".repeat(66_000);
    assert_eq!(client.request(&request("GET", "/auth", &[("x-long", &long)])).unwrap().status, 431);
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
}

/// h3-quinn 0.0.10 panics when a stream is stopped while it is read.
#[test]
fn reset_while_reading_the_body_is_harmless() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    for bytes in [
        request("POST", "/v1/verify", &[]),
        request("POST", "/v1/verify", &[("content-length", "1000")]),
    ] {
        for piece in [&b""[..], b"abc"] {
            let (mut send, mut receive) = client.open(&[bytes.clone(), frame(0, piece)].concat());
            send.reset(error_code(Http3ErrorCode::RequestCancelled)).unwrap();
            assert_eq!(
                client.receive_response(&mut receive),
                Err(error_code(Http3ErrorCode::RequestCancelled))
            );
            let (_send, mut receive) = client.open(&bytes);
            receive.stop(error_code(Http3ErrorCode::RequestCancelled)).unwrap();
        }
    }
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
    assert!(!server.log().contains("panicked"));
}

/// h3 0.0.8 buffers unknown frames until they are complete.
#[test]
fn unknown_frames_are_not_buffered() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let before = memory(&server);
    let (mut send, mut receive) =
        client.open(&[request("POST", "/v1/verify", &[]), integer(0x21).into()].concat());
    // The frame announces the maximum length.
    client.wait(send.write_all(&integer((1 << 62) - 1))).unwrap();
    let piece = vec![7; 1 << 20];
    for _ in 0..64 {
        client.wait(send.write_all(&piece)).unwrap();
    }
    assert!(memory(&server) < before + 12 * 1024, "{} KiB, {before} before", memory(&server));
    send.reset(error_code(Http3ErrorCode::RequestCancelled)).unwrap();
    assert_eq!(
        client.receive_response(&mut receive),
        Err(error_code(Http3ErrorCode::RequestCancelled))
    );
    let mut control = client.open_one_way(
        &[&integer(0)[..], &frame(0x4, b""), &integer(0x21), &integer((1 << 62) - 1)].concat(),
    );
    for _ in 0..16 {
        client.wait(control.write_all(&piece)).unwrap();
    }
    assert!(memory(&server) < before + 12 * 1024, "{} KiB, {before} before", memory(&server));
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
}

/// Rapid reset, CVE-2023-44487.
#[test]
fn rapid_resets_exhaust_the_budget() {
    let fixture = Fixture::new();
    let server = fixture.serve(NO_BUDGETS);
    let other = fixture.connect(&server);
    assert_eq!(other.request(&auth_request()).unwrap().status, 200);
    let before = memory(&server);
    for _ in 0..4 {
        assert_closed_for_abuse(&fixture.connect(&server));
        assert_eq!(other.request(&auth_request()).unwrap().status, 200);
    }
    assert!(memory(&server) < before + 16 * 1024, "{} KiB, {before} before", memory(&server));
}

/// Resets requests until the server closes the connection with H3_EXCESSIVE_LOAD.
#[track_caller]
fn assert_closed_for_abuse(client: &QuicClient) {
    let auth_request = auth_request();
    let closed = client.wait(async {
        for _ in 0..100_000 {
            let Ok((mut send, mut receive)) = client.connection.open_bi().await else { break };
            let _ignored = send.write_all(&auth_request).await;
            let _ignored = send.reset(error_code(Http3ErrorCode::RequestCancelled));
            let _ignored = receive.stop(error_code(Http3ErrorCode::RequestCancelled));
        }
        client.connection.close_reason()
    });
    assert!(closed.is_some(), "the connection was not closed");
    assert_eq!(client.close_code(), Http3ErrorCode::ExcessiveLoad.number());
}

/// Each is a request that the server has decoded for nothing (MadeYouReset, CVE-2025-8671).
#[test]
fn malformed_requests_exhaust_the_budget() {
    let fixture = Fixture::new();
    let server = fixture.serve(NO_BUDGETS);
    let body = frame(0, b"token=x");
    for bytes in [
        request("GET", "/auth", &[("Bad", "")]),
        request("GET", "/auth", &[("content-length", "30")]),
        [&request("POST", "/v1/verify", &[])[..], &body, &request("GET", "/", &[])].concat(),
        Vec::new(),
    ] {
        let client = fixture.connect(&server);
        let closed = client.wait(async {
            for _ in 0..10_000 {
                let Ok((mut send, _receive)) = client.connection.open_bi().await else { break };
                let _ignored = send.write_all(&bytes).await;
                let _ignored = send.finish();
            }
            client.connection.close_reason()
        });
        assert!(closed.is_some(), "the connection was not closed");
        assert_eq!(client.close_code(), Http3ErrorCode::ExcessiveLoad.number());
    }
    assert_eq!(server.metric("countersign_connections_cut_off_total"), 4);
    assert_eq!(fixture.connect(&server).request(&auth_request()).unwrap().status, 200);
}

#[test]
fn repeated_abuse_delays_reconnects() {
    let fixture = Fixture::new();
    let server = fixture.serve(&format!("threads=1\n{NO_BUDGETS}"));
    let other = fixture.connect(&server);
    let delayed = || server.metric("countersign_connections_held_up_total");
    let mut count = 0;
    while delayed() == 0 {
        let crowd: Vec<_> = (0..12).map(|_| fixture.connect(&server)).collect();
        assert!(count > 0 || delayed() == 0, "the first connections must not be delayed");
        crowd.iter().for_each(assert_closed_for_abuse);
        count += 12;
        assert!(count < 120, "no connection was delayed");
        drop(fixture.connect(&server));
    }
    assert_eq!(server.metric("countersign_connections_cut_off_total"), count);
    assert_eq!(
        other.request(&auth_request()).unwrap().status,
        200,
        "open connections are not delayed"
    );
    assert_eq!(
        fixture.connect(&server).request(&auth_request()).unwrap().status,
        200,
        "delayed connections are not refused"
    );
}

#[test]
fn occasional_resets_are_tolerated() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let auth_request = auth_request();
    for _ in 0..600 {
        let (mut send, _receive) = client.open(&headers(&[(":method", "GET")])[..5]);
        send.reset(error_code(Http3ErrorCode::RequestCancelled)).unwrap();
        for _ in 0..2 {
            assert_eq!(client.request(&auth_request).unwrap().status, 200);
        }
    }
}

#[test]
fn open_streams_are_limited() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let waiting: Vec<_> =
        (0..128).map(|_| client.open(&request("POST", "/v1/verify", &[]))).collect();
    let another = client.connection.open_bi();
    let is_refused = client.wait(async {
        tokio::time::timeout(std::time::Duration::from_millis(300), another).await.is_err()
    });
    assert!(is_refused, "the limit is 128 streams");
    for (mut send, mut receive) in waiting {
        client.wait(send.write_all(&frame(0, b"a.b.c"))).unwrap();
        send.finish().unwrap();
        assert_eq!(client.receive_response(&mut receive).unwrap().status, 401);
    }
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
}
