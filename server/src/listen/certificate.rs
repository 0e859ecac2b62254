//! The certificate of a client: shown to us, or to a proxy that we trust and that
//! says so in one header.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderName;
use percent_encoding::percent_decode;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::http::{Fields, only_line};

/// The longest value read: a certificate of usual size, with every byte escaped.
const MAX_HEADER_BYTES: usize = 24 * 1024;

/// Reads the header that a proxy puts a certificate into: PEM, as nginx escapes it
/// (`$ssl_client_escaped_cert`) or as one line, or base64 of DER, as HAProxy and
/// Traefik write it. A header that is there twice, or no certificate, is none.
#[must_use]
pub fn from_header(fields: &dyn Fields, header: &HeaderName) -> Option<CertificateDer<'static>> {
    parse(only_line(fields, header).ok()??)
}

/// Reads a certificate in any of these forms.
#[must_use]
pub fn parse(value: &[u8]) -> Option<CertificateDer<'static>> {
    if value.len() > MAX_HEADER_BYTES {
        return None;
    }
    let text: Vec<u8> = percent_decode(value).collect();
    let text = text.trim_ascii();
    let certificate = match text.starts_with(b"-----BEGIN ") {
        true => CertificateDer::from_pem_slice(&with_lines(text)).ok()?,
        // A chain is separated by commas, whoever it is about first.
        false => STANDARD.decode(text.split(|byte| *byte == b',').next()?).ok()?.into(),
    };
    match X509Certificate::from_der(&certificate) {
        Ok(([], _)) => Some(certificate),
        _ => None,
    }
}

/// PEM whose line ends were made blanks or tabs, as a header cannot have them.
fn with_lines(text: &[u8]) -> Vec<u8> {
    const DASHES: &str = "-----";
    let text = String::from_utf8_lossy(text);
    let mut parts = text.split(DASHES);
    let (_, Some(begin), Some(body), Some(end)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Vec::new();
    };
    let body: Vec<_> = body.split_ascii_whitespace().collect();
    format!("{DASHES}{begin}{DASHES}\n{}\n{DASHES}{end}{DASHES}\n", body.join("\n")).into_bytes()
}

/// What tells a certificate from all others, in hexadecimal digits: SHA-256 of it.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = digest::digest(&digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

    use super::*;

    const HEADER: HeaderName = HeaderName::from_static("x-client-cert");
    /// P-256, for one day of 2026.
    const PEM: &str = include_str!("certificate/client.pem");

    fn parse_lines(lines: &[&[u8]]) -> Option<CertificateDer<'static>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, HeaderValue::from_bytes(line).unwrap());
        }
        from_header(&headers, &HEADER)
    }

    #[test]
    fn it_is_read_in_every_form_that_proxies_write() {
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
    fn what_is_none_and_what_is_there_twice_is_none() {
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
