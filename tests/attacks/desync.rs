use countersign_tests::{
    answers::{assert_no_identity, assert_refused},
    binary::{Sandbox, Server},
    client::Protocol,
    engine::{HEADER, claims, token},
    http::Connection,
    openssl::SigningKey,
    over_every_protocol,
    providers::JwksServer,
};
use serde_json::json;

use crate::fronts::{public_claims, public_section, secret_section};

over_every_protocol!(f7_user_agent_changes_no_result, f7_proxy_header_directs_no_fetch,);

/// A request that would be answered 200 and with an identity, if it were read as one.
fn smuggled() -> String {
    format!(
        "GET /auth/smuggled HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
        token(HEADER, claims(""))
    )
}

/// Sends bytes, and returns the statuses of all answers until the server closes. A client that
/// waits for more would let the server wait, so this one closes its side.
fn statuses(server: &Server<'_>, bytes: &str) -> Vec<u16> {
    let mut connection = Connection::open(server.address);
    connection.send_raw(bytes.as_bytes());
    connection.stream().shutdown(std::net::Shutdown::Write).unwrap();
    let answers = String::from_utf8(connection.receive_all()).unwrap();
    assert!(!answers.to_lowercase().contains("x-auth-user: bob"), "{bytes:?} got {answers}");
    // A body has no line end, so that the next answer follows it on its line.
    let statuses = answers.split("HTTP/1.1 ").filter_map(|answer| answer.get(..3)?.parse().ok());
    statuses.collect()
}

/// Routes that read a body, that skip it, and that do not exist.
const LINES: [&str; 5] = [
    "POST /auth HTTP/1.1",
    "GET /auth HTTP/1.1",
    "POST /v1/verify HTTP/1.1",
    "GET /healthz HTTP/1.1",
    "POST /nothing HTTP/1.1",
];

/// Asserts that a request with these header lines is refused, and what follows is not read.
#[track_caller]
fn assert_lines_are_refused(server: &Server<'_>, lines: &str, body: &str) {
    for line in LINES {
        let request = format!("{line}\r\nHost: a\r\n{lines}\r\n\r\n{body}{}", smuggled());
        let answers = statuses(server, &request);
        assert!(matches!(answers[..], [400 | 501]), "{line} {lines:?}: {answers:?}");
    }
}

#[test]
fn f1_conflicting_lengths_are_refused() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&secret_section());
    assert_eq!(statuses(&server, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"), [200]);
    for lines in [
        // CL.TE and TE.CL.
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        // CL.CL.
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 0, 5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 18446744073709551621",
        // TE.TE: the second line was ignored, or a coding that is not chunked.
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;x",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: \"chunked\"",
    ] {
        assert_lines_are_refused(&server, lines, "0\r\n\r\n");
    }
}

#[test]
fn f1_http_1_0_has_no_transfer_codings() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&secret_section());
    for lines in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: identity",
        "Connection: keep-alive\r\nTransfer-Encoding: chunked",
    ] {
        let request = format!("POST /v1/verify HTTP/1.0\r\n{lines}\r\n\r\n0\r\n\r\n{}", smuggled());
        let answers = statuses(&server, &request);
        assert!(matches!(answers[..], [400 | 501]), "{lines:?}: {answers:?}");
    }
}

#[test]
fn f2_lines_of_another_grammar_are_refused() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&secret_section());
    for lines in [
        // A space before the colon, and the names that lenient parsers make of it.
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        // Continued lines.
        "Transfer-Encoding:\r\n chunked",
        "X: y\r\n\tContent-Length: 5",
        // A name without characters, after which a proxy dropped the lines.
        ": y",
        ":",
        // LF or CR alone, and other characters that end a line somewhere.
        "X: y\nContent-Length: 5",
        "X: y\rContent-Length: 5",
        "X: y\0Content-Length: 5",
        "X: y\r\r\nContent-Length: 5",
        "\0X: y",
        "X",
    ] {
        assert_lines_are_refused(&server, lines, "0\r\n\r\n");
    }
    // Before a request, at most one empty line is skipped, and no other character.
    for before in ["\0", "\x01", "\x7f", " ", "\n", "\r\n\r\n", "\r\n\0"] {
        let answers = statuses(&server, &format!("{before}{}", smuggled()));
        assert_eq!(answers, [400], "{before:?}");
    }
}

