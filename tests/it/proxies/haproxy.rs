use std::{path::Path, process::Command};

use countersign_tests::proxies::shipped;

use super::{Addresses, Dialect, Proxy, contract};

#[test]
fn haproxy_keeps_the_contract() {
    contract::check(&HAPROXY);
}

const HAPROXY: Proxy = Proxy { command, dialect: Dialect::Nginx, address_header: "X-Forwarded-For", keeps_connections: true };

fn command(directory: &Path, addresses: &Addresses) -> Command {
    // Names of abstract sockets belong to the whole machine.
    let socket = format!("abns@countersign-{}", addresses.proxy);
    let script = directory.join("haproxy-auth.lua");
    std::fs::write(&script, shipped("haproxy-auth.lua").replace("abns@countersign", &socket)).unwrap();
    let file = directory.join("haproxy.cfg");
    let text = addresses.put_into("haproxy.cfg").replace("abns@countersign", &socket);
    std::fs::write(&file, text.replace("/etc/haproxy/haproxy-auth.lua", script.to_str().unwrap())).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    command
}
