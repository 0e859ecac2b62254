use std::{path::Path, process::Command};

use countersign_tests::{
    binary::Sandbox,
    eventually,
    http::request,
    proxies::{Application, DaemonProcess, RelayTarget, TcpRelay, free_address},
};

use super::{
    Addresses, ConfigurationForm, Dialect, Proxy, configuration, contract,
    haproxy::{assert_asks_to_retry, use_unix_socket},
    tenant_configuration, tenants, unix_socket,
    world::bearer,
};
use crate::fixture;

#[test]
fn haproxy_keeps_the_contract_over_spoe() {
    contract::check(&Proxy {
        command,
        dialect: Dialect::Spop,
        address_header: "X-Forwarded-For",
        keeps_connections: true,
        status_when_down: 503,
        times_out: true,
        passes_trailers: true,
    });
}

#[test]
fn haproxy_passes_on_the_tenant_alone_over_spoe() {
    tenants::check(Dialect::Spop, "X-Forwarded-For", |directory, addresses| {
        run(tenant_configuration, directory, addresses)
    });
}

#[test]
fn haproxy_reaches_a_unix_socket_over_spoe() {
    unix_socket::check(Dialect::Spop, "X-Forwarded-For", |directory, addresses, socket| {
        let command = command(directory, addresses);
        use_unix_socket(directory, addresses, ["/run/countersign/spop.sock", socket]);
        command
    });
}

/// A restart of Countersign closes the connections that HAProxy keeps: the check is sent again.
#[test]
fn haproxy_repeats_a_check_after_a_restart() {
    let (sandbox, application) = (Sandbox::new(), Application::start());
    let directory = tempfile::tempdir().unwrap();
    let countersign = free_address();
    let listener = format!(
        "{}[listener_spop]\nbind={countersign}\nprotocols=spop\ntrusted_proxies=127.0.0.1\n",
        fixture::SIGNING
    );
    let mut server = sandbox.serve(&listener);
    let addresses = Addresses::new(countersign, &application);
    let command = command(directory.path(), &addresses);
    let _running = DaemonProcess::start(command, directory.path(), addresses.proxy);
    let lines = bearer(&fixture::good_token());
    let status = || request(addresses.proxy, &format!("GET /page HTTP/1.1\r\n{lines}"), b"").status;
    eventually(|| status() == 200);
    for signal in ["TERM", "KILL"] {
        server.stop(signal);
        server = sandbox.serve(&listener);
        assert_eq!([(); 8].map(|()| status()), [200; 8], "{signal}");
    }
}

/// HAProxy would connect thousands of times a second to an agent that closes its connections.
#[test]
fn haproxy_sends_no_checks_while_countersign_is_down() {
    let (directory, application) = (tempfile::tempdir().unwrap(), Application::start());
    let relay = TcpRelay::start(RelayTarget::Close);
    let addresses = Addresses::new(relay.address, &application);
    let command = command(directory.path(), &addresses);
    let _running = DaemonProcess::start(command, directory.path(), addresses.proxy);
    eventually(|| {
        let before = relay.connections();
        assert_asks_to_retry(&addresses, &application);
        relay.connections() == before
    });
}

/// Without Countersign, every request is refused, with the advice to retry.
#[test]
fn haproxy_refuses_without_countersign_over_spoe() {
    let (directory, application) = (tempfile::tempdir().unwrap(), Application::start());
    let addresses = Addresses::new(free_address(), &application);
    let command = command(directory.path(), &addresses);
    let _running = DaemonProcess::start(command, directory.path(), addresses.proxy);
    assert_asks_to_retry(&addresses, &application);
    // OPTIONS * has no path to authorize.
    let options = request(addresses.proxy, "OPTIONS * HTTP/1.1\r\n", b"");
    assert_eq!(options.status, 400, "{options:?}");
    assert!(application.take().is_empty());
}

fn command(directory: &Path, addresses: &Addresses) -> Command {
    run(configuration, directory, addresses)
}

fn run(form: ConfigurationForm, directory: &Path, addresses: &Addresses) -> Command {
    let (file, engine) = (directory.join("haproxy.cfg"), directory.join("haproxy-spoe.conf"));
    std::fs::write(&engine, configuration("haproxy-spoe.conf", &[])).unwrap();
    let replaced = [
        ("/etc/haproxy/haproxy-spoe.conf", engine.to_str().unwrap().to_owned()),
        ("127.0.0.1:8889", addresses.countersign.to_string()),
        ("127.0.0.1:8080", addresses.application.to_string()),
        addresses.own(),
    ];
    let mut text = form("haproxy-spoe.cfg", &replaced);
    if installed_version() >= (3, 1) {
        let tcp = "    # From HAProxy 3.1 on: mode spop\n    mode tcp\n";
        assert!(text.contains(tcp), "{text}");
        text = text.replace(tcp, "    mode spop\n");
    }
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    command
}

/// The version of HAProxy that runs: another one can be in `PATH`.
fn installed_version() -> (u32, u32) {
    let output = Command::new("haproxy").arg("-v").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}
