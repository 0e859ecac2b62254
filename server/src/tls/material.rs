//! Reads the TLS files of a listener and builds the rustls configuration.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use countersign_engine::UnixTime;
use rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{default_provider, kx_group},
    },
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{
        ClientCertVerifierBuilder, NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    version::{TLS12, TLS13},
};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer as _,
    revocation_list::CertificateRevocationList, time::ASN1Time,
};

use super::{
    TlsError,
    possession::PossessionVerifier,
    settings::{ClientCertificates, TlsFileKind, TlsFiles},
};
use crate::base::{
    redacted::pem_sections,
    revocation_list::{RevocationListHead, without_superseded},
    watched_file::open_regular,
};

/// Builds the server configuration and the [`Material`] that describes its files.
///
/// # Errors
/// The file that cannot be used, and the reason.
pub(super) fn build(
    contents: &TlsFileContents<'_>,
    tickets: Option<&Arc<dyn ProducesTickets>>,
) -> Result<(ServerConfig, Material), TlsError> {
    let (provider, TlsFileContents { certificate, key, authorities, revoked, clients }) =
        (Arc::new(provider()), contents);
    let mut material = Material::default();
    let chain = certificate.certificates()?;
    for der in &chain {
        material.record_certificate(certificate, der)?;
    }
    let verifier: Arc<dyn ClientCertVerifier> = match authorities {
        None if **clients == ClientCertificates::Possession => {
            Arc::new(PossessionVerifier::new(Arc::clone(&provider)))
        }
        None => WebPkiClientVerifier::no_client_auth(),
        Some(authorities) => {
            let verifier = verifier(authorities, revoked, &provider, &mut material)?;
            let verifier = match clients {
                ClientCertificates::Required(_) => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            verifier.build().map_err(|error| authorities.error(error.to_string()))?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| certificate.error(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key.private_key()?)
        .map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => key.error(format!(
                "the key does not belong to the certificate in {}, or that certificate is not \
                 the first in the file",
                certificate.path.display()
            )),
            error => key.error(format!("it cannot be used: {error}")),
        })?;
    config.max_early_data_size = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match tickets {
        Some(tickets) => config.ticketer = Arc::clone(tickets),
        None => config.send_tls13_tickets = 0,
    }
    Ok((config, material))
}

/// Returns the aws-lc provider with the hybrid key exchange first, independent of the features
/// rustls was built with.
fn provider() -> CryptoProvider {
    let kx_groups =
        vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    CryptoProvider { kx_groups, ..default_provider() }
}

/// Returns the builder of the client certificate verifier.
///
/// By rustls' defaults it checks revocation along the whole chain and rejects certificates whose
/// status no CRL covers. Expired CRLs are rejected too.
fn verifier(
    authorities: &TlsFileContent<'_>,
    revoked: &[TlsFileContent<'_>],
    provider: &Arc<CryptoProvider>,
    material: &mut Material,
) -> Result<ClientCertVerifierBuilder, TlsError> {
    let mut roots = RootCertStore::empty();
    for der in authorities.certificates()? {
        material.record_authority(authorities, &der)?;
        roots.add(der).map_err(|error| {
            authorities.error(format!("a certificate in it cannot be used: {error}"))
        })?;
    }
    let roots = Arc::new(roots);
    let verifier =
        || WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
    let mut all = Vec::new();
    for file in revoked {
        let lists = file.revocation_lists()?;
        for der in &lists {
            all.push(file.parsed_list(der)?);
        }
        // Each file is tried alone first, so that an error can name the file.
        verifier().with_crls(lists).build().map_err(|error| file.error(error.to_string()))?;
    }
    // rustls takes the first list of an authority.
    let newest = without_superseded(&all, |list| &list.head, RevocationListHead::has_issuer_of);
    let mut with_lists = verifier().enforce_revocation_expiration();
    for list in newest {
        material.validity_periods.push(list.validity.clone());
        material.listed.push(list.head.issuer.clone());
        with_lists = with_lists.with_crls([list.der.clone()]);
    }
    Ok(with_lists)
}

/// A CRL in a file.
struct ParsedList {
    head: RevocationListHead,
    validity: ValidityPeriod,
    der: CertificateRevocationListDer<'static>,
}

/// Facts about the files in use, from which the warnings are made.
#[derive(Debug, Default)]
pub(super) struct Material {
    validity_periods: Vec<ValidityPeriod>,
    /// The clients' authorities: file, subject in DER, and subject as text.
    authorities: Vec<(PathBuf, Vec<u8>, String)>,
    /// When the certificates of these authorities expire, in seconds since 1970.
    authority_ends: Vec<i64>,
    /// The issuers of all CRLs, in DER.
    listed: Vec<Vec<u8>>,
}

/// The validity period of a certificate or CRL in a file.
#[derive(Clone, Debug)]
struct ValidityPeriod {
    part: TlsFileKind,
    file: PathBuf,
    from: ASN1Time,
    until: Option<ASN1Time>,
}

impl Material {
    fn record_certificate(
        &mut self,
        file: &TlsFileContent<'_>,
        der: &CertificateDer<'_>,
    ) -> Result<(), TlsError> {
        let certificate = file.parsed(der)?;
        let validity = certificate.validity();
        self.validity_periods
            .push(file.validity_period(validity.not_before, Some(validity.not_after)));
        Ok(())
    }

    fn record_authority(
        &mut self,
        file: &TlsFileContent<'_>,
        der: &CertificateDer<'_>,
    ) -> Result<(), TlsError> {
        let certificate = file.parsed(der)?;
        let validity = certificate.validity();
        // Not a warning once it is over: rustls does not check the dates of authorities.
        self.authority_ends.push(validity.not_after.timestamp());
        let name = certificate.subject();
        self.authorities.push((file.path.into(), name.as_raw().into(), name.to_string()));
        Ok(())
    }

    /// Returns when the first certificate or CRL of a kind of file expires, in seconds since 1970.
    pub(super) fn expires_at(&self, part: TlsFileKind) -> Option<i64> {
        let periods = self.validity_periods.iter().filter(|period| period.part == part);
        let ends = periods.filter_map(|period| Some(period.until?.timestamp()));
        match part {
            TlsFileKind::ClientAuthorities => self.authority_ends.iter().copied().min(),
            TlsFileKind::Certificate | TlsFileKind::Key | TlsFileKind::Revoked => ends.min(),
        }
    }

    /// Returns the warnings as of now.
    pub(super) fn warnings(&self, now: UnixTime) -> Vec<TlsError> {
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        let expired = self.validity_periods.iter().filter_map(|period| period.warning(now));
        let is_unlisted = |name: &Vec<u8>| !self.listed.is_empty() && !self.listed.contains(name);
        let unlisted = self.authorities.iter().filter(|(_, name, _)| is_unlisted(name)).map(
            |(file, _, subject)| {
                let reason =
                    format!("the CRL of {subject} is missing: all of its clients are rejected");
                TlsError::new(TlsFileKind::ClientAuthorities, file, reason)
            },
        );
        expired.chain(unlisted).collect()
    }
}

impl ValidityPeriod {
    fn warning(&self, now: i64) -> Option<TlsError> {
        let kind = match self.part {
            TlsFileKind::Revoked => "a CRL",
            TlsFileKind::Certificate | TlsFileKind::Key | TlsFileKind::ClientAuthorities => {
                "a certificate"
            }
        };
        let reason = match self.until {
            _ if now < self.from.timestamp() => {
                format!("{kind} in it is not valid before {}", self.from)
            }
            Some(until) if now > until.timestamp() => match self.part {
                TlsFileKind::Revoked => format!(
                    "{kind} in it has expired, {until}: all clients of its authority are rejected"
                ),
                _ => format!("{kind} in it has expired, {until}"),
            },
            _ => return None,
        };
        Some(TlsError::new(self.part, &self.file, reason))
    }
}

/// SHA-256 over the digests of all files. Nothing else of a private key is kept.
pub(super) type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

/// The contents of all files.
pub(super) struct TlsFileContents<'f> {
    certificate: TlsFileContent<'f>,
    key: TlsFileContent<'f>,
    authorities: Option<TlsFileContent<'f>>,
    revoked: Vec<TlsFileContent<'f>>,
    /// Whether clients must present a certificate.
    clients: &'f ClientCertificates,
}

impl<'f> TlsFileContents<'f> {
    /// Reads all files.
    ///
    /// # Errors
    /// The file that cannot be read, and the reason.
    pub(super) fn read(files: &'f TlsFiles) -> Result<Self, TlsError> {
        let clients = files.clients.authorities();
        let revoked = clients.map(|clients| &*clients.revoked).unwrap_or_default();
        Ok(Self {
            certificate: TlsFileContent::read(TlsFileKind::Certificate, &files.certificate)?,
            key: TlsFileContent::read(TlsFileKind::Key, &files.key)?,
            authorities: clients
                .map(|clients| TlsFileContent::read(TlsFileKind::ClientAuthorities, &clients.file))
                .transpose()?,
            revoked: revoked
                .iter()
                .map(|file| TlsFileContent::read(TlsFileKind::Revoked, file))
                .collect::<Result<_, _>>()?,
            clients: &files.clients,
        })
    }

    /// Returns the fingerprint of all files.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut all = digest::Context::new(&digest::SHA256);
        let files = [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.authorities)
            .chain(&self.revoked);
        for content in files {
            all.update(digest::digest(&digest::SHA256, &content.bytes).as_ref());
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(all.finish().as_ref());
        fingerprint
    }
}

/// The content of one file.
struct TlsFileContent<'f> {
    part: TlsFileKind,
    path: &'f Path,
    bytes: Vec<u8>,
}

