use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    eventually,
    http::Connection,
    openmetrics::{self, Families},
    over_every_protocol,
};
use serde_json::json;

use crate::fixture::{self, SIGNING};

over_every_protocol!(requests_are_counted_and_timed_by_route, counters_of_all_threads_add_up,);

fn scrape(server: &Server<'_>) -> Families {
    openmetrics::parse(&server.operations("/metrics").body)
}

/// Returns the number of requests with this route and status.
fn requests(families: &Families, route: &str, status: &str) -> f64 {
    openmetrics::sum(families, "countersign_requests", &[("route", route), ("status", status)])
}

#[test]
fn metrics_are_valid_open_metrics() {
    // A section name with characters that need escaping.
    let odd = format!(
        "[auth_jwt_a\"b\\c]\nalgorithm=HS256\nclient_types=api\nissuer=https://odd/\nkey={}\n",
        fixture::KEY
    );
    let down = fixture::issuer_section(
        "down",
        "ES256",
        "https://down/",
        "jwks_uri=http://127.0.0.1:9/jwks",
    );
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}{odd}{down}"));
    server.auth(&fixture::good_token());
    server.auth("a.b.c");
    let answer = server.operations("/metrics");
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let families = openmetrics::parse(&answer.body);
    assert_eq!(
        openmetrics::sum(&families, "countersign_issuer_keys", &[("section", "auth_jwt_a\"b\\c")]),
        1.0
    );
    assert_eq!(
        openmetrics::sum(
            &families,
            "countersign_issuer_keys_failing",
            &[("section", "auth_jwt_down")]
        ),
        1.0
    );
    assert!(families.keys().all(|name| name.starts_with("countersign_")));
}

fn requests_are_counted_and_timed_by_route(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let before = scrape(&server);
    let expired = fixture::token(&fixture::claims(json!({ "exp": 1 })));
    for _ in 0..3 {
        assert_eq!(server.auth(&fixture::good_token()).status, 200);
        assert_eq!(server.verify(&fixture::good_token()).status, 200);
    }
    for _ in 0..2 {
        assert_eq!(server.auth(&expired).status, 401);
    }
    assert_eq!(server.request("GET /auth/deeper?x HTTP/1.1\r\n").status, 401);
    assert_eq!(server.request("GET /v1/verify HTTP/1.1\r\n").status, 405);
    assert_eq!(server.request("GET /nothing HTTP/1.1\r\n").status, 404);
    assert_eq!(server.send("POST /v1/verify HTTP/1.1\r\n", &[b'x'; 100_000]).status, 413);
    assert_eq!(
        server.request(&format!("GET /auth HTTP/1.1\r\n{}", "X: y\r\n".repeat(150))).status,
        431
    );
    let after = scrape(&server);
    for (route, status, count) in [
        ("auth", "200", 3.0),
        ("auth", "401", 3.0),
        ("verify", "200", 3.0),
        ("verify", "405", 1.0),
        ("verify", "413", 1.0),
        ("none", "404", 1.0),
        ("none", "431", 1.0),
    ] {
        assert_eq!(requests(&after, route, status), count, "{route} {status}");
    }
    // Requests refused while their head is parsed are not timed.
    for (route, count) in [
        ("auth", 6.0),
        ("verify", 5.0),
        ("none", 1.0),
        ("metrics", 1.0 + timed(&before, "metrics")),
    ] {
        assert_eq!(timed(&after, route), count, "{route}");
    }
    let counted: f64 =
        ["200", "401", "405", "413"].map(|status| requests(&after, "verify", status)).iter().sum();
    assert_eq!(counted, timed(&after, "verify"));
}

/// Returns the number of requests of a route in the duration histogram.
fn timed(families: &Families, route: &str) -> f64 {
    let histogram = &families["countersign_request_duration_seconds"];
    let of_route = |suffix: &str| {
        let samples = histogram
            .samples
            .iter()
            .filter(|one| one.suffix == suffix && one.labels["route"] == route);
        samples.map(|one| one.value).sum::<f64>()
    };
    assert_eq!(of_route("_count") > 0.0, of_route("_sum") > 0.0, "{route}");
    of_route("_count")
}

#[test]
fn connections_are_counted_by_worker() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[listen]\nthreads=2\n[limits]\nconnections=4\n"));
    let open =
        |worker: &str| server.metric(&format!("countersign_connections{{worker=\"{worker}\"}}"));
    let refused = || server.metric("countersign_connections_refused_total");
    let mut connections: Vec<_> = (0..4).map(|_| Connection::open(server.address)).collect();
    for connection in &mut connections {
        connection.send("GET /healthz HTTP/1.1\r\n", b"");
        assert_eq!(connection.receive(false).status, 200);
    }
    assert_eq!((open("0"), open("1"), refused()), (2, 2, 0));
    // The client sends nothing, so that a reset does not discard the answer.
    let mut surplus = Connection::open(server.address);
    let answer = surplus.receive(false);
    assert_eq!(
        (answer.status, answer.header("x-auth-error")),
        (503, Some("connections")),
        "{answer:?}"
    );
    assert_eq!(
        (answer.header("retry-after"), answer.header("connection")),
        (Some("1"), Some("close"))
    );
    assert!(surplus.is_closed());
    assert_eq!((open("0") + open("1"), refused()), (4, 1));
    // The operations listener is not limited, and closed connections make room for others.
    drop(connections);
    eventually(|| open("0") + open("1") == 0);
    assert_eq!((server.auth(&fixture::good_token()).status, refused()), (200, 1));
}

fn counters_of_all_threads_add_up(protocol: Protocol) {
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 250;
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}[listen]\nthreads=4\n"));
    let head = format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {}\r\n", fixture::good_token());
    // Cached first: a thread that is suspended while it writes the entry hides it from the others.
    assert_eq!(server.request(&head).status, 200);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraping = scope.spawn(|| {
            let mut last = 0.0;
            while !is_over.load(Ordering::Relaxed) {
                let now = requests(&scrape(&server), "auth", "200");
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        });
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.client();
                    for _ in 0..REQUESTS {
                        assert_eq!(client.request(&head, b"").status, 200);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
        scraping.join().unwrap();
    });
    let (families, all) = (scrape(&server), (CONNECTIONS * REQUESTS + 1) as f64);
    assert_eq!((requests(&families, "auth", "200"), timed(&families, "auth")), (all, all));
    assert_eq!(
        openmetrics::sum(&families, "countersign_verifications", &[("outcome", "verified")]),
        all
    );
    let cached = server.metric("countersign_remembered_verifications_total");
    assert!(cached > (CONNECTIONS * REQUESTS) as u64 - 100, "{cached}");
}
