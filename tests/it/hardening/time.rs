use std::{
    io::{ErrorKind, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use countersign_tests::{
    binary::Sandbox,
    certificates::Authority,
    http::Connection,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
    tls::{TlsClient, TlsClientOptions},
};
use rustls::StreamOwned;

use super::{assert_healthy, assert_refused, assert_served, kilobytes, with_limits};
use crate::fixture::{self, SIGNING};

/// Sends single bytes at intervals until an answer or the end of the connection arrives.
#[track_caller]
fn drip(connection: &mut Connection, byte: u8) {
    let wait = |stream: &TcpStream, millis| {
        stream.set_read_timeout(Some(Duration::from_millis(millis))).unwrap()
    };
    wait(connection.stream(), 100);
    for _ in 0..300 {
        match connection.wait() {
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                // The server may close at this moment.
                let _ignored = connection.stream().write(&[byte]);
            }
            _ => return wait(connection.stream(), 20_000),
        }
    }
    panic!("no timeout within 30 s");
}

#[test]
fn head_timeout_ends_slow_heads() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("head_timeout=1"));
    std::thread::scope(|scope| {
        for start in ["G", "\r\n", "GET /auth HTTP/1.1\r\nHost: t\r\nX: "] {
            let server = &server;
            scope.spawn(move || {
                let (mut silent, mut dripping) =
                    (Connection::open(server.address), Connection::open(server.address));
                assert_served(&mut dripping);
                silent.send_raw(start.as_bytes());
                dripping.send_raw(start.as_bytes());
                drip(&mut dripping, b'x');
                assert_refused(&mut dripping, 408, "head_timeout");
                assert_refused(&mut silent, 408, "head_timeout");
            });
        }
    });
    assert_healthy(&server);
}

#[test]
fn body_timeout_ends_slow_bodies() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("body_timeout=1"));
    std::thread::scope(|scope| {
        for start in [
            "Content-Length: 1000\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3e8\r\nabc",
            "Content-Length: 1000\r\n\r\n",
        ] {
            let server = &server;
            scope.spawn(move || {
                let head = format!("POST /v1/verify HTTP/1.1\r\nHost: t\r\n{start}");
                let (mut silent, mut dripping) =
                    (Connection::open(server.address), Connection::open(server.address));
                silent.send_raw(head.as_bytes());
                dripping.send_raw(head.as_bytes());
                drip(&mut dripping, b'x');
                assert_refused(&mut dripping, 408, "body_timeout");
                assert_refused(&mut silent, 408, "body_timeout");
            });
        }
    });
    assert_healthy(&server);
}

#[test]
fn idle_timeout_closes_silently() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("idle_timeout=1"));
    let (mut fresh, mut used) =
        (Connection::open(server.address), Connection::open(server.address));
    assert_served(&mut used);
    assert!(fresh.is_closed() && used.is_closed());
    // A connection with regular requests stays open.
    let mut busy = Connection::open(server.address);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(300));
        assert_served(&mut busy);
    }
    assert_healthy(&server);
}

#[test]
fn idle_timeout_under_tls_sends_close_notify() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{}{tls}", with_limits("idle_timeout=1")));
    let client = TlsClient::new(&authority, &TlsClientOptions::default());
    let mut idle = Connection::over(StreamOwned::new(
        client.connection(),
        TcpStream::connect(server.address).unwrap(),
    ));
    assert_served(&mut idle);
    assert!(idle.is_closed(), "closed in order, not reset");
}

/// The start of a TLS alert record.
const ALERT: &[u8] = b"\x15\x03\x03";
/// A PROXY protocol header with the LOCAL command, as in a proxy's health check.
const PROXY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn head_timeout_covers_proxy_header_and_handshake() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let options = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\nproxy_protocol=true\ntrusted_proxies=127.0.0.1\n";
    let server = sandbox.serve(&format!("{}{options}", with_limits("head_timeout=1")));
    let address = server.address;
    std::thread::scope(|scope| {
        for start in [
            Vec::new(),
            PROXY[..13].to_vec(),
            b"PROXY TCP4 192.0.2.1".to_vec(),
            PROXY.to_vec(),
            [PROXY, b"\x16\x03\x01\x02\0"].concat(),
        ] {
            scope.spawn(move || {
                let (mut silent, mut dripping) =
                    (Connection::open(address), Connection::open(address));
                silent.send_raw(&start);
                dripping.send_raw(&start);
                drip(&mut dripping, 0);
                // The only possible answer is a TLS alert.
                let received = dripping.receive_all();
                assert!(
                    received.is_empty() || received.starts_with(ALERT),
                    "{start:?} {received:?}"
                );
                assert!(silent.is_closed(), "{start:?}");
            });
        }
    });
}

