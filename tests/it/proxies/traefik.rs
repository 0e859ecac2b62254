use std::{path::Path, process::Command};

use countersign_tests::proxies::installed_program;

use super::{Addresses, Dialect, Proxy, configuration, contract};

#[test]
fn traefik_keeps_the_contract() {
    contract::check(&Proxy {
        command,
        dialect: Dialect::XForwarded,
        address_header: "X-Forwarded-For",
        keeps_connections: true,
        status_when_down: 500,
        times_out: false,
        passes_trailers: false,
    });
}

fn command(directory: &Path, addresses: &Addresses) -> Command {
    let (file, routes) = (directory.join("traefik.yaml"), directory.join("traefik-routes.yaml"));
    std::fs::write(&routes, configuration("traefik-routes.yaml", &addresses.others())).unwrap();
    let path = ("/etc/traefik/traefik-routes.yaml", routes.to_str().unwrap().to_owned());
    std::fs::write(&file, configuration("traefik.yaml", &[addresses.own(), path])).unwrap();
    let mut command = Command::new(installed_program("traefik"));
    command.arg("--configFile").arg(file);
    command
}
