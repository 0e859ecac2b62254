//! TLS options of a listener. `ssl_cert_file` and `ssl_key_file` switch TLS on, and
//! `client_certificates` requests certificates from clients.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use countersign_front::Protocols;

use super::{ReloadableTls, TlsError};
use crate::{
    base::redacted::quoted,
    config::{problem::Problems, protocols, reader::SectionReader, setting::Section},
};

/// Certificate, key and client authorities of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server certificate and its intermediate certificates, in PEM.
    pub certificate: PathBuf,
    /// Its private key in PEM, unencrypted.
    pub key: PathBuf,
    /// Whether clients must present a certificate.
    pub clients: ClientCertificates,
}

/// Whether clients must present a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No certificate is requested.
    Off,
    /// A certificate is optional. Only possession of its key is checked, so it does not identify
    /// the client.
    Possession,
    /// A certificate is optional. An invalid certificate is rejected, not ignored.
    Optional(ClientAuthorities),
    /// Handshakes without a certificate fail.
    Required(ClientAuthorities),
}

/// Certificate authorities of clients, and their revocation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthorities {
    /// The certificates of the authorities, in PEM.
    pub file: PathBuf,
    /// Certificate revocation lists in PEM or DER. If any list is configured, every
    /// authority needs one.
    pub revoked: Vec<PathBuf>,
}

/// Kind of a file in [`TlsFiles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFileKind {
    /// The server certificate.
    Certificate,
    /// The private key of the server certificate.
    Key,
    /// Certificate authorities of clients.
    ClientAuthorities,
    /// Certificate revocation lists of the authorities.
    Revoked,
}

impl TlsFileKind {
    /// Returns the option that names the file.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::Certificate => "ssl_cert_file",
            Self::Key => "ssl_key_file",
            Self::ClientAuthorities => "client_ca_file",
            Self::Revoked => "client_crl_file",
        }
    }
}

impl TlsFiles {
    /// Returns every file with its [`TlsFileKind`].
    pub fn iter(&self) -> impl Iterator<Item = (TlsFileKind, &Path)> {
        let ours = [(TlsFileKind::Certificate, &*self.certificate), (TlsFileKind::Key, &*self.key)];
        let theirs = self.clients.authorities().into_iter().flat_map(|authorities| {
            let revoked = authorities.revoked.iter().map(|file| (TlsFileKind::Revoked, &**file));
            [(TlsFileKind::ClientAuthorities, &*authorities.file)].into_iter().chain(revoked)
        });
        ours.into_iter().chain(theirs)
    }
}

impl ClientCertificates {
    /// Returns the authorities, if certificates are requested.
    #[must_use]
    pub const fn authorities(&self) -> Option<&ClientAuthorities> {
        match self {
            Self::Off | Self::Possession => None,
            Self::Optional(authorities) | Self::Required(authorities) => Some(authorities),
        }
    }
}

/// Sections with the TLS options of one listener. Both names may be the same.
#[derive(Clone, Copy)]
pub(crate) struct TlsSections<'s> {
    pub(crate) all: &'s BTreeMap<String, Section>,
    /// The section with `ssl_cert_file` and `ssl_key_file`.
    pub(crate) certificate: &'s str,
    /// The section with `protocols` and the options for client certificates.
    pub(crate) clients: &'s str,
}

/// Reads the protocols and TLS options of one listener, and the files that they name.
/// Returns no [`ReloadableTls`] if TLS is not configured or has errors.
pub(crate) fn read(
    sections: TlsSections<'_>,
    problems: &mut Problems,
) -> (Protocols, Option<Arc<ReloadableTls>>) {
    let files = TlsFiles::read(sections, problems);
    let protocols = protocols::read(
        &mut SectionReader::new(sections.all, sections.clients, problems),
        files.is_some(),
    );
    (protocols, files.and_then(|files| load(files, protocols, sections, problems)))
}

fn load(
    files: TlsFiles,
    protocols: Protocols,
    sections: TlsSections<'_>,
    problems: &mut Problems,
) -> Option<Arc<ReloadableTls>> {
    match ReloadableTls::load(files, protocols) {
        Ok(tls) => {
            for remark in tls.warnings() {
                let mut reader = sections.reader(remark.part, problems);
                reader.warn(remark.part.option(), remark.to_string(), "");
            }
            Some(Arc::new(tls))
        }
        Err(error) => {
            report_load_error(&mut sections.reader(error.part, problems), &error);
            None
        }
    }
}

/// Inmanta's text for every error in a certificate or key.
const INMANTA_LOAD_ERROR: &str = "Failed to load ssl certificate. Please check if you provided \
     the correct certificate/key path and make sure that these files are not encrypted.";

