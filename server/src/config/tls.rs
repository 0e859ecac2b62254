//! `ssl_cert_file` and `ssl_key_file`: TLS is on when both are set. And
//! `client_certificates`: whether clients have to show one of their own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{problem::Problem, protocols::Protocols, reader::SectionReader, setting::Section};
use crate::listen::tls::{ReloadableTls, TlsError};

/// The files that TLS on one listener is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate and those between it and its authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM and not encrypted.
    pub key: PathBuf,
    /// Whether clients show a certificate.
    pub clients: ClientCertificates,
}

/// Whether clients show a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for one.
    Off,
    /// Those that have one may show it. A bad one is refused, not ignored.
    Optional(ClientAuthorities),
    /// Nobody gets any further without one.
    Required(ClientAuthorities),
}

/// Who vouches for clients, and no longer does for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthorities {
    /// The certificates of the authorities, in PEM.
    pub file: PathBuf,
    /// Their lists of revoked certificates, in PEM or DER. With one list there have to
    /// be lists of every authority.
    pub revoked: Vec<PathBuf>,
}

/// What a file of the set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFileKind {
    /// Our certificate.
    Certificate,
    /// Its key.
    Key,
    /// The authorities of clients' certificates.
    ClientAuthorities,
    /// What these have revoked.
    Revoked,
}

impl TlsFileKind {
    /// The option that names the file.
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
    /// Every file, and what it is for.
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
    /// Who vouches for them, where they are asked for a certificate.
    #[must_use]
    pub const fn authorities(&self) -> Option<&ClientAuthorities> {
        match self {
            Self::Off => None,
            Self::Optional(authorities) | Self::Required(authorities) => Some(authorities),
        }
    }
}

/// The sections that describe the TLS of one listener; they may be the same.
#[derive(Clone, Copy)]
pub(super) struct TlsSections<'s> {
    pub(super) all: &'s BTreeMap<String, Section>,
    /// Has `ssl_cert_file` and `ssl_key_file`.
    pub(super) certificate: &'s str,
    /// Has the options about clients, and `protocols`.
    pub(super) clients: &'s str,
}

/// Reads the options of one listener and the files they name, and what it speaks. No TLS
/// for one without, or with mistakes.
pub(super) fn read(
    sections: TlsSections<'_>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> (Protocols, Option<Arc<ReloadableTls>>) {
    let files = TlsFiles::read(sections, problems);
    let protocols = Protocols::read(
        &mut SectionReader::new(sections.all, sections.clients, problems),
        files.is_some(),
    );
    (protocols, files.and_then(|files| load(files, protocols, sections, problems, warnings)))
}

fn load(
    files: TlsFiles,
    protocols: Protocols,
    sections: TlsSections<'_>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<Arc<ReloadableTls>> {
    match ReloadableTls::load(files, protocols) {
        Ok(tls) => {
            warnings.extend(tls.warnings().iter().map(|remark| {
                let reader = sections.reader(remark.part, problems);
                Problem::new(reader.place(remark.part.option()), remark.to_string())
            }));
            Some(Arc::new(tls))
        }
        Err(fault) => {
            report_load_error(&mut sections.reader(fault.part, problems), &fault);
            None
        }
    }
}

/// Inmanta's text for every way in which certificate and key can be unusable.
const INMANTA_LOAD_ERROR: &str = "Failed to load ssl certificate. Please check if you provided the correct certificate/key path and make sure \
                      that these files are not encrypted.";

fn report_load_error(reader: &mut SectionReader<'_>, fault: &TlsError) {
    let option = fault.part.option();
    let text = format!("{option} in {} cannot be used: {fault}", reader.section);
    match fault.part {
        TlsFileKind::Certificate | TlsFileKind::Key => {
            reader.problem(option, INMANTA_LOAD_ERROR, &fault.to_string())
        }
        TlsFileKind::ClientAuthorities => reader.problem(
            option,
            text,
            "give a file with the certificates of the clients' authorities in PEM",
        ),
        TlsFileKind::Revoked => reader.problem(
            option,
            text,
            "give files with the authorities' current CRLs in PEM or DER",
        ),
    }
}

