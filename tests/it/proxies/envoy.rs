use std::{net::SocketAddr, path::Path, process::Command};

use countersign_tests::{
    binary::Sandbox,
    eventually,
    http::Connection,
    proxies::{Application, DaemonProcess, installed_program},
};

use super::{
    Addresses, Dialect, Proxy, configuration, contract, tenant_configuration, tenants, unix_socket,
    world::bearer,
};
use crate::fixture;

#[test]
fn envoy_keeps_the_contract() {
    contract::check(&Proxy {
        command,
        dialect: Dialect::EnvoyPath,
        address_header: "X-Real-IP",
        keeps_connections: true,
        status_when_down: 503,
        times_out: true,
        passes_trailers: false,
    });
}

#[test]
fn envoy_passes_on_the_tenant_alone() {
    for (file, dialect) in [("envoy.yaml", Dialect::EnvoyPath), ("envoy-grpc.yaml", Dialect::Grpc)]
    {
        tenants::check(dialect, "X-Real-IP", |directory, addresses| {
            run(directory, tenant_configuration(file, &replacements(addresses)))
        });
    }
}

#[test]
fn envoy_reaches_a_unix_socket() {
    for (file, dialect) in [("envoy.yaml", Dialect::EnvoyPath), ("envoy-grpc.yaml", Dialect::Grpc)]
    {
        unix_socket::check(dialect, "X-Real-IP", |directory, addresses, socket| {
            let [countersign, others @ ..] = replacements(addresses);
            let tcp = "- endpoint: { address: { socket_address: { ";
            let replaced =
                [("# - endpoint", "- endpoint".into()), (unix_socket::SHIPPED_PATH, socket.into())];
            let text = configuration(file, &[&replaced[..], &others].concat());
            let endpoint = format!("{tcp}{}}} }} }}\n", countersign.0);
            assert!(text.contains(&endpoint), "{text}");
            run(directory, text.replace(&endpoint, "\n"))
        });
    }
}

#[test]
fn envoy_names_the_client_of_a_proxy_line() {
    for (file, dialect) in [("envoy.yaml", Dialect::EnvoyPath), ("envoy-grpc.yaml", Dialect::Grpc)]
    {
        let (sandbox, directory) = (Sandbox::new(), Sandbox::new());
        let listen = format!(
            "[listen]\ntrusted_proxies=127.0.0.1\nclient_address_header=X-Real-IP\n{}\n",
            dialect.option()
        );
        let log = "[log]\nformat=json\nrequests=all\n";
        let server = sandbox.serve(&format!("{}{listen}{log}", fixture::SIGNING));
        let application = Application::start();
        let addresses = Addresses::new(server.address, &application);
        let text = configuration(file, &replacements(&addresses));
        let text = text.replacen("      # listener_filters", "      listener_filters", 1);
        let text = text.replace("      #   ", "        ");
        let command = run(directory.path(), text);
        let _running = DaemonProcess::start(command, directory.path(), addresses.proxy);
        let mut connection = Connection::open(addresses.proxy);
        let port = addresses.proxy.port();
        let line = format!("PROXY TCP4 203.0.113.7 127.0.0.1 5555 {port}\r\n");
        let forged = "X-Real-IP: 198.51.100.1\r\nX-Forwarded-For: 198.51.100.1\r\n";
        let token = bearer(&fixture::good_token());
        let request = format!("GET /page HTTP/1.1\r\nHost: a\r\n{forged}{token}\r\n");
        connection.send_raw(format!("{line}{request}").as_bytes());
        assert_eq!(connection.receive(false).status, 200);
        let seen = application.take().pop().unwrap();
        assert_eq!(seen.lines("x-real-ip"), ["203.0.113.7"], "{file}: {seen:?}");
        eventually(|| server.log().contains("\"client\":\"203.0.113.7\""));
    }
}

fn command(directory: &Path, addresses: &Addresses) -> Command {
    run(directory, configuration("envoy.yaml", &replacements(addresses)))
}

/// Returns the addresses of a shipped configuration, and their replacements.
pub(super) fn replacements(addresses: &Addresses) -> [(&'static str, String); 3] {
    let place =
        |address: SocketAddr| format!("address: {}, port_value: {} ", address.ip(), address.port());
    [
        ("address: 127.0.0.1, port_value: 8888 ", place(addresses.countersign)),
        ("address: 127.0.0.1, port_value: 8080 ", place(addresses.application)),
        ("address: 127.0.0.1, port_value: 8000 ", place(addresses.proxy)),
    ]
}

/// Returns the command that runs Envoy with this configuration.
pub(super) fn run(directory: &Path, configuration: String) -> Command {
    let file = directory.join("envoy.yaml");
    std::fs::write(&file, configuration).unwrap();
    // One thread, because each thread has its own connections; no memory shared with other Envoys.
    let mut command = Command::new(installed_program("envoy"));
    command
        .args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--config-path",
        ])
        .arg(file);
    command
}
