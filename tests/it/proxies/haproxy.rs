use std::{path::Path, process::Command};

use super::{Addresses, Dialect, Proxy, configuration, contract};

#[test]
fn haproxy_keeps_the_contract() {
    contract::check(&Proxy {
        command,
        dialect: Dialect::Nginx,
        address_header: "X-Forwarded-For",
        keeps_connections: true,
        when_down: 503,
        gives_up: true,
    });
}

fn command(directory: &Path, addresses: &Addresses) -> Command {
    let (file, script) = (directory.join("haproxy.cfg"), directory.join("haproxy-auth.lua"));
    // Names of abstract sockets belong to the whole machine.
    let socket = ("abns@countersign", format!("abns@countersign-{}", addresses.proxy));
    std::fs::write(&script, configuration("haproxy-auth.lua", std::slice::from_ref(&socket))).unwrap();
    let path = ("/etc/haproxy/haproxy-auth.lua", script.to_str().unwrap().to_owned());
    let replaced = [addresses.all().as_slice(), &[socket, path]].concat();
    std::fs::write(&file, configuration("haproxy.cfg", &replaced)).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    command
}
