use std::{fs, net::Shutdown};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    http::Connection,
};

use super::{assert_healthy, assert_served, auth_request, with_limits};

/// Returns the number of files that the server has open.
fn open_files(server: &Server<'_>) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.process())).unwrap().count()
}

#[test]
fn connection_above_the_limit_gets_503() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("connections=2"));
    let mut open = [(); 2].map(|()| Connection::open(server.address));
    open.iter_mut().for_each(|connection| drop(assert_served(connection)));
    let mut third = Connection::open(server.address);
    let answer = third.receive(false);
    assert_eq!(
        (answer.status, answer.header("retry-after"), answer.header("connection")),
        (503, Some("1"), Some("close"))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(third.is_closed());
    assert_eq!(server.metric("countersign_connections_refused_total"), 1);
    // Open connections are not affected, and operators still get through.
    open.iter_mut().for_each(|connection| drop(assert_served(connection)));
    assert_eq!(server.operations("/ready").status, 200);
    let [_kept, gone] = open;
    drop(gone);
    eventually(|| {
        let mut next = Connection::open(server.address);
        // The connection may be refused before the request is sent.
        let _ignored = std::io::Write::write_all(&mut next.stream(), auth_request("").as_bytes());
        next.wait().is_ok() && next.receive(false).status == 200
    });
}

#[test]
fn closed_connections_free_their_resources() {
    const LIMIT: usize = 40;
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits(&format!("connections={LIMIT}\n[listen]\nthreads=2")));
    assert_served(&mut Connection::open(server.address));
    let before = open_files(&server);
    for round in 0..400 {
        let mut connection = Connection::open(server.address);
        let stream = connection.stream();
        // Closed by either side, at any point, orderly or not.
        let request = match round % 8 {
            0 => String::new(),
            1 => "GET /au".into(),
            2 => auth_request(""),
            3 => auth_request("").repeat(5),
            4 => "POST /v1/verify HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc".into(),
            5 => "GET /auth HTTP/1.1\r\n\r\n".into(),
            6 => auth_request("Connection: close\r\n"),
            _ => auth_request("Content-Length: 1000\r\n"),
        };
        // A connection above the limit may already be closed.
        let _ignored = std::io::Write::write_all(&mut &*stream, request.as_bytes());
        if round % 3 == 0 {
            let _ignored = stream.shutdown(Shutdown::Write);
            connection.receive_all();
        }
    }
    eventually(|| open_files(&server) <= before);
    let open = |worker| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}"));
    eventually(|| open(0) + open(1) == 0);
    // The whole limit is available again.
    let mut crowd: Vec<_> = (0..LIMIT).map(|_| Connection::open(server.address)).collect();
    crowd.iter_mut().for_each(|connection| drop(assert_served(connection)));
    drop(crowd);
    eventually(|| open_files(&server) <= before);
    assert_healthy(&server);
}
