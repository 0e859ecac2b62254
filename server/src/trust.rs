//! The authorities that vouch for the servers we ask: the operating system's, and
//! further ones that a configuration names.

use std::{io::Read as _, path::Path};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use ureq::tls::{Certificate, RootCerts};

use crate::file::open_regular;

/// What is wrong where [`roots`] finds none, and half of the remedy.
pub const NO_SYSTEM_ROOTS: &str =
    "the operating system has no trusted certificates: install ca-certificates";

/// The system's authorities and these; `None` if there is none at all.
#[must_use]
pub fn roots(further: &[CertificateDer<'static>]) -> Option<RootCerts> {
    let found = rustls_native_certs::load_native_certs().certs;
    let all = found.iter().chain(further);
    let all: Vec<_> =
        all.map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect();
    (!all.is_empty()).then(|| all.into())
}

/// The certificates of a file in PEM.
///
/// # Errors
/// It cannot be read, is damaged, or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    // A device has no end.
    const MAX_FILE_BYTES: u64 = 1 << 20;
    let mut pem = Vec::new();
    open_regular(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut pem))
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    certificates(&path.display().to_string(), &pem)
}

/// The certificates in the text of a file in PEM, called `name` in messages.
///
/// # Errors
/// It is damaged, or holds none.
pub fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{name} holds no certificate")),
        Err(fault) => Err(format!("{name} is damaged: {fault}")),
    }
}
