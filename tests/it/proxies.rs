//! Real reverse proxies in front of Countersign, with the configurations of `deploy/proxies`.
//!
//! All of them must pass the same list of checks, in [`contract`]. The differences between them are
//! fields of [`Proxy`].

/// The checks of every proxy.
mod contract;
/// A proxy between a client, Countersign and an application.
mod world;
/// The alternative of a Unix socket.
mod unix_socket;
/// The form for the orchestrate surface.
mod tenants;
/// The example with an API for several tenants.
mod example;
/// The example with logins by TLS certificates.
mod mtls;
mod nginx;
mod haproxy;
mod haproxy_spoe;
mod caddy;
mod traefik;
mod envoy;
mod envoy_grpc;

use std::{net::SocketAddr, path::Path, process::Command};

use countersign_tests::proxies::{Application, free_address, shipped_config};

/// A proxy and its differences from others.
struct Proxy {
    /// Returns the command that runs the proxy with these addresses in its own directory.
    command: fn(&Path, &Addresses) -> Command,
    /// How the proxy describes the original request to Countersign.
    dialect: Dialect,
    /// The header in which it sends the client's address.
    address_header: &'static str,
    /// Whether it reuses connections to Countersign.
    keeps_connections: bool,
    /// The status of its answers while Countersign is unreachable.
    status_when_down: u16,
    /// Whether it stops waiting for an answer within seconds.
    times_out: bool,
    /// Whether it forwards the trailers of a chunked body.
    passes_trailers: bool,
}

/// The addresses that a [`Proxy`] is configured with.
struct Addresses {
    proxy: SocketAddr,
    countersign: SocketAddr,
    application: SocketAddr,
}

impl Addresses {
    /// Returns a free address for the proxy, and these.
    fn new(countersign: SocketAddr, application: &Application) -> Self {
        Self { proxy: free_address(), countersign, application: application.address }
    }

    /// The proxy's address in a shipped configuration, and its replacement.
    fn own(&self) -> (&'static str, String) {
        ("127.0.0.1:8000", self.proxy.to_string())
    }

    /// The addresses of Countersign and the application, and their replacements.
    fn others(&self) -> [(&'static str, String); 2] {
        [
            ("127.0.0.1:8888", self.countersign.to_string()),
            ("127.0.0.1:8080", self.application.to_string()),
        ]
    }

    /// All three addresses, and their replacements.
    fn all(&self) -> [(&'static str, String); 3] {
        let [countersign, application] = self.others();
        [countersign, application, self.own()]
    }
}

/// Returns a shipped configuration with some of its words replaced.
fn configuration(name: &str, replaced: &[(&str, String)]) -> String {
    replaced.iter().fold(shipped_config(name), |text, (word, replacement)| {
        assert!(text.contains(word), "{name} does not mention {word}");
        text.replace(word, replacement)
    })
}

/// Reads a configuration with some of its words replaced: as shipped, or for a surface.
type ConfigurationForm = fn(&str, &[(&str, String)]) -> String;

/// Returns a shipped configuration in its form for the `orchestrate` surface.
fn tenant_configuration(name: &str, replaced: &[(&str, String)]) -> String {
    let comment = if name.ends_with(".lua") { "--" } else { "#" };
    let mark = format!("{comment} orchestrate: ");
    let uncommented = [(&*mark, String::new())];
    configuration(name, &[&uncommented[..], replaced].concat())
}

/// A value of `dialect` in `[listen]`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// `X-Original-Method` and `X-Original-URI`.
    Nginx,
    /// `X-Forwarded-Method`, `-Uri`, `-Host` and `-Proto`.
    XForwarded,
    /// The method of the auth request, and its path after `/auth`.
    EnvoyPath,
    /// Fields of a gRPC Check request.
    Grpc,
    /// Arguments of a message over SPOP.
    Spop,
}
