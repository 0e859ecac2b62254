//! The rules of an identity for client certificates.
//!
//! Without `verify_chain`, the authority itself must have issued the certificate. With it, a path
//! of intermediate authorities that the client presents may lead there; each of them must be valid,
//! an authority, allowed to issue certificates of clients, and permit the length of the path.
//!
//! What `rustls-webpki` does not check is checked over every path that it may choose: dates,
//! extended key usage, key usage and path length of the configured authority, and name constraints
//! of all types and authorities. A path that fails a check does not hide another one that passes.

use std::sync::Arc;

use countersign_engine::UnixTime;

use super::{
    AllowedAltName, CertificateRefusal, CommonNames, IssuingCa, PresentedChain, RevocationLists,
    candidate_paths,
    certificate_fields::CertificateFields,
    validation::{PathValidation, check_validity},
};

/// The certificates that log an identity in.
#[derive(Clone, Debug)]
pub struct CertificateRules {
    /// The authority.
    pub ca: IssuingCa,
    /// Whether the client may present intermediate authorities.
    pub verify_chain: bool,
    /// The allowed common names; `None` for all.
    pub common_names: Option<CommonNames>,
    /// The allowed subject alternative names; `None` or none for all.
    pub subject_alt_names: Option<Vec<AllowedAltName>>,
    /// The revocation lists of authorities, which all identities share.
    pub revoked: Arc<RevocationLists>,
}

impl CertificateRules {
    /// Checks a chain whose key the client has proven to possess.
    ///
    /// It costs up to about 60 signature checks, within the bounds of a candidate search.
    ///
    /// # Errors
    /// The first check that fails, in the order of Infisical: authority, dates, the constraints of
    /// authorities, then usage and names of the certificate. With `verify_chain`, the dates of the
    /// certificate come first. The certificate of an authority is refused before its signature is
    /// checked.
    pub fn check(&self, chain: &PresentedChain, now: UnixTime) -> Result<(), CertificateRefusal> {
        let der = chain.leaf().ok_or(CertificateRefusal::UnreadableCertificate)?;
        let leaf =
            CertificateFields::read(&der).map_err(|_| CertificateRefusal::UnreadableCertificate)?;
        let ca_fields = CertificateFields::read(&self.ca.certificate)
            .map_err(|_| CertificateRefusal::unverified(self.verify_chain))?;
        let validation = PathValidation {
            ca: &self.ca,
            ca_fields: &ca_fields,
            leaf: &leaf,
            is_chain: self.verify_chain,
            uses_common_names: self.common_names.is_some(),
            revoked: &self.revoked,
            now,
        };
        if self.verify_chain {
            check_chain(&validation, chain)?;
        } else {
            check_issued(&validation)?;
        }
        self.check_client(&leaf)
    }

    /// Checks usage and names of a certificate that the authority vouches for.
    fn check_client(&self, leaf: &CertificateFields<'_>) -> Result<(), CertificateRefusal> {
        if leaf.is_authority() || leaf.der == &*self.ca.certificate {
            return Err(CertificateRefusal::CaCertificate);
        }
        if !leaf.allows_clients {
            return Err(CertificateRefusal::ClientUsage);
        }
        if self.common_names.as_ref().is_some_and(|names| !names.allow(&leaf.common_names())) {
            return Err(CertificateRefusal::CommonName);
        }
        match self.subject_alt_names.as_deref() {
            None | Some([]) => Ok(()),
            Some(allowed) => {
                let presented = leaf.alt_names().map_err(|_| CertificateRefusal::AltName)?;
                let is_allowed = presented
                    .iter()
                    .any(|name| allowed.iter().any(|allowed| allowed.matches(name)));
                if is_allowed { Ok(()) } else { Err(CertificateRefusal::AltName) }
            }
        }
    }
}

/// Checks that the authority itself has issued the certificate.
fn check_issued(validation: &PathValidation<'_, '_>) -> Result<(), CertificateRefusal> {
    if validation.leaf.issuer() != validation.ca_fields.subject() {
        return Err(CertificateRefusal::NotIssued);
    }
    if validation.leaf.is_authority() {
        return Err(CertificateRefusal::CaCertificate);
    }
    validation.validate(&[])
}

/// Checks that a path leads to the authority. Of several that are refused, the first specific
/// reason counts.
fn check_chain(
    validation: &PathValidation<'_, '_>,
    chain: &PresentedChain,
) -> Result<(), CertificateRefusal> {
    let PathValidation { leaf, ca_fields, now, .. } = validation;
    check_validity(leaf, *now)?;
    if leaf.is_authority() {
        return Err(CertificateRefusal::CaCertificate);
    }
    let ders = chain.others().ok_or(CertificateRefusal::UnreadableChain)?;
    let mut intermediates: Vec<CertificateFields<'_>> = Vec::new();
    for der in &ders {
        let fields =
            CertificateFields::read(der).map_err(|_| CertificateRefusal::UnreadableChain)?;
        let is_known = [*leaf, *ca_fields].into_iter().chain(&intermediates);
        if !is_known.map(|known| known.der).any(|known| known == fields.der) {
            intermediates.push(fields);
        }
    }
    let mut refusal = CertificateRefusal::NoPath;
    for path in candidate_paths::find(leaf.issuer(), &intermediates, ca_fields.subject()) {
        match validation.validate(&path) {
            Ok(()) => return Ok(()),
            Err(reason) if refusal == CertificateRefusal::NoPath => refusal = reason,
            Err(_) => {}
        }
    }
    Err(refusal)
}
