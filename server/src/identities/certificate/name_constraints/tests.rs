use x509_parser::asn1_rs::Oid;

use super::*;

/// Encodes a DER element of fewer than 128 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

/// Encodes a general name.
fn general_name(tag: u8, content: &[u8]) -> Vec<u8> {
    element(0x80 | tag, content)
}

/// Encodes the extension, with one subtree for each name.
fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let list = |tag: u8, names: &[Vec<u8>]| match names {
        [] => Vec::new(),
        names => {
            let subtrees: Vec<_> = names.iter().flat_map(|name| element(0x30, name)).collect();
            element(tag, &subtrees)
        }
    };
    element(0x30, &[list(0xa0, permitted), list(0xa1, excluded)].concat())
}

const EMAIL: u8 = 1;
const DNS: u8 = 2;
const URI: u8 = 6;
const IP: u8 = 7;

fn alt_name(tag: u8, text: &str) -> GeneralName<'_> {
    match tag {
        EMAIL => GeneralName::RFC822Name(text),
        DNS => GeneralName::DNSName(text),
        _ => GeneralName::URI(text),
    }
}

/// Asserts whether a name of a type conforms if the base is permitted, and if it is excluded.
fn assert_judged(tag: u8, base: &str, name: &str, permitted: bool, excluded: bool) {
    let base_name = [general_name(tag, base.as_bytes())];
    let name_of_type = alt_name(tag, name);
    let permits = |der: &[u8]| {
        NameConstraints::parse(der).unwrap().permit(ConstrainedName::Alt(&name_of_type))
    };
    assert_eq!(permits(&constraints(&base_name, &[])), permitted, "{base} permits {name}");
    assert_eq!(!permits(&constraints(&[], &base_name)), excluded, "{base} excludes {name}");
}

#[test]
fn dns_names_conform_by_labels() {
    for (base, name, permitted, excluded) in [
        ("example.org", "example.org", true, true),
        ("example.org", "a.example.org", true, true),
        ("Example.org", "A.B.eXample.org", true, true),
        ("example.org", "badexample.org", false, false),
        ("example.org", "example.org.evil.net", false, false),
        ("a.example.org", "example.org", false, false),
        (".example.org", "a.example.org", true, true),
        (".example.org", "example.org", false, false),
        ("", "a.example.org", true, true),
        // Wildcards, as in RUSTSEC-2026-0099.
        ("example.org", "*.example.org", true, true),
        (".example.org", "*.example.org", true, true),
        ("a.example.org", "*.example.org", false, true),
        ("a.b.example.org", "*.example.org", false, false),
        (".a.example.org", "*.example.org", false, false),
        // Names that cannot be compared.
        ("example.org", "a.example.org.", false, true),
        ("example.org", "a..example.org", false, true),
        ("example.org", "a.*.example.org", false, true),
        ("example.org", "a\0.example.org", false, true),
        ("example.org", "10.0.0.1", false, true),
        ("", "", false, true),
    ] {
        assert_judged(DNS, base, name, permitted, excluded);
    }
}

#[test]
fn email_addresses_conform_by_host_or_mailbox() {
    for (base, name, permitted, excluded) in [
        ("example.org", "a@example.org", true, true),
        ("example.org", "a@EXAMPLE.org", true, true),
        ("example.org", "a@b.example.org", false, false),
        (".example.org", "a@b.example.org", true, true),
        (".example.org", "a@example.org", false, false),
        ("a@example.org", "a@example.org", true, true),
        ("a@example.org", "A@example.org", false, false),
        ("example.org", "a@evil.net@example.org", false, true),
        ("example.org", "a@example.org@evil.net", false, true),
        ("example.org", "example.org", false, true),
        ("example.org", "@example.org", false, true),
        ("example.org", "a@", false, true),
    ] {
        assert_judged(EMAIL, base, name, permitted, excluded);
    }
}

#[test]
fn uris_conform_by_their_host() {
    for (base, name, permitted, excluded) in [
        ("example.org", "spiffe://example.org/a/b", true, true),
        ("example.org", "https://user@EXAMPLE.org:443/?q", true, true),
        ("example.org", "spiffe://a.example.org/b", false, false),
        (".example.org", "spiffe://a.example.org/b", true, true),
        (".example.org", "spiffe://example.org/b", false, false),
        ("example.org", "spiffe://evil.net/example.org", false, false),
        ("example.org", "https://example.org@evil.net/", false, false),
        ("example.org", "https://evil.net?@example.org/", false, false),
        ("example.org", "https://evil.net#@example.org/", false, false),
        // Without a host that is a name.
        ("example.org", "urn:example.org", false, true),
        ("example.org", "https://10.0.0.1/", false, true),
        ("example.org", "https://[::1]/", false, true),
        ("example.org", "https:///example.org", false, true),
        ("example.org", "https://example.org:port/", false, true),
        ("example.org", "https://evil.net\\@example.org/", false, true),
        ("example.org", "://example.org/", false, true),
    ] {
        assert_judged(URI, base, name, permitted, excluded);
    }
}

