/// What is refused: statuses, codes, and an end of the connection.
mod refusals;
/// Bodies, and whether a connection is kept.
mod bodies;
/// Clients that take their time.
mod time;
/// Many connections.
mod crowds;
/// Unix sockets.
mod unix;
/// Whom a listener believes: the PROXY protocol, and headers of proxies.
mod peers;
/// The log of requests.
mod lines;
/// Stopping.
mod drain;

use std::io::{Read, Write};

use countersign_tests::{
    binary::Server,
    http::{Connection, Response},
};

pub(crate) use self::peers::proxied;
use crate::given::{self, SIGNING};

/// The guide's section with these limits.
fn with_limits(limits: &str) -> String {
    format!("{SIGNING}[limits]\n{limits}\n")
}

/// `GET /auth` with a good token, and these lines.
fn question(lines: &str) -> String {
    format!(
        "GET /auth HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n{lines}\r\n",
        given::good_token()
    )
}

/// Asks on a connection, and is allowed.
#[track_caller]
fn served<S: Read + Write>(connection: &mut Connection<S>) -> Response {
    connection.send_raw(question("").as_bytes());
    let answer = connection.receive(false);
    assert_eq!((answer.status, answer.header("x-auth-subject")), (200, Some("bob")), "{answer:?}");
    answer
}

/// A problem, and the end of the connection.
#[track_caller]
fn refused<S: Read + Write>(connection: &mut Connection<S>, status: u16, code: &str) {
    let answer = connection.receive(false);
    assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(
        (problem["status"].as_u64(), problem["code"].as_str()),
        (Some(status.into()), Some(code)),
        "{problem}"
    );
    assert!(connection.is_closed(), "open after {answer:?}");
}

/// A server that has not suffered.
#[track_caller]
fn unharmed(server: &Server<'_>) {
    served(&mut Connection::open(server.address));
    assert_eq!(server.operations("/live").status, 200);
}

/// A field of `/proc/<process>/status`, in KiB.
pub(crate) fn kilobytes(server: &Server<'_>, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
