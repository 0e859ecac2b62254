//! Memory of requests whose body or response is awaited. A few bytes can stand for a long header
//! line (HPACK, QPACK), and a body can stop at any byte.

use std::time::Duration;

use countersign_front::http2::error::Http2ErrorCode;
use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::Authority,
    frames::{Frame, RawConnection, flag, kind, section},
    http::Connection,
    quic::{self, QuicClient},
    tls::{TlsClient, TlsClientOptions},
};

use super::kilobytes;
use crate::fixture::{self, SIGNING};

const HTTP2: &str = "[listen]\nprotocols=http/1.1, h2\n";
/// One MiB for all requests, and a client that is a trusted proxy.
const TRUSTED_WITH_1_MIB: &str = "[listen]\nprotocols=http/1.1, h2\ntrusted_proxies=127.0.0.1\n\
                                  [limits]\nrequest_memory=1048576\n\
                                  request_memory_per_source=262144\n\
                                  request_memory_per_connection=262144\n";
/// Growth allowed beside three times the bytes that were sent, in KiB.
const FLOOR_KIB: u64 = 12 * 1024;

/// Returns the memory held by requests, in bytes.
fn held(server: &Server<'_>) -> u64 {
    server.metric("countersign_request_memory_bytes")
}

/// Waits until the held memory meets a condition.
#[track_caller]
fn wait_until_held(server: &Server<'_>, is_met: impl Fn(u64) -> bool) {
    for _ in 0..600 {
        if is_met(held(server)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{} bytes are held", held(server));
}

/// Checks that the server answers requests without a body on each listener.
#[track_caller]
fn assert_healthy(server: &Server<'_>) {
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
    assert_eq!(server.request("GET /healthz HTTP/1.1\r\n").status, 200);
    assert_eq!(server.operations("/live").status, 200);
}

/// Returns the resident memory of a server that has served requests before, in KiB.
fn settled(server: &Server<'_>, warm_up: impl Fn()) -> u64 {
    for _ in 0..4 {
        warm_up();
        assert_healthy(server);
    }
    wait_until_held(server, |held| held < 4096);
    kilobytes(server, "VmRSS")
}

/// Returns the fields of a POST request.
fn post(path: &str) -> Vec<(&str, &str)> {
    vec![(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "t")]
}

/// Returns 128 requests without their bodies. The first one inserts a line with this name, of 3,900
/// bytes, into the dynamic table; each of them refers to it seven times.
fn bomb(path: &str, name: &str) -> Vec<u8> {
    let head = section(&post(path));
    let length = [0x7f, 0xbd, 0x1d];
    let insert =
        [&[0x40, u8::try_from(name.len()).unwrap()], name.as_bytes(), &length[..]].concat();
    let first = [&head[..], &insert, &[b'b'; 3900], &[0xbe; 6]].concat();
    let more = [&head[..], &[0xbe; 7]].concat();
    (0..128)
        .flat_map(|number| {
            let block = if number == 0 { &first } else { &more };
            Frame::new(kind::HEADERS, flag::END_HEADERS, 2 * number + 1, &block[..]).bytes()
        })
        .collect()
}

#[test]
fn header_bomb_over_http2_is_bounded() {
    const CONNECTIONS: u64 = 60;
    for (path, name) in [
        ("/v1/verify", "a"),
        ("/v1/verify", "authorization"),
        ("/v1/verify", "x-forwarded-for"),
        ("/api/v2/login", "x-inmanta-tid"),
        ("/envoy.service.auth.v3.Authorization/Check", "content-type"),
    ] {
        let sandbox = Sandbox::new();
        let server = sandbox.serve(&format!("{SIGNING}{HTTP2}[log]\nrequests=all\n"));
        let bytes = bomb(path, name);
        let open = || {
            let mut raw = RawConnection::open(server.address, &[]);
            raw.send_raw(&bytes);
            raw
        };
        let before = settled(&server, || drop(open()));
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| open()).collect();
        assert_healthy(&server);
        std::thread::sleep(Duration::from_millis(300));
        let grown = kilobytes(&server, "VmRSS").saturating_sub(before);
        let sent = CONNECTIONS * u64::try_from(bytes.len()).unwrap() / 1024;
        assert!(grown <= FLOOR_KIB + 3 * sent, "{path} {name}: {grown} KiB for {sent} KiB");
        drop(clients);
        wait_until_held(&server, |held| held < 4096);
    }
}

#[test]
fn header_bomb_over_http3_is_bounded() {
    const CONNECTIONS: u64 = 15;
    let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
    authority.server().write(sandbox.path());
    let server = sandbox.serve(&format!(
        "{SIGNING}[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\n\
         protocols=http/1.1, h2, h3\n[limits]\nidle_timeout=15\n[log]\nrequests=all\n"
    ));
    let options = TlsClientOptions { protocols: &["h3"], ..TlsClientOptions::default() };
    let tls = TlsClient::new(&authority, &options);
    // A field section of 90 lines of two bytes: static entry 85, a policy of 53 bytes.
    // The type and the length of a frame have eight bytes each.
    let section = &quic::request("POST", "/v1/verify", &[])[16..];
    let request = quic::frame(0x1, &[section, &[0xff, 0x16].repeat(90)].concat());
    let open = |streams: usize| {
        let client = QuicClient::connect(&tls, server.address).unwrap();
        let streams: Vec<_> = (0..streams).map(|_| client.open(&request)).collect();
        (client, streams)
    };
    let served = || {
        let client = QuicClient::connect(&tls, server.address).unwrap();
        assert_eq!(client.request(&quic::request("GET", "/healthz", &[])).unwrap().status, 200);
    };
    (0..4).for_each(|_| drop(open(128)));
    served();
    wait_until_held(&server, |held| held < 4096);
    let before = kilobytes(&server, "VmRSS");
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| open(128)).collect();
    wait_until_held(&server, |held| held > CONNECTIONS * 128 * 100);
    served();
    let grown = kilobytes(&server, "VmRSS").saturating_sub(before);
    let sent = CONNECTIONS * 128 * u64::try_from(request.len()).unwrap() / 1024;
    assert!(grown <= FLOOR_KIB + 3 * sent, "{grown} KiB for {sent} KiB");
    drop(clients);
    wait_until_held(&server, |held| held < 4096);
}

