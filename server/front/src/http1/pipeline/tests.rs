use super::*;
use crate::{
    test_service::{self, TestService, connection},
    worker_context::WorkerContext,
};

/// A worker that answers `/auth` to holders of the token `good`.
struct Fixture {
    worker: WorkerContext<TestService>,
}

impl Fixture {
    fn new() -> Self {
        Self { worker: test_service::worker_context() }
    }

    /// Returns a request with a valid token and these additional header lines.
    fn check_request(&self, line: &str, lines: &str) -> String {
        format!("{line}\r\nHost: a\r\nAuthorization: Bearer good\r\n{lines}\r\n")
    }

    fn connection(&self) -> ConnectionContext<'_, TestService> {
        connection(&self.worker)
    }

    fn take(&self, bytes: &[u8]) -> PipelineResult {
        let mut out = ResponseBuffer::default();
        let PipelineProgress { bytes, scanned, action } =
            answer_requests(self.connection(), bytes, 0, &mut out);
        let action = match action {
            None => "wait".into(),
            Some(NextAction::Close { is_sending: false }) => "close".into(),
            Some(NextAction::Close { is_sending: true }) => "listen and close".into(),
            Some(NextAction::Answer(pending)) => {
                let Http1PendingRequest { request, framing, options, .. } = *pending;
                format!("{:?} with {framing:?}, then {:?}", request.route, options.persistence)
            }
        };
        let out = String::from_utf8(out.0).unwrap();
        let statuses = out
            .lines()
            .filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3))
            .collect::<Vec<_>>()
            .join(" ");
        PipelineResult {
            statuses,
            closes: out.matches("connection: close\r\n").count(),
            taken: bytes,
            scanned,
            action,
        }
    }
}

struct PipelineResult {
    /// The statuses of the responses, in order.
    statuses: String,
    /// The number of responses that announce the end of the connection.
    closes: usize,
    taken: usize,
    scanned: usize,
    action: String,
}

impl PipelineResult {
    /// Returns the statuses and the next action.
    fn summary(&self) -> String {
        format!("{} {}", self.statuses, self.action)
    }
}

#[test]
fn pipelined_checks_are_answered_in_order() {
    let fixture = Fixture::new();
    let [good, none] = [
        fixture.check_request("GET /auth HTTP/1.1", ""),
        "GET /auth/x HTTP/1.1\r\nHost: a\r\n\r\n".into(),
    ];
    let whole = [good.clone(), none.clone(), none, good.clone()].concat();
    let result = fixture.take(whole.as_bytes());
    assert_eq!((result.summary().as_str(), result.closes), ("200 401 401 200 wait", 0));
    assert_eq!((result.taken, result.scanned), (whole.len(), 0));
    for cut in [1, good.len() - 1] {
        let result = fixture.take(&whole.as_bytes()[..whole.len() - cut]);
        assert_eq!(result.summary(), "200 401 401 wait");
        assert_eq!((result.taken, result.scanned), (whole.len() - good.len(), good.len() - cut));
    }
}

#[test]
fn pipeline_stops_at_requests_that_wait() {
    let fixture = Fixture::new();
    let [good, verify] = [
        fixture.check_request("GET /auth HTTP/1.1", ""),
        "POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n".into(),
    ];
    let result = fixture.take([&*good, &*verify, "a.bGET", &*good].concat().as_bytes());
    assert_eq!(result.summary(), "200 Verify with Length(3), then Keep");
    assert_eq!(
        (result.taken, result.scanned),
        (good.len() + verify.len(), 0),
        "the body and the bytes after it are not consumed"
    );
    for (request, expected) in [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", " Live with Empty, then Keep"),
        ("GET /healthz HTTP/1.0\r\n\r\n", " Live with Empty, then Close"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", " None with Empty, then Keep"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", " None with Empty, then Keep"),
        (
            "POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            " Verify with Chunked, then Keep",
        ),
        // Bodies that the route does not read.
        (
            "GET /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            " Verify with Empty, then Keep",
        ),
        (
            "GET /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab",
            " Verify with Empty, then Close",
        ),
        (
            "post /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            " Verify with Empty, then Close",
        ),
        (
            "GET /nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            " None with Empty, then Close",
        ),
        ("GET /< HTTP/1.1\r\nHost: a\r\n\r\n", "400 listen and close"),
    ] {
        assert_eq!(fixture.take(request.as_bytes()).summary(), expected, "{request:?}");
    }
    let mut out = ResponseBuffer::default();
    answer_requests(fixture.connection(), b"HEAD /< HTTP/1.1\r\nHost: a\r\n\r\n", 0, &mut out);
    assert!(
        out.0.starts_with(b"HTTP/1.1 400 ") && out.0.ends_with(b"\r\n\r\n"),
        "a response to HEAD has no body"
    );
}

