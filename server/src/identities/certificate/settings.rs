//! `[tls_cert_auth]`: how trusted proxies pass on the certificates of clients that log in.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use http::HeaderName;

use super::{CertificateFormat, RevocationLists};
use crate::{
    base::{header_names::is_header, watched_file::open_regular},
    config::{
        options::TLS_CERT_AUTH_SECTION, problem::Problems, reader::SectionReader, setting::Section,
    },
};

/// The header with the certificate of a client, and its format.
#[derive(Clone, Debug)]
pub struct TlsCertAuthSettings {
    /// The name of the header.
    pub header: HeaderName,
    /// The name of the header with the rest of the chain, which only
    /// [`Rfc9440`](CertificateFormat::Rfc9440) has.
    pub chain_header: Option<HeaderName>,
    /// The format of both.
    pub format: CertificateFormat,
    /// The revocation lists of authorities.
    pub revoked: Arc<RevocationLists>,
    /// Their files, which are read again when they change.
    pub crl_files: Vec<PathBuf>,
}

/// The default name of the header: that of Infisical.
const DEFAULT_HEADER: HeaderName = HeaderName::from_static("x-identity-tls-cert-auth-client-cert");

const CRL_OPTION: &str = "crl_file";

impl TlsCertAuthSettings {
    /// Reads the options. An empty name of the header stands for the default.
    pub(crate) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Self {
        const OPTION: &str = "certificate_header";
        let mut reader = SectionReader::new(sections, TLS_CERT_AUTH_SECTION, problems);
        let format =
            reader.choice("certificate_format", &CertificateFormat::ALL, CertificateFormat::name);
        let header = reader.certificate_header(OPTION);
        let crl_files: Vec<_> =
            reader.given_list(CRL_OPTION).into_iter().map(PathBuf::from).collect();
        let mut revoked = RevocationLists::default();
        for file in &crl_files {
            if let Err(error) = add_file(&mut revoked, file) {
                let text = format!("{CRL_OPTION} cannot be used: {}: {error}", file.display());
                reader.error(CRL_OPTION, text, "name files with current CRLs in PEM or DER");
            }
        }
        let settings = Self::new(header.unwrap_or(DEFAULT_HEADER), format);
        Self { revoked: Arc::new(revoked), crl_files, ..settings }
    }

    /// Settings with this header.
    #[must_use]
    pub fn new(header: HeaderName, format: CertificateFormat) -> Self {
        let chain = HeaderName::try_from(format!("{header}-chain")).ok();
        let chain_header = chain.filter(|_| format == CertificateFormat::Rfc9440);
        let (revoked, crl_files) = (Arc::default(), Vec::new());
        Self { header, chain_header, format, revoked, crl_files }
    }

    /// Whether a login reads the header line with this name.
    #[must_use]
    pub fn reads_header(&self, name: &[u8]) -> bool {
        is_header(name, &self.header)
            || self.chain_header.as_ref().is_some_and(|header| is_header(name, header))
    }
}

fn add_file(revoked: &mut RevocationLists, file: &Path) -> io::Result<()> {
    /// Maximum size of a file. CRLs of public authorities have several megabytes.
    const MAX_FILE_BYTES: u64 = 64 << 20;
    let mut bytes = Vec::new();
    if open_regular(file)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)? as u64 > MAX_FILE_BYTES
    {
        return Err(io::Error::other(format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    revoked.add(&bytes).map_err(io::Error::other)
}

impl Default for TlsCertAuthSettings {
    fn default() -> Self {
        Self::new(DEFAULT_HEADER, CertificateFormat::PercentEncodedPem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ini;

    fn read(text: &str) -> (TlsCertAuthSettings, String) {
        let mut problems = Problems::default();
        let sections = ini::parse("c.cfg", text, &mut problems);
        let settings = TlsCertAuthSettings::read(&sections, &mut problems);
        (settings, problems.to_string())
    }

    #[test]
    fn header_and_format_have_defaults() {
        for text in ["", "[tls_cert_auth]\ncertificate_header=\n"] {
            let (settings, problems) = read(text);
            assert_eq!(settings.header, "x-identity-tls-cert-auth-client-cert");
            let format = (settings.format, settings.chain_header);
            assert_eq!(format, (CertificateFormat::PercentEncodedPem, None));
            assert_eq!(problems, "");
        }
        let (settings, _) =
            read("[tls_cert_auth]\ncertificate_header=Client-Cert\ncertificate_format=rfc9440\n");
        assert!(
            settings.reads_header(b"CLIENT-CERT") && settings.reads_header(b"client-cert-chain")
        );
        assert!(!settings.reads_header(b"client-cert-other"));
    }

    #[test]
    fn unusable_value_is_a_mistake() {
        let directory = std::env::temp_dir();
        for (line, expected) in [
            ("certificate_header=a b".to_owned(), "is not a valid header name"),
            ("certificate_header=Authorization".to_owned(), "which has another meaning"),
            ("certificate_header=X-Forwarded-For".to_owned(), "which has another meaning"),
            ("certificate_format=pem".to_owned(), "certificate_format \"pem\" is unknown"),
            ("crl_file=/nowhere.crl".to_owned(), "crl_file cannot be used: /nowhere.crl: No such"),
            (format!("crl_file={}", directory.display()), "not a regular file"),
        ] {
            let (_, problems) = read(&format!("[tls_cert_auth]\n{line}\n"));
            assert!(problems.contains(expected), "{line}: {problems}");
        }
    }
}
