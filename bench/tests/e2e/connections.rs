//! Connections: handshakes, concurrent requests, and closing.

use std::{rc::Rc, thread, time::Duration};

use countersign_bench::e2e::{
    protocol::{ProtocolKind, ResetStorm},
    schedule::Pace,
    tls::Handshake,
};

use crate::{
    certificate::{certificate, tls_config, tls_for},
    trivial::{TestLoad, TrivialServer, check_token, requests},
};

/// Protocols with concurrent requests on one connection.
const MULTIPLEXED: [ProtocolKind; 3] = [ProtocolKind::H2, ProtocolKind::Grpc, ProtocolKind::H3];

#[test]
fn connection_count_follows_per_connection() {
    let connections = |per_connection, connections| {
        let server = TrivialServer::start(check_token);
        let tally = TestLoad { per_connection, connections, limit: requests(400), ..server.load() }
            .run()
            .unwrap();
        assert_eq!(tally.requests(), 400);
        assert_eq!(tally.connections, server.connections());
        tally.connections
    };
    assert_eq!(connections(None, 8), 8);
    assert_eq!(connections(Some(1), 8), 400);
    assert_eq!(connections(Some(10), 1), 40);
    // Each slot may end on a connection with requests left.
    assert!((40..=44).contains(&connections(Some(10), 4)));
}

#[test]
fn requests_due_together_are_sent_together() {
    for protocol in MULTIPLEXED {
        // The server accepts all requests that have arrived before it answers the first.
        let server = TrivialServer::with_protocol(protocol, tls_for(protocol), check_token);
        TestLoad { connections: 1, streams: 5, limit: requests(200), ..server.load() }
            .run()
            .unwrap();
        assert_eq!(server.max_concurrent(), 5, "{protocol:?}");
    }
}

#[test]
fn streams_share_their_connection() {
    for protocol in MULTIPLEXED {
        let server = TrivialServer::with_protocol(protocol, tls_for(protocol), check_token);
        let tally = TestLoad { streams: 8, limit: requests(400), ..server.load() }.run().unwrap();
        assert_eq!(
            (tally.requests(), tally.connections, server.connections()),
            (400, 2, 2),
            "{protocol:?}"
        );
    }
}

#[test]
fn handshakes_are_full_or_resumed_as_configured() {
    let resumed = |protocol, handshake, alpn| {
        let server = TrivialServer::with_protocol(
            protocol,
            Some(tls_config(&certificate(), true, alpn)),
            check_token,
        );
        let tally =
            TestLoad { handshake, per_connection: Some(1), limit: requests(60), ..server.load() }
                .run()
                .unwrap();
        assert_eq!((tally.requests(), tally.connections, server.connections()), (60, 60, 60));
        server.resumed()
    };
    assert_eq!(resumed(ProtocolKind::Http1, Handshake::Full, None), 0);
    // All but the first of each of the two slots.
    assert_eq!(resumed(ProtocolKind::Http1, Handshake::Resumed, None), 58);
    assert_eq!(resumed(ProtocolKind::H2, Handshake::Full, Some("h2")), 0);
    assert_eq!(resumed(ProtocolKind::H3, Handshake::Full, Some("h3")), 0);
    let without_tickets = TrivialServer::with_protocol(
        ProtocolKind::Http1,
        Some(tls_config(&certificate(), false, None)),
        check_token,
    );
    let error = TestLoad {
        handshake: Handshake::Resumed,
        per_connection: Some(1),
        ..without_tickets.load()
    }
    .run()
    .unwrap_err();
    assert!(error.contains("expected Resumed"), "{error}");
}

#[test]
fn server_without_http2_over_tls_is_reported() {
    let server = TrivialServer::with_protocol(
        ProtocolKind::H2,
        Some(tls_config(&certificate(), true, None)),
        check_token,
    );
    let error = server.load().run().unwrap_err();
    assert!(error.contains("negotiated instead of HTTP/2"), "{error}");
}

#[test]
fn http3_connections_are_closed_gracefully() {
    let server =
        TrivialServer::with_protocol(ProtocolKind::H3, tls_for(ProtocolKind::H3), check_token);
    let tally =
        TestLoad { per_connection: Some(1), limit: requests(30), ..server.load() }.run().unwrap();
    assert_eq!(tally.connections, 30);
    eventually(|| server.closed() == 30);
}

#[test]
fn reset_storm_runs_beside_the_load() {
    for protocol in [ProtocolKind::H2, ProtocolKind::H3] {
        let server = TrivialServer::with_protocol(protocol, tls_for(protocol), check_token);
        let storm = Rc::new(ResetStorm::default());
        let load =
            TestLoad { storm: Some(Rc::clone(&storm)), limit: requests(300), ..server.load() };
        let tally = TestLoad { pace: Pace::Constant(1000.0), ..load }.run().unwrap();
        assert_eq!((tally.requests(), tally.connections), (300, 2), "{protocol:?}");
        assert!(storm.resets.get() > 0, "{protocol:?}");
        // h2 closes a connection with too many resets (ENHANCE_YOUR_CALM).
        assert!(
            storm.connections.get() > u64::from(protocol == ProtocolKind::H2),
            "{protocol:?}: {storm:?}"
        );
        if protocol == ProtocolKind::H3 {
            eventually(|| server.resets() > 0);
        }
    }
}

#[test]
fn http1_has_no_reset_storm() {
    let server = TrivialServer::start(check_token);
    let error = TestLoad { storm: Some(Rc::default()), ..server.load() }.run().unwrap_err();
    assert!(error.contains("cannot be reset"), "{error}");
}

/// Waits for a condition that a server's thread fulfils.
fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within five seconds");
}
