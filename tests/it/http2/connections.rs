use std::{net::TcpStream, time::Duration};

use countersign_front::http2::error::Http2ErrorCode;
use countersign_tests::{
    binary::Sandbox,
    certificates::{Authority, ours},
    eventually,
    frames::{Frame, PREFACE, RawConnection, flag, kind, setting},
    http::Connection,
    tls::{TlsClient, TlsClientOptions},
};
use rustls::StreamOwned;

use super::{assert_goaway, assert_healthy, assert_served, auth_frame, end, serve, verify};
use crate::fixture::{self, SIGNING};

#[test]
fn settings_announce_the_limits() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let mut raw = RawConnection::open(server.address, &[]);
    let settings = raw.receive().expect("SETTINGS is the first frame");
    assert_eq!((settings.kind, settings.flags), (kind::SETTINGS, flag::NONE));
    assert_eq!(settings.setting(setting::MAX_CONCURRENT_STREAMS), Some(128));
    assert_eq!(settings.setting(setting::MAX_HEADER_LIST_SIZE), Some(64 * 1024));
    raw.receive_frame(kind::SETTINGS, 0);
    raw.send(&[Frame::new(kind::PING, flag::NONE, 0, *b"whatever")]);
    let pong = raw.receive_frame(kind::PING, 0);
    assert_eq!((pong.flags, &*pong.payload), (flag::ACK, &b"whatever"[..]));
}

#[test]
fn preface_is_recognized_in_any_pieces() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let bytes = [PREFACE, &Frame::settings(&[]).bytes(), &auth_frame(1).bytes()].concat();
    for size in [1, 2, 7, 23, 24, 25, 33, 40] {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = RawConnection::over(stream);
        for piece in bytes.chunks(size) {
            // Without a pause, pieces may arrive together.
            std::thread::sleep(Duration::from_millis(1));
            raw.send_raw(piece);
        }
        assert_eq!(raw.receive_frame(kind::HEADERS, 1).stream, 1, "{size} at a time");
    }
    // Bytes that match only the start of the preface are HTTP/1.
    for method in ["P", "PR", "PRI", "PRIV", "PROPFIND", "GET"] {
        let mut connection = Connection::open(server.address);
        for byte in format!("{method} /auth HTTP/1.1\r\nHost: t\r\n\r\n").bytes() {
            connection.send_raw(&[byte]);
        }
        assert_eq!(connection.receive(false).status, 401, "{method}");
    }
    let mut connection = Connection::open(server.address);
    connection.send_raw(b"PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n");
    assert_eq!(connection.receive(false).status, 505);
}

#[test]
fn listener_speaks_only_its_protocols() {
    let sandbox = Sandbox::new();
    let only =
        |protocols: &str| sandbox.serve(&format!("{SIGNING}[listen]\nprotocols={protocols}\n"));
    {
        let server = only("http/1.1");
        let mut connection = Connection::open(server.address);
        connection.send_raw(&[PREFACE, &auth_frame(1).bytes()].concat());
        assert_eq!(connection.receive(false).status, 505);
        assert!(connection.is_closed());
    }
    let server = only("h2");
    assert_served(&mut RawConnection::open(server.address, &[]), 1);
    for bytes in [
        "GET /auth HTTP/1.1\r\nHost: t\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n",
        "\x16\x03\x01\x02",
    ] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(bytes.as_bytes());
        // The server may have closed already.
        let _ignored = connection.stream().shutdown(std::net::Shutdown::Write);
        let received = String::from_utf8_lossy(&connection.receive_all()).into_owned();
        assert!(!received.contains("HTTP/1"), "{bytes:?}: {received:?}");
    }
    assert_healthy(&server);
}

#[test]
fn alpn_selects_the_protocol() {
    let sandbox = Sandbox::new();
    ours().1.write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let trusting = |protocols: &[&str]| {
        TlsClient::new(&ours().0, &TlsClientOptions { protocols, ..TlsClientOptions::default() })
    };
    for (spoken, offered, chosen) in [
        ("http/1.1, h2", &["http/1.1", "h2"][..], Some(&b"h2"[..])),
        ("h2, http/1.1", &["h2", "http/1.1"], Some(b"h2")),
        ("http/1.1, h2", &["http/1.1"], Some(b"http/1.1")),
        ("http/1.1", &["h2", "http/1.1"], Some(b"http/1.1")),
        ("h2", &["http/1.1", "h2"], Some(b"h2")),
        ("h2", &["http/1.1"], None),
        ("http/1.1", &["h2"], None),
        ("http/1.1, h2", &["h3"], None),
    ] {
        let server = sandbox.serve(&format!("{SIGNING}{tls}[listen]\nprotocols={spoken}\n"));
        let mut stream = TcpStream::connect(server.address).unwrap();
        let mut tls = trusting(offered).connection();
        let handshake = tls.complete_io(&mut stream);
        assert_eq!(
            handshake.is_ok().then(|| tls.alpn_protocol()).flatten(),
            chosen,
            "{offered:?} of {spoken}: {handshake:?}"
        );
        let stream = StreamOwned::new(tls, stream);
        match chosen {
            Some(b"h2") => {
                let mut raw = RawConnection::over(stream);
                raw.send_preface(&[]);
                assert_served(&mut raw, 1);
            }
            Some(_) => {
                let mut connection = Connection::over(stream);
                connection.send("GET /auth HTTP/1.1\r\n", b"");
                assert_eq!(connection.receive(false).status, 401);
            }
            None => assert!(handshake.unwrap_err().to_string().contains("NoApplicationProtocol")),
        }
    }
}

