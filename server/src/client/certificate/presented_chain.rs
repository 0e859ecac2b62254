//! Certificate chains that a client presents, in a TLS handshake or through a trusted proxy.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::forwarded_element;

/// The certificates that a client presents: its own, and untrusted intermediate authorities.
///
/// Nothing has been verified. The certificates after the first are decoded only on demand, because
/// they do not count where the client's own must be issued by the authority itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedChain {
    leaf: EncodedCertificate,
    others: Vec<EncodedCertificate>,
}

/// A certificate as it was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EncodedCertificate {
    /// DER.
    Der(CertificateDer<'static>),
    /// Base64 of DER, without white space. It may be malformed.
    Base64(Vec<u8>),
}

/// The form in which trusted proxies pass on the certificates of their clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFormat {
    /// Percent-encoded PEM, as of nginx and AWS load balancers. `+` stands for itself.
    PercentEncodedPem,
    /// Base64 of DER, and commas between the certificates, as of Traefik.
    Base64Der,
    /// `Client-Cert` and `Client-Cert-Chain` of RFC 9440.
    Rfc9440,
    /// `X-Forwarded-Client-Cert` of Envoy.
    Xfcc,
}

impl CertificateFormat {
    /// All formats, with the default first.
    pub const ALL: [Self; 4] =
        [Self::PercentEncodedPem, Self::Base64Der, Self::Rfc9440, Self::Xfcc];

    /// Returns the name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PercentEncodedPem => "percent-encoded-pem",
            Self::Base64Der => "base64-der",
            Self::Rfc9440 => "rfc9440",
            Self::Xfcc => "xfcc",
        }
    }
}

/// Error of a header value that is not a chain of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// The value is empty.
    Empty,
    /// A percent escape is malformed, or the decoded text is not UTF-8.
    BadEscape,
    /// A PEM block has no end.
    UnfinishedBlock,
    /// The text contains no PEM block of a certificate.
    NoCertificate,
    /// The value does not have the syntax of its format.
    BadSyntax,
    /// The value exceeds [`MAX_VALUE_BYTES`] or [`MAX_CERTIFICATES`].
    TooLong,
}

/// Maximum length of a header value, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Maximum number of certificates in a chain.
pub const MAX_CERTIFICATES: usize = 16;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

impl PresentedChain {
    /// The chain of a TLS handshake, the client's own certificate first. `None` if it is empty.
    #[must_use]
    pub fn of_handshake(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let mut certificates = chain.iter().cloned().map(EncodedCertificate::Der);
        let leaf = certificates.next()?;
        Some(Self { leaf, others: certificates.collect() })
    }

    /// Parses a header value, and that of the header with the rest of the chain, which only
    /// [`Rfc9440`](CertificateFormat::Rfc9440) has.
    ///
    /// # Errors
    /// The value does not have the format. Whether its certificates can be decoded is left to
    /// [`leaf`](Self::leaf) and [`others`](Self::others).
    pub fn parse(
        format: CertificateFormat,
        value: &[u8],
        rest: Option<&[u8]>,
    ) -> Result<Self, ChainError> {
        let length = value.len().saturating_add(rest.map_or(0, <[u8]>::len));
        if length > MAX_VALUE_BYTES {
            return Err(ChainError::TooLong);
        }
        if value.trim_ascii().is_empty() {
            return Err(ChainError::Empty);
        }
        let certificates = match format {
            CertificateFormat::PercentEncodedPem => pem_blocks(&strictly_decoded(value)?)?,
            CertificateFormat::Base64Der => listed(value, Some)?,
            CertificateFormat::Rfc9440 => byte_sequences(value, rest)?,
            CertificateFormat::Xfcc => forwarded_element::certificates(value)?,
        };
        Self::new(certificates)
    }

    fn new(certificates: Vec<EncodedCertificate>) -> Result<Self, ChainError> {
        if certificates.len() > MAX_CERTIFICATES {
            return Err(ChainError::TooLong);
        }
        let mut certificates = certificates.into_iter();
        let leaf = certificates.next().ok_or(ChainError::NoCertificate)?;
        Ok(Self { leaf, others: certificates.collect() })
    }

