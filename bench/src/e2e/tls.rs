//! The client's side of TLS: 1.3 with X25519 and one cipher suite, so that all servers
//! do the same work.

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

use super::Result;

/// How connections are to come about.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// With the server's certificate and signature, every time.
    Full,
    /// With the ticket of the same lane's last connection, but for its first.
    Resumed,
}

/// What connections need.
pub struct Tls {
    kind: Handshake,
    lanes: Vec<LaneTls>,
    server: ServerName<'static>,
}

/// A lane uses its own tickets: clients do not share them either, and each is good once.
struct LaneTls {
    config: Arc<ClientConfig>,
    /// Whether it has connected before.
    knows: Cell<bool>,
}

impl Tls {
    /// For so many lanes, trusting this certificate, which is for `localhost`.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn new(kind: Handshake, certificate: &Path, lanes: usize) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate)?)?;
        let roots = Arc::new(roots);
        let lane = |_| Ok(LaneTls { config: Arc::new(config(kind, Arc::clone(&roots))?), knows: Cell::new(false) });
        let lanes = (0..lanes).map(lane).collect::<Result<_>>()?;
        Ok(Self { kind, lanes, server: ServerName::try_from("localhost")? })
    }

    /// Shakes hands, and fails unless it came about as it should.
    ///
    /// # Errors
    /// The handshake failed, or was of the other kind.
    pub async fn connect(&self, stream: TcpStream, number: usize) -> io::Result<TlsStream<TcpStream>> {
        let lane = &self.lanes[number % self.lanes.len()];
        let stream = TlsConnector::from(Arc::clone(&lane.config)).connect(self.server.clone(), stream).await?;
        let resumes = self.kind == Handshake::Resumed && lane.knows.replace(true);
        let expected = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
        match stream.get_ref().1.handshake_kind() {
            Some(kind) if kind == expected => Ok(stream),
            kind => Err(io::Error::other(format!("a handshake that was {kind:?} and should have been {expected:?}"))),
        }
    }
}

fn config(kind: Handshake, roots: Arc<RootCertStore>) -> Result<ClientConfig> {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let versions = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.resumption = match kind {
        Handshake::Full => Resumption::disabled(),
        Handshake::Resumed => Resumption::in_memory_sessions(1),
    };
    Ok(config)
}
