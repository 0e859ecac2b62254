use std::{io::Write as _, net::SocketAddr, os::unix::net::UnixStream};

use countersign_tests::{
    binary::Sandbox,
    certificates::Authority,
    http::Connection,
    proxies::free_address,
    tls::{TlsClient, TlsClientOptions},
};
use rustls::StreamOwned;

use super::{assert_healthy, assert_refused, assert_served, auth_request};
use crate::fixture::SIGNING;

/// Malformed requests, each with its status and code.
fn malformed() -> Vec<(String, u16, &'static str)> {
    let line = |line: &str| format!("POST /v1/verify HTTP/1.1\r\nHost: t\r\n{line}\r\n\r\n");
    vec![
        (format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(70_000)), 414, "uri_too_long"),
        (line(&format!("X: {}", "y".repeat(70_000))), 431, "head_too_large"),
        (line(&"X: y\r\n".repeat(200)), 431, "head_too_large"),
        (line("Content-Length: 1000000000"), 413, "body_too_large"),
        (line("Transfer-Encoding: chunked\r\n\r\nfffffff"), 413, "body_too_large"),
        (line("Transfer-Encoding: chunked\r\n\r\n1\r\nab"), 400, "body"),
        (line("Transfer-Encoding: chunked\r\n\r\n0\r\nX : y"), 400, "body"),
        (line("Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5"), 400, "body"),
        (line("Transfer-Encoding: gzip, chunked"), 501, "transfer_encoding"),
        (
            line("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            400,
            "transfer_encoding",
        ),
        (line("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400, "content_length"),
        (line("Content-Length: 5\r\nContent-Length: 5"), 400, "content_length"),
        (line("Content-Length: 5, 5"), 400, "content_length"),
        (line("X: y\r\n folded"), 400, "head"),
        (line("X : y"), 400, "head"),
        (line("X: a\0b"), 400, "head"),
        (line("X: a\rb"), 400, "head"),
        (line("X: a\nb: c"), 400, "line_ending"),
        (line("Host: t"), 400, "host"),
        ("GET /auth HTTP/1.1\r\n\r\n".into(), 400, "host"),
        ("GET /# HTTP/1.1\r\nHost: t\r\n\r\n".into(), 400, "request_target"),
        ("GET /< HTTP/1.1\r\nHost: t\r\n\r\n".into(), 400, "request_target"),
        ("GET / HTTP/1.2\r\nHost: t\r\n\r\n".into(), 505, "version"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, "version"),
        ("GET /\r\n\r\n".into(), 400, "head"),
    ]
}

#[test]
fn malformed_requests_get_a_problem_and_a_close() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    for (bytes, status, code) in malformed() {
        let mut connection = Connection::open(server.address);
        // Bytes after the malformed request are not parsed.
        connection.send_raw([&*bytes, &auth_request("")].concat().as_bytes());
        assert_refused(&mut connection, status, code);
        // The same on a connection that has served good requests.
        let mut connection = Connection::open(server.address);
        assert_served(&mut connection);
        connection.send_raw([&*auth_request(""), &bytes].concat().as_bytes());
        assert_eq!(connection.receive(false).status, 200);
        assert_refused(&mut connection, status, code);
    }
    assert_healthy(&server);
    let none = |status: u16| {
        server.metric(&format!(
            "countersign_requests_total{{route=\"none\",status=\"{status}\",http_version=\"1.1\"}}"
        ))
    };
    assert_eq!([414, 431, 501, 505].map(none), [2, 4, 2, 4]);
}

#[test]
fn malformed_requests_get_a_problem_under_tls() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let server =
        sandbox.serve(&format!("{SIGNING}[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n"));
    let client = TlsClient::new(&authority, &TlsClientOptions::default());
    for (bytes, status, code) in malformed() {
        let stream = std::net::TcpStream::connect(server.address).unwrap();
        let mut connection = Connection::over(StreamOwned::new(client.connection(), stream));
        connection.send_raw(bytes.as_bytes());
        assert_refused(&mut connection, status, code);
    }
}

/// Bytes of other protocols, and random bytes.
fn garbage() -> Vec<Vec<u8>> {
    let mut state = 1u32;
    let noise = (0..70_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    vec![
        noise.collect(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\x16\x03\x03\xff\xff".to_vec(),
        b"\x15\x03\x03\x00\x02\x02\x28".to_vec(),
        // CVE-2024-32650: close_notify during the handshake.
        b"\x15\x03\x03\x00\x02\x01\x00".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"PROXY UNKNOWN ".repeat(10),
        vec![0; 100_000],
        vec![b'A'; 100_000],
        b"\n".repeat(10_000),
        b"GET /auth HTTP/1.1\r\nHost: t\r\n".to_vec(),
        Vec::new(),
    ]
}

#[test]
fn garbage_on_any_port_is_harmless() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let (tls, proxied, path) = (free_address(), free_address(), sandbox.path().join("socket"));
    let server = sandbox.serve(&format!(
        "{SIGNING}[listener_tls]\nbind={tls}\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listener_unix]\nbind=unix:{}\n\
         [listener_proxied]\nbind={proxied}\nproxy_protocol=true\ntrusted_proxies=127.0.0.1\n",
        path.display()
    ));
    for bytes in garbage() {
        let throw = |address: SocketAddr| {
            let mut connection = Connection::open(address);
            // The server may close before it has received everything.
            let _ignored = connection.stream().write_all(&bytes);
            let _ignored = connection.stream().shutdown(std::net::Shutdown::Write);
            connection.receive_all()
        };
        for address in [server.address, server.metrics, tls, proxied] {
            let received = String::from_utf8_lossy(&throw(address)).into_owned();
            assert!(!received.contains(" 200 "), "{received}");
        }
        let mut unix = UnixStream::connect(&path).unwrap();
        let _ignored = unix.write_all(&bytes);
    }
    assert_healthy(&server);
    assert_served(&mut Connection::over(UnixStream::connect(&path).unwrap()));
    let client = TlsClient::new(&authority, &TlsClientOptions::default());
    assert_eq!(client.request(tls, "GET /healthz HTTP/1.1\r\n").unwrap().0.status, 200);
}