    /// Decodes the client's own certificate. `None` if it is not a certificate.
    #[must_use]
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.leaf.decoded()
    }

    /// Decodes the other certificates, in the order of the chain. `None` if one of them is not a
    /// certificate.
    #[must_use]
    pub fn others(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.others.iter().map(EncodedCertificate::decoded).collect()
    }
}

impl EncodedCertificate {
    /// Decodes the certificate, which must have no bytes after its end.
    pub(super) fn decoded(&self) -> Option<CertificateDer<'static>> {
        let der = match self {
            Self::Der(der) => der.clone(),
            Self::Base64(text) => STANDARD.decode(text).ok()?.into(),
        };
        matches!(X509Certificate::from_der(&der), Ok(([], _))).then_some(der)
    }
}

/// Returns the certificates of all PEM blocks. Text outside of them is skipped, and proxies may
/// have replaced line ends with other white space.
pub(super) fn pem_blocks(text: &[u8]) -> Result<Vec<EncodedCertificate>, ChainError> {
    if text.trim_ascii().is_empty() {
        return Err(ChainError::Empty);
    }
    let (mut blocks, mut rest) = (Vec::new(), text);
    while let Some(block) = next_block(&mut rest) {
        if blocks.len() == MAX_CERTIFICATES {
            return Err(ChainError::TooLong);
        }
        blocks.push(block?);
    }
    if blocks.is_empty() { Err(ChainError::NoCertificate) } else { Ok(blocks) }
}

/// Removes the first PEM block of a certificate from a text, with all before it.
pub(super) fn next_block(text: &mut &[u8]) -> Option<Result<EncodedCertificate, ChainError>> {
    let (before, after) = split_at_mark(text, BEGIN)?;
    // A proxy on the way has joined the lines of two headers, of which the first may be a client's.
    if before.trim_ascii().ends_with(b",") {
        return Some(Err(ChainError::BadSyntax));
    }
    let Some((body, rest)) = split_at_mark(after, END) else {
        return Some(Err(ChainError::UnfinishedBlock));
    };
    *text = rest;
    let body = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    Some(Ok(EncodedCertificate::Base64(body.collect())))
}

/// Splits a text around the first occurrence of a mark.
fn split_at_mark<'t>(text: &'t [u8], mark: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = memchr::memmem::find(text, mark)?;
    Some((&text[..at], &text[at + mark.len()..]))
}

/// Decodes percent escapes, all of which must be well-formed.
pub(super) fn strictly_decoded(value: &[u8]) -> Result<Vec<u8>, ChainError> {
    let is_escape = |at: usize| {
        let digits = value.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !memchr::memchr_iter(b'%', value).all(is_escape) {
        return Err(ChainError::BadEscape);
    }
    let decoded: Vec<u8> = percent_decode(value).collect();
    if str::from_utf8(&decoded).is_ok() { Ok(decoded) } else { Err(ChainError::BadEscape) }
}

/// Returns the elements of a comma-separated list, each converted by `base64`.
fn listed<'v>(
    value: &'v [u8],
    base64: impl Fn(&'v [u8]) -> Option<&'v [u8]>,
) -> Result<Vec<EncodedCertificate>, ChainError> {
    let elements = value.split(|byte| *byte == b',').map(|element| {
        let text = base64(element.trim_ascii()).filter(|text| !text.is_empty());
        text.map(|text| EncodedCertificate::Base64(text.into())).ok_or(ChainError::BadSyntax)
    });
    elements.collect()
}

/// Returns the certificates of `Client-Cert`, a Byte Sequence (RFC 9651 section 3.3.5), and of
/// `Client-Cert-Chain`, a list of them (RFC 9440 section 2).
fn byte_sequences(
    value: &[u8],
    rest: Option<&[u8]>,
) -> Result<Vec<EncodedCertificate>, ChainError> {
    let mut certificates = listed(value, between_colons)?;
    if certificates.len() != 1 {
        return Err(ChainError::BadSyntax);
    }
    if let Some(rest) = rest.filter(|rest| !rest.trim_ascii().is_empty()) {
        certificates.extend(listed(rest, between_colons)?);
    }
    Ok(certificates)
}

/// Returns the base64 of a Byte Sequence.
pub(super) fn between_colons(element: &[u8]) -> Option<&[u8]> {
    element.strip_prefix(b":")?.strip_suffix(b":")
}

#[cfg(test)]
mod tests;