/// Sends requests without reading an answer until the server closes the connection.
#[track_caller]
fn send_without_reading(mut stream: impl std::io::Write) {
    const MAX_BYTES: usize = 1 << 30;
    let requests = "GET /auth HTTP/1.1\r\nHost: t\r\n\r\nGET /nothing HTTP/1.1\r\nHost: t\r\n\r\n"
        .repeat(1000);
    let mut sent = 0;
    let error = loop {
        match stream.write_all(requests.as_bytes()) {
            Ok(()) => sent += requests.len(),
            Err(error) => break error,
        }
        assert!(sent < MAX_BYTES, "the server never closes the connection");
    };
    assert!(
        ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
        "the connection was not closed: {error}"
    );
}

#[test]
fn unread_answers_close_the_connection() {
    const MAX_GROWTH_KIB: u64 = 64 * 1024;
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&with_limits("body_timeout=1"));
    assert_served(&mut Connection::open(server.address));
    let before = kilobytes(&server, "VmHWM");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let stream = TcpStream::connect(server.address).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
                send_without_reading(stream);
            });
        }
    });
    let after = kilobytes(&server, "VmHWM");
    assert!(after < before + MAX_GROWTH_KIB, "{before} KiB grew to {after} KiB");
    assert_healthy(&server);
}

#[test]
fn unread_answers_close_the_connection_under_tls() {
    const MAX_GROWTH_KIB: u64 = 64 * 1024;
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{}{tls}", with_limits("body_timeout=1")));
    let client = TlsClient::new(&authority, &TlsClientOptions::default());
    assert_eq!(client.request(server.address, "GET /healthz HTTP/1.1\r\n").unwrap().0.status, 200);
    let before = kilobytes(&server, "VmHWM");
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    send_without_reading(StreamOwned::new(client.connection(), stream));
    let after = kilobytes(&server, "VmHWM");
    assert!(after < before + MAX_GROWTH_KIB, "{before} KiB grew to {after} KiB");
}

#[test]
fn late_reader_gets_all_answers() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("ours");
    authority.server().write(sandbox.path());
    let (plain, tls) = (sandbox.path().join("plain"), sandbox.path().join("tls"));
    let server = sandbox.serve(&format!(
        "{SIGNING}[listener_plain]\nbind=unix:{}\n[listener_tls]\nbind=unix:{}\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n",
        plain.display(),
        tls.display()
    ));
    let client = TlsClient::new(&authority, &TlsClientOptions::default());
    // The sizes pass the limits of both the socket buffers and the TLS buffers.
    for requests in (200..2000).step_by(150) {
        let open = |path| {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        };
        let mut late = Connection::over(open(&plain));
        assert_all_read_late(&mut late, requests);
        let mut late = Connection::over(StreamOwned::new(client.connection(), open(&tls)));
        assert_all_read_late(&mut late, requests);
    }
    assert_healthy(&server);
}

fn assert_all_read_late<S: std::io::Read + std::io::Write>(
    connection: &mut Connection<S>,
    requests: usize,
) {
    assert_served(connection);
    connection.send_raw("GET /auth HTTP/1.1\r\nHost: t\r\n\r\n".repeat(requests).as_bytes());
    // By then the server has written what the buffers take. Otherwise the test proves less.
    std::thread::sleep(Duration::from_millis(50));
    for nth in 0..requests {
        connection.wait().unwrap_or_else(|error| panic!("{nth} of {requests}: {error}"));
        assert_eq!(connection.receive(false).status, 401);
    }
    assert_served(connection);
}

#[test]
fn pipelined_requests_wait_for_a_slow_answer() {
    let [old, new] = ["old", "new"].map(|kid| SigningKey::generate("ES256", kid));
    let provider = JwksServer::start(&fixture::key_set(&[&old]));
    let sandbox = Sandbox::new();
    let server =
        sandbox.serve(&fixture::with_idp("ES256", &format!("jwks_uri={}\n", provider.uri())));
    provider.respond_with(
        CannedResponse::json(&fixture::key_set(&[&old, &new])).delayed(Duration::from_millis(300)),
    );
    let token = new.token(&fixture::claims_of("https://idp/"));
    let mut connection = Connection::open(server.address);
    connection.send_raw(
        format!(
            "GET /auth HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n\
             GET /auth HTTP/1.1\r\nHost: t\r\n\r\nGET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"
        )
        .as_bytes(),
    );
    connection.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!([(); 3].map(|()| connection.receive(false).status), [200, 401, 200]);
    assert!(connection.is_closed());
}
