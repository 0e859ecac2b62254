//! QUIC: addresses, certificates, and the keys that threads and nodes share.

use std::{sync::atomic::Ordering, time::Duration};

use countersign_tests::{
    binary::NO_BUDGETS,
    certificates::Authority,
    eventually, http,
    proxies::free_address,
    quic::{QuicClient, UdpRelay, request},
    tls::{self, TlsClientOptions},
};
use quinn::ConnectionError;

use super::{Fixture, auth_request, configuration};

fn auth_status(client: &QuicClient) -> u16 {
    client.request(&auth_request()).unwrap().status
}

#[test]
fn migrated_connection_stays_on_its_worker() {
    let fixture = Fixture::new();
    let server = fixture.serve("threads=2\n");
    let clients: Vec<_> = (0..16).map(|_| fixture.connect(&server)).collect();
    let workers = ["0", "1"]
        .map(|worker| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}")));
    assert_eq!(workers.iter().sum::<u64>(), 16);
    assert!(workers.iter().all(|count| *count > 0), "each worker has connections: {workers:?}");
    for _ in 0..3 {
        for client in &clients {
            assert_eq!(auth_status(client), 200);
            client.move_to_another_port();
            assert_eq!(auth_status(client), 200);
        }
    }
    let after = ["0", "1"]
        .map(|worker| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}")));
    assert_eq!(after, workers, "no connection has moved to another worker");
}

#[test]
fn lost_datagrams_are_retransmitted() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let relay = UdpRelay::start(server.address, Some(7));
    let client = QuicClient::connect(&fixture.tls(), relay.address).unwrap();
    for _ in 0..100 {
        assert_eq!(auth_status(&client), 200);
    }
    let body = [
        request("POST", "/v1/verify", &[]),
        countersign_tests::quic::frame(0, &vec![b'a'; 60_000]),
    ]
    .concat();
    assert_eq!(client.request(&body).unwrap().status, 401);
}

#[test]
fn retry_is_sent_above_the_limit() {
    let fixture = Fixture::new();
    let server = fixture.serve("[quic]\nretry_above=0\n");
    let relay = UdpRelay::start(server.address, None);
    for _ in 0..3 {
        let before = relay.retries.load(Ordering::Relaxed);
        assert_eq!(auth_status(&QuicClient::connect(&fixture.tls(), relay.address).unwrap()), 200);
        // One Retry per Initial datagram of the client.
        assert!(relay.retries.load(Ordering::Relaxed) > before);
    }
    let server = fixture.serve("");
    let relay = UdpRelay::start(server.address, None);
    assert_eq!(auth_status(&QuicClient::connect(&fixture.tls(), relay.address).unwrap()), 200);
    assert_eq!(relay.retries.load(Ordering::Relaxed), 0, "a single connection needs no Retry");
}

#[test]
fn shared_key_resets_connections_after_takeover() {
    let fixture = Fixture::new();
    let address = free_address();
    fixture.sandbox.file("quic.key", [b'k'; 32]);
    let configuration = || {
        let listener = "protocols=h3\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n";
        format!(
            "{}[quic]\nkey_file=quic.key\n[listener_h3]\nbind={address}\n{listener}",
            crate::fixture::SIGNING
        )
    };
    let first = fixture.sandbox.serve(&configuration());
    let client = QuicClient::connect(&fixture.tls(), address).unwrap();
    assert_eq!(auth_status(&client), 200);
    first.signal("KILL");
    drop(first);
    let _server = fixture.sandbox.serve(&configuration());
    // Fails if the new server has already answered a retransmission.
    let request = client.wait(async {
        let (mut send, receive) = client.connection.open_bi().await.ok()?;
        send.write_all(&auth_request()).await.ok()?;
        send.finish().ok().map(|()| receive)
    });
    assert!(
        matches!(client.wait(client.connection.closed()), ConnectionError::Reset),
        "{:?}",
        client.connection.close_reason()
    );
    drop(request);
    assert_eq!(auth_status(&QuicClient::connect(&fixture.tls(), address).unwrap()), 200);
}

#[test]
fn h3_only_listener_is_announced() {
    let fixture = Fixture::new();
    let address = free_address();
    let listener = format!(
        "[listener_h3]\nbind={address}\nprotocols=h3\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n"
    );
    let server = fixture.sandbox.serve(&format!("{}{listener}", crate::fixture::SIGNING));
    let line = format!("  requests  https://{address} (h3)");
    assert!(server.startup_lines.contains(&line), "{:?}", server.startup_lines);
}

