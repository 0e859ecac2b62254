//! Tokens that are bound to the certificate of their login, with the lines of the example for them.

use std::{path::Path, process::Command};

use countersign_tests::certificates::ours;

use super::{
    BOUND, ENVOY, HEADERS, MtlsProxy, NGINX, envoy, envoy_configuration, forged, nginx,
    nginx_configuration, token_of, with_lower_names, with_world,
};
use crate::proxies::{Addresses, world::bearer};

#[test]
fn tokens_need_their_certificate_through_nginx() {
    check(&MtlsProxy { command: run_bound_nginx, is_bound: true, ..NGINX });
}

fn run_bound_nginx(directory: &Path, addresses: &Addresses) -> Command {
    nginx::command(directory, &nginx_configuration(directory, addresses).replace(BOUND, ""))
}

#[test]
fn tokens_need_their_certificate_through_envoy() {
    check(&MtlsProxy { command: run_bound_envoy, is_bound: true, ..ENVOY });
}

fn run_bound_envoy(directory: &Path, addresses: &Addresses) -> Command {
    let text = envoy_configuration(directory, addresses).replace(BOUND, "");
    let lines = text.split_inclusive('\n').filter(|line| !line.ends_with("# not bound\n"));
    envoy::run(directory, lines.collect())
}

/// Checks tokens that are bound to the certificate of their login.
fn check(proxy: &MtlsProxy) {
    let write = |directory: &Path, _| drop(ours().1.write(directory));
    with_world(proxy, write, |world| {
        let [bob, other] = [1, 2].map(|serial| world.ca.client("bob", serial));
        let token = token_of(&world.log_in(Some(&bob), ""));
        let head = format!("GET /page HTTP/1.1\r\n{}", bearer(&token));
        let ask = |certificate, lines: &str| {
            world.client(certificate).request(&format!("{head}{lines}"), b"").status
        };
        let renew = |certificate| world.of_client(certificate, "renew", &token).status;
        let forged = forged(&bob);
        for lines in ["", &forged, &with_lower_names(&forged)] {
            assert_eq!(ask(Some(&bob), lines), 200, "{lines}");
            assert_eq!([ask(Some(&other), lines), ask(None, lines)], [401; 2], "{lines}");
        }
        assert_eq!([renew(Some(&bob)), renew(Some(&other)), renew(None)], [200, 403, 403]);
        for given in world.application.take() {
            for name in HEADERS {
                assert!(given.lines(&name.to_lowercase()).is_empty(), "{name}: {given:?}");
            }
        }
    });
}
