//! Client certificates: that of the connection, and those that a trusted proxy passes on.

mod forwarded_element;
mod presented_chain;

use aws_lc_rs::digest;
use countersign_engine::CertificateThumbprint;
use countersign_front::{Fields, Peer, only_line};
use http::HeaderName;
use percent_encoding::percent_decode;
use rustls::pki_types::CertificateDer;

pub use self::presented_chain::{
    CertificateFormat, ChainError, MAX_CERTIFICATES, MAX_VALUE_BYTES, PresentedChain,
};
use self::presented_chain::{EncodedCertificate, next_block};
use super::ClientSettings;

/// The certificate of a client, which has proven possession of its key. It is read on demand,
/// because few requests need it.
#[derive(Clone, Copy)]
pub enum ClientCertificate<'r> {
    /// Not determined yet: from the header of a trusted proxy, and otherwise of the connection.
    Deferred {
        /// The peer of the connection.
        peer: &'r Peer<'r>,
        /// The trusted proxies, and the name of their header.
        settings: &'r ClientSettings,
        /// The header lines of the request.
        fields: &'r dyn Fields,
    },
    /// That of the TLS connection.
    Connection(Option<&'r CertificateDer<'static>>),
    /// As a trusted proxy passes it on, in a form that [`parse`] reads.
    Forwarded(&'r [u8]),
    /// Determined.
    Known(Option<CertificateThumbprint>),
}

impl ClientCertificate<'_> {
    /// Returns the thumbprint, if the client has a certificate.
    ///
    /// The certificate of a connection from a trusted proxy is the proxy's own, and never that of
    /// its clients. Without a header for theirs, they have none.
    #[must_use]
    pub fn thumbprint(&self) -> Option<CertificateThumbprint> {
        match *self {
            Self::Deferred { peer, settings, fields } if settings.proxies.trusts(peer.address) => {
                let header = settings.certificate_header.as_ref()?;
                from_header(fields, header).map(|certificate| thumbprint(&certificate))
            }
            Self::Deferred { peer, .. } => peer.certificate().map(thumbprint),
            Self::Connection(certificate) => certificate.map(thumbprint),
            Self::Forwarded(text) => parse(text).map(|certificate| thumbprint(&certificate)),
            Self::Known(thumbprint) => thumbprint,
        }
    }

    /// Returns a copy that outlives the request.
    #[must_use]
    pub fn resolved(&self) -> ClientCertificate<'static> {
        ClientCertificate::Known(self.thumbprint())
    }
}

fn thumbprint(certificate: &CertificateDer<'_>) -> CertificateThumbprint {
    CertificateThumbprint::of(certificate)
}

/// Maximum length of the header value: a certificate of usual size with every byte
/// percent-encoded.
const MAX_HEADER_BYTES: usize = 24 * 1024;

/// Reads the client certificate from the header in which a proxy passes it on.
///
/// The value is PEM, percent-encoded as nginx does (`$ssl_client_escaped_cert`) or on one line,
/// or base64 of DER, as HAProxy and Traefik write it. Returns `None` if the header is missing,
/// occurs twice, or does not contain a certificate.
#[must_use]
pub fn from_header(fields: &dyn Fields, header: &HeaderName) -> Option<CertificateDer<'static>> {
    parse(only_line(fields, header).ok()??)
}

/// Parses a certificate in any of the forms of [`from_header`].
#[must_use]
pub fn parse(value: &[u8]) -> Option<CertificateDer<'static>> {
    if value.len() > MAX_HEADER_BYTES {
        return None;
    }
    let text: Vec<u8> = percent_decode(value).collect();
    let mut text = text.trim_ascii();
    if text.starts_with(b"-----BEGIN ") {
        return next_block(&mut text)?.ok()?.decoded();
    }
    // A chain is separated by commas, with the client's own certificate first.
    let first = text.split(|byte| *byte == b',').next()?;
    EncodedCertificate::Base64(first.into()).decoded()
}

/// Returns the first certificate of a PEM text. `None` if it has none, or a malformed one.
#[must_use]
pub fn first_in_pem(mut text: &[u8]) -> Option<CertificateDer<'static>> {
    next_block(&mut text)?.ok()?.decoded()
}

/// Returns the SHA-256 fingerprint of a certificate, in hexadecimal digits.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = digest::digest(&digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use http::{HeaderMap, HeaderValue};
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    const HEADER: HeaderName = HeaderName::from_static("x-client-cert");
    /// A P-256 certificate, valid for one day in 2026.
    const PEM: &str = include_str!("certificate/client.pem");

    fn parse_lines(lines: &[&[u8]]) -> Option<CertificateDer<'static>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, HeaderValue::from_bytes(line).unwrap());
        }
        from_header(&headers, &HEADER)
    }

    #[test]
    fn certificate_is_read_in_every_proxy_format() {
        let der = CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap();
        let base64 = STANDARD.encode(&der);
        let escaped = percent_encode(PEM.as_bytes(), NON_ALPHANUMERIC).to_string();
        let blanks = PEM.replace('\n', " ");
        let tabs = PEM.replace('\n', "\t");
        let chain = format!("{base64},{base64}");
        for form in [&escaped, &blanks, &tabs, &base64, &chain] {
            assert_eq!(parse_lines(&[form.as_bytes()]).as_ref(), Some(&der), "{form}");
        }
        assert_eq!(fingerprint(&der).len(), 64);
    }

    #[test]
    fn malformed_or_duplicate_certificate_is_ignored() {
        let base64 = STANDARD.encode(CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap());
        let longer = STANDARD
            .encode([&CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap()[..], b"x"].concat());
        let long = "A".repeat(MAX_HEADER_BYTES + 1);
        for line in [
            "",
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\tx\t-----END CERTIFICATE-----",
            "AAAA",
            &longer,
            &long,
        ] {
            assert_eq!(parse_lines(&[line.as_bytes()]), None, "{line}");
        }
        assert_eq!(parse_lines(&[base64.as_bytes(), base64.as_bytes()]), None);
        assert_eq!(parse_lines(&[]), None);
    }
}
