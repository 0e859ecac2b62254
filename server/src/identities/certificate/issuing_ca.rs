//! The authority that issues the client certificates of an identity.

use std::{fmt, ops::RangeInclusive};

use countersign_engine::UnixTime;
use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, TrustAnchor},
};
use x509_parser::{
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey,
    time::ASN1Time,
};

use super::certificate_fields::CertificateFields;
use crate::client::certificate::first_in_pem;

/// The certificate of an authority.
///
/// Of a file with several certificates, the first is the authority, as of Infisical. The others
/// would be intermediate authorities, which clients present, and trusting them instead would admit
/// clients that the first one's constraints exclude.
#[derive(Clone, Debug)]
pub struct IssuingCa {
    pub(super) certificate: CertificateDer<'static>,
    /// Name and key. The name constraints are left out: they are checked apart, for more types of
    /// names than `rustls-webpki` supports.
    pub(super) anchor: TrustAnchor<'static>,
}

/// The reason why a certificate cannot be used as the authority of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaError {
    /// The text contains no certificate, or a malformed one.
    Malformed,
    /// The text contains a private key, which must not be stored with the authority.
    PrivateKey,
    /// An extension of the certificate is malformed.
    Unreadable,
    /// The certificate expired at this time.
    Expired {
        /// The end of its validity, as text.
        not_after: String,
    },
    /// Its extended key usage excludes clients.
    ExcludesClients,
    /// Its `basicConstraints` state that it is not an authority.
    NotAuthority,
    /// Its key is of an unsupported type or size.
    UnsupportedKey,
    /// Its name constraints are malformed.
    UnreadableConstraints,
    /// A name constraint for URIs is not a host name.
    UnsupportedConstraint,
}

impl IssuingCa {
    /// Parses the first certificate of a PEM text.
    ///
    /// An authority that was usable when it was configured may no longer be. So only its form is
    /// checked here, and [`check_usable`](Self::check_usable) checks a new one.
    ///
    /// # Errors
    /// [`CaError::Malformed`] or [`CaError::PrivateKey`].
    pub fn parse(pem: &str) -> Result<Self, CaError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(CaError::PrivateKey);
        }
        let certificate = first_in_pem(pem.as_bytes()).ok_or(CaError::Malformed)?;
        let anchor = anchor(&certificate).ok_or(CaError::Malformed)?;
        Ok(Self { anchor, certificate })
    }

    /// Checks that some client certificate can be accepted, now or in the future. An authority that
    /// is not valid yet may be configured ahead of time.
    ///
    /// # Errors
    /// No client certificate can be accepted.
    pub fn check_usable(&self, now: UnixTime) -> Result<(), CaError> {
        let fields = CertificateFields::read(&self.certificate).map_err(|_| CaError::Unreadable)?;
        let (_, not_after) = fields.validity();
        if not_after < seconds(now) {
            let not_after = ASN1Time::from_timestamp(not_after)
                .map_or_else(|_| not_after.to_string(), |time| time.to_string());
            return Err(CaError::Expired { not_after });
        }
        if !fields.allows_clients {
            return Err(CaError::ExcludesClients);
        }
        if fields.basic_constraints.is_some_and(|constraints| !constraints.is_authority) {
            return Err(CaError::NotAuthority);
        }
        if !self.has_supported_key() {
            return Err(CaError::UnsupportedKey);
        }
        let constraints = fields.name_constraints().map_err(|_| CaError::UnreadableConstraints)?;
        if constraints.is_some_and(|constraints| constraints.has_unsupported_uri()) {
            return Err(CaError::UnsupportedConstraint);
        }
        Ok(())
    }

    /// Whether signatures by its key can be verified.
    fn has_supported_key(&self) -> bool {
        /// Sizes of RSA keys whose signatures `aws-lc-rs` verifies, in bits.
        const RSA_BITS: RangeInclusive<usize> = 2048..=8192;
        let Ok((_, certificate)) = X509Certificate::from_der(&self.certificate) else {
            return false;
        };
        if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() {
            return RSA_BITS.contains(&key.key_size());
        }
        // It begins with the identifier of the algorithm, and its parameters.
        let key = &self.anchor.subject_public_key_info;
        let algorithms = default_provider().signature_verification_algorithms.all;
        algorithms.iter().any(|algorithm| {
            let identifier = algorithm.public_key_alg_id();
            key.get(DER_HEADER_BYTES..).is_some_and(|key| key.starts_with(&identifier))
        })
    }
}

/// Length of the tag and the length of a short DER value.
const DER_HEADER_BYTES: usize = 2;

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "Invalid CA Certificate.",
            Self::PrivateKey => {
                "The CA certificate contains a private key. Remove the key, and replace it if it \
                 was sent over a network."
            }
            Self::Unreadable => "The CA certificate could not be decoded.",
            Self::Expired { not_after } => {
                return write!(f, "The CA certificate has expired on {not_after}.");
            }
            Self::ExcludesClients => {
                "The CA certificate is not permitted to issue client authentication certificates."
            }
            Self::NotAuthority => "The certificate is not that of a CA.",
            Self::UnsupportedKey => {
                "The key of the CA certificate is not supported, so no client certificate can be \
                 verified. Supported are RSA with 2048 to 8192 bits, ECDSA with P-256, P-384 or \
                 P-521, and Ed25519."
            }
            Self::UnreadableConstraints => {
                "The name constraints of the CA certificate could not be read."
            }
            Self::UnsupportedConstraint => {
                "The CA certificate restricts a URI name that is not a fully qualified domain \
                 name, so no client certificate can satisfy it."
            }
        })
    }
}

impl std::error::Error for CaError {}

/// Returns the name and key of an authority, without its name constraints. `None` if the
/// certificate is malformed.
pub(super) fn anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    let anchor = webpki::anchor_from_trusted_cert(certificate).ok()?.to_owned();
    Some(TrustAnchor { name_constraints: None, ..anchor })
}

/// Converts a time to the type of the times in certificates.
pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
