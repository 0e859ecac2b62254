use std::{net::Shutdown, process::Command};

use countersign_tests::{binary::Sandbox, http::Connection};

use super::{assert_healthy, assert_served, auth_request};
use crate::fixture::{self, SIGNING};

#[test]
fn received_body_keeps_the_auth_connection() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let mut connection = Connection::open(server.address);
    for body in ["x", "GET /auth HTTP/1.1\r\nHost: t\r\n\r\n", &"y".repeat(10_000)] {
        connection.send_raw(
            [&*auth_request(&format!("Content-Length: {}\r\n", body.len())), body]
                .concat()
                .as_bytes(),
        );
        let answer = connection.receive(false);
        // On a slow machine the end of a long body may arrive later than its start.
        let is_kept = answer.header("connection").is_none();
        assert!(answer.status == 200 && (is_kept || body.len() > 1000), "{answer:?}");
        if is_kept {
            assert_served(&mut connection);
        }
    }
}

#[test]
fn auth_does_not_wait_for_its_body() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    for (line, body) in [
        // nginx with `proxy_pass_request_body off` and the client's length.
        ("Content-Length: 1000\r\n", ""),
        ("Content-Length: 1000\r\n", "some of it"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", ""),
        ("Content-Length: 1000\r\nExpect: 100-continue\r\n", ""),
    ] {
        let mut connection = Connection::open(server.address);
        connection.send_raw([&*auth_request(line), body].concat().as_bytes());
        let answer = connection.receive(false);
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close")),
            "{line}: {answer:?}"
        );
        assert!(connection.is_closed(), "{line}");
    }
}

#[test]
fn answer_reaches_a_client_that_keeps_sending() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let mut connection = Connection::open(server.address);
    connection.send_raw(auth_request("Content-Length: 500000\r\n").as_bytes());
    connection.send_raw(&[b'x'; 500_000]);
    assert_eq!(connection.receive(false).status, 200);
    assert!(connection.is_closed());
    // More pipelined requests than are served, because the first one closes the connection.
    let mut connection = Connection::open(server.address);
    connection.send_raw(
        [auth_request("Connection: close\r\n"), auth_request("").repeat(2000)].concat().as_bytes(),
    );
    assert_eq!(connection.receive(false).status, 200);
    assert!(connection.is_closed(), "closed in order, not reset");
}

#[test]
fn expect_continue_is_answered() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let token = fixture::good_token();
    let head = |length: usize| {
        format!(
            "POST /v1/verify HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut connection = Connection::open(server.address);
    for _ in 0..2 {
        connection.send_raw(head(token.len()).as_bytes());
        assert_eq!(connection.receive(false).status, 100);
        connection.send_raw(token.as_bytes());
        assert_eq!(connection.receive(false).status, 200);
    }
    // A body that would be refused anyway gets no 100 Continue.
    connection.send_raw(head(100_000_000).as_bytes());
    assert_eq!(connection.receive(false).status, 413);
    assert!(connection.is_closed());

    let url = format!("http://{}/v1/verify", server.address);
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--verbose",
        "--http1.1",
        "-H",
        "Expect: 100-continue",
        "--expect100-timeout",
        "60",
    ]);
    let output = curl
        .args(["--data-binary", &token, &url])
        .output()
        .expect("curl is missing: apt-get install curl");
    let (body, transcript) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        body.starts_with(r#"{"ok":true"#) && transcript.contains("HTTP/1.1 100 Continue"),
        "{body} {transcript}"
    );
}

#[test]
fn keep_alive_follows_version_and_client() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let token = fixture::good_token();
    for (version, line, connection_line) in [
        ("1.1", "", None),
        ("1.1", "Connection: keep-alive\r\n", None),
        ("1.1", "Connection: close\r\n", Some("close")),
        ("1.0", "", Some("close")),
        ("1.0", "Connection: keep-alive\r\n", Some("keep-alive")),
        ("1.0", "Connection: close\r\n", Some("close")),
    ] {
        for (method, path) in [
            ("GET", "/auth"),
            ("HEAD", "/auth"),
            ("GET", "/healthz"),
            ("HEAD", "/healthz"),
            ("POST", "/v1/verify"),
        ] {
            let request_line = format!("{method} {path} HTTP/{version} {line}");
            let request = format!(
                "{method} {path} HTTP/{version}\r\nHost: t\r\nAuthorization: Bearer {token}\r\n{line}\r\n"
            );
            let mut connection = Connection::open(server.address);
            for _ in 0..2 {
                connection.send_raw(request.as_bytes());
                let answer = connection.receive(method == "HEAD");
                assert_eq!(
                    (answer.status, answer.header("connection")),
                    (200, connection_line),
                    "{request_line}: {answer:?}"
                );
                assert!(
                    path == "/auth" || answer.header("content-length") != Some("0"),
                    "{request_line}"
                );
                if connection_line == Some("close") {
                    assert!(connection.is_closed(), "{request_line}");
                    break;
                }
            }
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let token = fixture::good_token();
    let requests = [
        (auth_request(""), 200),
        (format!("POST /v1/verify HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{token}", token.len()), 200),
        ("GET /nothing HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), 404),
        ("POST /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 405),
        (
            "POST /v1/verify HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na.b\r\n2\r\n.c\r\n0\r\n\r\n"
                .to_owned(),
            401,
        ),
        ("GET /auth HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), 401),
    ];
    let (bytes, statuses): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
    let mut connection = Connection::open(server.address);
    connection.send_raw(bytes.concat().repeat(50).as_bytes());
    for round in 0..50 {
        let answered: Vec<_> = statuses.iter().map(|_| connection.receive(false).status).collect();
        assert_eq!(answered, statuses, "round {round}");
    }
}

#[test]
fn half_closed_client_is_still_answered() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let token = fixture::good_token();
    let verify = format!(
        "POST /v1/verify HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{token}",
        token.len()
    );
    for request in [auth_request(""), verify, "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n".into()] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(request.repeat(3).as_bytes());
        connection.stream().shutdown(Shutdown::Write).unwrap();
        for _ in 0..3 {
            assert_eq!(connection.receive(false).status, 200);
        }
        assert!(connection.is_closed());
    }
    // Half a request gets no answer.
    let mut connection = Connection::open(server.address);
    connection.send_raw(b"POST /v1/verify HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc");
    connection.stream().shutdown(Shutdown::Write).unwrap();
    assert!(connection.is_closed());
    assert_healthy(&server);
}
