//! Trusted root certificates for outgoing connections: those of the operating system, and
//! additional ones from the configuration.

use std::{io::Read as _, path::Path};

use rustls::{RootCertStore, pki_types::CertificateDer};
use ureq::tls::{Certificate, RootCerts};

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

/// Returns the system's root certificates and `further` ones for a verifier. Those that cannot be
/// an authority are left out.
#[must_use]
pub fn root_store(further: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().certs;
    store.add_parsable_certificates(found.into_iter().chain(further.iter().cloned()));
    store
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
