use std::{path::Path, process::Command};

use super::{
    Addresses, Dialect, Proxy, configuration, contract, tenant_configuration, tenants, unix_socket,
};

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
    let auth = "proxy_http_version 1.1;\n        proxy_set_header Connection \"\"";
    let replaced =
        [("keepalive 16;", String::new()), (auth, "proxy_set_header Connection close".into())];
    let replaced = [addresses.all().as_slice(), &replaced].concat();
    command(directory, &configuration("nginx.conf", &replaced))
}

#[test]
fn nginx_passes_on_the_tenant_alone() {
    tenants::check(NGINX.dialect, NGINX.address_header, |directory, addresses| {
        command(directory, &tenant_configuration("nginx.conf", &addresses.all()))
    });
}

#[test]
fn nginx_reaches_a_unix_socket() {
    unix_socket::check(Dialect::Nginx, NGINX.address_header, |directory, addresses, socket| {
        let replaced = [
            ("server 127.0.0.1:8888;\n", String::new()),
            ("# server unix:", "server unix:".into()),
            (unix_socket::SHIPPED_PATH, socket.into()),
        ];
        let others = [addresses.own(), addresses.others()[1].clone()];
        command(directory, &configuration("nginx.conf", &[&replaced[..], &others].concat()))
    });
}

/// Returns the command that runs nginx with these upstreams and servers, and all of its files in
/// one directory.
pub(super) fn command(directory: &Path, servers: &str) -> Command {
    let root = directory.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
        .concat();
    // As root, nginx would give its workers another user, who cannot open a test's socket.
    let rest =
        format!("user root;\ndaemon off;\nerror_log stderr;\npid {root}/nginx.pid;\nevents {{}}\n");
    let file = directory.join("nginx.conf");
    std::fs::write(&file, format!("{rest}http {{\naccess_log off;\n{paths}\n{servers}\n}}\n"))
        .unwrap();
    let mut command = Command::new("nginx");
    command.arg("-e").arg("stderr").arg("-c").arg(file);
    command
}
