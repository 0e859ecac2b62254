use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use countersign_tests::{
    binary::Sandbox,
    certificates::Authority,
    eventually,
    http::request,
    spop::{CheckMessage, SpopClient, SpopFrame, hello, kind, message, text, typed, usual_hello},
    tls::{TlsClient, TlsClientOptions},
};
use rustls::StreamOwned;

use super::{LISTENER, bearer, check_token};
use crate::fixture;

#[test]
fn handshake_is_answered_as_specified() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    for (versions, max_frame, capabilities, expected) in [
        ("2.0", 16_380, "pipelining,async", ["2.0", "16380", "pipelining"]),
        ("1.0, 2.0", 256, "fragmentation , pipelining", ["2.0", "256", "pipelining"]),
        ("2.0", u64::from(u32::MAX), "", ["2.0", "65532", ""]),
    ] {
        let mut client = SpopClient::open(server.spop_address());
        client.send(&[hello(versions, max_frame, capabilities)]);
        let answer = client.receive().unwrap();
        assert_eq!((answer.kind, answer.ids), (kind::AGENT_HELLO, (0, 0)));
        let items = answer.items();
        let items = ["version", "max-frame-size", "capabilities"].map(|name| &*items[name]);
        assert_eq!(items, expected);
        let status = client.check(&CheckMessage::of(&[])).remove("status");
        assert!(max_frame == 256 || status.as_deref() == Some("401"), "{status:?}");
    }
    for (versions, max_frame, status) in [("1.0", 16_380, "8"), ("2.0", 255, "9")] {
        let mut client = SpopClient::open(server.spop_address());
        client.send(&[hello(versions, max_frame, "pipelining")]);
        assert_eq!(client.receive_disconnect(), status);
    }
}

#[test]
fn health_check_ends_after_the_handshake() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    let mut client = SpopClient::open(server.spop_address());
    let mut hello = usual_hello();
    hello.payload.extend([&text("healthcheck")[..], &[0x11]].concat());
    client.send(&[hello]);
    assert_eq!(client.receive().unwrap().kind, kind::AGENT_HELLO);
    assert_eq!(client.receive(), None);
}

#[test]
fn malformed_checks_close_the_connection() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    let good = CheckMessage::of(&[]).payload();
    let other_name = [&text("other")[..], &[0]].concat();
    let null_headers = |src: Vec<u8>| {
        message(&[
            ("method", typed(8, b"GET")),
            ("path", typed(8, b"/")),
            ("src", src),
            ("headers", vec![0]),
        ])
    };
    for payload in [
        vec![],
        good[..good.len() - 1].to_vec(),
        [&good[..], &good].concat(),
        other_name,
        message(&[("method", typed(8, b"GET"))]),
        message(&[("verb", typed(8, b"GET"))]),
        null_headers(typed(8, b"127.0.0.1")),
    ] {
        let mut client = SpopClient::connect(server.spop_address());
        client.send(&[SpopFrame::new(kind::NOTIFY, (1, 1), payload)]);
        assert_eq!(client.receive_disconnect(), "4");
    }
    eventually(|| server.log().contains("sent a malformed check over SPOP"));
    // The client's header lines did not fit.
    let mut client = SpopClient::connect(server.spop_address());
    let payload = null_headers(vec![6, 127, 0, 0, 1]);
    client.send(&[SpopFrame::new(kind::NOTIFY, (1, 1), payload)]);
    let variables = client.receive().unwrap().variables();
    assert_eq!((&*variables["status"], &*variables["allowed"]), ("431", "false"));
}

#[test]
fn other_protocols_are_refused() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    for bytes in [
        &b"GET /auth HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 64],
        &[0; 64],
    ] {
        let mut client = SpopClient::open(server.spop_address());
        client.send_raw(bytes);
        assert!(["3", "4"].contains(&&*client.receive_disconnect()), "{bytes:?}");
    }
    // Nor is SPOP spoken elsewhere.
    let mut client = TcpStream::connect(server.address).unwrap();
    client.write_all(&usual_hello().bytes()).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
}

