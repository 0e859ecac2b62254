//! Envoy whose listeners are in a file, and replaced while it runs.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use countersign_tests::{eventually, http::request};
use serde_json::{Value, json};

use super::{
    super::module_proxy::ModuleProxy,
    command,
    configuration::{EnvoyOptions, dynamic_bootstrap, listeners},
};

/// Seconds in which the connections of a replaced listener are closed.
pub(in crate::embedding) const DRAIN_SECONDS: u64 = 5;

/// Envoy whose listener can be replaced.
pub(in crate::embedding) struct DynamicEnvoy {
    pub(in crate::embedding) proxy: ModuleProxy,
    admin: SocketAddr,
    version: AtomicU32,
}

impl DynamicEnvoy {
    pub(in crate::embedding) fn start(configuration: &str) -> Self {
        let mut admin = None;
        let proxy = ModuleProxy::start(configuration, |directory, addresses| {
            admin = Some(addresses.http2);
            let listeners = listeners(addresses.proxy, &EnvoyOptions::default(), 0).to_string();
            let file = directory.join("listeners.json");
            std::fs::write(&file, listeners).unwrap();
            let bootstrap = dynamic_bootstrap(addresses, &file).to_string();
            let mut command = command(directory, &bootstrap);
            command.args(["--drain-time-s", &DRAIN_SECONDS.to_string()]);
            command
        });
        Self { proxy, admin: admin.unwrap(), version: AtomicU32::new(0) }
    }

    /// Replaces the listener. Returns the version that its responses have in `x-version`.
    pub(in crate::embedding) fn replace(&self, filter_config: Value) -> String {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let response_headers = json!({ "x-version": version.to_string() });
        let options = EnvoyOptions { filter_config, response_headers, ..EnvoyOptions::default() };
        let listeners = listeners(self.proxy.address, &options, version).to_string();
        self.proxy.sandbox.replace("listeners.json", listeners);
        version.to_string()
    }

    /// Replaces the listener, and waits until it is in use.
    pub(super) fn update(&self, filter_config: Value) {
        let version = self.replace(filter_config);
        eventually(|| {
            let (response, _) = self.proxy.get("/off", "");
            response.header("x-version") == Some(&version)
        });
    }

    pub(super) fn statistic(&self, name: &str) -> String {
        let head = format!("GET /stats?filter={name} HTTP/1.1\r\nConnection: close\r\n");
        request(self.admin, &head, b"").body
    }
}
