//! The certificate that the client of a request presents.
//!
//! - On a listener that requests certificates in the TLS handshake, it is that of the connection,
//!   and the header is ignored.
//! - On others, it is in a header, which counts only from trusted proxies. From any other peer, the
//!   header is an attempt to use a certificate without its key, and refused.
//! - The certificate of a connection from a trusted proxy is never that of its clients. Such a
//!   proxy may use the header if the handshake has verified the proxy's own certificate.

use countersign_front::{DuplicateHeader, Fields, Peer, only_line};
use http::{HeaderName, StatusCode};

use super::{PresentedChain, settings::TlsCertAuthSettings};
use crate::{
    client::{ClientSettings, certificate::ChainError},
    tls::settings::ClientCertificates,
};

/// The connection of a request, with the settings of its listener.
#[derive(Clone, Copy)]
pub struct CertificateSource<'r> {
    /// The peer of the connection.
    pub peer: Peer<'r>,
    /// The trusted proxies of the listener.
    pub client: &'r ClientSettings,
    /// The certificates that the listener requests.
    pub requested: &'r ClientCertificates,
    /// The header of trusted proxies.
    pub settings: &'r TlsCertAuthSettings,
}

/// The reason why a request presents no certificate that could be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresentationError {
    /// The request has no certificate.
    Missing,
    /// The header is not that of a trusted proxy.
    UntrustedPeer,
    /// The certificate of the connection is that of a trusted proxy.
    ProxyConnection,
    /// The header occurs more than once.
    Duplicate,
    /// The header does not contain a chain of certificates.
    Malformed(ChainError),
}

impl CertificateSource<'_> {
    /// Returns the certificates that the client presents, and whose key it has proven to possess.
    ///
    /// # Errors
    /// The request has no certificate, or the header is not acceptable.
    pub fn presented_certificate(
        &self,
        fields: &dyn Fields,
    ) -> Result<PresentedChain, PresentationError> {
        let is_proxy = self.client.proxies.trusts(self.peer.address);
        match self.requested {
            ClientCertificates::Off => {}
            ClientCertificates::Possession if is_proxy => {
                return Err(PresentationError::ProxyConnection);
            }
            // The proxy has authenticated itself, and passes on the certificate of its client.
            ClientCertificates::Optional(_) | ClientCertificates::Required(_)
                if is_proxy && !self.peer.certificates.is_empty() => {}
            _ => {
                return PresentedChain::of_handshake(self.peer.certificates)
                    .ok_or(PresentationError::Missing);
            }
        }
        if is_proxy { self.read_header(fields) } else { Err(self.without_header(fields)) }
    }

    fn read_header(&self, fields: &dyn Fields) -> Result<PresentedChain, PresentationError> {
        let TlsCertAuthSettings { header, chain_header, format, .. } = self.settings;
        let value = only_line(fields, header);
        let value = value.map_err(|DuplicateHeader| PresentationError::Duplicate)?;
        let value = value.filter(|value| !value.trim_ascii().is_empty());
        let value = value.ok_or(PresentationError::Missing)?;
        let rest = chain_header.as_ref().map(|name| joined_lines(fields, name));
        let parsed = PresentedChain::parse(*format, value, rest.as_deref());
        parsed.map_err(PresentationError::Malformed)
    }

    /// Returns the error for a client that is not a trusted proxy.
    fn without_header(&self, fields: &dyn Fields) -> PresentationError {
        if fields.any_name(&|name| self.settings.reads_header(name)) {
            PresentationError::UntrustedPeer
        } else {
            PresentationError::Missing
        }
    }
}

/// Returns the lines of a list as one (RFC 9110 section 5.3). Certificates of authorities are
/// checked, so that it does not matter which party has added a line.
fn joined_lines(fields: &dyn Fields, name: &HeaderName) -> Vec<u8> {
    let mut lines = Vec::new();
    fields.each_line(name, &mut |line| lines.push(line));
    lines.retain(|line| !line.trim_ascii().is_empty());
    lines.join(&b", "[..])
}

impl PresentationError {
    /// Whether the request has no certificate. Infisical answers it before it looks for the
    /// identity.
    #[must_use]
    pub const fn is_missing(self) -> bool {
        matches!(self, Self::Missing)
    }

    /// Returns the status of the response.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }

    /// Returns the code for the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "certificate_missing",
            Self::UntrustedPeer => "certificate_header_untrusted",
            Self::ProxyConnection => "certificate_of_proxy",
            Self::Duplicate => "certificate_header_duplicate",
            Self::Malformed(_) => "certificate_header_malformed",
        }
    }

    /// Returns the text of the response: Infisical's, to the letter, where it has one.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Missing => "Missing TLS certificate in header",
            Self::UntrustedPeer => {
                "The TLS certificate header is accepted only from trusted proxies"
            }
            Self::ProxyConnection => {
                "The TLS certificate of this connection is that of a trusted proxy, and not of its \
                 client"
            }
            Self::Duplicate => "The TLS certificate header occurs more than once",
            Self::Malformed(ChainError::Empty) => "Certificate chain is empty or undefined",
            Self::Malformed(ChainError::BadEscape) => {
                "The TLS certificate in the header is not valid URL-encoded data"
            }
            Self::Malformed(ChainError::UnfinishedBlock) => {
                "Malformed certificate chain: Found BEGIN marker without matching END marker"
            }
            Self::Malformed(ChainError::NoCertificate) => {
                "No valid certificates found in the chain"
            }
            Self::Malformed(ChainError::BadSyntax) => {
                "The TLS certificate header does not have the configured format"
            }
            Self::Malformed(ChainError::TooLong) => {
                "The TLS certificate chain in the header is too long"
            }
        }
    }
}

#[cfg(test)]
mod tests;
