use std::{path::Path, process::Command};

use super::{Addresses, Dialect, Proxy, configuration, contract};

#[test]
fn nginx_keeps_the_contract() {
    contract::check(&NGINX);
}

#[test]
fn nginx_keeps_the_contract_with_http_1_0() {
    contract::check(&Proxy { command: with_http_1_0, keeps_connections: false, ..NGINX });
}

const NGINX: Proxy = Proxy {
    command: as_shipped,
    dialect: Dialect::Nginx,
    address_header: "X-Forwarded-For",
    keeps_connections: true,
    status_when_down: 503,
    times_out: true,
    passes_trailers: false,
};

fn as_shipped(directory: &Path, addresses: &Addresses) -> Command {
    command(directory, &configuration("nginx.conf", &addresses.all()))
}

/// nginx's defaults: HTTP/1.0, and a new connection for each auth request.
fn with_http_1_0(directory: &Path, addresses: &Addresses) -> Command {
    let shipped_config = configuration("nginx.conf", &addresses.all());
    let lines = shipped_config
        .lines()
        .filter(|line| !["keepalive 16;", "proxy_http_version 1.1;"].contains(&line.trim()));
    let text = lines.collect::<Vec<_>>().join("\n").replace("Connection \"\"", "Connection close");
    assert_eq!(shipped_config.lines().count(), text.lines().count() + 2);
    command(directory, &text)
}

/// Returns the command that runs nginx with these upstreams and servers, and all of its files in
/// one directory.
fn command(directory: &Path, servers: &str) -> Command {
    let root = directory.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
        .concat();
    let rest = format!("daemon off;\nerror_log stderr;\npid {root}/nginx.pid;\nevents {{}}\n");
    let file = directory.join("nginx.conf");
    std::fs::write(&file, format!("{rest}http {{\naccess_log off;\n{paths}\n{servers}\n}}\n"))
        .unwrap();
    let mut command = Command::new("nginx");
    command.arg("-e").arg("stderr").arg("-c").arg(file);
    command
}
