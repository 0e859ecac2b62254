use std::path::Path;

use countersign_tests::{
    binary::Sandbox,
    certificates::Authority,
    http::Connection,
    proxies::{Application, DaemonProcess, free_address},
};

use super::{
    Addresses, Dialect, Proxy, configuration, contract,
    envoy::{replacements, run},
    world::bearer,
};
use crate::fixture;

#[test]
fn envoy_keeps_the_contract_over_grpc() {
    contract::check(&Proxy {
        command: |directory, addresses| {
            run(directory, configuration("envoy-grpc.yaml", &replacements(addresses)))
        },
        dialect: Dialect::Grpc,
        address_header: "X-Real-IP",
        keeps_connections: true,
        status_when_down: 503,
        times_out: true,
        passes_trailers: false,
    });
}

#[test]
fn envoy_grpc_authenticates_both_sides_by_tls() {
    let (sandbox, directory) = (Sandbox::new(), Sandbox::new());
    let (ours, clients, others) =
        (Authority::root("ours"), Authority::root("clients"), Authority::root("others"));
    ours.server().write(sandbox.path());
    sandbox.file("clients.crt", clients.pem());
    let tls = "[server]\nssl_cert_file=tls.crt\nssl_key_file=tls.key\n[listen]\nclient_ca_file=clients.crt\n";
    let server = sandbox.serve(&format!("{}{tls}client_certificates=required\n", fixture::SIGNING));
    let application = Application::start();
    let addresses =
        |proxy| Addresses { proxy, countersign: server.address, application: application.address };

    // A trusted proxy with a trusted server, an untrusted proxy, and an untrusted server.
    for (proxy, authority, allowed, refused) in [
        (clients.client("proxy", 1), &ours, 200, 401),
        (others.client("proxy", 1), &ours, 503, 503),
        (clients.client("proxy", 1), &others, 503, 503),
    ] {
        let addresses = addresses(free_address());
        proxy.write(directory.path());
        directory.file("ca.crt", authority.pem());
        let command = run(directory.path(), under_tls(directory.path(), &addresses));
        let _running = DaemonProcess::start(command, directory.path(), addresses.proxy);
        let answered = |lines: &str| {
            let mut connection = Connection::open(addresses.proxy);
            connection.send(&format!("GET /page HTTP/1.1\r\n{lines}"), b"");
            connection.receive(false)
        };
        let answer = answered(&bearer(&fixture::good_token()));
        assert_eq!(answer.status, allowed, "{answer:?}");
        let given: Vec<_> = application
            .take()
            .into_iter()
            .map(|request| request.lines("x-auth-subject").concat())
            .collect();
        assert_eq!(given, if allowed == 200 { vec!["bob"] } else { vec![] });
        assert_eq!(answered("").status, refused);
    }
}

/// Returns both shipped files merged, with the files of `directory` in place of `/etc/envoy`.
fn under_tls(directory: &Path, addresses: &Addresses) -> String {
    let place = |name: &str| directory.join(name).display().to_string();
    let replaced = [
        ("/etc/envoy/tls.crt", place("tls.crt")),
        ("/etc/envoy/tls.key", place("tls.key")),
        ("/etc/envoy/countersign-ca.crt", place("ca.crt")),
        ("countersign.example", "localhost".into()),
    ];
    let socket = configuration("envoy-grpc-tls.yaml", &replaced);
    let name = "    - name: countersign\n";
    configuration("envoy-grpc.yaml", &replacements(addresses))
        .replace(name, &format!("{name}{socket}"))
}
