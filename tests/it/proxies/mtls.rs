//! `deploy/examples/mtls`: machine identities that log in with certificates through a proxy, and
//! use their tokens for an application.

mod bound;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use countersign_tests::{
    binary::{Sandbox, Server},
    certificates::{Authority, EXPIRED, IssuedCertificate, ours},
    client::{Client, Protocol},
    eventually,
    http::Response,
    openssl::self_signed,
    pages::root,
    proxies::{Application, DaemonProcess, free_address, installed_program},
    tls::{TlsClient, TlsClientOptions},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{Addresses, envoy, nginx, world::bearer};
use crate::{
    fixture::{ISSUER, KEY},
    identities::clients::log_in_by_node,
    users::session_of,
};

/// Headers in which proxies pass on a certificate.
const HEADERS: [&str; 12] = [
    "X-Identity-Tls-Cert-Auth-Client-Cert",
    "Client-Cert",
    "Client-Cert-Chain",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info",
    "X-Amzn-Mtls-Clientcert",
    "X-Amzn-Mtls-Clientcert-Leaf",
    "X-Amzn-Mtls-Clientcert-Serial-Number",
    "X-Amzn-Mtls-Clientcert-Issuer",
    "X-Amzn-Mtls-Clientcert-Subject",
    "X-Amzn-Mtls-Clientcert-Validity",
];

/// A proxy of the example and its differences from others.
struct MtlsProxy {
    /// Returns the command that runs it. The directory has its `tls.crt` and `tls.key`.
    command: fn(&Path, &Addresses) -> Command,
    /// The options of Countersign in place of those of nginx.
    options: &'static str,
    /// Whether tokens are bound to the certificate of their login.
    is_bound: bool,
    /// Whether it passes on the intermediates of a client.
    passes_chain: bool,
    /// Whether it protects an application.
    has_application: bool,
    /// The status for an expired certificate, which nginx refuses itself.
    status_of_expired: u16,
}

fn example(name: &str) -> PathBuf {
    root().join("deploy/examples/mtls").join(name)
}

/// Reads a file of the example with some of its words replaced.
fn configuration(name: &str, replaced: &[(&str, String)]) -> String {
    let text = std::fs::read_to_string(example(name)).unwrap();
    replaced.iter().fold(text, |text, (word, replacement)| {
        assert!(text.contains(word), "{name} does not mention {word}");
        text.replace(word, replacement)
    })
}

#[test]
fn machines_log_in_through_nginx() {
    check(&NGINX);
}

const NGINX: MtlsProxy = MtlsProxy {
    command: run_nginx,
    options: "",
    is_bound: false,
    passes_chain: false,
    has_application: true,
    status_of_expired: 400,
};

fn run_nginx(directory: &Path, addresses: &Addresses) -> Command {
    nginx::command(directory, &nginx_configuration(directory, addresses))
}

fn nginx_configuration(directory: &Path, addresses: &Addresses) -> String {
    let own = ("127.0.0.1:8443", addresses.proxy.to_string());
    let path = ("/etc/nginx", directory.display().to_string());
    let replaced = [addresses.others().as_slice(), &[own, path]].concat();
    let headers = configuration("cleared-headers.conf", &[]);
    std::fs::write(directory.join("cleared-headers.conf"), headers).unwrap();
    configuration("nginx.conf", &replaced)
}

#[test]
fn machines_log_in_through_envoy() {
    check(&ENVOY);
}

const ENVOY: MtlsProxy = MtlsProxy {
    command: run_envoy,
    options: "# envoy: ",
    is_bound: false,
    passes_chain: true,
    has_application: true,
    status_of_expired: 401,
};

fn run_envoy(directory: &Path, addresses: &Addresses) -> Command {
    envoy::run(directory, envoy_configuration(directory, addresses))
}

fn envoy_configuration(directory: &Path, addresses: &Addresses) -> String {
    let [countersign, application, (_, own)] = envoy::replacements(addresses);
    let own = ("address: 127.0.0.1, port_value: 8443 ", own);
    let path = ("/etc/envoy", directory.display().to_string());
    configuration("envoy.yaml", &[countersign, application, own, path])
}

#[test]
fn machines_log_in_through_haproxy() {
    check(&MtlsProxy {
        command: run_haproxy,
        options: "[tls_cert_auth]\ncertificate_format=rfc9440\ncertificate_header=Client-Cert\n",
        is_bound: false,
        passes_chain: false,
        has_application: false,
        status_of_expired: 401,
    });
}

fn run_haproxy(directory: &Path, addresses: &Addresses) -> Command {
    let [certificate, key] =
        ["tls.crt", "tls.key"].map(|name| std::fs::read_to_string(directory.join(name)).unwrap());
    std::fs::write(directory.join("tls.pem"), format!("{certificate}{key}")).unwrap();
    let replaced = [
        ("127.0.0.1:8443", addresses.proxy.to_string()),
        addresses.others()[0].clone(),
        ("/etc/haproxy", directory.display().to_string()),
    ];
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, configuration("haproxy.cfg", &replaced)).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    command
}

