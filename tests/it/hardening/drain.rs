use std::{io::Write as _, net::TcpStream};

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::Authority,
    eventually,
    http::Connection,
    tls::{TlsClient, TlsClientOptions},
};
use rustls::StreamOwned;

use super::{assert_served, auth_request, with_limits};
use crate::fixture;

/// Opens a connection with half a request, whose head the server has read.
fn half_sent_request(server: &Server<'_>) -> Connection {
    let mut connection = Connection::open(server.address);
    let length = fixture::good_token().len();
    connection.send_raw(
        format!("POST /v1/verify HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
    );
    assert_eq!(connection.receive(false).status, 100);
    connection
}

#[test]
fn drain_finishes_requests_in_progress() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("drain_timeout=60"));
    let (mut busy, mut slow) = (half_sent_request(&server), Connection::open(server.address));
    let (mut idle, mut fresh) =
        (Connection::open(server.address), Connection::open(server.address));
    assert_served(&mut idle);
    slow.send_raw(auth_request("").as_bytes().split_last_chunk::<4>().unwrap().0);
    assert_served(&mut Connection::open(server.address));
    server.signal("TERM");
    assert!(idle.is_closed() && fresh.is_closed(), "idle connections are closed at once");
    eventually(|| TcpStream::connect(server.address).is_err());
    // A load balancer sees the reason on the probes.
    assert_eq!((server.operations("/ready").status, server.operations("/live").status), (503, 200));
    busy.send_raw(fixture::good_token().as_bytes());
    let answer = busy.receive(false);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
    slow.send_raw(b"\r\n\r\n");
    let answer = slow.receive(false);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
    assert!(busy.is_closed() && slow.is_closed());
    let (status, _) = server.stop("CONT");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn drain_works_under_tls() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{}{tls}", with_limits("drain_timeout=60")));
    let client = TlsClient::new(&authority, &TlsClientOptions::default());
    let open = || {
        Connection::over(StreamOwned::new(
            client.connection(),
            TcpStream::connect(server.address).unwrap(),
        ))
    };
    let (mut idle, mut busy) = (open(), open());
    assert_served(&mut idle);
    let token = fixture::good_token();
    busy.send_raw(
        format!("POST /v1/verify HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", token.len())
            .as_bytes(),
    );
    assert_eq!(busy.receive(false).status, 100);
    server.signal("TERM");
    assert!(idle.is_closed(), "closed in order, not reset");
    busy.send_raw(token.as_bytes());
    let answer = busy.receive(false);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
    assert!(busy.is_closed(), "closed with a TLS close_notify");
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}

#[test]
fn drain_timeout_ends_unfinished_requests() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("drain_timeout=1"));
    let mut busy = half_sent_request(&server);
    let (status, _) = server.stop("TERM");
    assert_eq!(status.code(), Some(0));
    assert_eq!(busy.receive_all(), b"");
}

#[test]
fn second_signal_stops_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&with_limits("drain_timeout=3600\nbody_timeout=3600"));
        let mut busy = half_sent_request(&server);
        server.signal(first);
        eventually(|| TcpStream::connect(server.address).is_err());
        // The request in progress is still served.
        assert!(busy.stream().write_all(b"x").is_ok());
        assert_eq!(server.operations("/ready").status, 503);
        let (status, _) = server.stop(second);
        assert_eq!(status.code(), Some(0), "{first} {second}");
        assert_eq!(busy.receive_all(), b"");
    }
}

#[test]
fn drain_answers_requests_in_flight() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("drain_timeout=60"));
    let mut connections: Vec<_> = (0..20).map(|_| Connection::open(server.address)).collect();
    connections.iter_mut().for_each(|connection| drop(assert_served(connection)));
    std::thread::scope(|scope| {
        let asking: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                scope.spawn(move || {
                    // Sends requests until an answer announces the close.
                    let mut answered = 0;
                    loop {
                        connection.send_raw(auth_request("").as_bytes());
                        let answer = connection.receive(false);
                        assert_eq!(answer.status, 200);
                        answered += 1;
                        if answer.header("connection") == Some("close") {
                            return answered;
                        }
                    }
                })
            })
            .collect();
        server.signal("TERM");
        for client in asking {
            assert!(client.join().expect("every request sent before the close is answered") > 0);
        }
    });
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}