#[test]
fn unfinished_grpc_bodies_are_bounded() {
    const CONNECTIONS: usize = 20;
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}{HTTP2}"));
    let before = settled(&server, || ());
    let head = [
        &post("/envoy.service.auth.v3.Authorization/Check")[..],
        &[("content-type", "application/grpc"), ("te", "trailers")],
    ]
    .concat();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut raw = RawConnection::open(server.address, &[]);
            for stream in (1..256).step_by(2) {
                let piece = Frame::new(kind::DATA, flag::NONE, stream, [b'a'; 16_000]);
                let mut frames = vec![Frame::head(stream, &head)];
                frames.extend(std::iter::repeat_n(piece, 4));
                raw.send(&frames);
            }
            raw
        })
        .collect();
    assert_healthy(&server);
    let grown = kilobytes(&server, "VmRSS").saturating_sub(before);
    assert!(grown <= 28 * 1024, "{grown} KiB");
    drop(clients);
    wait_until_held(&server, |held| held < 4096);
}

#[test]
fn connection_share_refuses_more_bodies() {
    let sandbox = Sandbox::new();
    let limits = "[limits]\nrequest_memory_per_connection=262144\n";
    let server = sandbox.serve(&format!("{SIGNING}{HTTP2}{limits}"));
    let mut raw = RawConnection::open(server.address, &[]);
    let head = |stream| Frame::head(stream, &post("/v1/verify"));
    let body = |stream| Frame::new(kind::DATA, flag::NONE, stream, [b'a'; 16_000]);
    for stream in (1..=41).step_by(2) {
        raw.send(&[head(stream), body(stream)]);
    }
    assert_eq!(raw.receive_status(41), 413);
    let answer = raw.receive_frame(kind::DATA, 41);
    assert!(String::from_utf8_lossy(&answer.payload).contains("request_memory"), "{answer:?}");
    // One request that ends makes room for another one.
    raw.send(&[Frame::new(kind::DATA, flag::END_STREAM, 1, *b"a")]);
    assert_eq!(raw.receive_status(1), 401);
    raw.send(&[head(43), body(43), Frame::new(kind::DATA, flag::END_STREAM, 43, *b"a")]);
    assert_eq!(raw.receive_status(43), 401);
    // Other connections are not affected, nor are requests that hold nothing.
    raw.send(&[Frame::request(
        45,
        &[(":method", "GET"), (":scheme", "http"), (":path", "/auth"), (":authority", "t")],
    )]);
    assert_eq!(raw.receive_status(45), 401);
    assert_eq!(server.verify(&fixture::good_token()).status, 200);
}

#[test]
fn trusted_proxy_has_the_bound_of_the_process() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}{TRUSTED_WITH_1_MIB}"));
    let mut raw = RawConnection::open(server.address, &[]);
    let unfinished = |stream| {
        let piece = Frame::new(kind::DATA, flag::NONE, stream, [b'a'; 15_000]);
        [Frame::head(stream, &post("/v1/verify")), piece]
    };
    (1..=101).step_by(2).for_each(|stream| raw.send(&unfinished(stream)));
    wait_until_held(&server, |held| held > 700_000);
    (103..=201).step_by(2).for_each(|stream| raw.send(&unfinished(stream)));
    assert_eq!(raw.receive_status(201), 503);
    // A check of `/auth` holds nothing.
    assert_eq!(server.auth(&fixture::good_token()).status, 200);
}

