//! HTTP/3 with independent implementations of QUIC: aioquic and qh3, curl over ngtcp2 and nghttp3,
//! Chromium, and Envoy and Caddy as proxies in front. The access log proves that each request used
//! HTTP/3.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::ours,
    client::{Client, Protocol},
    eventually,
    http::Response,
    openssl::openssl,
    proxies::{DaemonProcess, free_address, installed_program},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::fixture::{self, SIGNING};

/// Starts a [`Server`] with an access log, and writes the authority of its certificate.
fn serve(sandbox: &Sandbox) -> Server<'_> {
    sandbox.file("ca.crt", ours().0.pem());
    sandbox.serve(&format!("{SIGNING}[log]\nrequests=all\nformat=json\n"))
}

/// Waits for `count` requests and returns the protocol version of each, in order.
#[track_caller]
fn protocols(server: &Server<'_>, count: usize) -> Vec<String> {
    let read = || {
        let log = server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines = lines.filter(|line| line["target"] == "request" && line["listener"] == "main");
        lines.map(|line| line["protocol"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually(|| read().len() >= count);
    read()
}

/// A request: method, path, header lines, body.
type TestRequest = (&'static str, &'static str, Vec<(&'static str, String)>, String);

fn with_token(token: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {token}"))]
}

/// Returns a [`TestRequest`] for every route, with the various kinds of refusal.
fn requests() -> Vec<TestRequest> {
    let json = |body: String| (vec![("content-type", "application/json".to_owned())], body);
    let (json_type, good) = json(json!({ "token": fixture::good_token() }).to_string());
    let long =
        fixture::token(&fixture::claims(json!({ "sub": "böb", "padding": "x".repeat(2000) })));
    let mut requests = vec![
        ("GET", "/auth", with_token(&fixture::good_token()), String::new()),
        ("GET", "/auth/below?and=more", with_token(&long), String::new()),
        ("GET", "/auth", with_token("a.b.c"), String::new()),
        ("GET", "/auth", Vec::new(), String::new()),
        ("GET", "/readyz", Vec::new(), String::new()),
        ("GET", "/.well-known/jwks.json", Vec::new(), String::new()),
        ("GET", "/api/v2/health", Vec::new(), String::new()),
        ("GET", "/nothing", Vec::new(), String::new()),
        ("GET", "/v1/verify", Vec::new(), String::new()),
    ];
    for body in [
        good,
        "{}".into(),
        "a".repeat(30_000),
        "a".repeat(65_536),
        "a".repeat(65_537),
        "a".repeat(300_000),
    ] {
        requests.push(("POST", "/v1/verify", json_type.clone(), body));
    }
    requests
}

/// Sends all requests at once with a client of `tests/clients`, some of them a hundred times, with
/// the actions `between` in between. Checks that the answers are those of HTTP/1.
#[track_caller]
fn assert_same_answers_as_http1(program: &[&str], between: &[&str], requests: &[TestRequest]) {
    let sandbox = Sandbox::over(Protocol::Http3);
    let server = serve(&sandbox);
    let many = requests.iter().take(4).cycle().take(100).cloned().collect();
    let rounds = [requests.to_vec(), many, requests.to_vec()];
    let answers = run(program, &sandbox, &server, &rounds, between);
    let sent = rounds.concat();
    assert_eq!(answers.len(), sent.len());
    assert_eq!(protocols(&server, sent.len()), vec!["HTTP/3"; sent.len()]);
    let mut http1 = Client::new(Protocol::Http1, server.address, &ours().0);
    for ((method, path, lines, body), answer) in sent.iter().zip(&answers) {
        let lines: String =
            lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let expected =
            http1.request(&format!("{method} {path} HTTP/1.1\r\n{lines}"), body.as_bytes());
        let description = format!("{method} {path} {lines:.100} {body:.100}");
        assert_eq!(
            (answer.status, &answer.body),
            (expected.status, &expected.body),
            "{description}"
        );
        assert_eq!(comparable_headers(answer), comparable_headers(&expected), "{description}");
    }
}

/// Returns the header lines that are the same in every version of HTTP.
fn comparable_headers(response: &Response) -> Vec<&(String, String)> {
    let of_http1 = ["connection", "content-length", "alt-svc", "date"];
    let mut lines: Vec<_> =
        response.headers.iter().filter(|(name, _)| !of_http1.contains(&&**name)).collect();
    lines.sort();
    lines
}

/// Runs a client of `tests/clients` and returns the answers that it prints.
#[track_caller]
fn run(
    program: &[&str],
    sandbox: &Sandbox,
    server: &Server<'_>,
    rounds: &[Vec<TestRequest>],
    between: &[&str],
) -> Vec<Response> {
    let clients_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let (script, arguments) = program.split_first().unwrap();
    let request = |(method, path, headers, body): &TestRequest| json!({ "method": method, "path": path, "headers": headers, "body": body });
    let rounds: Vec<Vec<_>> =
        rounds.iter().map(|round| round.iter().map(request).collect()).collect();
    let (port, authority) = (server.address.port(), sandbox.path().join("ca.crt"));
    let wanted =
        json!({ "port": port, "authority": authority, "rounds": rounds, "between": between });
    let mut client = Command::new(clients_dir.join(".venv/bin/python"));
    client
        .arg(clients_dir.join(script))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut client = client
        .spawn()
        .unwrap_or_else(|error| panic!("{script}: {error}: tests/run installs what it needs"));
    client.stdin.take().unwrap().write_all(wanted.to_string().as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Vec<Value>> = serde_json::from_slice(&output.stdout).unwrap();
    answers.into_iter().flatten().map(response).collect()
}

fn response(answer: Value) -> Response {
    Response {
        status: serde_json::from_value(answer["status"].clone()).unwrap(),
        headers: serde_json::from_value(answer["headers"].clone()).unwrap(),
        body: serde_json::from_value(answer["body"].clone()).unwrap(),
    }
}

#[test]
fn aioquic_gets_the_same_answers_as_http1() {
    assert_same_answers_as_http1(
        &["aioquic_or_qh3.py", "aioquic"],
        &["request_key_update", "change_connection_id"],
        &requests(),
    );
}

#[test]
fn qh3_gets_the_same_answers_as_http1() {
    assert_same_answers_as_http1(
        &["aioquic_or_qh3.py", "qh3"],
        &["request_key_update", "change_connection_id"],
        &requests(),
    );
}

#[test]
fn curl_gets_the_same_answers_as_http1() {
    // The other clients do not support an answer without a body to HEAD.
    let head = ("HEAD", "/healthz", Vec::new(), String::new());
    assert_same_answers_as_http1(&["curl.py"], &[], &[requests(), vec![head]].concat());
}

/// Loads a page in Chromium, which trusts Countersign's certificate and uses QUIC for the server at
/// this port from the start. Returns the resulting document.
#[track_caller]
fn chromium(sandbox: &Sandbox, port: u16, page: &str) -> String {
    let key = openssl(&["x509", "-inform", "DER", "-pubkey", "-noout"], &ours().1.chain[0]);
    let key = SubjectPublicKeyInfoDer::from_pem_slice(&key).unwrap();
    let trusted = STANDARD.encode(digest(&SHA256, &key));
    let mut browser = Command::new("timeout");
    browser.args([
        "60",
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ]);
    browser.args([
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--dump-dom",
    ]);
    browser.arg(format!("--user-data-dir={}", sandbox.path().join("chromium").display()));
    browser.arg(format!("--ignore-certificate-errors-spki-list={trusted}"));
    browser.arg(format!("--origin-to-force-quic-on=127.0.0.1:{port}")).arg(page);
    let output = browser.env("HOME", sandbox.path()).output().unwrap();
    assert!(
        output.status.success(),
        "chromium is missing (apt-get install chromium), or: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn chromium_speaks_http_3() {
    let sandbox = Sandbox::over(Protocol::Http3);
    let server = serve(&sandbox);
    let port = server.address.port();
    let page = chromium(&sandbox, port, &format!("https://127.0.0.1:{port}/healthz"));
    assert!(page.contains(r#"{"live":true}"#), "{page}");
    assert!(protocols(&server, 1).iter().all(|protocol| protocol == "HTTP/3"));
}

#[test]
fn chromium_discovers_http_3_by_alt_svc() {
    const FRAMES: usize = 20;
    let sandbox = Sandbox::over(Protocol::Http3);
    let server = serve(&sandbox);
    // Each request is sent after the answer to the previous one.
    let page = "<!doctype html><body><script>
        let left = FRAMES;
        const next = () => {
            if (left-- === 0) return;
            const frame = document.createElement('iframe');
            frame.onload = next;
            frame.src = 'https://127.0.0.1:PORT/healthz?' + left;
            document.body.append(frame);
        };
        next();
        </script></body>";
    let page = page
        .replace("FRAMES", &FRAMES.to_string())
        .replace("PORT", &server.address.port().to_string());
    let page = sandbox.file("page.html", page);
    // Another port is forced to QUIC, so HTTP/3 has to be discovered. Forcing one for this host
    // also makes Chromium accept a private authority for QUIC.
    chromium(&sandbox, 1, &format!("file://{}", page.display()));
    let protocols = protocols(&server, FRAMES);
    assert_eq!(protocols.first().map(String::as_str), Some("HTTP/2"), "{protocols:?}");
    assert_eq!(protocols.last().map(String::as_str), Some("HTTP/3"), "{protocols:?}");
}

/// Sends requests through a proxy that uses HTTP/3 upstream, and checks the answers.
#[track_caller]
fn assert_proxied_by(proxy: &str, configuration: &str, arguments: &[&str]) {
    let sandbox = Sandbox::over(Protocol::Http3);
    let server = serve(&sandbox);
    let (address, directory) = (free_address(), sandbox.path());
    let (listen, ask) = (address.ip().to_string(), server.address.port().to_string());
    let replaced =
        [("%HOST%", &*listen), ("%PORT%", &*address.port().to_string()), ("%COUNTERSIGN%", &*ask)];
    let text = replaced
        .iter()
        .fold(configuration.to_owned(), |text, (word, value)| text.replace(word, value));
    let mut command = Command::new(installed_program(proxy));
    command.args(arguments).arg(sandbox.file("proxy.conf", text));
    let running = DaemonProcess::start(command, directory, address);
    let mut client = Client::plain(Protocol::Http1, address);
    let token = fixture::good_token();
    for number in 0..50 {
        let answer = client.request(
            &format!("GET /auth/{number} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"),
            b"",
        );
        assert_eq!(
            (answer.status, answer.header("x-auth-subject")),
            (200, Some("bob")),
            "{answer:?} {}",
            running.log()
        );
        let answer = client.request("GET /auth HTTP/1.1\r\n", b"");
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer")),
            "{answer:?}"
        );
        assert_eq!(
            client.request("POST /v1/verify HTTP/1.1\r\n", token.as_bytes()).json()["subject"],
            "bob"
        );
    }
    assert_eq!(protocols(&server, 150), vec!["HTTP/3"; 150]);
}

#[test]
fn caddy_proxies_over_http_3() {
    let configuration = "{
        admin off
        auto_https off
    }
    http://:%PORT% {
        bind %HOST%
        reverse_proxy https://localhost:%COUNTERSIGN% {
            transport http {
                versions 3
                tls_trust_pool file ca.crt
            }
        }
    }";
    assert_proxied_by("caddy", configuration, &["run", "--adapter", "caddyfile", "--config"]);
}

#[test]
fn envoy_proxies_over_http_3() {
    let typed = |name: &str, message: Value| {
        let mut message = message;
        message["@type"] = json!(format!("type.googleapis.com/{name}"));
        message
    };
    let at = |address: &str, port: &str| json!({ "address": { "socket_address": { "address": address, "port_value": port } } });
    let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "countersign" } }]);
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "all",
            "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": router }],
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
        }),
    );
    let http3 = typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({ "explicit_http_config": { "http3_protocol_options": {} } }),
    );
    let tls = json!({ "sni": "localhost", "common_tls_context": { "validation_context": { "trusted_ca": { "filename": "ca.crt" } } } });
    let quic = typed(
        "envoy.extensions.transport_sockets.quic.v3.QuicUpstreamTransport",
        json!({ "upstream_tls_context": tls }),
    );
    let mut listener = at("%HOST%", "%PORT%");
    listener["filter_chains"] = json!([{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] }]);
    let endpoint = json!({ "endpoint": at("127.0.0.1", "%COUNTERSIGN%") });
    let cluster = json!({
        "name": "countersign",
        "type": "STATIC",
        "load_assignment": { "cluster_name": "countersign", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http3 },
        "transport_socket": { "name": "envoy.transport_sockets.quic", "typed_config": quic },
    });
    let configuration =
        json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } });
    // Ports must be numbers when they are filled in.
    let configuration = configuration
        .to_string()
        .replace("\"%PORT%\"", "%PORT%")
        .replace("\"%COUNTERSIGN%\"", "%COUNTERSIGN%");
    assert_proxied_by(
        "envoy",
        &configuration,
        &["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path"],
    );
}
