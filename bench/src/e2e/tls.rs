//! The client's side of TLS: 1.3 with X25519 and one cipher suite, so that all servers
//! do the same work. What is spoken is negotiated, where it is not HTTP/1.1.

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

use super::{Result, protocol::Way};

/// How connections are to come about.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// With the server's certificate and signature, every time.
    Full,
    /// With the ticket of the last connection of the same number, but for the first.
    Resumed,
}

/// What connections need.
pub struct Tls {
    kind: Handshake,
    way: Way,
    connections: Vec<ConnectionTls>,
    server: ServerName<'static>,
}

/// Tickets are of one connection and the next: clients do not share them either, and
/// each is good once.
struct ConnectionTls {
    config: Arc<ClientConfig>,
    /// Whether it has connected before.
    knows: Cell<bool>,
}

impl Tls {
    /// For so many connections at a time, trusting this certificate, which is for `localhost`.
    ///
    /// # Errors
    /// The certificate cannot be read, or quinn could not tell what kind a handshake was.
    pub fn new(kind: Handshake, way: Way, certificate: &Path, connections: usize) -> Result<Self> {
        if (kind, way) == (Handshake::Resumed, Way::H3) {
            return Err(
                "HTTP/3 has full handshakes only: quinn does not tell them from others".into()
            );
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate)?)?;
        let roots = Arc::new(roots);
        let connection = |_| {
            Ok(ConnectionTls {
                config: Arc::new(config(kind, way, Arc::clone(&roots))?),
                knows: Cell::new(false),
            })
        };
        let connections = (0..connections).map(connection).collect::<Result<_>>()?;
        Ok(Self { kind, way, connections, server: ServerName::try_from("localhost")? })
    }

    /// What the connection of this number goes by.
    pub(super) fn config(&self, number: usize) -> Arc<ClientConfig> {
        Arc::clone(&self.connection(number).config)
    }

    fn connection(&self, number: usize) -> &ConnectionTls {
        &self.connections[number % self.connections.len()]
    }

    /// Shakes hands, and fails unless it came about as it should.
    ///
    /// # Errors
    /// The handshake failed, or was of the other kind, or something else is spoken.
    pub async fn connect(
        &self,
        stream: TcpStream,
        number: usize,
    ) -> io::Result<TlsStream<TcpStream>> {
        let stream =
            TlsConnector::from(self.config(number)).connect(self.server.clone(), stream).await?;
        let spoken = stream.get_ref().1.alpn_protocol();
        if spoken != self.way.alpn() {
            return Err(io::Error::other(format!("{spoken:?} is spoken and not {}", self.way)));
        }
        let resumes =
            self.kind == Handshake::Resumed && self.connection(number).knows.replace(true);
        let expected = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
        match stream.get_ref().1.handshake_kind() {
            Some(kind) if kind == expected => Ok(stream),
            kind => Err(io::Error::other(format!(
                "a handshake that was {kind:?} and should have been {expected:?}"
            ))),
        }
    }
}

fn config(kind: Handshake, way: Way, roots: Arc<RootCertStore>) -> Result<ClientConfig> {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let versions = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = way.alpn().into_iter().map(<[u8]>::to_vec).collect();
    config.resumption = match kind {
        Handshake::Full => Resumption::disabled(),
        Handshake::Resumed => Resumption::in_memory_sessions(1),
    };
    Ok(config)
}
