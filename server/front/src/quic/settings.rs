//! QUIC transport parameters and keys. Every window and count is bounded here, as quinn's defaults
//! suit bulk transfers between trusted peers.

use std::{io, sync::Arc, time::Duration};

use aws_lc_rs::{
    hkdf::{self, KeyType as _},
    hmac, rand,
};
use quinn_proto::{
    EndpointConfig, IdleTimeout, ServerConfig, TransportConfig,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};

use super::steering::ThreadConnectionIds;
use crate::timeouts::Timeouts;

/// Maximum concurrent requests per connection.
pub(crate) const MAX_CONCURRENT_STREAMS: u32 = 128;
/// HTTP/3 uses three unidirectional streams per client. Others may be opened, and are stopped.
const MAX_UNIDIRECTIONAL_STREAMS: u32 = 16;
/// Receive windows of a stream and of the connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Maximum unacknowledged response data per connection.
const SEND_WINDOW: u64 = 1 << 20;

/// Keys shared by all workers, and, if configured, by all nodes.
#[derive(Clone, Debug)]
pub struct QuicKeys {
    /// Derives stateless reset tokens (RFC 9000 section 10.3.2), with which a node resets
    /// connections it has no state for.
    reset: Arc<hmac::Key>,
    /// Seals address validation tokens (RFC 9000 section 8.1.3).
    tokens: Arc<hkdf::Prk>,
}

impl QuicKeys {
    /// Generates random keys.
    ///
    /// # Errors
    /// The system's random generator fails.
    pub fn random() -> io::Result<Self> {
        let mut secret = [0; 32];
        rand::fill(&mut secret)
            .map_err(|_| io::Error::other("the system's random generator failed"))?;
        Ok(Self::from_secret(&secret))
    }

    /// Derives the keys from a secret, deterministically.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"countersign quic").extract(secret);
        let derived = |purpose: &[u8]| {
            let mut key = [0; 32];
            let info = [purpose];
            // HKDF accepts any output length up to 255 digests; these are of one digest.
            let expanded =
                secret.expand(&info, hkdf::HKDF_SHA256).and_then(|output| output.fill(&mut key));
            debug_assert!(expanded.is_ok() && hkdf::HKDF_SHA256.len() == key.len());
            key
        };
        Self {
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &derived(b"reset"))),
            tokens: Arc::new(hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &derived(b"tokens"))),
        }
    }
}

/// Returns the endpoint configuration.
pub(super) fn endpoint(keys: &QuicKeys, ids: ThreadConnectionIds) -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::new(Arc::clone(&keys.reset) as _);
    config.cid_generator(move || Box::new(ids));
    Arc::new(config)
}

/// Returns the configuration of new connections.
///
/// # Errors
/// The crypto provider has no cipher suite for Initial packets.
pub(super) fn server(
    tls: Arc<rustls::ServerConfig>,
    keys: &QuicKeys,
    timeouts: &Timeouts,
) -> Result<Arc<ServerConfig>, NoInitialCipherSuite> {
    let crypto = QuicServerConfig::try_from(tls)?;
    let mut config = ServerConfig::new(Arc::new(crypto), Arc::clone(&keys.tokens) as _);
    config.transport_config(Arc::new(transport(timeouts)));
    // Connections are accepted or refused right away, so incoming ones need little buffering.
    config.max_incoming(1).incoming_buffer_size(1 << 16).incoming_buffer_size_total(1 << 20);
    Ok(Arc::new(config))
}

fn transport(timeouts: &Timeouts) -> TransportConfig {
    /// Idle timeout of the transport. A client that sends nothing is gone. One that sends
    /// keep-alives without requests has the HTTP idle timeout, as over TCP.
    const MAX_SILENCE: Duration = Duration::from_secs(60);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(MAX_CONCURRENT_STREAMS.into())
        .max_concurrent_uni_streams(MAX_UNIDIRECTIONAL_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(timeouts.idle.min(MAX_SILENCE)).ok())
        .datagram_receive_buffer_size(None);
    config
}