#[test]
fn renewed_certificate_serves_new_connections() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let before = fixture.connect(&server);
    assert_eq!(auth_status(&before), 200);
    let other = Authority::root("another");
    other.server().write(fixture.sandbox.path());
    eventually(|| server.log().contains("certificates reloaded"));
    let options = TlsClientOptions { protocols: &["h3"], ..TlsClientOptions::default() };
    let after =
        QuicClient::connect(&tls::TlsClient::new(&other, &options), server.address).unwrap();
    assert_eq!((auth_status(&before), auth_status(&after)), (200, 200));
    assert!(
        QuicClient::connect(&fixture.tls(), server.address).is_err(),
        "the former authority has not signed the new certificate"
    );
}

#[test]
fn client_certificate_is_required_and_logged() {
    let fixture = Fixture::new();
    let theirs = Authority::root("theirs");
    fixture.sandbox.file("clients.crt", theirs.pem());
    let server = fixture
        .serve("client_certificates=required\nclient_ca_file=clients.crt\n[log]\nrequests=all\n");
    let shown = theirs.client("somebody", 1);
    let options = |certificate| TlsClientOptions {
        protocols: &["h3"],
        certificate,
        ..TlsClientOptions::default()
    };
    let client = QuicClient::connect(
        &tls::TlsClient::new(&fixture.authority, &options(Some(&shown))),
        server.address,
    )
    .unwrap();
    assert_eq!(auth_status(&client), 200);
    let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &shown.chain[0]);
    let fingerprint: String =
        fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    eventually(|| {
        server.log().lines().any(|line| line.contains(&fingerprint) && line.contains("HTTP/3"))
    });
    // A client's handshake completes before the server verifies its certificate.
    let without = QuicClient::connect(&fixture.tls(), server.address);
    let why = without.map_or_else(|error| error, |client| client.wait(client.connection.closed()));
    assert!(why.to_string().contains("certificate"), "{why}");
}

#[test]
fn early_data_is_not_offered() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let tls = fixture.tls();
    let client = QuicClient::connect(&tls, server.address).unwrap();
    assert_eq!(auth_status(&client), 200);
    // By now the client has a session ticket.
    assert!(!QuicClient::may_send_early_data(&tls, server.address));
}

#[test]
fn tcp_answers_advertise_http3() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let port = server.address.port();
    let expected = format!("h3=\":{port}\"; ma=86400");
    let client = tls::TlsClient::new(&fixture.authority, &TlsClientOptions::default());
    for path in ["/auth", "/healthz", "/nothing"] {
        let (answer, _) =
            client.request(server.address, &format!("GET {path} HTTP/1.1\r\n")).unwrap();
        assert_eq!(answer.header("alt-svc"), Some(expected.as_str()), "{path}");
        let over_http3 = fixture.connect(&server).request(&request("GET", path, &[])).unwrap();
        assert_eq!(
            (over_http3.status, over_http3.line("alt-svc")),
            (answer.status, None),
            "HTTP/3 answers do not advertise HTTP/3"
        );
    }
    let plain = fixture.sandbox.serve(crate::fixture::SIGNING);
    let answer = http::request(plain.address, "GET /auth HTTP/1.1\r\n", b"");
    assert_eq!(answer.header("alt-svc"), None, "nothing to advertise without HTTP/3");
}

#[test]
fn quic_connections_count_towards_the_limit() {
    let fixture = Fixture::new();
    let server = fixture.serve(&format!("{NO_BUDGETS}connections=2\n"));
    let clients = [fixture.connect(&server), fixture.connect(&server)];
    let refused = QuicClient::connect(&fixture.tls(), server.address);
    assert!(refused.is_err_and(|error| error.to_string().contains("refused")));
    assert!(server.metric("countersign_connections_refused_total") > 0);
    assert_eq!(clients.map(|client| auth_status(&client)), [200, 200]);
    eventually(|| QuicClient::connect(&fixture.tls(), server.address).is_ok());
}

#[test]
fn quic_key_change_needs_a_restart() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    fixture.sandbox.file("quic.key", [b'k'; 32]);
    fixture.sandbox.replace("server.cfg", configuration("[quic]\nkey_file=quic.key\n"));
    let message = server.reload();
    assert!(message.contains("[quic]"), "{message}");
}

#[test]
fn invalid_datagrams_are_dropped() {
    let fixture = Fixture::new();
    let server = fixture.serve("");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for length in [0, 1, 6, 7, 20, 1199, 1200, 9000] {
        for first in [0x00, 0x40, 0x80, 0xc0, 0xff] {
            let mut bytes = vec![first; length];
            if let Some(version) = bytes.get_mut(1..5) {
                // A version that the server supports.
                version.copy_from_slice(&[0, 0, 0, 1]);
            }
            socket.send_to(&bytes, server.address).unwrap();
        }
    }
    assert_eq!(auth_status(&fixture.connect(&server)), 200);
}
