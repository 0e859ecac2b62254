//! Envoy behind a balancer that names the client in a PROXY line.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use countersign_tests::{binary::Sandbox, http::Connection};

use super::{
    super::module_proxy::{ModuleProxy, bearer, get},
    shipped_with,
};
use crate::{admission::Issuer, fixture};

/// Starts Envoy as shipped, with the listener filter for PROXY lines.
fn start(configuration: &str) -> ModuleProxy {
    shipped_with(configuration, |text| {
        let is_part =
            |line: &str| line.starts_with("      # ") && !line.ends_with("trusted_proxies:");
        let lines: Vec<_> = text
            .lines()
            .map(|line| if is_part(line) { line.replacen("# ", "", 1) } else { line.to_owned() })
            .collect();
        assert!(lines.iter().any(|line| line == "      listener_filters:"));
        lines.join("\n")
    })
}

/// Sends a GET request of a client behind the balancer. Returns the status.
fn status_for(envoy: &ModuleProxy, client: &str, lines: &str) -> u16 {
    let mut connection = Connection::open(envoy.address);
    let port = envoy.address.port();
    let line = format!("PROXY TCP4 {client} 127.0.0.1 5555 {port}\r\n");
    connection.send_raw(format!("{line}{}", get("/page", lines)).as_bytes());
    connection.receive(false).status
}

/// Sends requests with forged tokens of these clients, several at a time, until one is refused
/// without a check of its signature. Returns whether one was.
fn is_limited(envoy: &ModuleProxy, issuer: &Issuer, client: fn(usize) -> String) -> bool {
    let (next, is_limited) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !is_limited.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= MAX_REQUESTS {
                        return;
                    }
                    let lines = bearer(&issuer.forged(number));
                    if status_for(envoy, &client(number), &lines) == 429 {
                        is_limited.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    is_limited.into_inner()
}

/// More bad signatures than one client has.
const MAX_REQUESTS: usize = 6000;

#[test]
fn client_of_a_proxy_line_is_that_of_the_request() {
    let configuration = format!("{}[listen]\ntrusted_proxies=127.0.0.1\n", fixture::SIGNING);
    let envoy = start(&configuration);
    let own = "X-Forwarded-For: 198.51.100.1\r\nX-Real-IP: 198.51.100.1\r\n";
    let lines = format!("{own}{}", bearer(&fixture::good_token()));
    assert_eq!(status_for(&envoy, "203.0.113.7", &lines), 200);
    let seen = envoy.application.take().pop().unwrap();
    for name in ["x-real-ip", "x-forwarded-for"] {
        assert_eq!(seen.lines(name), ["203.0.113.7"], "{seen:?}");
    }
}

#[test]
fn client_of_a_proxy_line_is_charged_for_signatures() {
    let (sandbox, issuer) = (Sandbox::new(), Issuer::new("ES512"));
    let listen = "trusted_proxies=127.0.0.1";
    let envoy = start(&issuer.configuration(&sandbox, ["off", "off", "1"], listen));
    assert!(!is_limited(&envoy, &issuer, |number| format!("203.0.113.{}", number % 250)));
    assert!(is_limited(&envoy, &issuer, |_| "198.51.100.7".into()));
}
