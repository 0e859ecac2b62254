//! Name constraints of the configured authority, and of intermediate ones.

use std::fs;

use countersign_server::identities::certificate::{
    CertificateRefusal::{NameConstraint, NoPath, UnsupportedNameConstraint},
    CertificateRules,
};
use countersign_tests::pki::{AUTHORITY, CertificateSpec, OpensslPki};

use crate::fixture::{Checked, chain, check, direct, named};

/// Checks a client certificate below an authority with these name constraints, which is the
/// configured one, or an intermediate one below it.
fn check_constrained(constraints: &str, subject: &str, alt_names: &str) -> [Checked; 3] {
    let pki = OpensslPki::default();
    let root = pki.authority("root", None, "");
    let more = format!("nameConstraints=critical,{constraints}");
    let ca = pki.authority("ca", Some("root"), &more);
    let extension = match alt_names {
        "" => String::new(),
        names => format!("subjectAltName={names}"),
    };
    let client = pki.client("ca", subject, &extension);
    [
        check(&direct(&ca), &[&client]),
        check(&chain(&ca), &[&client]),
        check(&chain(&root), &[&client, &ca]),
    ]
}

/// The same result for every place of the constraints.
fn everywhere(expected: Checked) -> [Checked; 3] {
    [expected; 3]
}

const CLIENT: &str = "/CN=client";

#[test]
fn dns_constraints_hold() {
    for (constraints, names, expected) in [
        ("permitted;DNS:example.org", "DNS:a.example.org", Ok(())),
        ("permitted;DNS:example.org", "DNS:a.example.com", Err(NameConstraint)),
        ("excluded;DNS:example.org", "DNS:a.example.org", Err(NameConstraint)),
        ("excluded;DNS:example.org", "DNS:a.example.com", Ok(())),
        ("permitted;DNS:example.org", "", Ok(())),
        ("permitted;DNS:example.org", "URI:spiffe://other.net/a", Ok(())),
        ("permitted;DNS:example.org,excluded;DNS:a.example.org", "DNS:b.example.org", Ok(())),
        (
            "permitted;DNS:example.org,excluded;DNS:a.example.org",
            "DNS:a.example.org",
            Err(NameConstraint),
        ),
        // Every name has to conform, in each order.
        ("permitted;DNS:example.org", "DNS:a.example.org,DNS:a.example.com", Err(NameConstraint)),
        ("permitted;DNS:example.org", "DNS:a.example.com,DNS:a.example.org", Err(NameConstraint)),
    ] {
        let results = check_constrained(constraints, CLIENT, names);
        assert_eq!(results, everywhere(expected), "{constraints} {names}");
    }
}

#[test]
fn address_constraints_hold() {
    for (constraints, names, expected) in [
        ("permitted;IP:10.0.0.0/255.0.0.0", "IP:10.1.2.3", Ok(())),
        ("permitted;IP:10.0.0.0/255.0.0.0", "IP:11.1.2.3", Err(NameConstraint)),
        ("permitted;IP:10.0.0.0/255.0.0.0", "IP:2001:db8::1", Err(NameConstraint)),
        ("excluded;IP:10.0.0.0/255.0.0.0", "IP:10.1.2.3", Err(NameConstraint)),
        ("excluded;IP:10.0.0.0/255.0.0.0", "IP:11.1.2.3", Ok(())),
    ] {
        let results = check_constrained(constraints, CLIENT, names);
        assert_eq!(results, everywhere(expected), "{constraints} {names}");
    }
}

#[test]
fn uri_constraints_hold_for_spiffe_ids() {
    for (constraints, names, expected) in [
        ("permitted;URI:example.org", "URI:spiffe://example.org/a", Ok(())),
        ("permitted;URI:example.org", "URI:spiffe://example.com/a", Err(NameConstraint)),
        ("permitted;URI:.example.org", "URI:spiffe://a.example.org/a", Ok(())),
        ("excluded;URI:example.org", "URI:spiffe://example.org/a", Err(NameConstraint)),
        ("excluded;URI:example.org", "URI:spiffe://example.com/a", Ok(())),
        ("permitted;URI:example.org", "URI:urn:example.org", Err(NameConstraint)),
    ] {
        let results = check_constrained(constraints, CLIENT, names);
        assert_eq!(results, everywhere(expected), "{constraints} {names}");
    }
    let results = check_constrained("permitted;URI:example.org", CLIENT, "DNS:a.example.com");
    assert_eq!(results, everywhere(Ok(())), "without a URI");
}