#[test]
fn client_must_speak_the_negotiated_protocol() {
    let sandbox = Sandbox::new();
    let authority = Authority::root("theirs");
    authority.server().write(sandbox.path());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{SIGNING}{tls}[listen]\nprotocols=http/1.1, h2\n"));
    let open = |protocol: &str| {
        let client = TlsClient::new(
            &authority,
            &TlsClientOptions { protocols: &[protocol], ..TlsClientOptions::default() },
        );
        StreamOwned::new(client.connection(), TcpStream::connect(server.address).unwrap())
    };
    let mut connection = Connection::over(open("h2"));
    connection.send("GET /auth HTTP/1.1\r\n", b"");
    assert!(!String::from_utf8_lossy(&connection.receive_all()).contains("HTTP/1"));
    let mut connection = Connection::over(open("http/1.1"));
    connection.send_raw(PREFACE);
    assert_eq!(connection.receive(false).status, 505);
}

#[test]
fn idle_timeout_sends_goaway() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nidle_timeout=1");
    let (mut fresh, mut used) =
        (RawConnection::open(server.address, &[]), RawConnection::open(server.address, &[]));
    assert_served(&mut used, 1);
    assert_goaway(&mut fresh, Http2ErrorCode::NoError);
    assert_goaway(&mut used, Http2ErrorCode::NoError);
    // A connection with regular requests stays open.
    let mut busy = RawConnection::open(server.address, &[]);
    for number in 0..8 {
        std::thread::sleep(Duration::from_millis(300));
        assert_served(&mut busy, 2 * number + 1);
    }
}

#[test]
fn incomplete_preface_times_out() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\nhead_timeout=1\nidle_timeout=1");
    for start in [&b""[..], b"P", &PREFACE[..23], PREFACE] {
        let mut connection = Connection::open(server.address);
        connection.send_raw(start);
        let received = String::from_utf8_lossy(&connection.receive_all()).into_owned();
        assert!(!received.contains("200"), "{start:?}: {received:?}");
    }
    assert_healthy(&server);
}

#[test]
fn drain_sends_goaway_and_finishes_streams() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\ndrain_timeout=60");
    let (mut busy, mut idle) =
        (RawConnection::open(server.address, &[]), RawConnection::open(server.address, &[]));
    assert_served(&mut idle, 1);
    busy.send(&[verify(1), Frame::new(kind::DATA, flag::NONE, 1, "a.")]);
    // Frames are read in order, so the first request has been read.
    assert_served(&mut busy, 3);
    server.signal("TERM");
    assert_goaway(&mut idle, Http2ErrorCode::NoError);
    eventually(|| TcpStream::connect(server.address).is_err());
    assert_eq!(busy.receive_frame(kind::GOAWAY, 0).code(), Http2ErrorCode::NoError.number());
    busy.send(&[end(1, "b.c")]);
    assert_eq!(busy.receive_status(1), 401);
    busy.receive_all();
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}

#[test]
fn drain_answers_streams_in_flight() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\ndrain_timeout=60");
    let mut connections: Vec<_> =
        (0..10).map(|_| RawConnection::open(server.address, &[])).collect();
    connections.iter_mut().for_each(|raw| assert_served(raw, 1));
    std::thread::scope(|scope| {
        let senders: Vec<_> = connections
            .into_iter()
            .map(|mut raw| scope.spawn(move || send_until_closed(&mut raw)))
            .collect();
        server.signal("TERM");
        for client in senders {
            client.join().expect("every accepted request is answered");
        }
    });
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}

/// Sends requests until the server stops accepting them. Checks that each request up to the last
/// stream id of GOAWAY is answered.
fn send_until_closed(raw: &mut RawConnection) {
    let (mut sent, mut answered, mut last) = (1, 1, u32::MAX);
    let mut sends = true;
    while answered < sent || sends {
        if sends {
            sent += 2;
            // The server may have closed the connection.
            sends = raw.try_send(&[auth_frame(sent)]).is_ok();
        }
        match raw.receive() {
            Some(frame) if frame.kind == kind::HEADERS => {
                assert_eq!((frame.status(), frame.stream), (401, answered + 2));
                answered = frame.stream;
            }
            Some(frame) if frame.kind == kind::GOAWAY => {
                assert_eq!(frame.code(), Http2ErrorCode::NoError.number());
                last = last.min(u32::from_be_bytes(*frame.payload.first_chunk().unwrap()));
            }
            // The acknowledgement confirms that no further request is in flight.
            Some(frame) if frame.kind == kind::PING => {
                sends = raw.try_send(&[Frame { flags: flag::ACK, ..frame }]).is_ok();
            }
            Some(_) => {}
            None => break,
        }
    }
    assert!(answered >= last.min(sent), "{answered} answered, {sent} sent, GOAWAY named {last}");
}

#[test]
fn drain_ends_though_a_client_keeps_sending() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "[limits]\ndrain_timeout=3600");
    let mut raw = RawConnection::open(server.address, &[]);
    assert_served(&mut raw, 1);
    let senders = std::thread::spawn(move || {
        for stream in (3..).step_by(2) {
            let is_answered = raw.try_send(&[auth_frame(stream)]).is_ok()
                && std::iter::from_fn(|| raw.receive()).any(|frame| frame.kind == kind::HEADERS);
            if !is_answered {
                return;
            }
        }
    });
    server.signal("TERM");
    eventually(|| senders.is_finished());
    assert_eq!(server.stop("CONT").0.code(), Some(0));
}

#[test]
fn prior_knowledge_serves_a_good_token() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "");
    let token = fixture::good_token();
    let answer = super::client(&server)
        .request(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"");
    assert_eq!((answer.status, answer.header("x-auth-subject")), (200, Some("bob")));
    assert!(answer.header("connection").is_none() && answer.header("date").is_some(), "{answer:?}");
}
