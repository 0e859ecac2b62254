use std::net::TcpListener;

use countersign_tests::{
    binary::Sandbox,
    client::Protocol,
    eventually,
    grpc::{Envoy, check_request},
    http,
    openmetrics::{self, Families},
    over_every_protocol,
};
use serde_json::json;

use super::tier::{OrchestrateTier, TenantProvider, configuration, with_tier};

over_every_protocol!(
    metrics_have_the_names_of_orchestrate,
    label_of_a_tenant_is_an_option,
    c41_probes_have_the_form_of_orchestrate,
);

const NAMES: (&str, &str) = ("INMANTA_METRICS_ORCHESTRATE_NAMES", "true");

fn scrape(tier: &OrchestrateTier<'_>) -> Families {
    openmetrics::parse(&tier.server.operations("/metrics").body)
}

fn metrics_have_the_names_of_orchestrate(protocol: Protocol) {
    with_tier(protocol, &[NAMES], |tier| {
        tier.ask_as("foo", &[]);
        tier.ask_as("foo", &[("X-Tenant-ID", "bar")]);
        tier.server.request("POST /auth HTTP/1.1\r\n");
        tier.server.request("BREW /auth HTTP/1.1\r\n");
        tier.server.request("GET /readyz HTTP/1.1\r\n");
        let families = scrape(tier);
        let requests = |service: &str, method: &str, code: &str| {
            let labels = [
                ("tenant_id", "_"),
                ("entrypoint", "app"),
                ("protocol", "http"),
                ("service", service),
                ("method", method),
                ("code", code),
            ];
            openmetrics::sum(&families, "orchestrate_http_requests", &labels)
        };
        for (service, method, code, expected) in [
            ("auth", "GET", "200", 2.0),
            ("auth", "GET", "401", 2.0),
            ("auth", "POST", "401", 1.0),
            ("auth", "EXTENSION_METHOD", "401", 1.0),
            ("ready", "GET", "200", 1.0),
        ] {
            assert_eq!(requests(service, method, code), expected, "{service} {method} {code}");
        }
        let app = [("entrypoint", "app")];
        let latency = &families["orchestrate_http_requests_latency_seconds"];
        let counts = latency.samples.iter().filter(|sample| sample.suffix == "_count");
        let counts = counts.filter(|sample| sample.labels["entrypoint"] == "app");
        assert_eq!(counts.map(|sample| sample.value).sum::<f64>(), 7.0);
        let bounds = latency.samples.iter().filter_map(|sample| sample.labels.get("le"));
        for bound in ["0.005", "0.25", "10.0", "+Inf"] {
            assert!(bounds.clone().any(|one| one == bound), "{bound}");
        }
        let cipher = if protocol == Protocol::Http3 { "unknown" } else { "TLS_AES" };
        let tls = &families["orchestrate_http_requests_tls"].samples;
        assert!(tls.iter().all(|sample| sample.labels["tls_version"] == "1.3"), "{tls:?}");
        assert!(tls.iter().all(|one| one.labels["tls_cipher"].starts_with(cipher)), "{tls:?}");
        assert_eq!(openmetrics::sum(&families, "orchestrate_http_requests_tls", &app), 7.0);
        // The scrape itself is in progress.
        let scrape = [("entrypoint", "metrics"), ("service", "metrics"), ("method", "GET")];
        let open = "orchestrate_http_open_connections";
        assert_eq!(openmetrics::sum(&families, open, &scrape), 1.0);
        assert_eq!(openmetrics::sum(&families, open, &app), 0.0);
        assert_eq!(openmetrics::sum(&families, "orchestrate_http_server_up", &app), 1.0);
        assert_eq!(families.get("orchestrate_http_retries").map(|_| ()), None);
    });
}

#[test]
fn connections_are_counted_by_listener() {
    with_tier(None, &[NAMES], |tier| {
        let value = |name: &str| openmetrics::sum(&scrape(tier), name, &[("entrypoint", "app")]);
        let before = value("tcp_accepted_conns");
        let open: Vec<_> = (0..5).map(|_| http::Connection::open(tier.server.address)).collect();
        eventually(|| value("tcp_accepted_conns") == before + 5.0);
        assert_eq!(value("tcp_open_conns"), 5.0);
        drop(open);
        eventually(|| value("tcp_open_conns") == 0.0);
        assert_eq!(value("tcp_closed_conns"), before + 5.0);
        let families = scrape(tier);
        let times = &families["tcp_open_conns_duration_seconds"].samples;
        let count =
            times.iter().find(|one| one.suffix == "_count" && one.labels["entrypoint"] == "app");
        assert_eq!(count.unwrap().value, before + 5.0);
    });
}