#[test]
fn uri_constraint_that_is_not_a_host_admits_no_client() {
    for base in ["spiffe://example.org", "10.0.0.1"] {
        for names in ["DNS:a", "URI:spiffe://example.org/a"] {
            let results = check_constrained(&format!("permitted;URI:{base}"), CLIENT, names);
            assert_eq!(results, everywhere(Err(UnsupportedNameConstraint)), "{base} {names}");
        }
    }
}

#[test]
fn email_constraints_hold() {
    for (constraints, names, expected) in [
        ("permitted;email:example.org", "email:a@example.org", Ok(())),
        ("permitted;email:example.org", "email:a@example.com", Err(NameConstraint)),
        ("excluded;email:example.org", "email:a@example.org", Err(NameConstraint)),
        ("excluded;email:example.org", "email:a@example.com", Ok(())),
    ] {
        let results = check_constrained(constraints, CLIENT, names);
        assert_eq!(results, everywhere(expected), "{constraints} {names}");
    }
    // An address in the subject is held to them, too.
    for (address, expected) in [("a@example.org", Ok(())), ("a@b.c", Err(NameConstraint))] {
        let subject = format!("/CN=client/emailAddress={address}");
        let results = check_constrained("permitted;email:example.org", &subject, "");
        assert_eq!(results, everywhere(expected), "{address}");
    }
}

#[test]
fn directory_constraints_hold() {
    let constraint = |list: &str, name: &str| format!("{list};dirName:base\n[base]\n{name}\n");
    for (constraints, subject, expected) in [
        (constraint("permitted", "O=Acme"), "/O=Acme/CN=client", Ok(())),
        (constraint("permitted", "O=Acme"), "/O=Other/CN=client", Err(NameConstraint)),
        (constraint("permitted", "O=Acme"), "/CN=client/O=Acme", Err(NameConstraint)),
        (constraint("excluded", "O=Acme"), "/O=Acme/CN=client", Err(NameConstraint)),
        (constraint("excluded", "O=Acme"), "/O=ACME/CN=client", Err(NameConstraint)),
        (constraint("excluded", "O=Acme"), "/O=Other/CN=client", Ok(())),
    ] {
        let results = check_constrained(&constraints, subject, "");
        assert_eq!(results, everywhere(expected), "{constraints} {subject}");
    }
}

#[test]
fn listed_host_in_the_common_name_must_conform() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "nameConstraints=permitted;DNS:example.org");
    let client = pki.client("ca", "/CN=a.other.net", "subjectAltName=DNS:a.example.org");
    assert_eq!(check(&direct(&ca), &[&client]), Ok(()), "the common name does not count");
    assert_eq!(check(&named(&ca, "a.other.net"), &[&client]), Err(NameConstraint));
    let client = pki.client("ca", "/CN=a.example.org", "");
    assert_eq!(check(&named(&ca, "a.example.org"), &[&client]), Ok(()));
    let client = pki.client("ca", "/CN=service-a", "");
    assert_eq!(check(&named(&ca, "service-a"), &[&client]), Ok(()), "not a host");
    // The same for the constraints of an intermediate authority.
    let root = pki.authority("root", None, "");
    let team = pki.authority("team", Some("root"), "nameConstraints=permitted;DNS:example.org");
    let client = pki.client("team", "/CN=a.other.net", "");
    let rules = CertificateRules { verify_chain: true, ..named(&root, "a.other.net") };
    assert_eq!(check(&rules, &[&client, &team]), Err(NameConstraint));
}

#[test]
fn constraints_bind_intermediates_too() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "nameConstraints=permitted;DNS:example.org");
    for (name, expected) in [("ca.example.org", Ok(())), ("ca.other.net", Err(NameConstraint))] {
        let middle = pki.authority("middle", Some("ca"), &format!("subjectAltName=DNS:{name}"));
        let client = pki.client("middle", CLIENT, "");
        assert_eq!(check(&chain(&ca), &[&client, &middle]), expected, "{name}");
    }
}