#[test]
fn machines_log_in_through_traefik() {
    check(&MtlsProxy {
        command: run_traefik,
        options: "[tls_cert_auth]\ncertificate_format=base64-der\n\
                  certificate_header=X-Forwarded-Tls-Client-Cert\n",
        is_bound: false,
        passes_chain: true,
        has_application: false,
        status_of_expired: 401,
    });
}

fn run_traefik(directory: &Path, addresses: &Addresses) -> Command {
    let path = ("/etc/traefik", directory.display().to_string());
    let routes = configuration(
        "traefik-routes.yaml",
        &[
            addresses.others()[0].clone(),
            ("/etc/traefik/tls", directory.join("tls").display().to_string()),
        ],
    );
    std::fs::write(directory.join("traefik-routes.yaml"), routes).unwrap();
    let own = ("127.0.0.1:8443", addresses.proxy.to_string());
    let file = directory.join("traefik.yaml");
    std::fs::write(&file, configuration("traefik.yaml", &[own, path])).unwrap();
    let mut command = Command::new(installed_program("traefik"));
    command.arg("--configFile").arg(file);
    command
}

/// In front of the lines of the example for tokens that are bound to the certificate of their
/// login.
const BOUND: &str = "# bound: ";

/// Returns the shipped configuration of Countersign in the form for a proxy, with the key and the
/// issuer of the tests.
fn countersign_configuration(proxy: &MtlsProxy) -> String {
    let mut shipped = configuration("countersign.cfg", &[("https://auth.example/", ISSUER.into())]);
    if proxy.is_bound {
        let of_proxy = if proxy.options.is_empty() { "# bound nginx: " } else { "# bound envoy: " };
        shipped = shipped.replace(BOUND, "").replace(of_proxy, "");
    }
    match proxy.options {
        "" => shipped,
        mark if mark.starts_with('#') => shipped.replace("dialect = nginx\n", "").replace(mark, ""),
        options => format!("{shipped}\n{options}"),
    }
}

/// A proxy between machines, Countersign and an application.
struct MtlsWorld<'w> {
    address: SocketAddr,
    server: &'w Server<'w>,
    application: Application,
    ca: Authority,
    identity: String,
    /// The directory of the proxy.
    directory: PathBuf,
    _running: DaemonProcess,
}

