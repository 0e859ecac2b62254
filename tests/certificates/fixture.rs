//! Rules and chains from PEM.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use countersign_engine::UnixTime;
use countersign_server::identities::certificate::{
    AllowedAltName, CertificateFormat, CertificateRefusal, CertificateRules, CommonNames,
    IssuingCa, PresentedChain,
};
use countersign_tests::pki::escaped;

/// The result of a check.
pub(crate) type Checked = Result<(), CertificateRefusal>;

/// Returns the time in this number of days.
pub(crate) fn in_days(days: i64) -> UnixTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    UnixTime(now.checked_add_signed(days * 24 * 60 * 60).unwrap())
}

/// Rules that accept every certificate of an authority.
pub(crate) fn direct(ca: &str) -> CertificateRules {
    let ca = IssuingCa::parse(ca).unwrap();
    CertificateRules {
        ca,
        verify_chain: false,
        common_names: None,
        subject_alt_names: None,
        revoked: Arc::default(),
    }
}

/// Rules that accept every certificate below an authority.
pub(crate) fn chain(ca: &str) -> CertificateRules {
    CertificateRules { verify_chain: true, ..direct(ca) }
}

/// Rules with a list of common names.
pub(crate) fn named(ca: &str, names: &str) -> CertificateRules {
    CertificateRules { common_names: Some(CommonNames::split(names).unwrap()), ..direct(ca) }
}

/// Rules with a list of subject alternative names.
pub(crate) fn alt_named(ca: &str, names: &[&str]) -> CertificateRules {
    let names = names.iter().map(|name| AllowedAltName::parse(name).unwrap()).collect();
    CertificateRules { subject_alt_names: Some(names), ..direct(ca) }
}

/// Checks certificates in PEM, the client's own first, as of now.
pub(crate) fn check(rules: &CertificateRules, pem: &[&str]) -> Checked {
    check_in(0, rules, pem)
}

/// Like [`check`], in this number of days.
pub(crate) fn check_in(days: i64, rules: &CertificateRules, pem: &[&str]) -> Checked {
    rules.check(&presented(&pem.concat()), in_days(days))
}

/// Returns the chain in a PEM text.
pub(crate) fn presented(pem: &str) -> PresentedChain {
    let value = escaped(pem);
    PresentedChain::parse(CertificateFormat::PercentEncodedPem, value.as_bytes(), None).unwrap()
}