#[test]
fn slow_frame_times_out() {
    let sandbox = Sandbox::new();
    let limits = "[limits]\nhead_timeout=1\nidle_timeout=3\n";
    let server = sandbox.serve(&format!("{}{limits}{LISTENER}", fixture::SIGNING));
    let mut slow = SpopClient::connect(server.spop_address());
    let frame = CheckMessage::of(&[]).notify(1).bytes();
    slow.send_raw(&frame[..frame.len() - 1]);
    let mut idle = SpopClient::connect(server.spop_address());
    assert_eq!(slow.receive_disconnect(), "2");
    assert_eq!(idle.receive_disconnect(), "0");
}

#[test]
fn connection_over_the_limit_is_closed() {
    let sandbox = Sandbox::new();
    let limits = "[limits]\nconnections=1\n";
    let server = sandbox.serve(&format!("{}{limits}{LISTENER}", fixture::SIGNING));
    let open = SpopClient::connect(server.spop_address());
    let mut refused = TcpStream::connect(server.spop_address()).unwrap();
    let mut answer = Vec::new();
    let _reset = refused.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
    assert_eq!(request(server.address, "GET /auth HTTP/1.1\r\n", b"").status, 503);
    drop(open);
    eventually(|| request(server.address, "GET /auth HTTP/1.1\r\n", b"").status == 401);
}

#[test]
fn stopped_server_disconnects() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    let mut clients = [(); 3].map(|()| SpopClient::connect(server.spop_address()));
    assert_eq!(clients[0].check(&CheckMessage::of(&[]))["status"], "401");
    let stopping = std::thread::spawn(move || {
        clients.iter_mut().for_each(|client| assert_eq!(client.receive_disconnect(), "0"));
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.stop("TERM").0.success());
    stopping.join().unwrap();
}

#[test]
fn haproxy_may_disconnect() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    let mut client = SpopClient::connect(server.spop_address());
    let items = [text("status-code"), vec![3, 0], text("message"), typed(8, b"normal")].concat();
    client.send(&[SpopFrame::new(kind::HAPROXY_DISCONNECT, (0, 0), items)]);
    assert_eq!(client.receive_disconnect(), "0");
}

#[test]
fn spop_is_served_under_tls() {
    let (sandbox, authority) = (Sandbox::new(), Authority::root("ours"));
    authority.server().write(sandbox.path());
    let tls = "ssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
    let server = sandbox.serve(&format!("{}{LISTENER}{tls}", fixture::SIGNING));
    let options = TlsClientOptions { protocols: &[], ..TlsClientOptions::default() };
    let connection = TlsClient::new(&authority, &options).connection();
    let socket = TcpStream::connect(server.spop_address()).unwrap();
    let mut client = SpopClient::over(StreamOwned::new(connection, socket));
    client.shake_hands();
    let bearer = bearer(&fixture::good_token());
    let variables = client.check(&CheckMessage::of(&[("authorization", &bearer)]));
    assert_eq!(variables["x_auth_user"], "bob");
}

#[test]
fn reload_applies_to_open_connections() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{}{LISTENER}", fixture::SIGNING));
    assert_eq!(check_token(&server, &fixture::good_token())["status"], "200");
    let mut client = SpopClient::connect(server.spop_address());
    let bearer = bearer(&fixture::good_token());
    let check = CheckMessage::of(&[("authorization", &bearer)]);
    assert_eq!(client.check(&check)["status"], "200");
    let routes = "authorization=routes\n[route_a]\nmatch=GET /other\n";
    sandbox.replace("server.cfg", format!("{}{LISTENER}{routes}", fixture::SIGNING));
    server.reload();
    assert_eq!(client.check(&check)["status"], "403");
}
