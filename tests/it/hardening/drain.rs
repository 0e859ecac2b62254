use std::{io::Write as _, net::TcpStream};

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::Authority,
    eventually,
    http::Connection,
    tls::{Client, Wishes},
};
use rustls::StreamOwned;

use super::{question, served, with_limits};
use crate::given;

/// A connection with half a request on it, of which the server has read the head.
fn half_a_request(server: &Server<'_>) -> Connection {
    let mut connection = Connection::open(server.address);
    let length = given::good_token().len();
    connection.send_raw(
        format!("POST /v1/verify HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
    );
    assert_eq!(connection.receive(false).status, 100);
    connection
}

#[test]
fn a_server_that_stops_takes_nothing_more_and_finishes_what_it_has() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("drain_timeout=60"));
    let (mut busy, mut slow) = (half_a_request(&server), Connection::open(server.address));
    let (mut idle, mut fresh) =
        (Connection::open(server.address), Connection::open(server.address));
    served(&mut idle);
    slow.send_raw(question("").as_bytes().split_last_chunk::<4>().unwrap().0);
    served(&mut Connection::open(server.address));
    server.signal("TERM");
    assert!(idle.is_closed() && fresh.is_closed(), "nothing was asked there");
    eventually(|| TcpStream::connect(server.address).is_err());
    // Whoever balances the load can see why.
    assert_eq!((server.operations("/ready").status, server.operations("/live").status), (503, 200));
    busy.send_raw(given::good_token().as_bytes());
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
fn draining_under_tls_is_the_same() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{}{tls}", with_limits("drain_timeout=60")));
    let client = Client::new(&authority, &Wishes::default());
    let open = || {
        Connection::over(StreamOwned::new(
            client.connection(),
            TcpStream::connect(server.address).unwrap(),
        ))
    };
    let (mut idle, mut busy) = (open(), open());
    served(&mut idle);
    let token = given::good_token();
    busy.send_raw(
        format!("POST /v1/verify HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", token.len())
            .as_bytes(),
    );
    assert_eq!(busy.receive(false).status, 100);
    server.signal("TERM");
    assert!(idle.is_closed(), "by an end, not by a break");
    busy.send_raw(token.as_bytes());
    let answer = busy.receive(false);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
    assert!(busy.is_closed(), "with a word of goodbye");
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}

#[test]
fn a_request_that_never_ends_does_not_keep_a_server_from_stopping() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("drain_timeout=1"));
    let mut busy = half_a_request(&server);
    let (status, _) = server.stop("TERM");
    assert_eq!(status.code(), Some(0));
    assert_eq!(busy.receive_all(), b"");
}

#[test]
fn told_twice_a_server_stops_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&with_limits("drain_timeout=3600\nbody_timeout=3600"));
        let mut busy = half_a_request(&server);
        server.signal(first);
        eventually(|| TcpStream::connect(server.address).is_err());
        // It is still there for what it has begun.
        assert!(busy.stream().write_all(b"x").is_ok());
        assert_eq!(server.operations("/ready").status, 503);
        let (status, _) = server.stop(second);
        assert_eq!(status.code(), Some(0), "{first} {second}");
        assert_eq!(busy.receive_all(), b"");
    }
}

#[test]
fn questions_that_are_on_their_way_when_a_server_stops_are_answered() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("drain_timeout=60"));
    let mut connections: Vec<_> = (0..20).map(|_| Connection::open(server.address)).collect();
    connections.iter_mut().for_each(|connection| drop(served(connection)));
    std::thread::scope(|scope| {
        let asking: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                scope.spawn(move || {
                    // Until it is told that this was the last.
                    let mut answered = 0;
                    loop {
                        connection.send_raw(question("").as_bytes());
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
            assert!(client.join().expect("a question was not answered") > 0);
        }
    });
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}
