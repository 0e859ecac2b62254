//! An issuer with a key that its provider publishes late, so that requests wait for it.

use std::{net::SocketAddr, time::Duration};

use countersign_tests::{
    eventually,
    http::Connection,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
};

use super::module_proxy::{bearer, get};
use crate::fixture;

/// Requests that wait at the same time.
const WAITING: usize = 8;

pub(super) struct LateKey {
    provider: JwksServer,
    keys: [SigningKey; 2],
}

impl LateKey {
    /// Starts its provider with another key.
    pub(super) fn start() -> Self {
        let keys = ["old", "late"].map(|kid| SigningKey::generate("ES256", kid));
        let provider = JwksServer::start(&fixture::key_set(&[&keys[0]]));
        Self { provider, keys }
    }

    pub(super) fn configuration(&self) -> String {
        fixture::with_idp("ES256", &format!("jwks_uri={}", self.provider.uri()))
    }

    /// Returns the header lines with tokens of the other key, and of the late one.
    pub(super) fn tokens(&self) -> [String; 2] {
        let sign = |key: &SigningKey| bearer(&key.token(&fixture::claims_of("https://idp/")));
        self.keys.each_ref().map(sign)
    }

    /// Sends requests that wait for the late key. Returns their connections while they wait.
    pub(super) fn wait_at(&self, proxy: SocketAddr) -> Vec<Connection> {
        let slow = CannedResponse::json(&fixture::key_set(&self.keys.each_ref()));
        self.provider.respond_with(slow.delayed(Duration::from_millis(800)));
        let before = self.provider.requests();
        let [_, token] = self.tokens();
        let request = get("/", &token);
        let waiting = (0..WAITING).map(|_| {
            let mut connection = Connection::open(proxy);
            connection.send_raw(request.as_bytes());
            connection
        });
        let waiting = waiting.collect();
        eventually(|| self.provider.requests() > before);
        waiting
    }
}
