/// Refused requests: statuses, codes, and the close of the connection.
mod refusals;
/// Request bodies and connection reuse.
mod bodies;
/// Slow clients.
mod time;
/// Many connections.
mod crowds;
/// Memory of unfinished requests.
mod memory;
/// Unix sockets.
mod unix;
/// Trust in peers: the PROXY protocol and the headers of proxies.
mod peers;
/// The access log.
mod lines;
/// Draining on shutdown.
mod drain;

use std::io::{Read, Write};

use countersign_tests::{
    binary::Server,
    http::{Connection, Response},
};

pub(crate) use self::peers::proxied;
use crate::fixture::{self, SIGNING};

/// Returns the guide's section, [`SIGNING`], with these limits.
fn with_limits(limits: &str) -> String {
    format!("{SIGNING}[limits]\n{limits}\n")
}

/// Returns `GET /auth` with a good token and these header lines.
fn auth_request(lines: &str) -> String {
    format!(
        "GET /auth HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n{lines}\r\n",
        fixture::good_token()
    )
}

/// Sends an authorized request and checks that it is allowed.
#[track_caller]
fn assert_served<S: Read + Write>(connection: &mut Connection<S>) -> Response {
    connection.send_raw(auth_request("").as_bytes());
    let answer = connection.receive(false);
    assert_eq!((answer.status, answer.header("x-auth-subject")), (200, Some("bob")), "{answer:?}");
    answer
}

/// Checks that a problem document is answered and the connection closed.
#[track_caller]
fn assert_refused<S: Read + Write>(connection: &mut Connection<S>, status: u16, code: &str) {
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

/// Checks that the server still serves requests and probes.
#[track_caller]
fn assert_healthy(server: &Server<'_>) {
    assert_served(&mut Connection::open(server.address));
    assert_eq!(server.operations("/live").status, 200);
}

/// Returns a field of `/proc/<process>/status`, in KiB.
pub(crate) fn kilobytes(server: &Server<'_>, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
