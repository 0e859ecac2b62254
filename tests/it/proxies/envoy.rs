use std::{net::SocketAddr, path::Path, process::Command};

use countersign_tests::proxies::installed_program;

use super::{
    Addresses, Dialect, Proxy, configuration, contract, tenant_configuration, tenants, unix_socket,
};

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
