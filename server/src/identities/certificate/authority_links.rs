//! Signatures and revocations from an intermediate authority up to the configured one.
//!
//! `rustls-webpki` refuses a whole path if an intermediate authority has a name constraint that it
//! does not support. So it validates the path up to the first authority with constraints, as if
//! that one were configured, and each link above is checked here. Every signature is still
//! verified by `rustls-webpki`.

use countersign_engine::UnixTime;
use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
};
use webpki::{EndEntityCert, RawPublicKeyEntity};
use x509_parser::asn1_rs::{Any, BitString, Class, FromDer as _, Tag};

use super::{
    CertificateRefusal, RevocationLists, certificate_fields::CertificateFields, issuing_ca::seconds,
};

/// The first authority with name constraints, those above it, and the configured one.
pub(super) struct AuthorityLinks<'l, 'd> {
    pub(super) authorities: &'l [&'l CertificateFields<'d>],
    pub(super) ca: &'l CertificateFields<'d>,
    pub(super) revoked: &'l RevocationLists,
    pub(super) now: UnixTime,
}

impl AuthorityLinks<'_, '_> {
    /// Checks that each authority was certified by the next one, which has not revoked it.
    ///
    /// # Errors
    /// A certificate is not supported, a signature is not valid, or the authority is revoked.
    pub(super) fn check(&self) -> Result<(), CertificateRefusal> {
        let issuers = self.authorities.iter().copied().skip(1).chain([self.ca]);
        for (authority, issuer) in self.authorities.iter().zip(issuers) {
            self.check_link(authority, issuer).map_err(|error| match error {
                LinkError::Signature => CertificateRefusal::unverified(true),
                LinkError::Revoked => CertificateRefusal::Revoked,
                LinkError::RevocationUnknown => CertificateRefusal::RevocationUnknown,
            })?;
        }
        Ok(())
    }

    fn check_link(
        &self,
        authority: &CertificateFields<'_>,
        issuer: &CertificateFields<'_>,
    ) -> Result<(), LinkError> {
        if authority.issuer() != issuer.subject() {
            return Err(LinkError::Signature);
        }
        // It refuses unsupported versions, and critical extensions that it does not know.
        let der = CertificateDer::from(authority.der);
        let certificate = EndEntityCert::try_from(&der).map_err(|_| LinkError::Signature)?;
        if !is_signed_by(authority.der, issuer) {
            return Err(LinkError::Signature);
        }
        for list in self.revoked.of_authority(issuer) {
            if !issuer.may_sign_lists || !is_signed_by(&list.der, issuer) {
                return Err(LinkError::Signature);
            }
            if list.next_update.is_none_or(|next| next <= seconds(self.now)) {
                return Err(LinkError::RevocationUnknown);
            }
            match list.entries.find_serial(certificate.serial()) {
                Ok(None) => {}
                Ok(Some(_)) => return Err(LinkError::Revoked),
                Err(_) => return Err(LinkError::RevocationUnknown),
            }
        }
        Ok(())
    }
}

enum LinkError {
    Signature,
    Revoked,
    RevocationUnknown,
}

/// Whether the key of an issuer verifies a certificate or a revocation list.
pub(super) fn is_signed_by(der: &[u8], issuer: &CertificateFields<'_>) -> bool {
    let Some(signed) = SignedParts::read(der) else { return false };
    let key = SubjectPublicKeyInfoDer::from(issuer.public_key());
    let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
    // Several algorithms have the same identifier and differ in the type of the key.
    let mut algorithms = default_provider().signature_verification_algorithms.all.iter().copied();
    algorithms.any(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signed.algorithm
            && key.verify_signature(algorithm, signed.content, signed.signature).is_ok()
    })
}

/// What certificates (RFC 5280 section 4.1) and revocation lists (section 5.1) consist of.
struct SignedParts<'d> {
    /// The signed content, with its tag and length.
    content: &'d [u8],
    /// The content of the AlgorithmIdentifier.
    algorithm: &'d [u8],
    signature: &'d [u8],
}

impl<'d> SignedParts<'d> {
    fn read(der: &'d [u8]) -> Option<Self> {
        let (rest, all) = sequence(der)?;
        let (after_content, _) = sequence(all)?;
        let content = &all[..all.len() - after_content.len()];
        let (after_algorithm, algorithm) = sequence(after_content)?;
        let (after_signature, signature) = BitString::from_der(after_algorithm).ok()?;
        let is_complete = rest.is_empty() && after_signature.is_empty();
        if !is_complete || signature.unused_bits != 0 {
            return None;
        }
        // The last part: its content follows the number of unused bits.
        let signature = after_algorithm.get(after_algorithm.len() - signature.data.len()..)?;
        Some(Self { content, algorithm, signature })
    }
}

/// Reads a SEQUENCE: what follows it, and its content.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    let is_sequence = any.class() == Class::Universal && any.tag() == Tag::Sequence;
    is_sequence.then_some((rest, any.data))
}
