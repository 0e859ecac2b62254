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
use self::presented_chain::{EncodedCertificate, between_colons, next_block};
use super::ClientSettings;

/// The header in which trusted proxies pass on the certificates of their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateHeader {
    /// Its name.
    pub name: HeaderName,
    /// The form of its value. `None` for the one that the value has, see [`parse`].
    format: Option<CertificateFormat>,
}

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
                header.certificate(fields).map(|certificate| thumbprint(&certificate))
            }
            Self::Deferred { peer, .. } => peer.certificate().map(thumbprint),
            Self::Connection(certificate) => certificate.map(thumbprint),
            Self::Forwarded(text) => parse(text).map(|certificate| thumbprint(&certificate)),
            Self::Known(thumbprint) => thumbprint,
        }
    }

    /// Returns the [`fingerprint`] for logs. A certificate that a trusted proxy passes on in a header
    /// takes precedence over that of the connection.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        match *self {
            Self::Deferred { peer, settings, fields } => {
                let header = settings.certificate_header.as_ref();
                let header = header.filter(|_| settings.proxies.trusts(peer.address));
                let forwarded = header.and_then(|header| header.certificate(fields));
                forwarded.as_ref().or_else(|| peer.certificate()).map(fingerprint)
            }
            Self::Connection(certificate) => certificate.map(fingerprint),
            Self::Forwarded(text) => parse(text).as_ref().map(fingerprint),
            Self::Known(_) => None,
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

/// The header that Envoy writes.
const ENVOY_HEADER: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

impl CertificateHeader {
    /// Header with this name, and with this form if it is given.
    ///
    /// `X-Forwarded-Client-Cert` has Envoy's form unless another is given. Proxies append an
    /// element to it, so a form that the value itself decides would be the client's choice.
    #[must_use]
    pub fn new(name: HeaderName, format: Option<CertificateFormat>) -> Self {
        let by_name = || (name == ENVOY_HEADER).then_some(CertificateFormat::Xfcc);
        let format = format.or_else(by_name);
        Self { name, format }
    }

    /// Returns the client's own certificate. `None` if the header is missing, occurs twice, or does
    /// not contain one.
    #[must_use]
    pub fn certificate(&self, fields: &dyn Fields) -> Option<CertificateDer<'static>> {
        let value = only_line(fields, &self.name).ok()??;
        match self.format {
            Some(format) => PresentedChain::parse(format, value, None).ok()?.leaf(),
            None => parse(value),
        }
    }
}

/// Parses a certificate in any form but Envoy's `X-Forwarded-Client-Cert`.
///
/// The value is PEM, percent-encoded as nginx does (`$ssl_client_escaped_cert`) or on one line, or
/// base64 of DER, as HAProxy and Traefik write it, or that between colons (RFC 9440).
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
    if let Some(base64) = between_colons(text) {
        return EncodedCertificate::Base64(base64.into()).decoded();
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

    const CLIENT_CERT: HeaderName = HeaderName::from_static("x-client-cert");
    /// A P-256 certificate, valid for one day in 2026.
    const PEM: &str = include_str!("certificate/client.pem");

    fn parse_lines(lines: &[&[u8]]) -> Option<CertificateDer<'static>> {
        read(&CertificateHeader::new(CLIENT_CERT, None), lines)
    }

    fn read(header: &CertificateHeader, lines: &[&[u8]]) -> Option<CertificateDer<'static>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&header.name, HeaderValue::from_bytes(line).unwrap());
        }
        header.certificate(&headers)
    }

    #[test]
    fn certificate_is_read_in_every_proxy_format() {
        let der = CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap();
        let base64 = STANDARD.encode(&der);
        let escaped = percent_encode(PEM.as_bytes(), NON_ALPHANUMERIC).to_string();
        let blanks = PEM.replace('\n', " ");
        let tabs = PEM.replace('\n', "\t");
        let chain = format!("{base64},{base64}");
        let sequence = format!(":{base64}:");
        for form in [&escaped, &blanks, &tabs, &base64, &chain, &sequence] {
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
        let sequences = format!(":{base64}:, :{base64}:");
        assert_eq!(parse_lines(&[sequences.as_bytes()]), None);
        assert_eq!(parse_lines(&[base64.as_bytes(), base64.as_bytes()]), None);
        assert_eq!(parse_lines(&[]), None);
    }

    #[test]
    fn last_element_of_envoy_is_the_certificate() {
        let der = CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap();
        let escaped = percent_encode(PEM.as_bytes(), NON_ALPHANUMERIC).to_string();
        let element = format!("Hash=00;Cert=\"{escaped}\"");
        let header = CertificateHeader::new(ENVOY_HEADER, None);
        for value in [element.clone(), format!("Hash=00;Cert=\"x\",{element}")] {
            assert_eq!(read(&header, &[value.as_bytes()]).as_ref(), Some(&der), "{value}");
        }
        // What a client wrote before it never counts, in whatever form.
        let base64 = STANDARD.encode(&der);
        let blanks = PEM.replace('\n', " ");
        for before in [&*escaped, &*base64, &*element, blanks.trim()] {
            for last in ["Hash=00", "Hash=00;Cert=\"\"", ""] {
                let value = format!("{before},{last}");
                assert_eq!(read(&header, &[value.as_bytes()]), None, "{value}");
            }
            assert_eq!(read(&header, &[before.as_bytes()]).is_some(), before == element);
        }
        let given = CertificateHeader::new(ENVOY_HEADER, Some(CertificateFormat::Base64Der));
        assert_eq!(read(&given, &[base64.as_bytes()]), Some(der));
    }
}
