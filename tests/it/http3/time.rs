//! How long streams and connections may take, and their end.

use std::time::Duration;

use countersign_tests::{
    eventually,
    quic::{Client, frame, request},
};
use quinn::{TransportConfig, VarInt};

use super::{Given, question};

const NO_ERROR: u64 = 0x100;
const REQUEST_REJECTED: u32 = 0x10b;
const REQUEST_CANCELLED: u32 = 0x10c;

#[test]
fn a_body_that_does_not_end_is_answered_all_the_same() {
    let given = Given::new();
    let server = given.serve("[limits]\nbody_timeout=1");
    let client = given.connect(&server);
    let (_send, mut receive) =
        client.open(&[request("POST", "/v1/verify", &[]), frame(0, b"a.b")].concat());
    assert_eq!(client.answer(&mut receive).unwrap().status, 408);
    let (_send, mut receive) = client.open(&question()[..10]);
    assert_eq!(
        client.answer(&mut receive),
        Err(VarInt::from_u32(REQUEST_CANCELLED)),
        "there was no request"
    );
    assert_eq!(client.ask(&question()).unwrap().status, 200);
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_has_come() {
    let given = Given::new();
    let server = given.serve("");
    let client = given.connect(&server);
    let (_send, mut receive) =
        client.open(&request("POST", "/v1/verify", &[("content-length", "100000000")]));
    assert_eq!(client.answer(&mut receive).unwrap().status, 413);
    let (mut send, mut receive) = client.open(&request("POST", "/v1/verify", &[]));
    let _refused = client.wait(send.write_all(&frame(0, &vec![b'a'; 1 << 20])));
    assert_eq!(client.answer(&mut receive).unwrap().status, 413);
    assert_eq!(client.ask(&question()).unwrap().status, 200);
}

#[test]
fn an_answer_is_sent_as_the_client_takes_it() {
    let given = Given::new();
    let server = given.serve("[limits]\nbody_timeout=1");
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(16));
    let client = Client::connect_with(&given.tls(), server.address, transport).unwrap();
    let bytes =
        [request("POST", "/v1/verify", &[]), frame(0, crate::given::good_token().as_bytes())]
            .concat();
    let answer = client.ask(&bytes).unwrap();
    assert!(answer.status == 200 && answer.body.ends_with('}'), "{answer:?}");
    // And given up where it takes none.
    let (mut send, mut receive) = client.open(&bytes);
    send.finish().unwrap();
    eventually(|| {
        let reset = client.wait(async {
            tokio::time::timeout(Duration::from_millis(10), receive.received_reset()).await
        });
        matches!(reset, Ok(Ok(Some(code))) if code == VarInt::from_u32(REQUEST_CANCELLED))
    });
    assert_eq!(client.ask(&bytes).unwrap().status, 200, "the connection goes on");
}

#[test]
fn a_connection_without_requests_is_told_to_go() {
    let given = Given::new();
    let server = given.serve("threads=2\n[limits]\nidle_timeout=2");
    let mut transport = TransportConfig::default();
    // It says that it is there, but asks for nothing.
    transport.keep_alive_interval(Some(Duration::from_millis(100)));
    let client = Client::connect_with(&given.tls(), server.address, transport).unwrap();
    assert_eq!(client.ask(&question()).unwrap().status, 200);
    assert_eq!(client.closed(), NO_ERROR);
    let open = || {
        ["0", "1"]
            .map(|worker| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}")))
    };
    // What is still on its way is waited for.
    eventually(|| open() == [0, 0]);
}

#[test]
fn a_server_that_stops_answers_what_it_was_asked_and_says_goodbye() {
    let given = Given::new();
    let server = given.serve("");
    let client = given.connect(&server);
    assert_eq!(client.ask(&question()).unwrap().status, 200);
    // Half of a request is on its way.
    let whole = [request("POST", "/v1/verify", &[]), frame(0, b"a.b.c")].concat();
    let (mut send, mut receive) = client.open(&whole[..whole.len() - 1]);
    assert_eq!(client.ask(&question()).unwrap().status, 200);
    server.signal("TERM");
    let mut control = client.wait(client.connection.accept_uni()).unwrap();
    let mut said = Vec::new();
    eventually(|| {
        let mut bytes = [0; 64];
        let read = client.wait(async {
            tokio::time::timeout(Duration::from_millis(10), control.read(&mut bytes)).await
        });
        if let Ok(Ok(Some(length))) = read {
            said.extend_from_slice(&bytes[..length]);
        }
        // GOAWAY behind the settings.
        said.windows(2).any(|bytes| bytes == [0x7, 1])
    });
    assert_eq!(
        client.ask(&question()),
        Err(VarInt::from_u32(REQUEST_REJECTED)),
        "nothing new is answered"
    );
    client.wait(send.write_all(&whole[whole.len() - 1..])).unwrap();
    send.finish().unwrap();
    assert_eq!(client.answer(&mut receive).unwrap().status, 401, "what was asked is");
    assert_eq!(client.closed(), NO_ERROR);
    let (status, _) = server.stop("CONT");
    assert!(status.success(), "{status:?}");
}
