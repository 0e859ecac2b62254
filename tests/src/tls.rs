//! A TLS client that exposes the negotiated parameters and the reason of a failed handshake.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{default_provider, kx_group},
    },
    pki_types::ServerName,
    version::{TLS12, TLS13},
};

use crate::{
    certificates::{Authority, IssuedCertificate},
    http::{Connection, Response},
};

/// Options of a [`TlsClient`].
pub struct TlsClientOptions<'w> {
    /// Offered TLS versions.
    pub versions: &'w [&'static SupportedProtocolVersion],
    /// Offered key exchange groups, the preferred one first.
    pub groups: &'w [&'static dyn SupportedKxGroup],
    /// TlsClient certificate.
    pub certificate: Option<&'w IssuedCertificate>,
    /// Offered protocols (ALPN).
    pub protocols: &'w [&'w str],
}

impl Default for TlsClientOptions<'_> {
    /// Options of a current browser.
    fn default() -> Self {
        Self { versions: &VERSIONS, groups: &GROUPS, certificate: None, protocols: &[] }
    }
}

/// All supported TLS versions, the newest first.
pub static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
/// All supported groups, the preferred one first.
pub static GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

/// TLS client with a cache of session tickets.
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// Creates a client that trusts an [`Authority`] and sends early data if the server
    /// allows it.
    pub fn new(authority: &Authority, options: &TlsClientOptions<'_>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = CryptoProvider { kx_groups: options.groups.to_vec(), ..default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(options.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match options.certificate {
            Some(issued) => {
                builder.with_client_auth_cert(issued.chain.clone(), issued.private_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols =
            options.protocols.iter().map(|name| name.as_bytes().into()).collect();
        config.enable_early_data = true;
        Self(Arc::new(config))
    }

    /// Creates a client with this configuration.
    pub fn from_config(config: ClientConfig) -> Self {
        Self(Arc::new(config))
    }

    /// Returns its configuration.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// Creates a connection before its handshake.
    pub fn connection(&self) -> ClientConnection {
        ClientConnection::new(Arc::clone(&self.0), ServerName::try_from("localhost").unwrap())
            .unwrap()
    }

    /// Connects, sends a request and reads its response. The connection stays open.
    ///
    /// # Errors
    /// The connection, the handshake or the request failed.
    pub fn request(&self, address: SocketAddr, head: &str) -> io::Result<(Response, TlsExchange)> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut tls = self.connection();
        let offered_early_data = tls.early_data().is_some();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        let mut connection = Connection::over(StreamOwned::new(tls, stream));
        connection.send(head, b"");
        // In TLS 1.3 the server verifies the client certificate after the client's
        // handshake is complete, so a rejection shows only here.
        connection.wait()?;
        let response = connection.receive(false);
        Ok((response, TlsExchange { connection, offered_early_data }))
    }
}

/// Open connection of a [`TlsClient`] after its first response.
pub struct TlsExchange {
    connection: Connection<StreamOwned<ClientConnection, TcpStream>>,
    /// Whether the session ticket allowed early data.
    pub offered_early_data: bool,
}

impl TlsExchange {
    /// Sends another request and reads its response.
    pub fn request_again(&mut self, head: &str) -> Response {
        self.connection.send(head, b"");
        self.connection.receive(false)
    }

    /// Returns the TLS session with the negotiated parameters.
    pub fn tls(&self) -> &ClientConnection {
        &self.connection.stream().conn
    }
}