#[test]
fn checks_over_grpc_have_series_of_their_own() {
    with_tier(None, &[NAMES, ("INMANTA_METRICS_ORCHESTRATE_TENANTS", "5")], |tier| {
        let envoy = Envoy::plain(tier.server.address);
        let bearer = format!("Bearer {}", tier.provider.token("foo"));
        for _ in 0..2 {
            envoy.check(check_request(&[("authorization", &bearer)])).unwrap();
        }
        envoy.check(check_request(&[])).unwrap();
        let families = scrape(tier);
        for (tenant, code, expected) in [("foo", "200", 2.0), ("_", "401", 1.0)] {
            let labels = [("service", "check"), ("tenant_id", tenant), ("code", code)];
            let count = openmetrics::sum(&families, "orchestrate_http_requests", &labels);
            assert_eq!(count, expected, "{tenant} {code}");
        }
    });
}

fn label_of_a_tenant_is_an_option(protocol: Protocol) {
    with_tier(protocol, &[NAMES, ("INMANTA_METRICS_ORCHESTRATE_TENANTS", "2")], |tier| {
        tier.ask_as("foo", &[("X-Tenant-ID", "refused")]);
        for own in ["foo", "a:b", "third"] {
            tier.ask_as(own, &[]);
        }
        tier.ask_with_key(&[]);
        let families = scrape(tier);
        let of = |tenant: &str, code: &str| {
            let labels = [("tenant_id", tenant), ("service", "auth"), ("code", code)];
            openmetrics::sum(&families, "orchestrate_http_requests", &labels)
        };
        assert_eq!([of("foo", "200"), of("a:b", "200")], [2.0; 2]);
        assert_eq!([of("_", "200"), of("_", "401")], [4.0, 2.0]);
        assert_eq!([of("third", "200"), of("refused", "401"), of("foo", "401")], [0.0; 3]);
    });
}

#[test]
fn names_of_orchestrate_are_off_by_default() {
    with_tier(None, &[], |tier| {
        tier.ask_as("foo", &[]);
        let families = scrape(tier);
        let is_theirs = |name: &&String| name.starts_with("orchestrate") || name.starts_with("tcp");
        assert_eq!(families.keys().filter(is_theirs).count(), 0, "{:?}", families.keys());
    });
}

fn c41_probes_have_the_form_of_orchestrate(protocol: Protocol) {
    with_tier(protocol, &[], |tier| {
        let live = tier.server.operations("/live");
        assert_eq!((live.status, &*live.body), (200, "OK"));
        for path in ["/ready", "/ready?full=0", "/ready?full"] {
            let ready = tier.server.operations(path);
            assert_eq!((ready.status, &*ready.body), (200, "{}"), "{path}");
            assert_eq!(ready.header("content-type"), Some("application/json"));
        }
        let checks = json!({ "server": "OK", "issuers": "OK", "revocations": "OK" });
        assert_eq!(tier.server.operations("/ready?full=1").json(), checks);
        for method in ["POST", "HEAD", "PUT"] {
            let head = format!("{method} /ready HTTP/1.1\r\n");
            let refused = http::request(tier.server.metrics, &head, b"");
            assert_eq!((refused.status, refused.header("allow")), (405, Some("GET")), "{method}");
        }
        // The probes of the other ports have our form.
        let ready = tier.server.request("GET /readyz HTTP/1.1\r\n");
        assert_eq!(ready.json(), json!({ "ready": true }));
    });
}

#[test]
fn failing_check_is_named_by_ready() {
    let (sandbox, provider) = (Sandbox::new(), TenantProvider::start());
    // A provider that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = format!(
        "[auth_jwt_slow]\nissuer=https://slow/\naudience_match=none\njwks_uri=http://{}/jwks\n",
        silent.local_addr().unwrap()
    );
    let server = sandbox.listen(&configuration(&provider, "", &slow));
    eventually(|| {
        let ready = server.operations("/ready?full=1");
        ready.body.contains("no key fetch has ended yet for auth_jwt_slow\"")
    });
    let ready = server.operations("/ready?full=1");
    assert_eq!((ready.status, &ready.json()["server"]), (503, &json!("OK")));
    let ready = server.operations("/ready");
    assert_eq!((ready.status, &*ready.body), (503, "{}"));
    assert_eq!(server.operations("/live").status, 200);
}
