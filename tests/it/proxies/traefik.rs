use std::{path::Path, process::Command};

use countersign_tests::proxies::installed_program;

use super::{
    Addresses, ConfigurationForm, Dialect, Proxy, configuration, contract, tenant_configuration,
    tenants,
};

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

#[test]
fn traefik_passes_on_the_tenant_alone() {
    tenants::check(Dialect::XForwarded, "X-Forwarded-For", |directory, addresses| {
        run(tenant_configuration, directory, addresses)
    });
}

fn command(directory: &Path, addresses: &Addresses) -> Command {
    run(configuration, directory, addresses)
}

fn run(form: ConfigurationForm, directory: &Path, addresses: &Addresses) -> Command {
    let (file, routes) = (directory.join("traefik.yaml"), directory.join("traefik-routes.yaml"));
    std::fs::write(&routes, form("traefik-routes.yaml", &addresses.others())).unwrap();
    let path = ("/etc/traefik/traefik-routes.yaml", routes.to_str().unwrap().to_owned());
    std::fs::write(&file, configuration("traefik.yaml", &[addresses.own(), path])).unwrap();
    let mut command = Command::new(installed_program("traefik"));
    command.arg("--configFile").arg(file);
    command
}