impl<'f> TlsFileContent<'f> {
    fn read(part: TlsFileKind, path: &'f Path) -> Result<Self, TlsError> {
        /// Maximum size of a file. CRLs of public authorities have several megabytes.
        const MAX_FILE_BYTES: u64 = 64 << 20;
        let mut content = Self { part, path, bytes: Vec::new() };
        let read = open_regular(path)
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut content.bytes));
        match read {
            Ok(length) if u64::try_from(length).is_ok_and(|length| length < MAX_FILE_BYTES) => {
                Ok(content)
            }
            Ok(_) => Err(content.error(format!("it has {MAX_FILE_BYTES} bytes or more"))),
            Err(error) => Err(content.error(error.to_string())),
        }
    }

    fn error(&self, reason: impl Into<String>) -> TlsError {
        TlsError::new(self.part, self.path, reason)
    }

    fn validity_period(&self, from: ASN1Time, until: Option<ASN1Time>) -> ValidityPeriod {
        ValidityPeriod { part: self.part, file: self.path.into(), from, until }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.sections("certificate in PEM")
    }

    fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        // An ASN.1 SEQUENCE. Authorities publish CRLs in DER (RFC 5280 section 4.2.1.13).
        if self.bytes.starts_with(&[0x30]) {
            return Ok(vec![CertificateRevocationListDer::from(self.bytes.clone())]);
        }
        self.sections("CRL")
    }

    fn parsed_list(
        &self,
        der: &CertificateRevocationListDer<'static>,
    ) -> Result<ParsedList, TlsError> {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|_| self.error("a CRL in it is damaged"))?;
        Ok(ParsedList {
            head: RevocationListHead::of(&list),
            validity: self.validity_period(list.last_update(), list.next_update()),
            der: der.clone(),
        })
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let marks: [&[u8]; 2] =
            [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
        if marks.iter().any(|mark| self.bytes.windows(mark.len()).any(|window| window == *mark)) {
            return Err(self.error("the private key is encrypted"));
        }
        // The first of several keys is used, as by OpenSSL.
        self.sections("private key in PEM").map(|mut keys| keys.swap_remove(0))
    }

    /// Returns all PEM sections of a kind, at least one.
    fn sections<T: PemObject>(&self, kind: &str) -> Result<Vec<T>, TlsError> {
        let found: Vec<T> = pem_sections(&self.bytes).map_err(|damage| self.error(damage))?;
        if found.is_empty() { Err(self.error(format!("it holds no {kind}"))) } else { Ok(found) }
    }

    fn parsed<'d>(&self, der: &'d CertificateDer<'_>) -> Result<X509Certificate<'d>, TlsError> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            _ => Err(self.error("a certificate in it is damaged")),
        }
    }
}
