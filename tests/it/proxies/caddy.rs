use std::{path::Path, process::Command};

use countersign_tests::proxies::installed_program;

use super::{
    Addresses, ConfigurationForm, Dialect, Proxy, configuration, contract, tenant_configuration,
    tenants, unix_socket,
};

#[test]
fn caddy_keeps_the_contract() {
    contract::check(&Proxy {
        command,
        dialect: Dialect::XForwarded,
        address_header: "X-Forwarded-For",
        keeps_connections: true,
        status_when_down: 503,
        times_out: true,
        passes_trailers: false,
    });
}

#[test]
fn caddy_passes_on_the_tenant_alone() {
    tenants::check(Dialect::XForwarded, "X-Forwarded-For", |directory, addresses| {
        run(tenant_configuration, directory, addresses, &addresses.others())
    });
}

#[test]
fn caddy_reaches_a_unix_socket() {
    unix_socket::check(Dialect::XForwarded, "X-Forwarded-For", |directory, addresses, socket| {
        let replaced = [
            ("forward_auth 127.0.0.1:8888 {\n", String::new()),
            ("# forward_auth", "forward_auth".into()),
            (unix_socket::SHIPPED_PATH, socket.into()),
            addresses.others()[1].clone(),
        ];
        run(configuration, directory, addresses, &replaced)
    });
}

fn command(directory: &Path, addresses: &Addresses) -> Command {
    run(configuration, directory, addresses, &addresses.others())
}

fn run(
    form: ConfigurationForm,
    directory: &Path,
    addresses: &Addresses,
    replaced: &[(&str, String)],
) -> Command {
    let proxy = [
        (":8000 {", format!(":{} {{", addresses.proxy.port())),
        ("bind 127.0.0.1", format!("bind {}", addresses.proxy.ip())),
    ];
    let file = directory.join("Caddyfile");
    std::fs::write(&file, form("Caddyfile", &[replaced, &proxy].concat())).unwrap();
    let mut command = Command::new(installed_program("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command
}
