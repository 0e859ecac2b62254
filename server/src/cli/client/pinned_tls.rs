//! TLS to a server whose certificate may be in a file.
//!
//! The certificate of a server in its own configuration is the only one that is accepted
//! ([`PinnedTlsConnector::own`]), under any address: it is the server's own, so neither its names
//! nor its authority add anything. It may be self-signed, or be for a public name while the
//! connection goes to a loopback address.
//!
//! A certificate in `ssl_ca_cert_file` is accepted as an authority, and as that of the server
//! ([`PinnedTlsConnector::trusting`]), also if it is its own authority (CA:TRUE, as
//! `openssl req -x509` makes it), which no verification of a chain accepts. The name and the dates
//! must hold.
//!
//! The handshake proves that the server has the key of its certificate.

use std::{
    fmt,
    io::{Read as _, Write as _},
    path::Path,
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    SignatureScheme, StreamOwned,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, time::ASN1Time};

use crate::base::roots;

/// Wraps connections in TLS, and accepts the certificates of a file.
#[derive(Debug)]
pub(super) struct PinnedTlsConnector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl PinnedTlsConnector {
    /// Creates a connector that accepts the first certificate in a file, and no other.
    ///
    /// # Errors
    /// The file cannot be read, or the host cannot be the name of a server.
    pub(super) fn own(
        file: &Path,
        host: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut certificates = roots::read_certificates(file)?;
        certificates.truncate(1);
        Self::new(PinnedCertificates { certificates, authorities: None, provider }, host)
    }

    /// Creates a connector that accepts the certificates in a file, and those that they or the
    /// authorities of the system signed.
    ///
    /// # Errors
    /// The file cannot be read, or the host cannot be the name of a server.
    pub(super) fn trusting(
        file: &Path,
        host: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let certificates = roots::read_certificates(file)?;
        let store = Arc::new(roots::root_store(&certificates));
        let authorities =
            WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider)).build();
        let authorities = Some(authorities.map_err(|error| error.to_string())?);
        Self::new(PinnedCertificates { certificates, authorities, provider }, host)
    }

    fn new(verifier: PinnedCertificates, host: &str) -> Result<Self, String> {
        let config = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} is not the name of a server"))?;
        Ok(Self { config: Arc::new(config), name })
    }
}

impl<In: Transport> Connector<In> for PinnedTlsConnector {
    type Out = PinnedTlsTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        let clock = Arc::clone(&details.current_time);
        let mut socket = TransportAdapter::new(transport.boxed(), clock);
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let (input, output) =
            (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(PinnedTlsTransport {
            buffers: LazyBuffers::new(input, output),
            stream: StreamOwned::new(connection, socket),
        }))
    }
}

/// Connection of a [`PinnedTlsConnector`].
pub(super) struct PinnedTlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for PinnedTlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for PinnedTlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinnedTlsTransport(..)")
    }
}

/// Accepts listed certificates while they are valid, with a signature by their key.
#[derive(Debug)]
struct PinnedCertificates {
    certificates: Vec<CertificateDer<'static>>,
    /// Decides about other certificates. Listed ones must have the name of the server then.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificates {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match (self.certificates.contains(presented), &self.authorities) {
            (true, None) => check_dates(presented, now)?,
            (true, Some(_)) => {
                verify_server_name(&ParsedCertificate::try_from(presented)?, name)?;
                check_dates(presented, now)?;
            }
            (false, Some(authorities)) => {
                let verify = <WebPkiServerVerifier as ServerCertVerifier>::verify_server_cert;
                return verify(authorities, presented, intermediates, name, ocsp_response, now);
            }
            (false, None) => return Err(CertificateError::ApplicationVerificationFailure.into()),
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks that a certificate is valid now.
fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let time = i64::try_from(now.as_secs()).ok().map(ASN1Time::from_timestamp);
    let Some(Ok(time)) = time else { return Err(Error::FailedToGetCurrentTime) };
    let validity = certificate.validity();
    if time < validity.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if time > validity.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}