#[test]
fn constraints_of_every_intermediate_hold() {
    let pki = OpensslPki::default();
    let root = pki.authority("root", None, "");
    let upper = pki.authority("upper", Some("root"), "nameConstraints=permitted;URI:.example.org");
    let plain = pki.authority("plain", Some("upper"), "");
    let lower = pki.authority("lower", Some("plain"), "nameConstraints=excluded;URI:b.example.org");
    let last = pki.authority("last", Some("lower"), "");
    for (host, expected) in [
        ("a.example.org", Ok(())),
        ("b.example.org", Err(NameConstraint)),
        ("a.other.net", Err(NameConstraint)),
    ] {
        let client = pki.client("last", CLIENT, &format!("subjectAltName=URI:spiffe://{host}/a"));
        let presented = [&*client, &*plain, &*last, &*lower, &*upper];
        assert_eq!(check(&chain(&root), &presented), expected, "{host}");
        for missing in 1..presented.len() {
            let mut presented = presented.to_vec();
            presented.remove(missing);
            assert_eq!(check(&chain(&root), &presented), Err(NoPath), "{host} {missing}");
        }
    }
}

#[test]
fn constrained_intermediate_must_be_signed_by_the_authority() {
    let pki = OpensslPki::default();
    let root = pki.authority("root", None, "");
    let constraints = "nameConstraints=permitted;URI:example.org";
    // Of an authority with the right name and another key.
    let spec = CertificateSpec { subject: "/CN=root", extensions: AUTHORITY, ..Default::default() };
    pki.issue("forged", &spec);
    let middle = pki.authority("middle", Some("forged"), constraints);
    let client = pki.client("middle", CLIENT, "");
    assert_eq!(check(&chain(&root), &[&client, &middle]), Err(NoPath));
    // The same two intermediates up, and of a certificate that is not that of an authority.
    let upper = pki.authority("upper", Some("forged"), constraints);
    let middle = pki.authority("middle", Some("upper"), constraints);
    let client = pki.client("middle", CLIENT, "");
    assert_eq!(check(&chain(&root), &[&client, &middle, &upper]), Err(NoPath));
    let upper = pki.client("root", "/CN=upper", "");
    fs::copy(pki.file("client", "key"), pki.file("upper", "key")).unwrap();
    fs::copy(pki.file("client", "crt"), pki.file("upper", "crt")).unwrap();
    let middle = pki.authority("middle", Some("upper"), constraints);
    let client = pki.client("middle", CLIENT, "");
    assert_eq!(check(&chain(&root), &[&client, &middle, &upper]), Err(NoPath));
}

#[test]
fn unknown_critical_extension_beside_constraints_is_refused() {
    let pki = OpensslPki::default();
    let root = pki.authority("root", None, "");
    let constraints = "nameConstraints=permitted;URI:example.org\n1.2.3.4=critical,DER:0500";
    let middle = pki.authority("middle", Some("root"), constraints);
    let client = pki.client("middle", CLIENT, "");
    assert_eq!(check(&chain(&root), &[&client, &middle]), Err(NoPath));
}

#[test]
fn constraints_in_the_client_certificate_are_ignored() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let extensions = "subjectAltName=DNS:a.other.net\nnameConstraints=permitted;DNS:example.org";
    let client = pki.client("ca", CLIENT, extensions);
    assert_eq!(check(&direct(&ca), &[&client]), Ok(()));
    assert_eq!(check(&chain(&ca), &[&client]), Ok(()));
}

#[test]
fn unreadable_constraints_admit_no_client() {
    let pki = OpensslPki::default();
    let root = pki.authority("root", None, "");
    // An empty list of permitted names, and a mask with holes.
    for extension in ["3002a000", "300ea00c300a8708ffff0000ff00ff00"] {
        let ca = pki.authority("ca", Some("root"), &format!("2.5.29.30=DER:{extension}"));
        let client = pki.client("ca", CLIENT, "subjectAltName=IP:10.0.0.1");
        for (rules, pem) in [
            (direct(&ca), vec![&*client]),
            (chain(&ca), vec![&*client]),
            (chain(&root), vec![&*client, &*ca]),
        ] {
            assert_eq!(check(&rules, &pem), Err(NameConstraint), "{extension}");
        }
    }
}
