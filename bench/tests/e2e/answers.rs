//! Latencies without coordinated omission, and checks of every answer.

use std::{sync::Mutex, thread, time::Duration};

use countersign_bench::e2e::{protocol::ProtocolKind, schedule::Pace};

use crate::{
    certificate::tls_for,
    trivial::{CLOSE_CONNECTION, TestLoad, TrivialServer, check_token, requests},
};

const ALL: [ProtocolKind; 4] =
    [ProtocolKind::Http1, ProtocolKind::H2, ProtocolKind::Grpc, ProtocolKind::H3];

#[test]
fn open_loop_stall_shows_in_every_due_request() {
    let slow = |pace| {
        let counter = Mutex::new(0);
        let server = TrivialServer::start(move |credential| {
            let mut requests = counter.lock().unwrap();
            *requests += 1;
            if *requests == 100 {
                thread::sleep(Duration::from_millis(200));
            }
            check_token(credential)
        });
        let tally =
            TestLoad { connections: 4, pace, limit: requests(600), ..server.load() }.run().unwrap();
        assert_eq!(tally.requests(), 600);
        tally.valid.count_between(100_000_000, u64::MAX)
    };
    // Half of the 200 requests due during the stall waited 100 ms or more.
    for pace in [Pace::Constant(1000.0), Pace::Poisson(1000.0)] {
        assert!(slow(pace) >= 80, "{pace:?}");
    }
    // A closed loop sees the stall once per connection.
    assert!(slow(Pace::ClosedLoop) < 80);
}

#[test]
fn wrong_answer_ends_the_run_and_is_reported() {
    for protocol in ALL {
        let permissive = TrivialServer::with_protocol(protocol, tls_for(protocol), |credential| {
            if credential.is_none() { 401 } else { 200 }
        });
        let error = mixed(&permissive).run().unwrap_err();
        assert!(
            error.contains("request ") && error.contains("was answered 200 instead of [401]"),
            "{protocol:?}: {error}"
        );
    }
    let counter = Mutex::new(0);
    let failing = TrivialServer::start(move |credential| {
        let mut requests = counter.lock().unwrap();
        *requests += 1;
        if *requests > 300 && check_token(credential) == 200 {
            503
        } else {
            check_token(credential)
        }
    });
    let error = mixed(&failing).run().unwrap_err();
    assert!(error.contains("(valid) was answered 503 instead of [200]:\nHTTP/1.1 503"), "{error}");
}

#[test]
fn valid_and_bad_requests_have_separate_counts() {
    for protocol in ALL {
        // The server accepts its exact tokens only, so that this also checks the fresh characters
        // of forgeries.
        let tally = mixed(&TrivialServer::with_protocol(protocol, tls_for(protocol), check_token))
            .run()
            .unwrap();
        assert_eq!(tally.requests(), 2_000, "{protocol:?}");
        assert!((900..1_100).contains(&tally.valid.len()), "{protocol:?}: {}", tally.valid.len());
    }
}

#[test]
fn closed_connection_is_reported() {
    let server = TrivialServer::start(|_| CLOSE_CONNECTION);
    let error = server.load().run().unwrap_err();
    assert!(error.contains("the server closed the connection"), "{error}");
}

/// A load of half valid, half bad requests.
fn mixed(server: &TrivialServer) -> TestLoad<'_> {
    TestLoad {
        bad: 0.5,
        streams: if server.is_multiplexed() { 4 } else { 1 },
        limit: requests(2_000),
        ..server.load()
    }
}
