use std::{fs, net::Shutdown};

use countersign_tests::{
    binary::{Sandbox, Server},
    eventually,
    http::Connection,
};

use super::{question, served, unharmed, with_limits};

/// How many files the server has open.
fn files(server: &Server<'_>) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.process())).unwrap().count()
}

#[test]
fn one_connection_too_many_is_told_to_come_again() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("connections=2"));
    let mut open = [(); 2].map(|()| Connection::open(server.address));
    open.iter_mut().for_each(|connection| drop(served(connection)));
    let mut third = Connection::open(server.address);
    let answer = third.receive(false);
    assert_eq!(
        (answer.status, answer.header("retry-after"), answer.header("connection")),
        (503, Some("1"), Some("close"))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(third.is_closed());
    assert_eq!(server.metric("countersign_connections_refused_total"), 1);
    // Those that are open are as well as before, and operators still get through.
    open.iter_mut().for_each(|connection| drop(served(connection)));
    assert_eq!(server.operations("/ready").status, 200);
    let [_kept, gone] = open;
    drop(gone);
    eventually(|| {
        let mut next = Connection::open(server.address);
        // It may be refused before it has asked.
        let _refused = std::io::Write::write_all(&mut next.stream(), question("").as_bytes());
        next.wait().is_ok() && next.receive(false).status == 200
    });
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    const AT_ONCE: usize = 40;
    let sandbox = Sandbox::new();
    let server =
        sandbox.serve(&with_limits(&format!("connections={AT_ONCE}\n[listen]\nthreads=2")));
    served(&mut Connection::open(server.address));
    let before = files(&server);
    for round in 0..400 {
        let mut connection = Connection::open(server.address);
        let stream = connection.stream();
        // Ended by either side, at any point, in order or not.
        let said = match round % 8 {
            0 => String::new(),
            1 => "GET /au".into(),
            2 => question(""),
            3 => question("").repeat(5),
            4 => "POST /v1/verify HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc".into(),
            5 => "GET /auth HTTP/1.1\r\n\r\n".into(),
            6 => question("Connection: close\r\n"),
            _ => question("Content-Length: 1000\r\n"),
        };
        // One that is one too many may have been turned away.
        let _turned_away = std::io::Write::write_all(&mut &*stream, said.as_bytes());
        if round % 3 == 0 {
            let _gone = stream.shutdown(Shutdown::Write);
            connection.receive_all();
        }
    }
    eventually(|| files(&server) <= before);
    let open = |worker| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}"));
    eventually(|| open(0) + open(1) == 0);
    // All places are free again.
    let mut crowd: Vec<_> = (0..AT_ONCE).map(|_| Connection::open(server.address)).collect();
    crowd.iter_mut().for_each(|connection| drop(served(connection)));
    drop(crowd);
    eventually(|| files(&server) <= before);
    unharmed(&server);
}
