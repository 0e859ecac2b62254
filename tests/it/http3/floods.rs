//! More than anybody needs, and the mistakes of others' libraries that it brought to
//! light: each takes no more memory than was meant for it, and others are served.

use countersign_tests::{
    binary::{NO_BUDGETS, Server},
    quic::{Client, frame, headers, integer, request},
};
use quinn::VarInt;

use super::{Given, question};
use crate::hardening::kilobytes;

const REQUEST_CANCELLED: u32 = 0x10c;
const EXCESSIVE_LOAD: u64 = 0x107;

/// What the server occupies, in KiB.
fn memory(server: &Server<'_>) -> u64 {
    kilobytes(server, "VmRSS")
}

/// h3 0.0.8 panics where a request has more lines than its header map can hold.
#[test]
fn more_lines_than_a_header_map_can_hold_are_refused() {
    let given = Given::new();
    let server = given.serve("");
    let client = given.connect(&server);
    let many: Vec<_> = (0..101).map(|_| ("a", "")).collect();
    assert_eq!(client.ask(&request("GET", "/auth", &many)).unwrap().status, 431);
    // One byte each, so that they fit into what may be sent of one frame.
    let mut section = vec![0, 0];
    section.extend(std::iter::repeat_n(0xc0 | 4, 30_000));
    assert_eq!(client.ask(&frame(0x1, &section)).unwrap().status, 431);
    let long = "x".repeat(33_000);
    assert_eq!(client.ask(&request("GET", "/auth", &[("x-long", &long)])).unwrap().status, 431);
    assert_eq!(client.ask(&question()).unwrap().status, 200);
}

/// h3-quinn 0.0.10 panics where a stream is stopped that is being read.
#[test]
fn a_request_that_is_taken_back_while_its_body_is_read_harms_nobody() {
    let given = Given::new();
    let server = given.serve("");
    let client = given.connect(&server);
    for bytes in [
        request("POST", "/v1/verify", &[]),
        request("POST", "/v1/verify", &[("content-length", "1000")]),
    ] {
        for piece in [&b""[..], b"abc"] {
            let (mut send, mut receive) = client.open(&[bytes.clone(), frame(0, piece)].concat());
            send.reset(VarInt::from_u32(REQUEST_CANCELLED)).unwrap();
            assert_eq!(client.answer(&mut receive), Err(VarInt::from_u32(REQUEST_CANCELLED)));
            let (_send, mut receive) = client.open(&bytes);
            receive.stop(VarInt::from_u32(REQUEST_CANCELLED)).unwrap();
        }
    }
    assert_eq!(client.ask(&question()).unwrap().status, 200);
    assert!(!server.log().contains("panicked"));
}

/// h3 0.0.8 collects frames that it does not know until they are all there.
#[test]
fn frames_that_nobody_knows_are_not_collected() {
    let given = Given::new();
    let server = given.serve("");
    let client = given.connect(&server);
    let before = memory(&server);
    let (mut send, mut receive) =
        client.open(&[request("POST", "/v1/verify", &[]), integer(0x21).into()].concat());
    // It says that it is longer than anything can be.
    client.wait(send.write_all(&integer((1 << 62) - 1))).unwrap();
    let piece = vec![7; 1 << 20];
    for _ in 0..64 {
        client.wait(send.write_all(&piece)).unwrap();
    }
    assert!(memory(&server) < before + 8 * 1024, "{} KiB, {before} before", memory(&server));
    send.reset(VarInt::from_u32(REQUEST_CANCELLED)).unwrap();
    assert_eq!(client.answer(&mut receive), Err(VarInt::from_u32(REQUEST_CANCELLED)));
    let mut control = client.open_one_way(
        &[&integer(0)[..], &frame(0x4, b""), &integer(0x21), &integer((1 << 62) - 1)].concat(),
    );
    for _ in 0..16 {
        client.wait(control.write_all(&piece)).unwrap();
    }
    assert!(memory(&server) < before + 8 * 1024, "{} KiB, {before} before", memory(&server));
    assert_eq!(client.ask(&question()).unwrap().status, 200);
}

