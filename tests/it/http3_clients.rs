//! HTTP/3 with programs that nobody here has written, each over a QUIC of its own:
//! aioquic and qh3, curl over ngtcp2 and nghttp3, Chromium, and Envoy and Caddy as they
//! ask Countersign. That it really was HTTP/3 stands in the log.

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
    proxies::{Running, free_address, installed},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::given::{self, SIGNING};

/// A server that writes down what it is asked, and the authority of its certificate.
fn serve(sandbox: &Sandbox) -> Server<'_> {
    sandbox.file("ca.crt", ours().0.pem());
    sandbox.serve(&format!("{SIGNING}[log]\nrequests=all\nformat=json\n"))
}

/// The version that each request came by, in order, once there are so many.
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

/// What is asked: method, path, header lines, body.
type Asked = (&'static str, &'static str, Vec<(&'static str, String)>, String);

fn with_token(token: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {token}"))]
}

/// Something for every route, with all the ways there are to refuse it.
fn questions() -> Vec<Asked> {
    let json = |body: String| (vec![("content-type", "application/json".to_owned())], body);
    let (json_type, good) = json(json!({ "token": given::good_token() }).to_string());
    let long = given::token(&given::claims(json!({ "sub": "böb", "padding": "x".repeat(2000) })));
    let mut questions = vec![
        ("GET", "/auth", with_token(&given::good_token()), String::new()),
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
        questions.push(("POST", "/v1/verify", json_type.clone(), body));
    }
    questions
}

/// Has a client of `tests/clients` ask all questions at once, some of them a hundred
/// times, with what it does in between; checks that it hears what HTTP/1 says.
#[track_caller]
fn hears_the_same(program: &[&str], between: &[&str], questions: &[Asked]) {
    let sandbox = Sandbox::over(Protocol::Http3);
    let server = serve(&sandbox);
    let many = questions.iter().take(4).cycle().take(100).cloned().collect();
    let rounds = [questions.to_vec(), many, questions.to_vec()];
    let answers = run(program, &sandbox, &server, &rounds, between);
    let asked = rounds.concat();
    assert_eq!(answers.len(), asked.len());
    assert_eq!(protocols(&server, asked.len()), vec!["HTTP/3"; asked.len()]);
    let mut http1 = Client::new(Protocol::Http1, server.address, &ours().0);
    for ((method, path, lines, body), heard) in asked.iter().zip(&answers) {
        let lines: String =
            lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let said = http1.request(&format!("{method} {path} HTTP/1.1\r\n{lines}"), body.as_bytes());
        let what = format!("{method} {path} {lines:.100} {body:.100}");
        assert_eq!((heard.status, &heard.body), (said.status, &said.body), "{what}");
        assert_eq!(telling(heard), telling(&said), "{what}");
    }
}

/// The header lines of an answer that are the same for every version.
fn telling(response: &Response) -> Vec<&(String, String)> {
    let of_http1 = ["connection", "content-length", "alt-svc", "date"];
    let mut lines: Vec<_> =
        response.headers.iter().filter(|(name, _)| !of_http1.contains(&&**name)).collect();
    lines.sort();
    lines
}

/// The answers that a client prints.
#[track_caller]
fn run(
    program: &[&str],
    sandbox: &Sandbox,
    server: &Server<'_>,
    rounds: &[Vec<Asked>],
    between: &[&str],
) -> Vec<Response> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let (script, arguments) = program.split_first().unwrap();
    let request = |(method, path, headers, body): &Asked| json!({ "method": method, "path": path, "headers": headers, "body": body });
    let rounds: Vec<Vec<_>> =
        rounds.iter().map(|round| round.iter().map(request).collect()).collect();
    let (port, authority) = (server.address.port(), sandbox.path().join("ca.crt"));
    let wanted =
        json!({ "port": port, "authority": authority, "rounds": rounds, "between": between });
    let mut client = Command::new(place.join(".venv/bin/python"));
    client
        .arg(place.join(script))
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
fn aioquic_hears_what_http_1_says() {
    hears_the_same(
        &["aioquic_or_qh3.py", "aioquic"],
        &["request_key_update", "change_connection_id"],
        &questions(),
    );
}

#[test]
fn qh3_hears_what_http_1_says() {
    hears_the_same(
        &["aioquic_or_qh3.py", "qh3"],
        &["request_key_update", "change_connection_id"],
        &questions(),
    );
}

#[test]
fn curl_hears_what_http_1_says() {
    // The others miss the body of an answer to HEAD.
    let head = ("HEAD", "/healthz", Vec::new(), String::new());
    hears_the_same(&["curl.py"], &[], &[questions(), vec![head]].concat());
}

/// What Chromium makes of a page, where Countersign's certificate is trusted; QUIC is
/// spoken at once with the server at this port.
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
fn chromium_finds_http_3_by_alt_svc() {
    const FRAMES: usize = 20;
    let sandbox = Sandbox::over(Protocol::Http3);
    let server = serve(&sandbox);
    // Each request follows the answer to the one before.
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
    // Of another port, so that nothing is known of ours; but a host that is named there
    // may have a certificate of an authority that the world does not know.
    chromium(&sandbox, 1, &format!("file://{}", page.display()));
    let protocols = protocols(&server, FRAMES);
    assert_eq!(protocols.first().map(String::as_str), Some("HTTP/2"), "{protocols:?}");
    assert_eq!(protocols.last().map(String::as_str), Some("HTTP/3"), "{protocols:?}");
}

/// Has a proxy pass questions on by HTTP/3, and checks what comes back.
#[track_caller]
fn is_asked_by(proxy: &str, configuration: &str, arguments: &[&str]) {
    let sandbox = Sandbox::over(Protocol::Http3);
    let server = serve(&sandbox);
    let (address, directory) = (free_address(), sandbox.path());
    let (listen, ask) = (address.ip().to_string(), server.address.port().to_string());
    let replaced =
        [("%HOST%", &*listen), ("%PORT%", &*address.port().to_string()), ("%COUNTERSIGN%", &*ask)];
    let text = replaced
        .iter()
        .fold(configuration.to_owned(), |text, (word, value)| text.replace(word, value));
    let mut command = Command::new(installed(proxy));
    command.args(arguments).arg(sandbox.file("proxy.conf", text));
    let running = Running::start(command, directory, address);
    let mut client = Client::plain(Protocol::Http1, address);
    let token = given::good_token();
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
fn caddy_asks_by_http_3() {
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
    is_asked_by("caddy", configuration, &["run", "--adapter", "caddyfile", "--config"]);
}

#[test]
fn envoy_asks_by_http_3() {
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
    // Ports are numbers, once they are known.
    let configuration = configuration
        .to_string()
        .replace("\"%PORT%\"", "%PORT%")
        .replace("\"%COUNTERSIGN%\"", "%COUNTERSIGN%");
    is_asked_by(
        "envoy",
        &configuration,
        &["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path"],
    );
}
