//! Timeouts of connections, and their maximum number.

use std::time::Duration;

/// Timeouts for the phases of a connection, and the maximum number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Maximum number of open connections, on all listeners together.
    pub connections: usize,
    /// From the first byte of a request to the end of its head; likewise a TLS handshake.
    pub head: Duration,
    /// From the end of a head to the end of the body.
    pub body: Duration,
    /// From a response to the next request.
    pub idle: Duration,
    /// From the signal to stop until open connections are closed.
    pub drain: Duration,
}

impl Default for Timeouts {
    /// # Defaults
    /// The idle timeout is longer than that of proxies (nginx keeps idle connections for a
    /// minute), so that the proxy closes first.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connections: 16_384,
            head: seconds(10),
            body: seconds(30),
            idle: seconds(120),
            drain: seconds(10),
        }
    }
}