#[test]
fn full_process_does_not_disconnect_others() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}{TRUSTED_WITH_1_MIB}"));
    // Incomplete heads over HTTP/1 may use all of the memory of the process.
    let heads: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = Connection::open(server.address);
            let line = "y".repeat(59_000);
            connection.send_raw(format!("GET /auth HTTP/1.1\r\nHost: t\r\nX: {line}").as_bytes());
            connection
        })
        .collect();
    wait_until_held(&server, |held| held > 950_000);
    let mut raw = RawConnection::open(server.address, &[]);
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/auth"), (":authority", "t")];
    for stream in [1, 3] {
        let frame = Frame::request(stream, &fields).bytes();
        let (one, other) = frame.split_at(frame.len() / 2);
        raw.send_raw(one);
        std::thread::sleep(Duration::from_millis(100));
        raw.send_raw(other);
        assert_eq!(raw.receive_status(stream), 401);
    }
    drop(heads);
    wait_until_held(&server, |held| held < 4096);
}

#[test]
fn endless_trailers_are_bounded() {
    let sandbox = Sandbox::new();
    let limits = "[limits]\nrequest_memory_per_source=262144\n\
                  request_memory_per_connection=262144\n";
    let server = sandbox.serve(&format!("{SIGNING}{limits}"));
    let mut clients: Vec<_> = (0..14)
        .map(|_| {
            let mut connection = Connection::open(server.address);
            let line = "y".repeat(60_000);
            let head = "POST /v1/verify HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
            connection.send_raw(format!("{head}1\r\na\r\n0\r\nX: {line}").as_bytes());
            connection
        })
        .collect();
    wait_until_held(&server, |held| held > 262_144);
    // What arrives with the head counts as a head that is too large.
    let status = clients.last_mut().unwrap().receive(false).status;
    assert!([413, 431].contains(&status), "{status}");
    drop(clients);
    wait_until_held(&server, |held| held < 4096);
}

#[test]
fn repeated_slow_bodies_close_the_connection() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}{HTTP2}[limits]\nbody_timeout=1\n"));
    let mut raw = RawConnection::open(server.address, &[]);
    for stream in (1..=21).step_by(2) {
        raw.send(&[Frame::head(stream, &post("/v1/verify"))]);
    }
    let frames = raw.receive_all();
    let statuses = frames.iter().filter(|frame| frame.kind == kind::HEADERS).map(Frame::status);
    assert!(statuses.clone().all(|status| status == 408) && statuses.count() >= 8, "{frames:?}");
    let goaway = frames.iter().find(|frame| frame.kind == kind::GOAWAY).unwrap();
    assert_eq!(goaway.code(), Http2ErrorCode::EnhanceYourCalm.number());
}

#[test]
fn body_of_a_refused_call_is_not_awaited() {
    let sandbox = Sandbox::new();
    let clients = format!(
        "[api_clients]\nci={}\n",
        countersign_server::base::secret_hash::hash_text("secret")
    );
    let configuration =
        format!("{SIGNING}[server]\nauth=true\n[listen]\nprotocols=http/1.1, h2\n{clients}");
    let server = sandbox.serve(&configuration);
    // Basic credentials with a wrong secret: `ci:wrong`.
    for (method, path, line) in [
        ("POST", "/v1/revoke", ("authorization", "Basic Y2k6d3Jvbmc=")),
        ("POST", "/keys/refresh", ("authorization", "Basic Y2k6d3Jvbmc=")),
        ("POST", "/api/v2/user", ("x-odd", "")),
        ("POST", "/api/v2/user", ("authorization", "Bearer x")),
        ("POST", "/api/v2/login", ("authorization", "Bearer x")),
        ("PUT", "/api/v2/none", ("x-odd", "")),
    ] {
        let mut connection = Connection::open(server.address);
        let (name, value) = line;
        connection.send_raw(
            format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{name}: {value}\r\nContent-Length: 9\r\n\r\n")
                .as_bytes(),
        );
        let first = connection.receive(false).status;
        assert!([401, 403, 404].contains(&first), "{path}: {first}");
        let mut raw = RawConnection::open(server.address, &[]);
        let mut fields = post(path);
        fields[0].1 = method;
        fields.push(line);
        raw.send(&[Frame::head(1, &fields)]);
        assert_eq!(raw.receive_status(1), first, "{path}");
    }
    let mut connection = Connection::open(server.address);
    connection.send_raw(
        b"POST /v1/revoke HTTP/1.1\r\nHost: t\r\nAuthorization: Basic Y2k6c2VjcmV0\r\n\
          Content-Length: 7\r\n\r\ntoken=x",
    );
    assert_eq!(connection.receive(false).status, 200);
}
