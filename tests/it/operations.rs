use std::{process::Command, time::Duration};

use countersign_tests::{
    binary::Sandbox, client::Protocol, http::Connection, openssl::certificate, over_every_protocol,
};
use serde_json::json;

use crate::fixture::{self, SIGNING};

over_every_protocol!(probes_and_metrics_are_on_their_own_port, outcomes_are_counted_by_code,);

fn probes_and_metrics_are_on_their_own_port(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.request(&format!("GET {path} HTTP/1.1\r\n")).status, 200, "{path}");
        assert_eq!(server.request(&format!("POST {path} HTTP/1.1\r\n")).status, 405, "{path}");
    }
    assert_eq!(server.operations("/live").status, 200);
    assert_eq!(
        server.operations("/ready").json(),
        json!({
            "ready": true,
            "issuers": [{ "section": "auth_jwt_default", "keys": 1 }],
            "revocations": { "known": true, "count": 0, "fault": null },
        })
    );
    let public = server.request("GET /readyz HTTP/1.1\r\n");
    assert_eq!(public.json(), json!({ "ready": true }), "names nothing of the configuration");
    for path in ["/metrics", "/live", "/ready"] {
        assert_eq!(
            server.request(&format!("GET {path} HTTP/1.1\r\n")).status,
            404,
            "{path} on the main port"
        );
    }
    assert_eq!(server.operations("/auth").status, 404);
}

fn outcomes_are_counted_by_code(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    for _ in 0..3 {
        server.auth(&fixture::good_token());
    }
    server.auth("abc");
    server.auth(&fixture::token(&fixture::claims(json!({ "exp": 1 }))));
    server.request("GET /auth HTTP/1.1\r\n");
    let metrics = server.operations("/metrics").body;
    for line in [
        r#"countersign_verifications_total{outcome="verified",code=""} 3"#,
        r#"countersign_verifications_total{outcome="no_token",code=""} 1"#,
        r#"countersign_verifications_total{outcome="rejected",code="segments"} 1"#,
        r#"countersign_verifications_total{outcome="rejected",code="expired"} 1"#,
        r#"countersign_verifications_total{outcome="rejected",code="signature"} 0"#,
        r#"countersign_issuer_keys{section="auth_jwt_default"} 1"#,
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn signal_stops_after_requests_in_progress() {
    for signal in ["TERM", "INT"] {
        let sandbox = Sandbox::new();
        // One thread, so that requests are read in the order in which they were sent.
        let server = sandbox.serve(&format!("{SIGNING}[listen]\nthreads=1\n"));
        let (mut idle, mut busy) =
            (Connection::open(server.address), Connection::open(server.address));
        idle.send("GET /healthz HTTP/1.1\r\n", b"");
        assert_eq!(idle.receive(false).status, 200);
        busy.send_raw(b"POST /v1/verify HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\na.");
        // The answer on a connection opened later proves that the half request has been read.
        assert_eq!(server.request("GET /healthz HTTP/1.1\r\n").status, 200);
        server.signal(signal);
        assert!(idle.is_closed(), "the idle connection is closed");
        busy.send_raw(b"b.c");
        let answer = busy.receive(false);
        assert_eq!(
            (answer.status, answer.header("connection")),
            (401, Some("close")),
            "{answer:?}"
        );
        let (status, _) = server.stop("CONT");
        assert!(status.success(), "{signal}: {status:?}");
    }
}

#[test]
fn tls_is_enabled_by_certificate_and_key() {
    let sandbox = Sandbox::new();
    let (certificate, key) = certificate(sandbox.path());
    let tls = format!(
        "[server]\nssl_cert_file={}\nssl_key_file={}\n",
        certificate.display(),
        key.display()
    );
    let server = sandbox.serve(&format!("{SIGNING}{tls}"));
    let url = format!("https://localhost:{}/auth", server.address.port());
    let header = format!("Authorization: Bearer {}", fixture::good_token());
    for version in ["--tlsv1.3", "--tls-max"] {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--http1.1",
            "--cacert",
            certificate.to_str().unwrap(),
            "-H",
            &header,
            "-i",
            &url,
            version,
        ]);
        if version == "--tls-max" {
            curl.arg("1.2");
        }
        let output = curl.output().expect("curl is missing: apt-get install curl");
        assert!(output.stdout.starts_with(b"HTTP/1.1 200"), "{version}: {output:?}");
    }
    // Plain HTTP on a TLS port and a half-open handshake do no harm.
    let mut plain = Connection::open(server.address);
    plain.send_raw(b"GET /auth HTTP/1.1\r\nHost: t\r\n\r\n");
    let _half_open = Connection::open(server.address);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.operations("/live").status, 200);
}

#[test]
fn threads_share_connections_evenly() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&format!("{SIGNING}[listen]\nthreads=4\n"));
    let mut connections: Vec<_> = (0..8).map(|_| Connection::open(server.address)).collect();
    for connection in &mut connections {
        connection.send("GET /healthz HTTP/1.1\r\n", b"");
        assert_eq!(connection.receive(false).status, 200);
    }
    let names: Vec<_> = std::fs::read_dir(format!("/proc/{}/task", server.process()))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with("worker:"))
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
}