/// Runs a test in a world whose proxy has the certificate that `write` makes for its address.
fn with_world(
    proxy: &MtlsProxy,
    write: impl FnOnce(&Path, SocketAddr),
    test: impl FnOnce(&MtlsWorld<'_>),
) {
    let (sandbox, directory) = (Sandbox::new(), tempfile::tempdir().unwrap());
    sandbox.file("signing.key", KEY);
    let server = sandbox.serve(&countersign_configuration(proxy));
    let (ca, application) = (Authority::root("machines"), Application::start());
    let addresses = Addresses {
        proxy: free_address(),
        countersign: server.address,
        application: application.address,
    };
    write(directory.path(), addresses.proxy);
    let command = (proxy.command)(directory.path(), &addresses);
    let running = DaemonProcess::start(command, directory.path(), addresses.proxy);
    let identity = create_identity(&server, &ca);
    let world = MtlsWorld {
        address: addresses.proxy,
        server: &server,
        application,
        ca,
        identity,
        directory: directory.path().to_owned(),
        _running: running,
    };
    test(&world);
}

fn check(proxy: &MtlsProxy) {
    let write = |directory: &Path, _| drop(ours().1.write(directory));
    with_world(proxy, write, |world| {
        // Traefik loads its certificate and its routes after it listens.
        let head = format!("GET {LOGIN} HTTP/1.1\r\n");
        let ask = || tls_client(None).request(world.address, &head);
        eventually(|| ask().is_ok_and(|(answer, _)| answer.status == 405));
        certificate_of_the_connection_decides(world);
        certificates_of_intermediates_need_their_chain(world, proxy.passes_chain);
        let expired = world.log_in(Some(&world.ca.client_in(EXPIRED, "bob", 9)), "");
        assert_eq!(expired.status, proxy.status_of_expired, "{expired:?}");
        tokens_are_renewed_and_revoked(world, proxy.has_application);
        if proxy.has_application {
            application_gets_the_identity_alone(world);
            address_of_the_client_is_that_of_its_connection(world);
        } else {
            let answer = world.client(None).request("GET /api/v1/identities HTTP/1.1\r\n", b"");
            assert_eq!(answer.status, 404, "{answer:?}");
        }
    });
}

/// The program trusts the certificate of the proxy, which is its own authority.
#[test]
fn published_example_logs_in_through_nginx() {
    let write = |directory: &Path, address: SocketAddr| {
        self_signed(directory, "tls", &format!("IP:{}", address.ip()));
    };
    with_world(&NGINX, write, |world| {
        let authority = std::fs::read_to_string(world.directory.join("tls.crt")).unwrap();
        let url = format!("https://{}", world.address);
        let bob = world.ca.client("bob", 1);
        let answer = log_in_by_node(&url, &world.identity, (&bob, &authority));
        let token = answer["accessToken"].as_str().unwrap();
        assert_eq!(world.server.auth(token).status, 200, "{answer}");
    });
}

/// Creates an identity that logs in with certificates of `ca`, by the command line.
fn create_identity(server: &Server<'_>, ca: &Authority) -> String {
    let sandbox = Sandbox::new().variable("COUNTERSIGN_TOKEN", &session_of("root", true));
    sandbox.file("ca.crt", ca.pem());
    let url = format!("http://{}", server.address);
    let run = |command: &str| {
        let output = sandbox.run(command.split(' ').chain(["--server", &url]));
        assert_eq!(output.code(), 0, "{output:?}");
        output.text().to_owned()
    };
    let identity = run("identity create worker");
    run("identity attach-certificate worker --ca ca.crt --common-name bob --chain");
    identity
}

impl MtlsWorld<'_> {
    fn client(&self, certificate: Option<&IssuedCertificate>) -> Client {
        Client::under_tls(Protocol::Http1, self.address, &tls_client(certificate))
    }

    #[track_caller]
    fn log_in(&self, certificate: Option<&IssuedCertificate>, lines: &str) -> Response {
        let body = json!({ "identityId": self.identity }).to_string();
        let head = format!("POST {LOGIN} HTTP/1.1\r\n{JSON}{lines}");
        self.client(certificate).request(&head, body.as_bytes())
    }

    #[track_caller]
    fn token(&self) -> String {
        token_of(&self.log_in(Some(&self.ca.client("bob", 1)), ""))
    }

    #[track_caller]
    fn of_token(&self, call: &str, token: &str) -> Response {
        self.of_client(None, call, token)
    }

    /// Calls an endpoint about a token, as the client with this certificate.
    #[track_caller]
    fn of_client(
        &self,
        certificate: Option<&IssuedCertificate>,
        call: &str,
        token: &str,
    ) -> Response {
        let body = json!({ "accessToken": token }).to_string();
        let head = format!("POST /api/v1/auth/token/{call} HTTP/1.1\r\n{JSON}");
        self.client(certificate).request(&head, body.as_bytes())
    }

    #[track_caller]
    fn get(&self, token: &str, lines: &str) -> Response {
        let head = format!("GET /page HTTP/1.1\r\n{}{lines}", bearer(token));
        self.client(Some(&self.ca.client("bob", 2))).request(&head, b"")
    }
}

fn tls_client(certificate: Option<&IssuedCertificate>) -> TlsClient {
    let options = TlsClientOptions { certificate, ..TlsClientOptions::default() };
    TlsClient::new(&ours().0, &options)
}

const LOGIN: &str = "/api/v1/auth/tls-cert-auth/login";
const JSON: &str = "Content-Type: application/json\r\n";

#[track_caller]
fn token_of(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["accessToken"].as_str().unwrap().to_owned()
}

/// Returns header lines that claim a certificate, in the form of every proxy.
fn forged(certificate: &IssuedCertificate) -> String {
    let pem = certificate.pem();
    let escaped = utf8_percent_encode(&pem, NON_ALPHANUMERIC).to_string();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let value = |name: &str| match name {
        "Client-Cert" | "Client-Cert-Chain" => format!(":{base64}:"),
        "X-Forwarded-Client-Cert" => format!("Cert=\"{escaped}\""),
        "X-Forwarded-Tls-Client-Cert" => base64.clone(),
        _ => escaped.clone(),
    };
    HEADERS.map(|name| format!("{name}: {}\r\n", value(name))).concat()
}

