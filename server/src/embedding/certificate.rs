//! The certificate of a connection to a proxy.

use countersign_engine::CertificateThumbprint;

use crate::client::ClientCertificate;

/// The certificate of a client's connection. The client has proven possession of its key.
#[derive(Clone, Copy, Debug, Default)]
pub enum ConnectionCertificate<'r> {
    /// The client has no certificate.
    #[default]
    Absent,
    /// PEM, percent-encoded PEM, or base64.
    Encoded(&'r [u8]),
    /// Its digest.
    Thumbprint(CertificateThumbprint),
}

impl<'r> ConnectionCertificate<'r> {
    /// Returns the certificate that this text encodes, which may be empty.
    #[must_use]
    pub fn encoded(text: &'r [u8]) -> Self {
        if text.is_empty() { Self::Absent } else { Self::Encoded(text) }
    }

    pub(super) fn known(self) -> Option<ClientCertificate<'r>> {
        match self {
            Self::Absent => None,
            Self::Encoded(text) => Some(ClientCertificate::Forwarded(text)),
            Self::Thumbprint(thumbprint) => Some(ClientCertificate::Known(Some(thumbprint))),
        }
    }

    /// Returns a copy that outlives the request.
    pub(super) fn kept(self) -> ConnectionCertificate<'static> {
        let thumbprint = self.known().and_then(|certificate| certificate.thumbprint());
        let kept = thumbprint.map(ConnectionCertificate::Thumbprint);
        kept.unwrap_or(ConnectionCertificate::Absent)
    }
}