/// Rapid reset, as of CVE-2023-44487.
#[test]
fn who_takes_back_what_it_asks_is_soon_not_listened_to() {
    let given = Given::new();
    let server = given.serve(NO_BUDGETS);
    let other = given.connect(&server);
    assert_eq!(other.ask(&question()).unwrap().status, 200);
    let before = memory(&server);
    for _ in 0..4 {
        is_cut_off(&given.connect(&server));
        assert_eq!(other.ask(&question()).unwrap().status, 200);
    }
    assert!(memory(&server) < before + 16 * 1024, "{} KiB, {before} before", memory(&server));
}

/// Takes back what it asks, until it is not listened to.
#[track_caller]
fn is_cut_off(client: &Client) {
    let question = question();
    let closed = client.wait(async {
        for _ in 0..100_000 {
            let Ok((mut send, mut receive)) = client.connection.open_bi().await else { break };
            let _closed = send.write_all(&question).await;
            let _closed = send.reset(VarInt::from_u32(REQUEST_CANCELLED));
            let _closed = receive.stop(VarInt::from_u32(REQUEST_CANCELLED));
        }
        client.connection.close_reason()
    });
    assert!(closed.is_some(), "it was let go on");
    assert_eq!(client.closed(), EXCESSIVE_LOAD);
}

#[test]
fn an_address_that_is_cut_off_again_and_again_waits_for_its_next_connections() {
    let given = Given::new();
    let server = given.serve(&format!("threads=1\n{NO_BUDGETS}"));
    let other = given.connect(&server);
    let held_up = || server.metric("countersign_connections_held_up_total");
    let mut count = 0;
    while held_up() == 0 {
        let crowd: Vec<_> = (0..12).map(|_| given.connect(&server)).collect();
        assert!(count > 0 || held_up() == 0, "nobody has done anything yet");
        crowd.iter().for_each(is_cut_off);
        count += 12;
        assert!(count < 120, "nobody waits");
        drop(given.connect(&server));
    }
    assert_eq!(server.metric("countersign_connections_cut_off_total"), count);
    assert_eq!(other.ask(&question()).unwrap().status, 200, "what was there before does not wait");
    assert_eq!(
        given.connect(&server).ask(&question()).unwrap().status,
        200,
        "nobody is turned away"
    );
}

#[test]
fn who_takes_back_some_of_what_it_asks_is_served_on() {
    let given = Given::new();
    let server = given.serve("");
    let client = given.connect(&server);
    let question = question();
    for _ in 0..600 {
        let (mut send, _receive) = client.open(&headers(&[(":method", "GET")])[..5]);
        send.reset(VarInt::from_u32(REQUEST_CANCELLED)).unwrap();
        for _ in 0..2 {
            assert_eq!(client.ask(&question).unwrap().status, 200);
        }
    }
}

#[test]
fn a_client_with_many_streams_open_has_no_more_than_it_may_have() {
    let given = Given::new();
    let server = given.serve("");
    let client = given.connect(&server);
    let waiting: Vec<_> =
        (0..128).map(|_| client.open(&request("POST", "/v1/verify", &[]))).collect();
    let another = client.connection.open_bi();
    let is_refused = client.wait(async {
        tokio::time::timeout(std::time::Duration::from_millis(300), another).await.is_err()
    });
    assert!(is_refused, "there is credit for 128");
    for (mut send, mut receive) in waiting {
        client.wait(send.write_all(&frame(0, b"a.b.c"))).unwrap();
        send.finish().unwrap();
        assert_eq!(client.answer(&mut receive).unwrap().status, 401);
    }
    assert_eq!(client.ask(&question()).unwrap().status, 200);
}
