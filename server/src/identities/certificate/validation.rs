//! Validation of one candidate path: by `rustls-webpki`, and by the checks that it does not make.

use std::{cell::Cell, slice, time::Duration};

use countersign_engine::UnixTime;
use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{self, CertificateDer, TrustAnchor},
};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    VerifiedPath,
};

use super::{
    CertificateRefusal, IssuingCa, RevocationLists,
    authority_links::AuthorityLinks,
    certificate_fields::CertificateFields,
    issuing_ca::{self, seconds},
    name_constraints::ConstrainedName,
    revocation_lists,
};

/// The validation of paths from one client certificate to the authority.
pub(super) struct PathValidation<'v, 'd> {
    pub(super) ca: &'v IssuingCa,
    pub(super) ca_fields: &'v CertificateFields<'d>,
    pub(super) leaf: &'v CertificateFields<'d>,
    /// Whether intermediate authorities are allowed. The configured authority is then held to the
    /// rules for all authorities.
    pub(super) is_chain: bool,
    /// Whether common names stand for the client, so that they have to conform to the constraints
    /// for hosts.
    pub(super) uses_common_names: bool,
    /// The revocation lists.
    pub(super) revoked: &'v RevocationLists,
    pub(super) now: UnixTime,
}

impl PathValidation<'_, '_> {
    /// Validates a path.
    ///
    /// The dates of the client certificate are checked after its signature. So `rustls-webpki` is
    /// given a time at which it is valid.
    ///
    /// # Errors
    /// A signature or a check fails.
    pub(super) fn validate(
        &self,
        path: &[&CertificateFields<'_>],
    ) -> Result<(), CertificateRefusal> {
        let leaf = CertificateDer::from(self.leaf.der);
        let leaf = EndEntityCert::try_from(&leaf).map_err(|error| match error {
            Error::UnsupportedCertVersion => CertificateRefusal::UnsupportedVersion,
            _ => self.unverified(),
        })?;
        let is_constrained = |issuer: &&CertificateFields<'_>| issuer.has_name_constraints();
        let (below, above) =
            path.split_at(path.iter().position(is_constrained).unwrap_or(path.len()));
        let anchor = self.check_links(above)?;
        let intermediates: Vec<_> =
            below.iter().map(|fields| CertificateDer::from(fields.der)).collect();
        // A certificate that is not valid now is refused anyway.
        let is_current = check_validity(self.leaf, self.now).is_ok();
        let lists = if is_current { self.lists_of(path) } else { Vec::new() };
        let refusal = Cell::new(None);
        // Called for every path whose signatures are valid, until it accepts one.
        let check = |verified: &VerifiedPath<'_>| {
            self.check(verified, below, above).map_err(|reason| {
                refusal.set(Some(reason));
                Error::UnknownIssuer
            })
        };
        let verified = leaf.verify_for_usage(
            default_provider().signature_verification_algorithms.all,
            slice::from_ref(&anchor),
            &intermediates,
            pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.verification_time())),
            AnyUsage,
            revocation_lists::options(&lists),
            Some(&check),
        );
        match verified {
            Ok(_) => Ok(()),
            Err(error) => Err(refusal.get().unwrap_or_else(|| self.refusal(&error))),
        }
    }

    /// Returns the revocation lists of all authorities.
    fn lists_of(&self, path: &[&CertificateFields<'_>]) -> Vec<&CertRevocationList<'static>> {
        let authorities = path.iter().copied().chain([self.ca_fields]);
        let lists = authorities.flat_map(|authority| self.revoked.of_authority(authority));
        lists.map(|list| &list.entries).collect()
    }

    /// Returns the current time, or the closest time at which the client certificate is valid.
    fn verification_time(&self) -> u64 {
        let (not_before, not_after) = self.leaf.validity();
        let time = seconds(self.now).min(not_after).max(not_before);
        u64::try_from(time).unwrap_or(0)
    }

    /// Returns the refusal without a specific reason.
    const fn unverified(&self) -> CertificateRefusal {
        CertificateRefusal::unverified(self.is_chain)
    }

    fn refusal(&self, error: &Error) -> CertificateRefusal {
        match error {
            Error::CertExpired { .. } => CertificateRefusal::IssuerExpired,
            Error::CertNotValidYet { .. } => CertificateRefusal::IssuerNotYetValid,
            Error::PathLenConstraintViolated => CertificateRefusal::PathLength,
            // The client certificate ends before it begins.
            Error::InvalidCertValidity => {
                check_validity(self.leaf, self.now).err().unwrap_or_else(|| self.unverified())
            }
            Error::CertRevoked => CertificateRefusal::Revoked,
            Error::CrlExpired { .. } => CertificateRefusal::RevocationUnknown,
            _ => self.unverified(),
        }
    }

    /// Checks the path from the first authority with name constraints to the configured one, and
    /// returns what `rustls-webpki` is to take for configured.
    fn check_links(
        &self,
        authorities: &[&CertificateFields<'_>],
    ) -> Result<TrustAnchor<'_>, CertificateRefusal> {
        let Some(first) = authorities.first() else { return Ok(self.ca.anchor.clone()) };
        let (ca, revoked, now) = (self.ca_fields, self.revoked, self.now);
        AuthorityLinks { authorities, ca, revoked, now }.check()?;
        let first = CertificateDer::from(first.der);
        issuing_ca::anchor(&first).ok_or_else(|| self.unverified())
    }

    /// Checks a path whose signatures are valid: of the intermediate authorities, those `below` the
    /// first one with name constraints may be in it, and the others are.
    fn check(
        &self,
        verified: &VerifiedPath<'_>,
        below: &[&CertificateFields<'_>],
        above: &[&CertificateFields<'_>],
    ) -> Result<(), CertificateRefusal> {
        let find = |der: &[u8]| below.iter().copied().find(|fields| fields.der == der);
        let mut issuers = Vec::new();
        for certificate in verified.intermediate_certificates() {
            issuers.push(find(&certificate.der()).ok_or_else(|| self.unverified())?);
        }
        issuers.extend(above);
        check_validity(self.leaf, self.now)?;
        self.check_authorities(&issuers)?;
        let mut below: Vec<&CertificateFields<'_>> = vec![self.leaf];
        for issuer in issuers {
            self.check_constraints(issuer, &below)?;
            below.push(issuer);
        }
        self.check_constraints(self.ca_fields, &below)
    }

    /// Checks that every authority may issue certificates of clients.
    fn check_authorities(
        &self,
        intermediates: &[&CertificateFields<'_>],
    ) -> Result<(), CertificateRefusal> {
        for (below, issuer) in intermediates.iter().copied().chain([self.ca_fields]).enumerate() {
            let (not_before, not_after) = issuer.validity();
            if not_after < seconds(self.now) {
                return Err(CertificateRefusal::IssuerExpired);
            }
            if not_before > seconds(self.now) {
                return Err(CertificateRefusal::IssuerNotYetValid);
            }
            if !self.is_authority(issuer) {
                return Err(self.unverified());
            }
            if !issuer.allows_clients {
                return Err(CertificateRefusal::IssuerUsage);
            }
            let max = issuer.basic_constraints.and_then(|constraints| constraints.max_path_length);
            if max.is_some_and(|max| usize::try_from(max).is_ok_and(|max| below > max)) {
                return Err(CertificateRefusal::PathLength);
            }
        }
        Ok(())
    }

    /// Whether a certificate may be that of an issuer. Without intermediate authorities, the
    /// configured authority needs no extension that makes it one, because the configuration does.
    fn is_authority(&self, issuer: &CertificateFields<'_>) -> bool {
        match issuer.basic_constraints {
            Some(constraints) if !constraints.is_authority => false,
            Some(_) => issuer.may_sign_certificates || !self.is_chain,
            None => !self.is_chain,
        }
    }

    /// Checks that all names below an authority conform to its constraints.
    fn check_constraints(
        &self,
        issuer: &CertificateFields<'_>,
        below: &[&CertificateFields<'_>],
    ) -> Result<(), CertificateRefusal> {
        let constraints =
            issuer.name_constraints().map_err(|_| CertificateRefusal::NameConstraint)?;
        let Some(constraints) = constraints else { return Ok(()) };
        if constraints.has_unsupported_uri() {
            return Err(CertificateRefusal::UnsupportedNameConstraint);
        }
        for (index, certificate) in below.iter().enumerate() {
            let mut names =
                certificate.constrained_names().map_err(|_| CertificateRefusal::NameConstraint)?;
            // Index 0 is the client's own certificate.
            if index == 0 && self.uses_common_names {
                names.extend(certificate.hosts_in_subject().map(ConstrainedName::Host));
            }
            if !names.iter().all(|name| constraints.permit(*name)) {
                return Err(CertificateRefusal::NameConstraint);
            }
        }
        Ok(())
    }
}

/// Checks the dates of the client certificate.
pub(super) fn check_validity(
    leaf: &CertificateFields<'_>,
    now: UnixTime,
) -> Result<(), CertificateRefusal> {
    let (not_before, not_after) = leaf.validity();
    if not_after < seconds(now) {
        Err(CertificateRefusal::Expired)
    } else if not_before > seconds(now) {
        Err(CertificateRefusal::NotYetValid)
    } else {
        Ok(())
    }
}

/// Leaves the extended key usage to the other checks: `rustls-webpki` does not know
/// `anyExtendedKeyUsage`. A malformed one is refused.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        for purpose in purposes {
            purpose?;
        }
        Ok(())
    }
}
