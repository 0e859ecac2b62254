//! Trusted root certificates for outgoing connections: those of the operating system, and
//! additional ones from the configuration.

use std::{io::Read as _, path::Path};

use rustls::{RootCertStore, pki_types::CertificateDer};
use ureq::tls::{Certificate, RootCerts};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, x509::X509Version};

use super::{redacted::pem_sections, watched_file::open_regular};

/// Error message for an empty result of [`roots`].
pub const NO_SYSTEM_ROOTS: &str =
    "the operating system has no trusted certificates: install ca-certificates";

/// Returns the system's root certificates and `further` ones. `None` without any.
#[must_use]
pub fn roots(further: &[CertificateDer<'static>]) -> Option<RootCerts> {
    let found = rustls_native_certs::load_native_certs().certs;
    let all = found.iter().chain(further);
    let all: Vec<_> =
        all.map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect();
    (!all.is_empty()).then(|| all.into())
}

/// Returns the system's root certificates and `further` ones for a verifier. Certificates that are
/// not of an authority, or have expired, are left out: a verifier takes every root for an
/// authority.
#[must_use]
pub fn root_store(further: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().certs;
    let further = further.iter().filter(|one| is_authority(one)).cloned();
    store.add_parsable_certificates(found.into_iter().chain(further));
    store
}

/// Whether a certificate may be that of an authority now. One of version 1 does not say.
fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let may_sign = match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => certificate.version() != X509Version::V3,
        Err(_) => false,
    };
    may_sign && certificate.validity().is_valid()
}

/// Reads the certificates of a PEM file.
///
/// # Errors
/// The file cannot be read, is malformed, or contains no certificate.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    // Bounds the read: a device has no end.
    const MAX_FILE_BYTES: u64 = 1 << 20;
    let mut pem = Vec::new();
    open_regular(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut pem))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    certificates(&path.display().to_string(), &pem)
}

/// Parses the certificates in the contents of a PEM file, called `name` in messages.
///
/// # Errors
/// The contents are malformed or contain no certificate.
pub fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    match pem_sections(pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{name} contains no certificate")),
        Err(damage) => Err(format!("{name}: {damage}")),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use time::{Duration, OffsetDateTime};

    use super::*;

    #[test]
    fn only_valid_authorities_vouch_for_others() {
        let roots = |is_ca: IsCa, days: i64| {
            let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
            parameters.is_ca = is_ca;
            parameters.not_after = OffsetDateTime::now_utc() + Duration::days(days);
            let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
            root_store(&[certificate.der().clone()]).len() - root_store(&[]).len()
        };
        let authority = IsCa::Ca(BasicConstraints::Unconstrained);
        assert_eq!(roots(authority, 1), 1);
        assert_eq!(roots(authority, -1), 0, "expired");
        assert_eq!(roots(IsCa::ExplicitNoCa, 1), 0);
        assert_eq!(roots(IsCa::NoCa, 1), 0, "without the extension");
    }
}