#[test]
fn f3_chunks_have_one_reading() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&secret_section());
    let send = |body: &str| {
        let head =
            "POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        statuses(&server, &(head + body + &smuggled()))
    };
    for body in [
        // LF alone ends the line of the size, or is part of the extension.
        "2\nab\r\n0\r\n\r\n",
        "2;\nxx\r\nab\r\n0\r\n\r\n",
        "2;x=\"\r\n2\"\r\nab\r\n0\r\n\r\n",
        "2;x\rx\r\nab\r\n0\r\n\r\n",
        "2\r\nab\n0\r\n\r\n",
        "2\rab\r\n0\r\n\r\n",
        // Other characters around the size, and other ends of the data.
        " 2\r\nab\r\n0\r\n\r\n",
        "2 \r\nab\r\n0\r\n\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        "+2\r\nab\r\n0\r\n\r\n",
        "2_0\r\nab\r\n0\r\n\r\n",
        "\r\n2\r\nab\r\n0\r\n\r\n",
        "2\r\nabXX0\r\n\r\n",
        "2\r\nab0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        // Numbers that wrap around.
        "10000000000000002\r\nab\r\n0\r\n\r\n",
        "fffffffffffffffe\r\nab\r\n0\r\n\r\n",
        "-2\r\nab\r\n0\r\n\r\n",
    ] {
        let answers = send(body);
        assert!(matches!(answers[..], [400 | 413]), "{body:?}: {answers:?}");
    }
    // Extensions are skipped, and have a limit.
    let head = "POST /v1/verify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(statuses(&server, &format!("{head}2;x=y\r\nab\r\n0\r\n\r\n")), [401]);
    let long = format!("{head}1;{}\r\na\r\n0\r\n\r\n", "x".repeat(10_000));
    assert_eq!(statuses(&server, &long), [400]);
}

#[test]
fn f4_unread_body_is_never_a_request() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&secret_section());
    let body = smuggled();
    for line in LINES {
        for lines in [
            format!("Content-Length: {}\r\n", body.len()),
            format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len()),
        ] {
            let mut answers = statuses(&server, &format!("{line}\r\nHost: a\r\n{lines}\r\n{body}"));
            answers.retain(|status| *status != 100);
            assert!(matches!(answers[..], [200 | 401 | 404 | 405]), "{line}: {answers:?}");
        }
        let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let request = format!("{line}\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let answers = statuses(&server, &request);
        assert!(matches!(answers[..], [200 | 401 | 404 | 405]), "{line}: {answers:?}");
    }
}

#[test]
fn f5_upgrade_switches_no_protocol() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}[listen]\nprotocols=http/1.1, h2\n", secret_section()));
    let settings = "HTTP2-Settings: AAMAAABkAAQAAP__";
    for lines in [
        format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{settings}"),
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13".to_owned(),
        "Connection: Upgrade\r\nUpgrade: TLS/1.2".to_owned(),
    ] {
        // The bytes after it are read as what they are: a request without a token.
        let next = "GET /auth HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{next}");
        assert_eq!(statuses(&server, &request), [200, 401], "{lines}");
        // Neither is a preface of HTTP/2 accepted.
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{preface}");
        assert_eq!(statuses(&server, &request), [200, 505], "{lines}");
    }
}

#[test]
fn f6_fragment_selects_no_other_path() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&secret_section());
    for path in ["/v1/verify#/healthz", "/auth#/../healthz", "/healthz#", "/healthz?#", "#"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(statuses(&server, &(request + &smuggled())), [400], "{path}");
    }
}

fn f7_user_agent_changes_no_result(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&secret_section());
    for agent in [
        "GoogleHC/1.0",
        "kube-probe/1.31",
        "ELB-HealthChecker/2.0",
        "Envoy/HC",
        "Prometheus/3.0.0",
        "",
    ] {
        for path in ["/auth", "/auth/healthz", "/auth/ping"] {
            let refused =
                server.request(&format!("GET {path} HTTP/1.1\r\nUser-Agent: {agent}\r\n"));
            assert_refused(&refused, "Bearer");
        }
    }
}

fn f7_proxy_header_directs_no_fetch(protocol: Protocol) {
    let (key, foreign) = (SigningKey::generate("ES256", "k"), SigningKey::generate("ES256", "new"));
    let provider = JwksServer::start(&json!({ "keys": [key.jwk()] }).to_string());
    let evil = JwksServer::start(&json!({ "keys": [foreign.jwk()] }).to_string());
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&(secret_section() + &public_section("ES256", &provider.uri())));
    assert_eq!(server.auth(&key.token(&public_claims())).status, 200);
    let before = provider.requests();
    let mut claims = public_claims();
    claims["iat"] = json!(1_700_000_000);
    // The unknown kid causes a fetch.
    let refused = server.request(&format!(
        "GET /auth HTTP/1.1\r\nProxy: {0}\r\nHttp-Proxy: {0}\r\nHttps-Proxy: {0}\r\nAuthorization: Bearer {1}\r\n",
        evil.uri(),
        foreign.token(&claims)
    ));
    assert_no_identity(&refused);
    assert_eq!((evil.requests(), provider.requests()), (0, before + 1));
}
