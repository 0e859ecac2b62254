use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::Authority,
    client::Protocol,
    eventually,
    http::Connection,
    openmetrics::{self, Families, Sample},
    over_every_protocol,
    proxies::free_address,
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
    let has_prefix =
        |name: &String| name.starts_with("countersign_") || name.starts_with("process_");
    assert!(families.keys().all(has_prefix), "{:?}", families.keys());
}

/// Returns the only sample of a family with these labels.
#[track_caller]
fn value(server: &Server<'_>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let families = scrape(server);
    let family = families.get(name).unwrap_or_else(|| panic!("{name} is missing"));
    let has = |sample: &&Sample| {
        labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|one| one == value))
    };
    let found: Vec<_> = family.samples.iter().filter(has).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {:?}", family.samples);
    found[0].value
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn build_and_process_figures_are_exported() {
    let before = now();
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(value(&server, "countersign_build_info", &version), 1.0);
    let figure = |name: &str| value(&server, name, &[]);
    let started = figure("process_start_time_seconds");
    // The kernel counts from its own start, in hundredths of a second.
    assert!(started > before - 2.0 && started < now() + 2.0, "{started} after {before}");
    let cpu = figure("process_cpu_seconds");
    assert!(cpu > 0.0 && cpu < 600.0, "{cpu}");
    let (resident, all) =
        (figure("process_resident_memory_bytes"), figure("process_virtual_memory_bytes"));
    assert!(resident > 1e6 && all > resident, "{resident} of {all}");
    assert!(figure("process_threads") >= 2.0);
    let (open, max) = (figure("process_open_fds"), figure("process_max_fds"));
    assert!(open > 5.0 && open < max, "{open} of {max}");
    let connections: Vec<_> = (0..50).map(|_| Connection::open(server.address)).collect();
    eventually(|| figure("process_open_fds") >= open + 50.0);
    drop(connections);
}

#[test]
fn certificate_expiry_follows_the_files() {
    let sandbox = Sandbox::new();
    let (ours, clients) = (Authority::root("ours"), Authority::root("clients"));
    ours.server_in(2001..2041).write(sandbox.path());
    sandbox.file("clients.crt", clients.pem());
    sandbox.file("clients.crl", clients.crl_in(2001..2051, &[]));
    let address = free_address();
    let server = sandbox.serve(&format!(
        "{SIGNING}[listener_tls]\nbind={address}\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n\
         client_certificates=optional\nclient_ca_file=clients.crt\nclient_crl_file=clients.crl\n"
    ));
    let expiry = |kind: &str| {
        let name = format!("countersign_{kind}_expiry_timestamp_seconds");
        value(&server, &name, &[("listener", "tls")])
    };
    // January 1 of 2041 and of 2051.
    assert_eq!(expiry("certificate"), 2_240_611_200.0);
    assert_eq!(expiry("client_crl"), 2_556_144_000.0);
    assert!(expiry("client_ca") > now());
    let certificates = scrape(&server).remove("countersign_certificate_expiry_timestamp_seconds");
    assert_eq!(certificates.unwrap().samples.len(), 1, "listeners without TLS have none");

    let reloads = |result: &str| {
        let labels = [("kind", "certificates"), ("result", result)];
        value(&server, "countersign_reloads", &labels)
    };
    let is_current =
        || value(&server, "countersign_reload_successful", &[("kind", "certificates")]);
    assert_eq!((reloads("success"), reloads("failure"), is_current()), (0.0, 0.0, 1.0));
    ours.server_in(2001..2043).write(sandbox.path());
    // January 1 of 2043.
    eventually(|| expiry("certificate") == 2_303_683_200.0);
    eventually(|| reloads("success") >= 1.0 && is_current() == 1.0);
    sandbox.file("tls.crt", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n");
    eventually(|| is_current() == 0.0);
    assert!(reloads("failure") >= 1.0);
    assert_eq!(expiry("certificate"), 2_303_683_200.0, "the certificate in use");
}

#[test]
fn reloads_are_counted_by_result() {
    const KIND: (&str, &str) = ("kind", "configuration");
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let state = || {
        let count = |result| value(&server, "countersign_reloads", &[KIND, ("result", result)]);
        let is_current = value(&server, "countersign_reload_successful", &[KIND]);
        (count("success"), count("failure"), is_current)
    };
    let last_success =
        || value(&server, "countersign_reload_last_success_timestamp_seconds", &[KIND]);
    let started = last_success();
    assert!((now() - started).abs() < 60.0, "{started}");
    assert_eq!(state(), (0.0, 0.0, 1.0));
    thread::sleep(Duration::from_millis(1100));
    server.reload();
    assert_eq!(state(), (1.0, 0.0, 1.0));
    let reloaded = last_success();
    assert!(reloaded > started);
    sandbox.replace("server.cfg", format!("{SIGNING}[listen]\nthreads=x\n"));
    server.reload();
    eventually(|| state() == (1.0, 1.0, 0.0));
    assert_eq!(last_success(), reloaded);
    sandbox.replace("server.cfg", SIGNING);
    server.reload();
    eventually(|| state().2 == 1.0);
    assert_eq!(state().1, 1.0);
}

#[test]
fn database_state_is_exported() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(SIGNING);
    let queries = |server: &Server<'_>, result| {
        value(server, "countersign_database_queries", &[("result", result)])
    };
    eventually(|| queries(&server, "success") >= 1.0);
    assert_eq!(value(&server, "countersign_database_reachable", &[]), 1.0);
    assert!(value(&server, "countersign_database_query_seconds", &[]) > 0.0);
    let failures = &scrape(&server)["countersign_database_last_failure_timestamp_seconds"].samples;
    assert!(failures.is_empty(), "{failures:?}");

    let unreachable = "[database]\nurl=postgres://u@127.0.0.1:9/n\nconnection_timeout=1\n";
    let sandbox = Sandbox::new();
    let server = sandbox.listen(&format!("{SIGNING}{unreachable}"));
    eventually(|| queries(&server, "failure") >= 1.0);
    assert_eq!(value(&server, "countersign_database_reachable", &[]), 0.0);
    let failed = value(&server, "countersign_database_last_failure_timestamp_seconds", &[]);
    assert!((now() - failed).abs() < 60.0, "{failed}");
}

#[test]
fn verifier_without_a_database_exports_no_state_of_one() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&fixture::issuer_section(
        "only",
        "HS256",
        "https://only/",
        &format!("key={}", fixture::KEY),
    ));
    let families = scrape(&server);
    assert!(!families.keys().any(|name| name.contains("database_reach")), "{:?}", families.keys());
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
        server.request(&format!("GET /auth HTTP/1.1\r\n{}", "X: y\r\n".repeat(250))).status,
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
        let version = [("route", route), ("status", status), ("http_version", version(protocol))];
        assert_eq!(
            openmetrics::sum(&after, "countersign_requests", &version),
            count,
            "{version:?}"
        );
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

/// Returns the version of HTTP as metrics name it.
fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "1.1",
        Protocol::Http2 => "2",
        Protocol::Http3 => "3",
    }
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