fn report_load_error(reader: &mut SectionReader<'_>, error: &TlsError) {
    let option = error.part.option();
    let text = format!("{option} in {} cannot be used: {error}", reader.section);
    match error.part {
        TlsFileKind::Certificate | TlsFileKind::Key => {
            reader.error(option, INMANTA_LOAD_ERROR, &error.to_string())
        }
        TlsFileKind::ClientAuthorities => reader.error(
            option,
            text,
            "name a file with the certificates of the clients' authorities in PEM",
        ),
        TlsFileKind::Revoked => reader.error(
            option,
            text,
            "name files with the authorities' current CRLs in PEM or DER",
        ),
    }
}

impl<'s> TlsSections<'s> {
    /// Returns a reader of the section with the option for a file.
    fn reader<'r>(self, part: TlsFileKind, problems: &'r mut Problems) -> SectionReader<'r>
    where
        's: 'r,
    {
        let section = match part {
            TlsFileKind::Certificate | TlsFileKind::Key => self.certificate,
            TlsFileKind::ClientAuthorities | TlsFileKind::Revoked => self.clients,
        };
        SectionReader::new(self.all, section, problems)
    }
}

impl TlsFiles {
    fn read(sections: TlsSections<'_>, problems: &mut Problems) -> Option<Self> {
        let clients = ClientCertificates::read(
            &mut sections.reader(TlsFileKind::ClientAuthorities, problems),
        );
        let mut reader = sections.reader(TlsFileKind::Certificate, problems);
        let path = |option| reader.given(option).map(PathBuf::from);
        match (path("ssl_cert_file"), path("ssl_key_file")) {
            (Some(certificate), Some(key)) => {
                reader.warn_if_readable_by_all("ssl_key_file", &key);
                return Some(Self { certificate, key, clients });
            }
            (None, None) => {}
            (Some(_), None) => report_missing(&mut reader, "ssl_cert_file", "ssl_key_file"),
            (None, Some(_)) => report_missing(&mut reader, "ssl_key_file", "ssl_cert_file"),
        }
        if clients != ClientCertificates::Off {
            let text = "client_certificates requires TLS, which is off";
            let help = format!(
                "set ssl_cert_file and ssl_key_file in {}, or client_certificates = off",
                sections.certificate
            );
            sections.reader(TlsFileKind::ClientAuthorities, problems).error(
                "client_certificates",
                text,
                &help,
            );
        }
        None
    }
}

/// Rejects half a TLS configuration, which would silently serve tokens in plain text.
fn report_missing(reader: &mut SectionReader<'_>, given: &str, absent: &str) {
    reader.error(
        given,
        format!("{given} is set but {absent} is not"),
        &format!("set {absent} too, or remove {given} to serve without TLS"),
    );
}

impl ClientCertificates {
    fn read(reader: &mut SectionReader<'_>) -> Self {
        let authorities = reader.given("client_ca_file").map(PathBuf::from);
        let revoked: Vec<_> =
            reader.given_list("client_crl_file").into_iter().map(PathBuf::from).collect();
        let demanded = match reader.text("client_certificates") {
            None => {
                // These options suggest that the operator expects client certificates.
                let given = authorities.as_ref().map(|_| "client_ca_file");
                if let Some(option) =
                    given.or_else(|| (!revoked.is_empty()).then_some("client_crl_file"))
                {
                    let text = format!(
                        "{option} is set but client_certificates is not, so no certificate is \
                         requested"
                    );
                    reader.error(
                        option,
                        text,
                        "write client_certificates = required, optional or off",
                    );
                }
                return Self::Off;
            }
            Some("off") => return Self::Off,
            Some("possession") => {
                refuse_authorities(reader, authorities.is_some(), !revoked.is_empty());
                return Self::Possession;
            }
            Some("optional") => Self::Optional,
            Some("required") => Self::Required,
            Some(other) => {
                let text = format!(
                    "client_certificates {} in {} is unknown",
                    quoted(other),
                    reader.section
                );
                reader.error(
                    "client_certificates",
                    text,
                    "choose one of off, possession, optional, required",
                );
                return Self::Off;
            }
        };
        let Some(file) = authorities else {
            let text = format!("client_certificates in {} requires client_ca_file", reader.section);
            reader.error(
                "client_certificates",
                text,
                "name a file with the certificates of the clients' authorities in PEM",
            );
            return Self::Off;
        };
        demanded(ClientAuthorities { file, revoked })
    }
}

