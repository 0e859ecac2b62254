//! What QUIC is told to allow: every window and count is bounded here, since quinn's own
//! defaults suit transfers between friends.

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
use crate::config::Timeouts;

/// The requests that a client may have waiting at a time on one connection.
pub(crate) const MAX_CONCURRENT_STREAMS: u32 = 128;
/// HTTP/3 has three of them; others may be opened that nobody listens to.
const MAX_UNIDIRECTIONAL_STREAMS: u32 = 16;
/// What a client may send of one body, and of all together, before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Answers that are kept until the client has acknowledged them.
const SEND_WINDOW: u64 = 1 << 20;

/// The keys that all threads have in common, and, from configuration, all nodes.
#[derive(Clone, Debug)]
pub struct QuicKeys {
    /// Makes the tokens by which a node resets connections that it knows nothing of
    /// (RFC 9000 section 10.3.2).
    reset: Arc<hmac::Key>,
    /// Seals what a client shows to prove its address (RFC 9000 section 8.1.3).
    tokens: Arc<hkdf::Prk>,
}

impl QuicKeys {
    /// QuicKeys that nobody else has.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> io::Result<Self> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| io::Error::other("there is no randomness"))?;
        Ok(Self::from_secret(&secret))
    }

    /// QuicKeys from a secret, the same for the same secret.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"countersign quic").extract(secret);
        let derived = |purpose: &[u8]| {
            let mut key = [0; 32];
            let info = [purpose];
            // No length is too long for HKDF that is that of its digest.
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

/// What an endpoint is made of.
pub(super) fn endpoint(keys: &QuicKeys, ids: ThreadConnectionIds) -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::new(Arc::clone(&keys.reset) as _);
    config.cid_generator(move || Box::new(ids));
    Arc::new(config)
}

/// What new connections are made of.
///
/// # Errors
/// The certificate's provider has no cipher suite for first datagrams.
pub(super) fn server(
    tls: Arc<rustls::ServerConfig>,
    keys: &QuicKeys,
    timeouts: &Timeouts,
) -> Result<Arc<ServerConfig>, NoInitialCipherSuite> {
    let crypto = QuicServerConfig::try_from(tls)?;
    let mut config = ServerConfig::new(Arc::new(crypto), Arc::clone(&keys.tokens) as _);
    config.transport_config(Arc::new(transport(timeouts)));
    // None waits to be accepted for longer than it takes to decide.
    config.max_incoming(1).incoming_buffer_size(1 << 16).incoming_buffer_size_total(1 << 20);
    Ok(Arc::new(config))
}

fn transport(timeouts: &Timeouts) -> TransportConfig {
    /// A client that says nothing has gone. One that does not ask, but says that it is
    /// there, has as much time as it has over TCP.
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
