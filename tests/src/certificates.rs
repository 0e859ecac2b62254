//! Certificates and revocation lists (CRLs) of test authorities.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, NameConstraints, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Validity in years, end excluded.
pub type ValidYears = std::ops::Range<i32>;

/// Validity that includes the current year.
pub const CURRENT: ValidYears = 2000..2100;
/// Validity in the past.
pub const EXPIRED: ValidYears = 2000..2010;

/// Returns an authority and a certificate for localhost, shared by tests that are not about
/// certificates.
pub fn ours() -> &'static (Authority, IssuedCertificate) {
    static OURS: OnceLock<(Authority, IssuedCertificate)> = OnceLock::new();
    OURS.get_or_init(|| {
        let authority = Authority::root("ours");
        let issued = authority.server();
        (authority, issued)
    })
}

/// Certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Certificate chain up to the root, excluded, with the own certificate first. Empty for a
    /// root.
    below: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// Creates a root authority.
    pub fn root(name: &str) -> Self {
        Self::self_signed(authority(name))
    }

    /// Like [`root`](Self::root), valid in these years.
    pub fn root_in(years: ValidYears, name: &str) -> Self {
        let mut parameters = authority(name);
        (parameters.not_before, parameters.not_after) =
            (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
        Self::self_signed(parameters)
    }

    fn self_signed(parameters: CertificateParams) -> Self {
        let issuer =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, below: Vec::new() }
    }

    /// Creates an intermediate authority, certified by this one.
    pub fn authority(&self, name: &str, serial: u64) -> Self {
        self.certify(authority(name), serial)
    }

    /// Like [`authority`](Self::authority), and it may not certify hosts of `domain`.
    pub fn constrained_authority(&self, name: &str, serial: u64, domain: &str) -> Self {
        let excluded_subtrees = vec![GeneralSubtree::DnsName(domain.into())];
        let constraints = NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees };
        let mut parameters = authority(name);
        parameters.name_constraints = Some(constraints);
        self.certify(parameters, serial)
    }

    fn certify(&self, mut parameters: CertificateParams, serial: u64) -> Self {
        parameters.serial_number = Some(serial.into());
        let issuer =
            CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), &self.issuer)
                .unwrap();
        let below = [issuer.der().clone()].into_iter().chain(self.below.iter().cloned()).collect();
        Self { issuer, below }
    }

    /// Returns its certificate in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns its certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// Issues a server certificate for localhost.
    pub fn server(&self) -> IssuedCertificate {
        self.server_in(CURRENT)
    }

    /// Like [`server`](Self::server), valid in these years.
    pub fn server_in(&self, years: ValidYears) -> IssuedCertificate {
        let parameters = CertificateParams::new(["localhost".into(), "127.0.0.1".into()]).unwrap();
        self.issue(parameters, "localhost", years, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Issues a client certificate.
    pub fn client(&self, name: &str, serial: u64) -> IssuedCertificate {
        self.client_in(CURRENT, name, serial)
    }

    /// Like [`client`](Self::client), valid in these years.
    pub fn client_in(&self, years: ValidYears, name: &str, serial: u64) -> IssuedCertificate {
        let mut parameters = CertificateParams::default();
        parameters.serial_number = Some(serial.into());
        self.issue(parameters, name, years, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        mut parameters: CertificateParams,
        name: &str,
        years: ValidYears,
        purpose: ExtendedKeyUsagePurpose,
    ) -> IssuedCertificate {
        parameters.distinguished_name = distinguished_name(name);
        parameters.extended_key_usages = vec![purpose];
        (parameters.not_before, parameters.not_after) =
            (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let chain =
            [certificate.der().clone()].into_iter().chain(self.below.iter().cloned()).collect();
        IssuedCertificate { chain, key: key.serialize_pem() }
    }

    /// Issues a CRL of these serial numbers, in PEM.
    pub fn crl(&self, serials: &[u64]) -> String {
        self.crl_in(CURRENT, serials)
    }

    /// Like [`crl`](Self::crl), valid in these years.
    pub fn crl_in(&self, years: ValidYears, serials: &[u64]) -> String {
        self.crl_parameters(years, 1, serials).pem().unwrap()
    }

    /// Like [`crl`](Self::crl), with this number.
    pub fn numbered_crl(&self, number: u64, serials: &[u64]) -> String {
        self.crl_parameters(CURRENT, number, serials).pem().unwrap()
    }

    /// Issues a CRL of these serial numbers, in DER.
    pub fn crl_der(&self, serials: &[u64]) -> Vec<u8> {
        self.crl_parameters(CURRENT, 1, serials).der().to_vec()
    }

    fn crl_parameters(
        &self,
        years: ValidYears,
        number: u64,
        serials: &[u64],
    ) -> rcgen::CertificateRevocationList {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(years.start, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let parameters = CertificateRevocationListParams {
            this_update: date_time_ymd(years.start, 1, 1),
            next_update: date_time_ymd(years.end, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        parameters.signed_by(&self.issuer).unwrap()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = distinguished_name(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn distinguished_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Certificate with its private key.
#[derive(Debug)]
pub struct IssuedCertificate {
    /// Certificate, followed by its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key in PEM.
    pub key: String,
}

impl IssuedCertificate {
    /// Returns the chain in PEM.
    pub fn pem(&self) -> String {
        let mut text = String::new();
        for certificate in &self.chain {
            let arguments = ["x509", "-inform", "DER"];
            text += &String::from_utf8(crate::openssl::openssl(&arguments, certificate)).unwrap();
        }
        text
    }

    /// Returns the private key in DER.
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