/// Rejects authorities where no certificate is checked against them.
fn refuse_authorities(reader: &mut SectionReader<'_>, has_file: bool, has_list: bool) {
    let given = [("client_ca_file", has_file), ("client_crl_file", has_list)];
    for (option, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
        let text = format!(
            "{option} in {} has no effect: client_certificates = possession trusts no authority",
            reader.section
        );
        let help = format!("remove {option}, or write client_certificates = optional or required");
        reader.error(option, text, &help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ini;

    /// Parses the options and returns the files or the problems.
    fn read(text: &str) -> Result<Option<TlsFiles>, String> {
        let mut problems = Problems::default();
        let all = ini::parse("c.cfg", text, &mut problems);
        let files = TlsFiles::read(
            TlsSections { all: &all, certificate: "server", clients: "listen" },
            &mut problems,
        );
        if problems.0.is_empty() { Ok(files) } else { Err(problems.to_string()) }
    }

    const PAIR: &str = "[server]\nssl_cert_file=c\nssl_key_file=k\n[listen]\n";

    #[test]
    fn client_certificates_follow_the_option() {
        let clients =
            |options: &str| read(&format!("{PAIR}{options}")).map(|files| files.unwrap().clients);
        let authorities = |revoked: &[&str]| ClientAuthorities {
            file: "a".into(),
            revoked: revoked.iter().map(PathBuf::from).collect(),
        };
        for (options, expected) in [
            ("", ClientCertificates::Off),
            ("client_certificates=off", ClientCertificates::Off),
            (
                "client_certificates=off\nclient_ca_file=a\nclient_crl_file=r",
                ClientCertificates::Off,
            ),
            ("client_certificates=possession", ClientCertificates::Possession),
            (
                "client_certificates=optional\nclient_ca_file=a",
                ClientCertificates::Optional(authorities(&[])),
            ),
            (
                "client_certificates=required\nclient_ca_file=a\nclient_crl_file=",
                ClientCertificates::Required(authorities(&[])),
            ),
            (
                "client_certificates=required\nclient_ca_file=a\nclient_crl_file=r, s",
                ClientCertificates::Required(authorities(&["r", "s"])),
            ),
        ] {
            assert_eq!(clients(options), Ok(expected), "{options}");
        }
    }

    #[test]
    fn client_certificate_options_must_be_complete() {
        for (text, expected) in [
            (
                format!("{PAIR}client_certificates=yes"),
                "client_certificates \"yes\" in listen is unknown",
            ),
            (
                format!("{PAIR}client_certificates=required"),
                "c.cfg:5: client_certificates in listen requires client_ca_file",
            ),
            (
                format!("{PAIR}client_certificates=possession\nclient_ca_file=a"),
                "c.cfg:6: client_ca_file in listen has no effect",
            ),
            (
                format!("{PAIR}client_certificates=possession\nclient_crl_file=r"),
                "c.cfg:6: client_crl_file in listen has no effect",
            ),
            (
                "[listen]\nclient_certificates=possession".into(),
                "client_certificates requires TLS, which is off",
            ),
            (
                format!("{PAIR}client_ca_file=a"),
                "c.cfg:5: client_ca_file is set but client_certificates is not",
            ),
            (
                format!("{PAIR}client_crl_file=r"),
                "c.cfg:5: client_crl_file is set but client_certificates is not",
            ),
            (
                "[listen]\nclient_certificates=optional\nclient_ca_file=a".into(),
                "client_certificates requires TLS, which is off",
            ),
            ("[server]\nssl_cert_file=c\n".into(), "ssl_cert_file is set but ssl_key_file is not"),
            (
                "[server]\nssl_key_file=k\nssl_cert_file=\n".into(),
                "ssl_key_file is set but ssl_cert_file is not",
            ),
        ] {
            let problems = read(&text).unwrap_err();
            assert!(problems.contains(expected), "{text}: {problems}");
        }
        assert_eq!(read("[server]\nbind_port=1\n"), Ok(None));
    }

    #[test]
    fn tls_files_are_listed_with_their_options() {
        let files = read(&format!(
            "{PAIR}client_certificates=required\nclient_ca_file=a\nclient_crl_file=r,s"
        ))
        .unwrap()
        .unwrap();
        let listed: Vec<_> =
            files.iter().map(|(part, file)| (part.option(), file.to_str().unwrap())).collect();
        assert_eq!(
            listed,
            [
                ("ssl_cert_file", "c"),
                ("ssl_key_file", "k"),
                ("client_ca_file", "a"),
                ("client_crl_file", "r"),
                ("client_crl_file", "s")
            ]
        );
    }
}
