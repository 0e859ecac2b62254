//! The load generator against trivial servers in this process: does it see what it is
//! there to see?

mod certificate;
mod trivial;

use std::{
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use countersign_bench::e2e::{
    protocol::{Storm, Way},
    report::Report,
    rounds::{Turn, play},
    scenario::Scenario,
    schedule::Pace,
    tls::Handshake,
};
use rustls::ServerConfig;

use crate::{
    certificate::{certificate, tls_config},
    trivial::{Asking, HANG_UP, Trivial, corpus, honest, requests, strict},
};

/// All ways to ask that put several requests on one connection.
const MULTIPLEXED: [Way; 3] = [Way::H2, Way::Grpc, Way::H3];
const ALL: [Way; 4] = [Way::Http1, Way::H2, Way::Grpc, Way::H3];

#[test]
fn a_stall_shows_in_every_request_that_was_due_in_it() {
    let slow = |pace| {
        let gate = Mutex::new(0);
        let server = Trivial::start(move |credential| {
            let mut requests = gate.lock().unwrap();
            *requests += 1;
            if *requests == 100 {
                thread::sleep(Duration::from_millis(200));
            }
            honest(credential)
        });
        let tally = Asking { connections: 4, pace, limit: requests(600), ..server.load() }.run().unwrap();
        assert_eq!(tally.requests(), 600);
        tally.valid.count_between(100_000_000, u64::MAX)
    };
    // Half of the 200 that were due meanwhile waited for 100 ms and more.
    for pace in [Pace::Constant(1000.0), Pace::Poisson(1000.0)] {
        assert!(slow(pace) >= 80, "{pace:?}");
    }
    // Who waits for an answer before he counts on sees it once a connection.
    assert!(slow(Pace::AsItGoes) < 80);
}

#[test]
fn a_wrong_answer_ends_the_run_and_is_named() {
    for way in ALL {
        let gullible = Trivial::speaking(way, tls_for(way), |credential| if credential.is_none() { 401 } else { 200 });
        let error = mixed(&gullible).run().unwrap_err();
        assert!(error.contains("request ") && error.contains("was answered 200 instead of [401]"), "{way:?}: {error}");
    }
    let late = Mutex::new(0);
    let forgetful = Trivial::start(move |credential| {
        let mut requests = late.lock().unwrap();
        *requests += 1;
        if *requests > 300 && honest(credential) == 200 { 503 } else { honest(credential) }
    });
    let error = mixed(&forgetful).run().unwrap_err();
    assert!(error.contains("(valid) was answered 503 instead of [200]:\nHTTP/1.1 503"), "{error}");
}

#[test]
fn good_and_bad_requests_are_counted_apart() {
    for way in ALL {
        // Which also knows whether what is new with every sending is as it should be.
        let tally = mixed(&Trivial::speaking(way, tls_for(way), honest)).run().unwrap();
        assert_eq!(tally.requests(), 2_000, "{way:?}");
        assert!((900..1_100).contains(&tally.valid.len()), "{way:?}: {}", tally.valid.len());
    }
}

#[test]
fn a_server_that_hangs_up_is_found() {
    let server = Trivial::start(|_| HANG_UP);
    let error = server.load().run().unwrap_err();
    assert!(error.contains("the server hung up"), "{error}");
}

#[test]
fn a_connection_has_as_many_requests_as_it_is_to_have() {
    let connections = |per_connection, connections| {
        let server = Trivial::start(honest);
        let tally = Asking { per_connection, connections, limit: requests(400), ..server.load() }.run().unwrap();
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
        assert_eq!((tally.requests(), tally.connections, server.connections()), (400, 2, 2), "{way:?}");
    }
}

#[test]
fn handshakes_are_as_they_are_to_be() {
    let resumed = |way, handshake, alpn| {
        let server = Trivial::speaking(way, Some(tls_config(&certificate(), true, alpn)), honest);
        let tally = Asking { handshake, per_connection: Some(1), limit: requests(60), ..server.load() }.run().unwrap();
        assert_eq!((tally.requests(), tally.connections, server.connections()), (60, 60, 60));
        server.resumed()
    };
    assert_eq!(resumed(Way::Http1, Handshake::Full, None), 0);
    // All but the first of each of the two lanes.
    assert_eq!(resumed(Way::Http1, Handshake::Resumed, None), 58);
    assert_eq!(resumed(Way::H2, Handshake::Full, Some("h2")), 0);
    assert_eq!(resumed(Way::H3, Handshake::Full, Some("h3")), 0);
    let forgetful = Trivial::speaking(Way::Http1, Some(tls_config(&certificate(), false, None)), honest);
    let error = Asking { handshake: Handshake::Resumed, per_connection: Some(1), ..forgetful.load() }.run().unwrap_err();
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
    let tally = Asking { per_connection: Some(1), limit: requests(30), ..server.load() }.run().unwrap();
    assert_eq!(tally.connections, 30);
    eventually(|| server.closed() == 30);
}

#[test]
fn a_storm_takes_back_what_it_asks_beside_the_load() {
    for way in [Way::H2, Way::H3] {
        let server = Trivial::speaking(way, tls_for(way), honest);
        let storm = Rc::new(Storm::default());
        let asking = Asking { storm: Some(Rc::clone(&storm)), limit: requests(300), ..server.load() };
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

#[test]
fn every_scenario_can_be_played_and_has_its_figures() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
    for mut scenario in Scenario::read(&data).unwrap() {
        scenario.pinned = false;
        scenario.rounds = 2;
        scenario.seconds = 0.05;
        scenario.idle = scenario.idle.map(|_| 20);
        let mut plans = scenario.turns();
        for plan in &mut plans {
            plan.connections = plan.connections.min(4);
            plan.streams = plan.streams.min(4);
        }
        let server = |way: Way| {
            let alpn = [(Way::H2, "h2"), (Way::Grpc, "h2"), (Way::H3, "h3")].into_iter().find(|(known, _)| *known == way);
            let tls = scenario.tls.map(|_| tls_config(&certificate(), true, alpn.map(|(_, name)| name)));
            Trivial::speaking(way, tls, honest)
        };
        let servers: Vec<_> = plans.iter().map(|plan| server(plan.protocol)).collect();
        let turn = |(plan, target)| Turn { plan, target, answers: strict() };
        let turns: Vec<_> = plans.into_iter().zip(&servers).map(|(plan, server)| turn((plan, server))).collect();
        let measured = play(&scenario, &corpus(), certificate().join("certificate.pem"), &turns).unwrap();
        for rounds in &measured {
            assert_eq!(rounds.len(), 2);
            assert!(rounds.iter().all(|round| round.requests > 0 || round.memory.is_some()), "{}", scenario.name);
        }
        let turns = turns.into_iter().map(|turn| turn.plan.name).collect();
        Report { scenario: &scenario, turns, measured }.print().unwrap();
    }
}

/// Half good, half bad.
fn mixed(server: &Trivial) -> Asking<'_> {
    Asking { bad: 0.5, streams: if server.is_multiplexed() { 4 } else { 1 }, limit: requests(2_000), ..server.load() }
}

/// HTTP/3 has it, the others do without.
fn tls_for(way: Way) -> Option<Arc<ServerConfig>> {
    (way == Way::H3).then(|| tls_config(&certificate(), true, Some("h3")))
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