fn certificate_of_the_connection_decides(world: &MtlsWorld<'_>) {
    let (bob, eve) = (world.ca.client("bob", 1), world.ca.client("eve", 2));
    let stranger = Authority::root("machines").client("bob", 1);
    let forged = forged(&bob);
    let message = |answer: &Response| answer.json()["message"].clone();
    for lines in ["", &forged, &with_lower_names(&forged)] {
        assert_eq!(world.log_in(Some(&bob), lines).status, 200);
        let missing = world.log_in(None, lines);
        assert_eq!(
            (missing.status, message(&missing)),
            (400, json!("Missing TLS certificate in header"))
        );
        for other in [&eve, &stranger] {
            let refused = world.log_in(Some(other), lines);
            assert_eq!(refused.status, 401, "{refused:?}");
        }
    }
}

fn with_lower_names(lines: &str) -> String {
    let lines = lines.split_inclusive("\r\n").filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| format!("{}:{value}", name.to_lowercase())).collect()
}

fn certificates_of_intermediates_need_their_chain(world: &MtlsWorld<'_>, passes_chain: bool) {
    let bob = world.ca.authority("between", 7).client("bob", 8);
    let answer = world.log_in(Some(&bob), "");
    assert_eq!(answer.status, if passes_chain { 200 } else { 401 }, "{answer:?}");
}

fn tokens_are_renewed_and_revoked(world: &MtlsWorld<'_>, has_application: bool) {
    let is_accepted = |token: &str| match has_application {
        true => world.get(token, "").status == 200,
        false => world.server.auth(token).status == 200,
    };
    let token = world.token();
    let renewed = token_of(&world.of_token("renew", &token));
    assert!(is_accepted(&token) && is_accepted(&renewed));
    assert_eq!(world.of_token("revoke", &renewed).status, 200);
    assert!(!is_accepted(&token) && !is_accepted(&renewed));
    assert_eq!(world.of_token("renew", &renewed).status, 401);
}

fn application_gets_the_identity_alone(world: &MtlsWorld<'_>) {
    let token = world.token();
    let identity = "X-Auth-Subject: root\r\nX-Auth-Issuer: root\r\nX-Auth-User: root\r\n";
    drop(world.application.take());
    for lines in ["", &format!("{identity}{}", forged(&world.ca.client("bob", 3)))] {
        assert_eq!(world.get(&token, lines).status, 200);
        let given = world.application.take().remove(0);
        assert_eq!(given.lines("x-auth-subject"), [&*world.identity]);
        assert_eq!(given.lines("x-auth-issuer"), [format!("{ISSUER}identities")]);
        assert!(given.lines("x-auth-user").is_empty(), "{given:?}");
        for name in HEADERS {
            assert!(given.lines(&name.to_lowercase()).is_empty(), "{name}: {given:?}");
        }
    }
    for (token, lines) in [("", ""), ("a.b.c", ""), ("", identity)] {
        assert_eq!(world.get(token, lines).status, 401);
    }
    // Calls that administer identities are those of the application.
    let head = format!("GET /api/v1/identities HTTP/1.1\r\n{}", bearer(&session_of("root", true)));
    assert_eq!(world.client(None).request(&head, b"").body, "hello");
    let seen = world.application.take();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

fn address_of_the_client_is_that_of_its_connection(world: &MtlsWorld<'_>) {
    let token = world.token();
    let change = |network: &str| {
        let body = json!({ "accessTokenTrustedIps": [{ "ipAddress": network }] }).to_string();
        let path = format!("/api/v1/auth/tls-cert-auth/identities/{}", world.identity);
        let head = format!("PATCH {path} HTTP/1.1\r\n{JSON}{}", bearer(&session_of("root", true)));
        assert_eq!(world.server.send(&head, body.as_bytes()).status, 200);
    };
    let forged = "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n";
    change("192.0.2.1");
    for lines in ["", forged] {
        assert_eq!(world.get(&token, lines).status, 403, "{lines}");
        assert_eq!(world.of_token("renew", &token).status, 403, "{lines}");
    }
    change("127.0.0.1");
    for lines in ["", forged] {
        assert_eq!(world.get(&token, lines).status, 200, "{lines}");
    }
    token_of(&world.of_token("renew", &token));
}
