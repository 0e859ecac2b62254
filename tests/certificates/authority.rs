//! Authorities that can be configured.

use countersign_server::identities::certificate::{CaError, CertificateRefusal, IssuingCa};
use countersign_tests::pki::{CertificateSpec, OpensslPki};

use crate::fixture::{check, direct, in_days};

/// Returns the error of an authority with these extensions in addition, in this number of days.
fn usable(more: &str, days: i64) -> Result<(), CaError> {
    let ca = OpensslPki::default().authority("ca", None, more);
    IssuingCa::parse(&ca)?.check_usable(in_days(days))
}

#[test]
fn authority_that_admits_no_client_is_refused() {
    assert_eq!(usable("", 0), Ok(()));
    assert_eq!(usable("", -1), Ok(()), "it may be configured ahead of time");
    assert_eq!(usable("extendedKeyUsage=serverAuth,clientAuth", 0), Ok(()));
    assert_eq!(usable("extendedKeyUsage=serverAuth", 0), Err(CaError::ExcludesClients));
    let supported = "nameConstraints=permitted;URI:example.org,permitted;email:example.org";
    assert_eq!(usable(supported, 0), Ok(()));
    let unsupported = "nameConstraints=permitted;URI:spiffe://example.org";
    assert_eq!(usable(unsupported, 0), Err(CaError::UnsupportedConstraint));
    assert_eq!(usable("2.5.29.30=DER:3002a000", 0), Err(CaError::UnreadableConstraints));
    assert_eq!(usable("2.5.29.37=DER:3003040141", 0), Err(CaError::ExcludesClients));
    assert_eq!(usable("2.5.29.37=DER:0500", 0), Err(CaError::Malformed));
    let text = usable("", 31).unwrap_err().to_string();
    assert!(text.starts_with("The CA certificate has expired on "), "{text}");
}

#[test]
fn certificate_that_states_not_to_be_an_authority_is_refused() {
    let pki = OpensslPki::default();
    let (subject, extensions) = ("/CN=ca", "basicConstraints=critical,CA:FALSE");
    let ca = pki.issue("ca", &CertificateSpec { subject, extensions, ..Default::default() });
    let parsed = IssuingCa::parse(&ca).unwrap();
    assert_eq!(parsed.check_usable(in_days(0)), Err(CaError::NotAuthority));
    let client = pki.client("ca", "/CN=client", "");
    assert_eq!(check(&direct(&ca), &[&client]), Err(CertificateRefusal::NotIssued));
}

#[test]
fn malformed_extension_of_an_authority_is_refused() {
    let (subject, extensions) = ("/CN=ca", "2.5.29.15=DER:0500");
    let spec = CertificateSpec { subject, extensions, ..Default::default() };
    let ca = IssuingCa::parse(&OpensslPki::default().issue("ca", &spec)).unwrap();
    assert_eq!(ca.check_usable(in_days(0)), Err(CaError::Unreadable));
}

#[test]
fn malformed_authority_is_refused() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let damaged = ca.replace("MII", "MIJ");
    for text in ["", "ca", &ca[..ca.len() / 2], &damaged] {
        let error = IssuingCa::parse(text).unwrap_err();
        assert_eq!(error, CaError::Malformed, "{text}");
        assert_eq!(error.to_string(), "Invalid CA Certificate.");
    }
    let key = std::fs::read_to_string(pki.file("ca", "key")).unwrap();
    assert_eq!(IssuingCa::parse(&format!("{ca}{key}")).unwrap_err(), CaError::PrivateKey);
    assert!(IssuingCa::parse(&format!("\n text {ca}\n")).is_ok());
}

#[test]
fn first_certificate_of_several_is_the_authority() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let other = pki.authority("other", None, "");
    let bundle = format!("{ca}{other}");
    let client = pki.client("ca", "/CN=client", "");
    assert_eq!(check(&direct(&bundle), &[&client]), Ok(()));
    let client = pki.client("other", "/CN=client", "");
    assert_eq!(check(&direct(&bundle), &[&client]), Err(CertificateRefusal::NotIssued));
}

#[test]
fn refusals_have_the_codes_and_texts_of_infisical() {
    for (refusal, code, message) in [
        (
            CertificateRefusal::NotIssued,
            "ca_verification_failed",
            "Access denied: Certificate not issued by the provided CA.",
        ),
        (
            CertificateRefusal::NoPath,
            "ca_verification_failed",
            "Access denied: Certificate chain could not be validated against the provided CA.",
        ),
        (
            CertificateRefusal::Expired,
            "certificate_expired",
            "Access denied: Certificate has expired.",
        ),
        (
            CertificateRefusal::NotYetValid,
            "certificate_not_yet_valid",
            "Access denied: Certificate not yet valid.",
        ),
        (
            CertificateRefusal::CommonName,
            "common_name_not_allowed",
            "Access denied: TLS Certificate Auth common name not allowed.",
        ),
        (
            CertificateRefusal::CaCertificate,
            "ca_certificate_not_allowed",
            "Access denied: a CA certificate cannot be used as a client certificate.",
        ),
    ] {
        assert_eq!((refusal.code(), refusal.message()), (code, message));
    }
    for refusal in CertificateRefusal::ALL {
        assert!(refusal.message().starts_with("Access denied: "), "{refusal:?}");
    }
}
