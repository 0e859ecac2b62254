use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};

use super::*;

/// A P-256 certificate, valid for one day in 2026.
const PEM: &str = include_str!("../client.pem");

/// What load balancers of AWS escape: all but letters, digits and `+=/`, among others.
const AWS: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

fn der() -> CertificateDer<'static> {
    let mut text = PEM.as_bytes();
    next_block(&mut text).unwrap().unwrap().decoded().unwrap()
}

fn base64() -> String {
    STANDARD.encode(der())
}

fn escaped(text: &str) -> String {
    percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string()
}

fn parse(format: CertificateFormat, value: &str) -> Result<PresentedChain, ChainError> {
    PresentedChain::parse(format, value.as_bytes(), None)
}

/// Asserts that a value has this number of certificates, all the same.
fn assert_chain(format: CertificateFormat, value: &str, count: usize) {
    let chain = parse(format, value).unwrap_or_else(|error| panic!("{error:?}: {value}"));
    assert_eq!(chain.leaf(), Some(der()), "{value}");
    assert_eq!(chain.others(), Some(vec![der(); count - 1]), "{value}");
}

#[test]
fn joined_header_lines_are_refused() {
    let pem = escaped(PEM);
    for separator in [",", ", ", "x, ", "%2C"] {
        let joined = parse(CertificateFormat::PercentEncodedPem, &format!("{pem}{separator}{pem}"));
        assert_eq!(joined.err(), Some(ChainError::BadSyntax), "{separator}");
    }
}

#[test]
fn chain_is_read_in_every_format() {
    use CertificateFormat::{Base64Der, PercentEncodedPem, Rfc9440, Xfcc};
    let (pem, base64) = (escaped(PEM), base64());
    let aws = percent_encode(PEM.as_bytes(), AWS).to_string();
    assert!(aws.contains('+') && aws.contains('='), "raw characters are the point of {aws}");
    let with_text = escaped(&format!("subject=a\n{PEM}\nissuer=b\n{PEM}"));
    for (format, value, count) in [
        (PercentEncodedPem, &pem, 1),
        (PercentEncodedPem, &aws, 1),
        (PercentEncodedPem, &PEM.replace('\n', " "), 1),
        (PercentEncodedPem, &format!("{pem}{pem}"), 2),
        (PercentEncodedPem, &with_text, 2),
        (Base64Der, &base64, 1),
        (Base64Der, &format!("{base64},{base64}, {base64}"), 3),
        (Rfc9440, &format!(":{base64}:"), 1),
        (Xfcc, &format!("Cert=\"{pem}\""), 1),
        (Xfcc, &format!("By=spiffe://a/b;Hash=00;cert={pem};Subject=\"CN=a,O=\\\"b;\\\"\""), 1),
        (Xfcc, &format!("Chain=\"{pem}\""), 1),
        (Xfcc, &format!("Cert=\"x\",By=a;Cert=\"{pem}\""), 1),
    ] {
        assert_chain(format, value, count);
    }
    let rest = format!(":{base64}:,\t:{base64}:");
    let value = format!(":{base64}:");
    let chain = PresentedChain::parse(Rfc9440, value.as_bytes(), Some(rest.as_bytes())).unwrap();
    assert_eq!(chain.others(), Some(vec![der(); 2]));
}

#[test]
fn malformed_chain_is_refused_by_its_cause() {
    use CertificateFormat::{Base64Der, PercentEncodedPem, Rfc9440, Xfcc};
    let (pem, base64) = (escaped(PEM), base64());
    let unfinished = pem.replace("END", "END%20");
    for (format, value, expected) in [
        (PercentEncodedPem, "", ChainError::Empty),
        (PercentEncodedPem, "%0A%20", ChainError::Empty),
        (PercentEncodedPem, "%zz", ChainError::BadEscape),
        (PercentEncodedPem, &format!("{pem}%0"), ChainError::BadEscape),
        (PercentEncodedPem, &format!("{pem}%ff"), ChainError::BadEscape),
        (PercentEncodedPem, &unfinished, ChainError::UnfinishedBlock),
        (PercentEncodedPem, &format!("{pem}{unfinished}"), ChainError::UnfinishedBlock),
        (PercentEncodedPem, &base64, ChainError::NoCertificate),
        // Spaces in forms are written as `+`, which stands for itself here.
        (PercentEncodedPem, &pem.replace("%20", "+"), ChainError::NoCertificate),
        (PercentEncodedPem, &pem.repeat(MAX_CERTIFICATES + 1), ChainError::TooLong),
        (PercentEncodedPem, &"A".repeat(MAX_VALUE_BYTES + 1), ChainError::TooLong),
        (Base64Der, &format!("{base64},"), ChainError::BadSyntax),
        (Base64Der, &format!(",{base64}"), ChainError::BadSyntax),
        (Rfc9440, &base64, ChainError::BadSyntax),
        (Rfc9440, &format!(":{base64}:;a=1"), ChainError::BadSyntax),
        (Rfc9440, &format!(":{base64}:,:{base64}:"), ChainError::BadSyntax),
        (Xfcc, &pem, ChainError::BadSyntax),
        (Xfcc, "By=a;Hash=00", ChainError::NoCertificate),
        (Xfcc, &format!("Cert=\"{pem}"), ChainError::BadSyntax),
        (Xfcc, &format!("Cert=\"{pem}\"x"), ChainError::BadSyntax),
        (Xfcc, &format!("Cert=\"{pem}\";CERT=\"{pem}\""), ChainError::BadSyntax),
        // An unbalanced quotation mark of an earlier element does not swallow the last one.
        (Xfcc, &format!("By=\"a,By=b;Cert=\"{pem}\""), ChainError::BadSyntax),
        // The last element counts, even if an earlier one has a certificate.
        (Xfcc, &format!("Cert=\"{pem}\",By=a"), ChainError::NoCertificate),
    ] {
        assert_eq!(parse(format, value), Err(expected), "{format:?} {value}");
    }
}

#[test]
fn damaged_certificate_is_noticed_when_decoded() {
    let damaged = PEM.replace("MII", "MIJ");
    assert_ne!(damaged, PEM);
    let chain = parse(CertificateFormat::PercentEncodedPem, &escaped(&damaged)).unwrap();
    assert_eq!(chain.leaf(), None);
    let second = escaped(&format!("{PEM}{damaged}"));
    let chain = parse(CertificateFormat::PercentEncodedPem, &second).unwrap();
    assert_eq!(chain.leaf(), Some(der()));
    assert_eq!(chain.others(), None);
}

#[test]
fn own_certificate_of_envoy_is_not_repeated() {
    let pem = escaped(PEM);
    let value = format!("Cert=\"{pem}\";Chain=\"{pem}\"");
    assert_chain(CertificateFormat::Xfcc, &value, 1);
}
