//! Reverse proxies that ask Countersign about every request: real ones, with the
//! configurations of `deploy/proxies`.
//!
//! All of them are held to one list of checks, in `contract`. What one of them does
//! differently is a field of [`Proxy`].

/// What is checked, of every proxy.
mod contract;
/// A proxy between clients, Countersign and an application.
mod world;
mod nginx;
mod haproxy;
mod caddy;
mod traefik;
mod envoy;
mod envoy_grpc;

use std::{net::SocketAddr, path::Path, process::Command};

use countersign_tests::proxies::shipped;

/// A proxy and its configuration.
struct Proxy {
    /// The command that runs it with these addresses, from a directory of its own.
    command: fn(&Path, &Addresses) -> Command,
    /// How it tells Countersign what the request is.
    dialect: Dialect,
    /// The header in which it tells whose request it is.
    address_header: &'static str,
    /// Whether it asks many questions on one connection.
    keeps_connections: bool,
    /// What it answers while Countersign cannot be asked.
    when_down: u16,
    /// Whether it stops waiting for an answer within seconds.
    gives_up: bool,
    /// Whether it hands on what stands behind a chunked body.
    passes_trailers: bool,
}

/// Where everything is.
struct Addresses {
    proxy: SocketAddr,
    countersign: SocketAddr,
    application: SocketAddr,
}

impl Addresses {
    /// The address that a shipped configuration has for the proxy, and what replaces it.
    fn own(&self) -> (&'static str, String) {
        ("127.0.0.1:8000", self.proxy.to_string())
    }

    /// The same of Countersign and the application.
    fn others(&self) -> [(&'static str, String); 2] {
        [
            ("127.0.0.1:8888", self.countersign.to_string()),
            ("127.0.0.1:8080", self.application.to_string()),
        ]
    }

    /// The same of all three.
    fn all(&self) -> [(&'static str, String); 3] {
        let [countersign, application] = self.others();
        [countersign, application, self.own()]
    }
}

/// A shipped configuration, with some of its words replaced.
fn configuration(name: &str, replaced: &[(&str, String)]) -> String {
    replaced.iter().fold(shipped(name), |text, (word, replacement)| {
        assert!(text.contains(word), "{name} does not mention {word}");
        text.replace(word, replacement)
    })
}

/// `dialect` in `[listen]`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// `X-Original-Method` and `X-Original-URI`.
    Nginx,
    /// `X-Forwarded-Method`, `-Uri`, `-Host` and `-Proto`.
    XForwarded,
    /// The method and path of the question itself, after `/auth`.
    EnvoyPath,
    /// Fields of a question over gRPC.
    Grpc,
}
