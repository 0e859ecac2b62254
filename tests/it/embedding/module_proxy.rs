use std::{net::SocketAddr, path::Path, process::Command};

use countersign_tests::{
    binary::Sandbox,
    http::{Connection, Request, Response},
    proxies::{Application, DaemonProcess, free_address},
};

/// A proxy with the tier's configuration in `auth.cfg` of its directory.
pub(super) struct ModuleProxy {
    pub(super) sandbox: Sandbox,
    pub(super) address: SocketAddr,
    /// Its address for HTTP/2 without TLS, which may be the same.
    pub(super) http2: SocketAddr,
    pub(super) application: Application,
    pub(super) running: DaemonProcess,
}

/// The addresses that a proxy is configured with.
#[derive(Clone, Copy)]
pub(super) struct ModuleAddresses {
    pub(super) proxy: SocketAddr,
    pub(super) http2: SocketAddr,
    pub(super) application: SocketAddr,
}

impl ModuleProxy {
    /// Starts a proxy by the command for its directory and these addresses.
    pub(super) fn start(
        configuration: &str,
        command: impl FnOnce(&Path, ModuleAddresses) -> Command,
    ) -> Self {
        let (sandbox, application) = (Sandbox::new(), Application::start());
        sandbox.file("auth.cfg", configuration);
        let [proxy, http2] = [free_address(), free_address()];
        let addresses = ModuleAddresses { proxy, http2, application: application.address };
        let command = command(sandbox.path(), addresses);
        let running = DaemonProcess::start(command, sandbox.path(), proxy);
        Self { sandbox, address: proxy, http2, application, running }
    }

    /// Sends a GET request with these header lines. Returns the response, and what the application
    /// received.
    pub(super) fn get(&self, target: &str, lines: &str) -> (Response, Option<Request>) {
        self.send(&get(target, lines))
    }

    /// Sends a request. Returns the response, and what the application received.
    pub(super) fn send(&self, request: &str) -> (Response, Option<Request>) {
        let mut connection = Connection::open(self.address);
        connection.send_raw(request.as_bytes());
        let response = connection.receive(false);
        (response, self.application.take().pop())
    }

    pub(super) fn status(&self, target: &str, lines: &str) -> u16 {
        self.get(target, lines).0.status
    }
}

/// Returns a GET request with these header lines.
pub(super) fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n{lines}\r\n")
}

/// Returns a POST request with these header lines and this body.
pub(super) fn post(target: &str, lines: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\
         Content-Length: {}\r\n{lines}\r\n{body}",
        body.len()
    )
}

pub(super) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}
