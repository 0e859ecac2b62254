use std::{path::Path, process::Command};

use countersign_tests::proxies::installed_program;

use super::{Addresses, Dialect, Proxy, configuration, contract};

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

fn command(directory: &Path, addresses: &Addresses) -> Command {
    let proxy = [
        (":8000 {", format!(":{} {{", addresses.proxy.port())),
        ("bind 127.0.0.1", format!("bind {}", addresses.proxy.ip())),
    ];
    let file = directory.join("Caddyfile");
    std::fs::write(
        &file,
        configuration("Caddyfile", &[addresses.others().as_slice(), &proxy].concat()),
    )
    .unwrap();
    let mut command = Command::new(installed_program("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command
}
