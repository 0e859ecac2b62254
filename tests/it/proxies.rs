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
}

/// Where everything is.
struct Addresses {
    proxy: SocketAddr,
    countersign: SocketAddr,
    application: SocketAddr,
}

impl Addresses {
    /// A shipped configuration, with its addresses replaced.
    fn put_into(&self, name: &str) -> String {
        let replaced =
            [("127.0.0.1:8888", self.countersign), ("127.0.0.1:8080", self.application), ("127.0.0.1:8000", self.proxy)];
        replaced.into_iter().fold(shipped(name), |text, (shipped, address)| {
            assert!(text.contains(shipped), "{name} does not mention {shipped}");
            text.replace(shipped, &address.to_string())
        })
    }
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
}
