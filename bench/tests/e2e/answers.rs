//! What is asked and answered: latencies that do not flatter, and every answer looked at.

use std::{sync::Mutex, thread, time::Duration};

use countersign_bench::e2e::{protocol::Way, schedule::Pace};

use crate::{
    certificate::tls_for,
    trivial::{Asking, HANG_UP, Trivial, honest, requests},
};

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
        let tally =
            Asking { connections: 4, pace, limit: requests(600), ..server.load() }.run().unwrap();
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
        let gullible =
            Trivial::speaking(
                way,
                tls_for(way),
                |credential| if credential.is_none() { 401 } else { 200 },
            );
        let error = mixed(&gullible).run().unwrap_err();
        assert!(
            error.contains("request ") && error.contains("was answered 200 instead of [401]"),
            "{way:?}: {error}"
        );
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

/// Half good, half bad.
fn mixed(server: &Trivial) -> Asking<'_> {
    Asking {
        bad: 0.5,
        streams: if server.is_multiplexed() { 4 } else { 1 },
        limit: requests(2_000),
        ..server.load()
    }
}
