//! Lists of common names and subject alternative names.

use countersign_server::identities::certificate::CertificateRefusal::{AltName, CommonName};
use countersign_server::identities::certificate::{CertificateRules, CommonNames};
use countersign_tests::pki::OpensslPki;

use crate::fixture::{Checked, alt_named, check, direct, named};

/// Checks a certificate with this subject against a list of common names.
fn check_subject(subject: &str, names: &str) -> Checked {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let client = pki.client("ca", subject, "");
    assert_eq!(check(&direct(&ca), &[&client]), Ok(()), "{subject} without a list");
    check(&named(&ca, names), &[&client])
}

/// Checks a certificate with these subject alternative names against a list of them.
fn check_alt_names(presented: &str, allowed: &[&str]) -> Checked {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let client = pki.client("ca", "/CN=client", &format!("subjectAltName={presented}"));
    check(&alt_named(&ca, allowed), &[&client])
}

#[test]
fn common_name_is_compared_exactly() {
    for (subject, names, is_allowed) in [
        ("/CN=b", "a, b", true),
        ("/O=x/CN=a", "a", true),
        ("/CN=A", "a", false),
        ("/CN=ab", "a", false),
        ("/CN=a", "a*", false),
        ("/CN=a b", "a b", true),
        ("/CN=größe", "größe", true),
        // The whole value counts, whatever it contains.
        ("/CN=a=b=c", "a=b=c", true),
        ("/CN=a=b=c", "a", false),
        ("/CN=a\\/CN=b", "b", false),
        // Another attribute is not a common name.
        ("/O=a", "a", false),
        ("/O=CN=a", "a", false),
        // An attribute of a component with several is.
        ("/O=Acme+CN=a", "a", true),
        ("/", "a", false),
    ] {
        let expected = if is_allowed { Ok(()) } else { Err(CommonName) };
        assert_eq!(check_subject(subject, names), expected, "{subject} against {names}");
    }
}

#[test]
fn all_of_several_common_names_must_be_allowed() {
    assert_eq!(check_subject("/CN=a/CN=b", "a,b"), Ok(()));
    assert_eq!(check_subject("/CN=a/CN=c", "a,b"), Err(CommonName));
    assert_eq!(check_subject("/CN=c/CN=a", "a,b"), Err(CommonName));
}

#[test]
fn common_name_with_a_comma_needs_the_array_form() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let client = pki.client("ca", "/CN=a,b", "");
    assert_eq!(check(&named(&ca, "a,b"), &[&client]), Err(CommonName));
    let common_names = Some(CommonNames::listed(vec!["a,b".into()]).unwrap());
    let rules = CertificateRules { common_names, ..direct(&ca) };
    assert_eq!(check(&rules, &[&client]), Ok(()));
}

#[test]
fn alt_names_are_compared_by_type() {
    for (presented, allowed, is_allowed) in [
        ("DNS:a.example.org", "A.Example.ORG", true),
        ("DNS:A.Example.org", "dns:a.example.org", true),
        ("DNS:b.a.example.org", "a.example.org", false),
        ("DNS:*.example.org", "a.example.org", false),
        ("DNS:a.example.org", "*.example.org", false),
        ("DNS:b.example.org,DNS:a.example.org", "a.example.org", true),
        ("URI:spiffe://example.org/a", "URI:spiffe://example.org/a", true),
        ("URI:spiffe://example.org/A", "URI:spiffe://example.org/a", false),
        ("URI:spiffe://example.org/a/b", "URI:spiffe://example.org/a", false),
        ("IP:10.0.0.1", "IP:10.0.0.1", true),
        ("IP:10.0.0.1", "10.0.0.1", false),
        ("IP:2001:db8::1", "IP:2001:DB8:0::1", true),
        ("IP:10.0.0.1", "IP:::ffff:10.0.0.1", false),
        ("DNS:10.0.0.1", "IP:10.0.0.1", false),
        ("email:a@Example.org", "EMAIL:a@example.ORG", true),
        ("email:A@example.org", "EMAIL:a@example.org", false),
        ("DNS:a.example.org", "URI:urn:a.example.org", false),
        ("RID:1.2.3", "a.example.org", false),
        ("otherName:1.2.3;UTF8:a.example.org", "a.example.org", false),
        ("dirName:name\n[name]\nCN=a.example.org", "a.example.org", false),
    ] {
        let expected = if is_allowed { Ok(()) } else { Err(AltName) };
        assert_eq!(check_alt_names(presented, &[allowed]), expected, "{presented}: {allowed}");
    }
}

#[test]
fn certificate_without_alt_names_fits_no_list() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let client = pki.client("ca", "/CN=a.example.org", "");
    assert_eq!(check(&alt_named(&ca, &["a.example.org"]), &[&client]), Err(AltName));
    assert_eq!(check(&alt_named(&ca, &[]), &[&client]), Ok(()), "an empty list allows all");
}

#[test]
fn unreadable_alt_names_fit_no_list() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    // The good name is followed by one that is not text, or by a byte too many.
    for extension in ["300782016182ff0141", "30068201618201ff", "300382016100"] {
        let client = pki.client("ca", "/CN=client", &format!("2.5.29.17=DER:{extension}"));
        assert!(check(&alt_named(&ca, &["a"]), &[&client]).is_err(), "{extension}");
    }
    let client = pki.client("ca", "/CN=client", "2.5.29.17=DER:3003820161");
    assert_eq!(check(&alt_named(&ca, &["a"]), &[&client]), Ok(()));
}

#[test]
fn both_lists_must_allow_the_certificate() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let rules = CertificateRules {
        common_names: Some(CommonNames::split("a").unwrap()),
        ..alt_named(&ca, &["a.example.org"])
    };
    for (subject, name, expected) in [
        ("/CN=a", "a.example.org", Ok(())),
        ("/CN=b", "a.example.org", Err(CommonName)),
        ("/CN=a", "b.example.org", Err(AltName)),
        ("/CN=b", "b.example.org", Err(CommonName)),
    ] {
        let client = pki.client("ca", subject, &format!("subjectAltName=DNS:{name}"));
        assert_eq!(check(&rules, &[&client]), expected, "{subject} {name}");
    }
}
