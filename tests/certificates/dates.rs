//! Dates of certificates and of their authorities.

use countersign_server::identities::certificate::CertificateRefusal::{
    Expired, IssuerExpired, IssuerNotYetValid, NotIssued, NotYetValid,
};
use countersign_tests::{
    certificates::ValidYears,
    pki::{AUTHORITY, CertificateSpec, OpensslPki},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use crate::fixture::{chain, check, check_in, direct};

/// Creates an authority, valid for these days.
fn authority(pki: &OpensslPki, name: &str, issuer: Option<&str>, days: u32) -> String {
    let subject = format!("/CN={name}");
    let (subject, extensions) = (subject.as_str(), AUTHORITY);
    pki.issue(name, &CertificateSpec { issuer, subject, extensions, days, ..Default::default() })
}

#[test]
fn dates_of_the_certificate_are_checked() {
    let pki = OpensslPki::default();
    let ca = authority(&pki, "ca", None, 100);
    let client = pki.client("ca", "/CN=client", "");
    for rules in [direct(&ca), chain(&ca)] {
        assert_eq!(check_in(29, &rules, &[&client]), Ok(()));
        assert_eq!(check_in(31, &rules, &[&client]), Err(Expired));
        assert_eq!(check_in(-1, &rules, &[&client]), Err(NotYetValid));
    }
}

#[test]
fn dates_of_the_authority_are_checked() {
    let pki = OpensslPki::default();
    let ca = authority(&pki, "ca", None, 10);
    let client = pki.client("ca", "/CN=client", "");
    for rules in [direct(&ca), chain(&ca)] {
        assert_eq!(check_in(11, &rules, &[&client]), Err(IssuerExpired));
        assert_eq!(check_in(31, &rules, &[&client]), Err(Expired), "the client's own come first");
    }
}

#[test]
fn dates_of_intermediates_are_checked() {
    let pki = OpensslPki::default();
    let ca = authority(&pki, "ca", None, 100);
    let middle = authority(&pki, "middle", Some("ca"), 10);
    let client = pki.client("middle", "/CN=client", "");
    assert_eq!(check_in(9, &chain(&ca), &[&client, &middle]), Ok(()));
    assert_eq!(check_in(11, &chain(&ca), &[&client, &middle]), Err(IssuerExpired));
}

#[test]
fn foreign_expired_certificate_is_refused_by_mode() {
    let pki = OpensslPki::default();
    let ca = authority(&pki, "ca", None, 100);
    authority(&pki, "other", None, 100);
    let client = pki.client("other", "/CN=client", "");
    assert_eq!(check_in(31, &direct(&ca), &[&client]), Err(NotIssued));
    assert_eq!(check_in(31, &chain(&ca), &[&client]), Err(Expired));
}

/// Returns an authority and a client certificate in PEM, valid in these years.
fn in_years(authority: ValidYears, client: ValidYears) -> [String; 2] {
    let parameters = |name: &str, years: ValidYears| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_before = date_time_ymd(years.start, 1, 1);
        parameters.not_after = date_time_ymd(years.end, 1, 1);
        parameters
    };
    let mut of_authority = parameters("ca", authority);
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().unwrap();
    let issuer = CertifiedIssuer::self_signed(of_authority, key()).unwrap();
    let client = parameters("client", client).signed_by(&key(), &issuer).unwrap();
    [issuer.pem(), client.pem()]
}

#[test]
fn authority_may_not_be_valid_yet() {
    let [ca, client] = in_years(2090..2100, 2000..2100);
    for rules in [direct(&ca), chain(&ca)] {
        assert_eq!(check(&rules, &[&client]), Err(IssuerNotYetValid));
    }
}

#[test]
fn dates_around_1970_are_no_exception() {
    let [ca, client] = in_years(1960..2100, 1960..1965);
    for rules in [direct(&ca), chain(&ca)] {
        assert!(check(&rules, &[&client]).is_err());
    }
}