impl<'s> TlsSections<'s> {
    /// The section that has the options for a part.
    fn reader<'r>(self, part: TlsFileKind, problems: &'r mut Vec<Problem>) -> SectionReader<'r>
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
    fn read(sections: TlsSections<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let clients = ClientCertificates::read(
            &mut sections.reader(TlsFileKind::ClientAuthorities, problems),
        );
        let mut reader = sections.reader(TlsFileKind::Certificate, problems);
        match (path(&reader, "ssl_cert_file"), path(&reader, "ssl_key_file")) {
            (Some(certificate), Some(key)) => return Some(Self { certificate, key, clients }),
            (None, None) => {}
            (Some(_), None) => report_missing(&mut reader, "ssl_cert_file", "ssl_key_file"),
            (None, Some(_)) => report_missing(&mut reader, "ssl_key_file", "ssl_cert_file"),
        }
        if clients != ClientCertificates::Off {
            let text = "client_certificates is set, but there is no TLS to show them in";
            let help = format!(
                "set ssl_cert_file and ssl_key_file in {}, or client_certificates = off",
                sections.certificate
            );
            sections.reader(TlsFileKind::ClientAuthorities, problems).problem(
                "client_certificates",
                text,
                &help,
            );
        }
        None
    }
}

/// Half a TLS configuration would silently serve tokens in plain text.
fn report_missing(reader: &mut SectionReader<'_>, given: &str, absent: &str) {
    reader.problem(
        given,
        format!("{given} is set but {absent} is not"),
        "TLS needs both; remove the one to serve without TLS",
    );
}

impl ClientCertificates {
    fn read(reader: &mut SectionReader<'_>) -> Self {
        let authorities = path(reader, "client_ca_file");
        let revoked = reader.list("client_crl_file").unwrap_or_default();
        let revoked: Vec<_> =
            revoked.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        let demanded = match reader.text("client_certificates") {
            None => {
                // Whoever wrote these believes that clients are asked.
                let given = authorities.as_ref().map(|_| "client_ca_file");
                if let Some(option) =
                    given.or_else(|| (!revoked.is_empty()).then_some("client_crl_file"))
                {
                    let text = format!(
                        "{option} is set but client_certificates is not, so no client is asked for one"
                    );
                    reader.problem(
                        option,
                        text,
                        "write client_certificates = required, optional or off",
                    );
                }
                return Self::Off;
            }
            Some("off") => return Self::Off,
            Some("optional") => Self::Optional,
            Some("required") => Self::Required,
            Some(other) => {
                let text =
                    format!("client_certificates {other:?} in {} is unknown", reader.section);
                reader.problem(
                    "client_certificates",
                    text,
                    "choose one of off, optional, required",
                );
                return Self::Off;
            }
        };
        let Some(file) = authorities else {
            let text = format!(
                "client_certificates is set in {}, but client_ca_file is not",
                reader.section
            );
            reader.problem(
                "client_certificates",
                text,
                "name a file with the certificates of the clients' authorities in PEM",
            );
            return Self::Off;
        };
        demanded(ClientAuthorities { file, revoked })
    }
}

fn path(reader: &SectionReader<'_>, option: &str) -> Option<PathBuf> {
    reader.text(option).filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::{super::ini, *};

    /// What these options mean, or what is said about them.
    fn read(text: &str) -> Result<Option<TlsFiles>, String> {
        let (all, mut problems) = (ini::parse("c.cfg", text).unwrap(), Vec::new());
        let files = TlsFiles::read(
            TlsSections { all: &all, certificate: "server", clients: "listen" },
            &mut problems,
        );
        if problems.is_empty() {
            Ok(files)
        } else {
            Err(problems.iter().map(ToString::to_string).collect())
        }
    }

    const PAIR: &str = "[server]\nssl_cert_file=c\nssl_key_file=k\n[listen]\n";

    #[test]
    fn clients_show_certificates_where_the_operator_says_so() {
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
    fn what_would_leave_clients_unasked_is_refused() {
        for (text, expected) in [
            (
                format!("{PAIR}client_certificates=yes"),
                "client_certificates \"yes\" in listen is unknown",
            ),
            (
                format!("{PAIR}client_certificates=required"),
                "c.cfg:5: client_certificates is set in listen, but client_ca_file is not",
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
                "there is no TLS to show them in",
            ),
            ("[server]\nssl_cert_file=c\n".into(), "ssl_cert_file is set but ssl_key_file is not"),
            (
                "[server]\nssl_key_file=k\nssl_cert_file=\n".into(),
                "ssl_key_file is set but ssl_cert_file is not",
            ),
        ] {
            let said = read(&text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
        assert_eq!(read("[server]\nbind_port=1\n"), Ok(None));
    }

    #[test]
    fn every_file_is_known_by_the_option_that_names_it() {
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