#[test]
fn addresses_conform_by_network() {
    let v4 = |address: [u8; 4], mask: [u8; 4]| general_name(IP, &[address, mask].concat());
    let network = v4([10, 1, 0, 0], [255, 255, 0, 0]);
    for (address, is_within) in [
        (&[10, 1, 2, 3][..], Some(true)),
        (&[10, 2, 0, 0], Some(false)),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 2, 3], Some(false)),
        (&[10, 1, 2], None),
    ] {
        let name = GeneralName::IPAddress(address);
        let permits =
            |der: &[u8]| NameConstraints::parse(der).unwrap().permit(ConstrainedName::Alt(&name));
        let network = [network.clone()];
        assert_eq!(permits(&constraints(&network, &[])), is_within == Some(true), "{address:?}");
        assert_eq!(permits(&constraints(&[], &network)), is_within == Some(false), "{address:?}");
    }
}

#[test]
fn every_name_conforms_without_constraints_for_its_type() {
    let der = constraints(&[general_name(DNS, b"example.org")], &[]);
    let constraints = NameConstraints::parse(&der).unwrap();
    let oid = Oid::from(&[1, 2, 3]).unwrap();
    for name in [
        GeneralName::URI("spiffe://evil.net/a"),
        GeneralName::IPAddress(&[1, 2, 3, 4]),
        GeneralName::RegisteredID(oid),
    ] {
        assert!(constraints.permit(ConstrainedName::Alt(&name)), "{name}");
    }
    assert!(constraints.permit(ConstrainedName::Email("a@evil.net")));
    assert!(!constraints.permit(ConstrainedName::Host("evil.net")));
}

#[test]
fn types_that_are_not_compared_never_conform() {
    // A registered id of 1.2.3, and one of 1.2.4.
    let der = constraints(&[], &[general_name(8, &[0x2a, 4])]);
    let constraints = NameConstraints::parse(&der).unwrap();
    let name = GeneralName::RegisteredID(Oid::from(&[1, 2, 3]).unwrap());
    assert!(!constraints.permit(ConstrainedName::Alt(&name)));
}

#[test]
fn malformed_constraints_are_unreadable() {
    let dns = general_name(DNS, b"example.org");
    let good = constraints(std::slice::from_ref(&dns), &[]);
    assert!(NameConstraints::parse(&good).is_ok());
    assert!(NameConstraints::parse(&element(0x30, &[])).is_ok(), "no constraint at all");
    let with_minimum = [dns.clone(), general_name(0, &[0])].concat();
    for (der, reason) in [
        (vec![], "empty"),
        ([good.clone(), vec![0]].concat(), "bytes after the end"),
        (good[..good.len() - 1].into(), "cut off"),
        (element(0x30, &element(0xa0, &[])), "no subtree"),
        (element(0x30, &element(0xa2, &element(0x30, &dns))), "another field"),
        (element(0x30, &element(0x30, &element(0x30, &dns))), "another class"),
        (constraints(&[with_minimum], &[]), "a minimum"),
        (constraints(&[general_name(DNS, b"*.example.org")], &[]), "a wildcard"),
        (constraints(&[general_name(DNS, b"\xff")], &[]), "not text"),
        (constraints(&[general_name(EMAIL, b"a@b@c@")], &[]), "not an e-mail address"),
        (constraints(&[general_name(IP, &[10, 0, 0, 0])], &[]), "no mask"),
        (constraints(&[general_name(IP, &[10, 0, 0, 0, 255, 0, 255, 0])], &[]), "holes in a mask"),
    ] {
        assert!(NameConstraints::parse(&der).is_err(), "{reason}");
    }
    let twice = element(0xa0, &element(0x30, &dns)).repeat(2);
    assert!(NameConstraints::parse(&element(0x30, &twice)).is_err(), "permitted twice");
    let reversed =
        [element(0xa1, &element(0x30, &dns)), element(0xa0, &element(0x30, &dns))].concat();
    assert!(NameConstraints::parse(&element(0x30, &reversed)).is_err(), "excluded first");
}

#[test]
fn uri_constraint_must_be_a_host() {
    for (base, is_supported) in [
        ("example.org", true),
        (".example.org", true),
        ("cluster", true),
        ("trust_domain", true),
        ("spiffe://example.org", false),
        ("example.org/path", false),
        ("10.0.0.1", false),
        ("*.example.org", false),
        ("example.org:443", false),
        ("", false),
    ] {
        for der in [
            constraints(&[general_name(URI, base.as_bytes())], &[]),
            constraints(&[], &[general_name(URI, base.as_bytes())]),
        ] {
            let constraints = NameConstraints::parse(&der).unwrap();
            assert_eq!(constraints.has_unsupported_uri(), !is_supported, "{base}");
        }
    }
}
