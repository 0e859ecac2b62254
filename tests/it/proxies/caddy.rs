use std::{path::Path, process::Command};

use countersign_tests::proxies::installed_program;

use super::{Addresses, Dialect, Proxy, configuration, contract, unix_socket};

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
fn caddy_reaches_a_unix_socket() {
    unix_socket::check(Dialect::XForwarded, "X-Forwarded-For", |directory, addresses, socket| {
        let replaced = [
            ("forward_auth 127.0.0.1:8888 {\n", String::new()),
            ("# forward_auth", "forward_auth".into()),
            (unix_socket::SHIPPED_PATH, socket.into()),
            addresses.others()[1].clone(),
        ];
        run(directory, addresses, &replaced)
    });
}

fn command(directory: &Path, addresses: &Addresses) -> Command {
    run(directory, addresses, &addresses.others())
}

fn run(directory: &Path, addresses: &Addresses, replaced: &[(&str, String)]) -> Command {
    let proxy = [
        (":8000 {", format!(":{} {{", addresses.proxy.port())),
        ("bind 127.0.0.1", format!("bind {}", addresses.proxy.ip())),
    ];
    let file = directory.join("Caddyfile");
    std::fs::write(&file, configuration("Caddyfile", &[replaced, &proxy].concat())).unwrap();
    let mut command = Command::new(installed_program("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command
}
