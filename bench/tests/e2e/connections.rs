//! Connections: how they come about, what is on them at a time, and how they end.

use std::{rc::Rc, thread, time::Duration};

use countersign_bench::e2e::{
    protocol::{Storm, Way},
    schedule::Pace,
    tls::Handshake,
};

use crate::{
    certificate::{certificate, tls_config, tls_for},
    trivial::{Asking, Trivial, honest, requests},
};

/// All ways to ask that put several requests on one connection.
const MULTIPLEXED: [Way; 3] = [Way::H2, Way::Grpc, Way::H3];

#[test]
fn a_connection_has_as_many_requests_as_it_is_to_have() {
    let connections = |per_connection, connections| {
        let server = Trivial::start(honest);
        let tally = Asking { per_connection, connections, limit: requests(400), ..server.load() }
            .run()
            .unwrap();
        assert_eq!(tally.requests(), 400);
        assert_eq!(tally.connections, server.connections());
        tally.connections
    };
    assert_eq!(connections(None, 8), 8);
    assert_eq!(connections(Some(1), 8), 400);
    assert_eq!(connections(Some(10), 1), 40);
    // Each lane may end on a connection that is not used up.
    assert!((40..=44).contains(&connections(Some(10), 4)));
}

#[test]
fn requests_that_are_due_together_are_sent_together() {
    for way in MULTIPLEXED {
        // It takes all requests that have come before it answers the first.
        let server = Trivial::speaking(way, tls_for(way), honest);
        Asking { connections: 1, streams: 5, limit: requests(200), ..server.load() }.run().unwrap();
        assert_eq!(server.most_at_a_time(), 5, "{way:?}");
    }
}

#[test]
fn streams_share_their_connection() {
    for way in MULTIPLEXED {
        let server = Trivial::speaking(way, tls_for(way), honest);
        let tally = Asking { streams: 8, limit: requests(400), ..server.load() }.run().unwrap();
        assert_eq!(
            (tally.requests(), tally.connections, server.connections()),
            (400, 2, 2),
            "{way:?}"
        );
    }
}

#[test]
fn handshakes_are_as_they_are_to_be() {
    let resumed = |way, handshake, alpn| {
        let server = Trivial::speaking(way, Some(tls_config(&certificate(), true, alpn)), honest);
        let tally =
            Asking { handshake, per_connection: Some(1), limit: requests(60), ..server.load() }
                .run()
                .unwrap();
        assert_eq!((tally.requests(), tally.connections, server.connections()), (60, 60, 60));
        server.resumed()
    };
    assert_eq!(resumed(Way::Http1, Handshake::Full, None), 0);
    // All but the first of each of the two lanes.
    assert_eq!(resumed(Way::Http1, Handshake::Resumed, None), 58);
    assert_eq!(resumed(Way::H2, Handshake::Full, Some("h2")), 0);
    assert_eq!(resumed(Way::H3, Handshake::Full, Some("h3")), 0);
    let forgetful =
        Trivial::speaking(Way::Http1, Some(tls_config(&certificate(), false, None)), honest);
    let error =
        Asking { handshake: Handshake::Resumed, per_connection: Some(1), ..forgetful.load() }
            .run()
            .unwrap_err();
    assert!(error.contains("should have been Resumed"), "{error}");
}

#[test]
fn who_speaks_no_http2_under_tls_is_found() {
    let server = Trivial::speaking(Way::H2, Some(tls_config(&certificate(), true, None)), honest);
    let error = server.load().run().unwrap_err();
    assert!(error.contains("is spoken and not HTTP/2"), "{error}");
}

#[test]
fn connections_of_http3_are_ended_in_order() {
    let server = Trivial::speaking(Way::H3, tls_for(Way::H3), honest);
    let tally =
        Asking { per_connection: Some(1), limit: requests(30), ..server.load() }.run().unwrap();
    assert_eq!(tally.connections, 30);
    eventually(|| server.closed() == 30);
}

#[test]
fn a_storm_takes_back_what_it_asks_beside_the_load() {
    for way in [Way::H2, Way::H3] {
        let server = Trivial::speaking(way, tls_for(way), honest);
        let storm = Rc::new(Storm::default());
        let asking =
            Asking { storm: Some(Rc::clone(&storm)), limit: requests(300), ..server.load() };
        let tally = Asking { pace: Pace::Constant(1000.0), ..asking }.run().unwrap();
        assert_eq!((tally.requests(), tally.connections), (300, 2), "{way:?}");
        assert!(storm.resets.get() > 0, "{way:?}");
        // h2 ends a connection on which too many requests were taken back (ENHANCE_YOUR_CALM).
        assert!(storm.connections.get() > u64::from(way == Way::H2), "{way:?}: {storm:?}");
        if way == Way::H3 {
            eventually(|| server.resets() > 0);
        }
    }
}

#[test]
fn what_cannot_be_taken_back_is_no_storm() {
    let server = Trivial::start(honest);
    let error = Asking { storm: Some(Rc::default()), ..server.load() }.run().unwrap_err();
    assert!(error.contains("cannot be taken back"), "{error}");
}

/// What servers see on threads of their own.
fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within five seconds");
}
