//! A TLS client that says what was agreed on, and why it was turned away.

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
    certificates::{Authority, Issued},
    http::{Connection, Response},
};

/// What a client wants.
pub struct Wishes<'w> {
    /// The versions it speaks.
    pub versions: &'w [&'static SupportedProtocolVersion],
    /// The groups it offers, the preferred one first.
    pub groups: &'w [&'static dyn SupportedKxGroup],
    /// The certificate it shows.
    pub certificate: Option<&'w Issued>,
    /// The protocols it offers (ALPN).
    pub protocols: &'w [&'w str],
}

impl Default for Wishes<'_> {
    /// As browsers are today.
    fn default() -> Self {
        Self { versions: &VERSIONS, groups: &GROUPS, certificate: None, protocols: &[] }
    }
}

/// Every version we speak, the newest first.
pub static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
/// Every group we know, the preferred one first.
pub static GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

/// A client, with the tickets it has collected.
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// One that trusts an authority, and would send early data if it were let.
    pub fn new(authority: &Authority, wishes: &Wishes<'_>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = CryptoProvider { kx_groups: wishes.groups.to_vec(), ..default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(wishes.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match wishes.certificate {
            Some(issued) => {
                builder.with_client_auth_cert(issued.chain.clone(), issued.private_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols =
            wishes.protocols.iter().map(|name| name.as_bytes().into()).collect();
        config.enable_early_data = true;
        Self(Arc::new(config))
    }

    /// How it sets out.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// A connection on which nothing was said yet.
    pub fn connection(&self) -> ClientConnection {
        ClientConnection::new(Arc::clone(&self.0), ServerName::try_from("localhost").unwrap())
            .unwrap()
    }

    /// Connects, asks and waits for the answer; or says why there is none. The
    /// connection stays open.
    pub fn ask(&self, address: SocketAddr, head: &str) -> io::Result<(Response, Asked)> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut tls = self.connection();
        let offered_early_data = tls.early_data().is_some();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        let mut connection = Connection::over(StreamOwned::new(tls, stream));
        connection.send(head, b"");
        // With TLS 1.3 a client's certificate is judged when the client is done.
        connection.wait()?;
        let response = connection.receive(false);
        Ok((response, Asked { connection, offered_early_data }))
    }
}

/// A connection that was answered on.
pub struct Asked {
    connection: Connection<StreamOwned<ClientConnection, TcpStream>>,
    /// Whether the ticket it came with allowed early data.
    pub offered_early_data: bool,
}

impl Asked {
    /// Asks again.
    pub fn again(&mut self, head: &str) -> Response {
        self.connection.send(head, b"");
        self.connection.receive(false)
    }

    /// What was agreed on.
    pub fn tls(&self) -> &ClientConnection {
        &self.connection.stream().conn
    }
}