#[test]
fn check_body_is_skipped_and_never_waited_for() {
    let fixture = Fixture::new();
    let good = fixture.check_request("GET /auth HTTP/1.1", "");
    let with = |line: &str, body: &str| {
        fixture.take(
            [&fixture.check_request("POST /auth HTTP/1.1", line), body, &good].concat().as_bytes(),
        )
    };
    assert_eq!(
        with("Content-Length: 4\r\n", "GET ").summary(),
        "200 200 wait",
        "a body is not parsed as a request"
    );
    assert_eq!(
        with(&format!("Content-Length: {}\r\n", good.len()), &good).summary(),
        "200 200 wait"
    );
    for (line, body) in [
        // nginx with `proxy_pass_request_body off` and the client's length.
        ("Content-Length: 100000\r\n", ""),
        ("Content-Length: 18446744073709551615\r\n", "GET "),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "nonsense"),
    ] {
        let result = with(line, body);
        assert_eq!(
            (result.summary().as_str(), result.closes),
            ("200 listen and close", 1),
            "{line} {body}"
        );
    }
}

#[test]
fn smuggled_requests_are_never_answered() {
    let fixture = Fixture::new();
    let smuggled = fixture.check_request("GET /auth/smuggled HTTP/1.1", "");
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X: y\rContent-Length: 5\r\n",
        "X: y\nContent-Length: 5\r\n",
        "X\0: y\r\n",
        "Host: b\r\n",
    ] {
        for line in ["GET /auth HTTP/1.1", "POST /v1/verify HTTP/1.1", "GET /healthz HTTP/1.1"] {
            let bytes = fixture.check_request(line, lines) + "0\r\n\r\n" + &smuggled;
            let result = fixture.take(bytes.as_bytes());
            let is_refused =
                ["400 listen and close", "501 listen and close"].contains(&&*result.summary());
            assert!(is_refused && result.closes == 1, "{line} {lines:?}: {}", result.summary());
            assert_eq!(
                (result.taken, result.scanned),
                (bytes.len(), 0),
                "the whole buffer is consumed"
            );
        }
    }
}

#[test]
fn requests_before_a_malformed_one_are_answered() {
    let fixture = Fixture::new();
    let bytes = fixture.check_request("GET /auth HTTP/1.1", "")
        + "GET /auth HTTP/9.9\r\n\r\n"
        + &fixture.check_request("GET /auth HTTP/1.1", "");
    let result = fixture.take(bytes.as_bytes());
    assert_eq!((result.summary().as_str(), result.closes), ("200 505 listen and close", 1));
}

#[test]
fn connection_close_ends_the_pipeline() {
    let fixture = Fixture::new();
    let good = fixture.check_request("GET /auth HTTP/1.1", "");
    for (line, lines, expected) in [
        ("GET /auth HTTP/1.1", "Connection: close\r\n", ("200 close", 1)),
        ("GET /auth HTTP/1.0", "", ("200 close", 1)),
        ("GET /auth HTTP/1.0", "Connection: keep-alive\r\n", ("200 200 wait", 0)),
        ("HEAD /auth HTTP/1.1", "", ("200 200 wait", 0)),
    ] {
        let result = fixture.take((fixture.check_request(line, lines) + &good).as_bytes());
        assert_eq!((result.summary().as_str(), result.closes), expected, "{line} {lines}");
    }
}

#[test]
fn draining_connection_answers_one_more_check() {
    let fixture = Fixture::new();
    fixture.worker.deadlines.drain();
    let good = fixture.check_request("GET /auth HTTP/1.1", "");
    let result = fixture.take(good.repeat(2).as_bytes());
    assert_eq!(
        (result.summary().as_str(), result.closes, result.taken),
        ("200 close", 1, good.len())
    );
    let health = fixture.take(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(health.summary(), " Live with Empty, then Close");
}

#[test]
fn check_is_answered_only_by_its_listener() {
    let fixture = Fixture::new();
    let mut connection = fixture.connection();
    connection.peer.listener = 1;
    let mut out = ResponseBuffer::default();
    let bytes = fixture.check_request("GET /auth HTTP/1.1", "");
    let taken = answer_requests(connection, bytes.as_bytes(), 0, &mut out);
    assert!(
        matches!(taken.action, Some(NextAction::Answer(pending)) if pending.request.route == test_service::Route::None)
            && out.0.is_empty()
    );
}
