//! Certificates and lists of revoked ones, by authorities of the tests' own.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The years in which something is valid, of which the last one is not.
pub type Years = std::ops::Range<i32>;

/// Years with this one among them.
pub const CURRENT: Years = 2000..2100;
/// Years that are over.
pub const OVER: Years = 2000..2010;

/// An authority with the certificate of a server on this machine, for tests to which
/// all certificates are one.
pub fn ours() -> &'static (Authority, Issued) {
    static OURS: OnceLock<(Authority, Issued)> = OnceLock::new();
    OURS.get_or_init(|| {
        let authority = Authority::root("ours");
        let issued = authority.server();
        (authority, issued)
    })
}

/// Somebody who issues certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The certificates between this one and its root, this one first.
    below: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// One that answers for itself.
    pub fn root(name: &str) -> Self {
        let issuer =
            CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap();
        Self { issuer, below: Vec::new() }
    }

    /// One that this one answers for, by a certificate with a serial number.
    pub fn authority(&self, name: &str, serial: u64) -> Self {
        let mut parameters = authority(name);
        parameters.serial_number = Some(serial.into());
        let issuer =
            CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), &self.issuer)
                .unwrap();
        let below = [issuer.der().clone()].into_iter().chain(self.below.iter().cloned()).collect();
        Self { issuer, below }
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// A certificate for a server on this machine.
    pub fn server(&self) -> Issued {
        self.server_in(CURRENT)
    }

    /// The same, valid in these years.
    pub fn server_in(&self, years: Years) -> Issued {
        let parameters = CertificateParams::new(["localhost".into(), "127.0.0.1".into()]).unwrap();
        self.issue(parameters, "localhost", years, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client, with a serial number.
    pub fn client(&self, name: &str, serial: u64) -> Issued {
        self.client_in(CURRENT, name, serial)
    }

    /// The same, valid in these years.
    pub fn client_in(&self, years: Years, name: &str, serial: u64) -> Issued {
        let mut parameters = CertificateParams::default();
        parameters.serial_number = Some(serial.into());
        self.issue(parameters, name, years, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        mut parameters: CertificateParams,
        name: &str,
        years: Years,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Issued {
        parameters.distinguished_name = named(name);
        parameters.extended_key_usages = vec![purpose];
        (parameters.not_before, parameters.not_after) =
            (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let chain =
            [certificate.der().clone()].into_iter().chain(self.below.iter().cloned()).collect();
        Issued { chain, key: key.serialize_pem() }
    }

    /// Its list of revoked certificates, in PEM.
    pub fn revoked(&self, serials: &[u64]) -> String {
        self.revoked_in(CURRENT, serials)
    }

    /// The same, valid in these years.
    pub fn revoked_in(&self, years: Years, serials: &[u64]) -> String {
        self.list(years, serials).pem().unwrap()
    }

    /// Its list of revoked certificates, in DER.
    pub fn revoked_der(&self, serials: &[u64]) -> Vec<u8> {
        self.list(CURRENT, serials).der().to_vec()
    }

    fn list(&self, years: Years, serials: &[u64]) -> rcgen::CertificateRevocationList {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(years.start, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let parameters = CertificateRevocationListParams {
            this_update: date_time_ymd(years.start, 1, 1),
            next_update: date_time_ymd(years.end, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        parameters.signed_by(&self.issuer).unwrap()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = named(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate, and those between it and its root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key, in PEM.
    pub key: String,
}

impl Issued {
    /// The chain, in PEM.
    pub fn pem(&self) -> String {
        let mut text = String::new();
        for certificate in &self.chain {
            let arguments = ["x509", "-inform", "DER"];
            text += &String::from_utf8(crate::openssl::openssl(&arguments, certificate)).unwrap();
        }
        text
    }

    /// The private key.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        rustls::pki_types::pem::PemObject::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// Writes `tls.crt` and `tls.key` into a directory.
    pub fn write(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
        std::fs::write(&certificate, self.pem()).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (certificate, key)
    }
}
