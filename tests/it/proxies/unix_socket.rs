//! The form of each configuration in which the proxy reaches Countersign over a Unix socket.

use std::{path::Path, process::Command};

use countersign_tests::{
    binary::Sandbox,
    eventually,
    http::Connection,
    proxies::{Application, DaemonProcess, free_address},
};
use serde_json::Value;

use super::{Addresses, Dialect, world::bearer};
use crate::fixture;

/// The socket's path in the shipped configurations.
pub(super) const SHIPPED_PATH: &str = "/run/countersign/auth.sock";

/// Checks a proxy that runs with `command`, which takes the socket's path last.
pub(super) fn check(
    dialect: Dialect,
    address_header: &str,
    command: impl Fn(&Path, &Addresses, &str) -> Command,
) {
    let (sandbox, directory) = (Sandbox::new(), Sandbox::new());
    let socket = sandbox.path().join("auth.sock").display().to_string();
    let server = sandbox.serve(&format!(
        "{}[log]\nformat=json\nrequests=all\n[listener_proxy]\nbind=unix:{socket}\n\
         trusted_proxies=unix\nclient_address_header={address_header}\n{}\n",
        fixture::SIGNING,
        dialect.option()
    ));
    let application = Application::start();
    let addresses = Addresses::new(free_address(), &application);
    let command = command(directory.path(), &addresses, &socket);
    let _running = DaemonProcess::start(command, directory.path(), addresses.proxy);
    let answered = |lines: &str| {
        let mut connection = Connection::open(addresses.proxy);
        connection.send(&format!("GET /page HTTP/1.1\r\n{lines}"), b"");
        connection.receive(false)
    };
    assert_eq!(answered("").status, 401);
    assert!(application.take().is_empty());
    let answer = answered(&bearer(&fixture::good_token()));
    assert_eq!(answer.status, 200, "{answer:?}");
    let given = application.take();
    assert_eq!(given[0].lines("x-auth-subject"), ["bob"], "{given:?}");
    // The client's address is that of the header, which only a trusted peer may set.
    let logged = || {
        let log = server.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["status"] == 200 && line["listener"] == "proxy")
    };
    eventually(|| logged().is_some());
    assert_eq!(logged().unwrap()["client"], "127.0.0.1");
}
