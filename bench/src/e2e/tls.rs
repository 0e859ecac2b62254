//! TLS client: TLS 1.3 with X25519 and one cipher suite, so that all servers do the same work. ALPN
//! negotiates every protocol but HTTP/1.1.

use std::{cell::Cell, io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Result, protocol::ProtocolKind};

/// Kind of handshake.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// Full: with the server's certificate and signature in every connection.
    Full,
    /// Resumed, with the ticket of the last connection of the same number. The first connection of
    /// a number is full.
    Resumed,
}

/// TLS settings of the connections.
pub struct Tls {
    kind: Handshake,
    protocol: ProtocolKind,
    connections: Vec<ConnectionTls>,
    server: ServerName<'static>,
}

/// TLS state of one connection number. Tickets are not shared between numbers: clients do not share
/// them either, and each ticket is good once.
struct ConnectionTls {
    config: Arc<ClientConfig>,
    /// Whether a connection of this number has been made before.
    has_connected: Cell<bool>,
}

impl Tls {
    /// Creates settings for this many concurrent connections that trust this certificate, which is
    /// for `localhost`.
    ///
    /// # Errors
    /// The certificate cannot be read, or resumption is requested for HTTP/3: quinn does not report
    /// the kind of a handshake.
    pub fn new(
        kind: Handshake,
        protocol: ProtocolKind,
        certificate: &Path,
        connections: usize,
    ) -> Result<Self> {
        if (kind, protocol) == (Handshake::Resumed, ProtocolKind::H3) {
            return Err("HTTP/3 has full handshakes only: quinn does not report resumption".into());
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate)?)?;
        let roots = Arc::new(roots);
        let connection = |_| {
            Ok(ConnectionTls {
                config: Arc::new(config(kind, protocol, Arc::clone(&roots))?),
                has_connected: Cell::new(false),
            })
        };
        let connections = (0..connections).map(connection).collect::<Result<_>>()?;
        Ok(Self { kind, protocol, connections, server: ServerName::try_from("localhost")? })
    }

    /// Returns the TLS configuration of the connection of this number.
    pub(super) fn config(&self, number: usize) -> Arc<ClientConfig> {
        Arc::clone(&self.connection(number).config)
    }

    fn connection(&self, number: usize) -> &ConnectionTls {
        &self.connections[number % self.connections.len()]
    }

    /// Performs the handshake, and fails unless it is of the expected [`Handshake`] kind.
    ///
    /// # Errors
    /// The handshake failed, was of the other kind, or negotiated another protocol.
    pub async fn connect(
        &self,
        stream: TcpStream,
        number: usize,
    ) -> io::Result<TlsStream<TcpStream>> {
        let stream =
            TlsConnector::from(self.config(number)).connect(self.server.clone(), stream).await?;
        let negotiated = stream.get_ref().1.alpn_protocol();
        if negotiated != self.protocol.alpn() {
            return Err(io::Error::other(format!(
                "{negotiated:?} negotiated instead of {}",
                self.protocol
            )));
        }
        let resumes =
            self.kind == Handshake::Resumed && self.connection(number).has_connected.replace(true);
        let expected = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
        match stream.get_ref().1.handshake_kind() {
            Some(kind) if kind == expected => Ok(stream),
            kind => Err(io::Error::other(format!(
                "wrong kind of handshake: {kind:?}, expected {expected:?}"
            ))),
        }
    }
}

fn config(
    kind: Handshake,
    protocol: ProtocolKind,
    roots: Arc<RootCertStore>,
) -> Result<ClientConfig> {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let versions = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocol.alpn().into_iter().map(<[u8]>::to_vec).collect();
    config.resumption = match kind {
        Handshake::Full => Resumption::disabled(),
        Handshake::Resumed => Resumption::in_memory_sessions(1),
    };
    Ok(config)
}
