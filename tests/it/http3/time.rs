//! Timeouts and the end of streams and connections.

use std::time::Duration;

use countersign_front::http3::error::Http3ErrorCode;
use countersign_tests::{
    eventually,
    quic::{QuicClient, error_code, frame, request},
};
use quinn::{TransportConfig, VarInt};

use super::{Fixture, auth_request};

#[test]
fn body_timeout_answers_408() {
    let fixture = Fixture::new();
    let server = fixture.serve("[limits]\nbody_timeout=1");
    let client = fixture.connect(&server);
    let (_send, mut receive) =
        client.open(&[request("POST", "/v1/verify", &[]), frame(0, b"a.b")].concat());
    assert_eq!(client.receive_response(&mut receive).unwrap().status, 408);
    let (_send, mut receive) = client.open(&auth_request()[..10]);
    assert_eq!(
        client.receive_response(&mut receive),
        Err(error_code(Http3ErrorCode::RequestCancelled)),
        "the request was incomplete"
    );
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
}

#[test]
fn oversized_body_is_refused_early() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    let (_send, mut receive) =
        client.open(&request("POST", "/v1/verify", &[("content-length", "100000000")]));
    assert_eq!(client.receive_response(&mut receive).unwrap().status, 413);
    let (mut send, mut receive) = client.open(&request("POST", "/v1/verify", &[]));
    let _ignored = client.wait(send.write_all(&frame(0, &vec![b'a'; 1 << 20])));
    assert_eq!(client.receive_response(&mut receive).unwrap().status, 413);
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
}

#[test]
fn answer_follows_the_client_window() {
    let fixture = Fixture::new();
    let server = fixture.serve("[limits]\nbody_timeout=1");
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(16));
    let client = QuicClient::connect_with(&fixture.tls(), server.address, transport).unwrap();
    let bytes =
        [request("POST", "/v1/verify", &[]), frame(0, crate::fixture::good_token().as_bytes())]
            .concat();
    let answer = client.request(&bytes).unwrap();
    assert!(answer.status == 200 && answer.body.ends_with('}'), "{answer:?}");
    // An answer that is not read at all is reset.
    let (mut send, mut receive) = client.open(&bytes);
    send.finish().unwrap();
    eventually(|| {
        let reset = client.wait(async {
            tokio::time::timeout(Duration::from_millis(10), receive.received_reset()).await
        });
        matches!(reset, Ok(Ok(Some(code))) if code == error_code(Http3ErrorCode::RequestCancelled))
    });
    assert_eq!(client.request(&bytes).unwrap().status, 200, "the connection stays open");
}

#[test]
fn idle_timeout_closes_with_no_error() {
    let fixture = Fixture::new();
    let server = fixture.serve("threads=2\n[limits]\nidle_timeout=2");
    let mut transport = TransportConfig::default();
    // QUIC keep-alives are not requests.
    transport.keep_alive_interval(Some(Duration::from_millis(100)));
    let client = QuicClient::connect_with(&fixture.tls(), server.address, transport).unwrap();
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
    assert_eq!(client.close_code(), Http3ErrorCode::NoError.number());
    let open = || {
        ["0", "1"]
            .map(|worker| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}")))
    };
    // The worker counts the connection until it has drained.
    eventually(|| open() == [0, 0]);
}

#[test]
fn drain_sends_goaway_and_finishes_requests() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let client = fixture.connect(&server);
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
    // Half of a request has been sent.
    let whole = [request("POST", "/v1/verify", &[]), frame(0, b"a.b.c")].concat();
    let (mut send, mut receive) = client.open(&whole[..whole.len() - 1]);
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
    server.signal("TERM");
    let mut control = client.wait(client.connection.accept_uni()).unwrap();
    let mut received = Vec::new();
    eventually(|| {
        let mut bytes = [0; 64];
        let read = client.wait(async {
            tokio::time::timeout(Duration::from_millis(10), control.read(&mut bytes)).await
        });
        if let Ok(Ok(Some(length))) = read {
            received.extend_from_slice(&bytes[..length]);
        }
        // GOAWAY after SETTINGS.
        received.windows(2).any(|bytes| bytes == [0x7, 1])
    });
    assert_eq!(
        client.request(&auth_request()),
        Err(error_code(Http3ErrorCode::RequestRejected)),
        "no new request is answered"
    );
    client.wait(send.write_all(&whole[whole.len() - 1..])).unwrap();
    send.finish().unwrap();
    assert_eq!(
        client.receive_response(&mut receive).unwrap().status,
        401,
        "requests in progress are answered"
    );
    assert_eq!(client.close_code(), Http3ErrorCode::NoError.number());
    let (status, _) = server.stop("CONT");
    assert!(status.success(), "{status:?}");
}

#[test]
fn slow_stream_of_tokens_is_reset() {
    let fixture = Fixture::new();
    let server = fixture.serve("[limits]\nbody_timeout=1");
    let client = fixture.connect(&server);
    let line = crate::fixture::good_token() + "\n";
    let bytes = [request("POST", "/v1/verify/batch", &[]), frame(0, line.as_bytes())].concat();
    let (mut send, mut receive) = client.open(&bytes);
    // The time begins again with each answer, and ends before the next token.
    let _ignored = client.wait(send.write_all(&frame(0, b"a.b")));
    assert_eq!(
        client.receive_response(&mut receive),
        Err(error_code(Http3ErrorCode::RequestCancelled))
    );
    assert_eq!(client.request(&auth_request()).unwrap().status, 200);
}
