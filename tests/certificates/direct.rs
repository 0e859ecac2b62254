//! Certificates that the authority itself must have issued.

use countersign_server::identities::certificate::CertificateRefusal::{
    CaCertificate, ClientUsage, NotIssued, UnreadableCertificate,
};
use countersign_tests::pki::{AUTHORITY, CertificateSpec, OpensslPki};

use crate::fixture::{chain, check, direct, in_days, presented};

#[test]
fn certificate_of_the_authority_is_accepted() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let client = pki.client("ca", "/CN=client", "");
    assert_eq!(check(&direct(&ca), &[&client]), Ok(()));
    assert_eq!(check(&chain(&ca), &[&client]), Ok(()));
}

#[test]
fn certificate_of_another_authority_is_refused() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    pki.authority("other", None, "");
    let client = pki.client("other", "/CN=client", "");
    assert_eq!(check(&direct(&ca), &[&client]), Err(NotIssued));
    // The right name with another key.
    let spec = CertificateSpec { subject: "/CN=ca", extensions: AUTHORITY, ..Default::default() };
    pki.issue("forged", &spec);
    let client = pki.client("forged", "/CN=client", "");
    assert_eq!(check(&direct(&ca), &[&client]), Err(NotIssued));
}

#[test]
fn right_key_with_another_issuer_name_is_refused() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let spec = CertificateSpec {
        key: Some("ca"),
        subject: "/CN=renamed",
        extensions: AUTHORITY,
        ..Default::default()
    };
    pki.issue("renamed", &spec);
    std::fs::copy(pki.file("ca", "key"), pki.file("renamed", "key")).unwrap();
    let client = pki.client("renamed", "/CN=client", "");
    assert_eq!(check(&direct(&ca), &[&client]), Err(NotIssued));
}

#[test]
fn issuer_name_must_have_the_same_string_type() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    // `nombstr` makes a PrintableString of the same text and key.
    let spec = CertificateSpec {
        key: Some("ca"),
        subject: "/CN=ca",
        extensions: AUTHORITY,
        strings: "nombstr",
        ..Default::default()
    };
    let printable = pki.issue("printable", &spec);
    std::fs::copy(pki.file("ca", "key"), pki.file("printable", "key")).unwrap();
    let client = pki.client("printable", "/CN=client", "");
    assert_eq!(check(&direct(&printable), &[&client]), Ok(()));
    assert_eq!(check(&direct(&ca), &[&client]), Err(NotIssued));
}

#[test]
fn certificate_below_an_intermediate_is_refused() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let middle = pki.authority("middle", Some("ca"), "");
    let client = pki.client("middle", "/CN=client", "");
    assert_eq!(check(&direct(&ca), &[&client, &middle]), Err(NotIssued));
    assert_eq!(check(&direct(&middle), &[&client]), Ok(()), "an intermediate as the authority");
}

#[test]
fn certificates_of_authorities_are_refused_as_clients() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let middle = pki.authority("middle", Some("ca"), "");
    for rules in [direct(&ca), chain(&ca)] {
        assert_eq!(check(&rules, &[&middle]), Err(CaCertificate));
        assert_eq!(check(&rules, &[&ca]), Err(CaCertificate));
    }
}

#[test]
fn authority_without_constraints_is_accepted() {
    let pki = OpensslPki::default();
    for extensions in ["", "keyUsage=digitalSignature\n"] {
        let ca = pki
            .issue("ca", &CertificateSpec { subject: "/CN=ca", extensions, ..Default::default() });
        let client = pki.client("ca", "/CN=client", "");
        assert_eq!(check(&direct(&ca), &[&client]), Ok(()), "{extensions}");
        assert!(check(&chain(&ca), &[&client]).is_err(), "{extensions}");
        // It is not marked as that of an authority, but it is the configured one.
        assert_eq!(check(&direct(&ca), &[&ca]), Err(CaCertificate), "{extensions}");
    }
}

#[test]
fn certificate_for_servers_only_is_refused() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    for (usage, expected) in [
        ("serverAuth", Err(ClientUsage)),
        ("codeSigning,emailProtection", Err(ClientUsage)),
        ("clientAuth", Ok(())),
        ("serverAuth,clientAuth", Ok(())),
        ("anyExtendedKeyUsage", Ok(())),
    ] {
        for critical in ["", "critical,"] {
            let client =
                pki.client("ca", "/CN=client", &format!("extendedKeyUsage={critical}{usage}"));
            assert_eq!(check(&direct(&ca), &[&client]), expected, "{critical}{usage}");
            assert_eq!(check(&chain(&ca), &[&client]), expected, "{critical}{usage}");
        }
    }
}

#[test]
fn damaged_certificate_is_unreadable() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let client = pki.client("ca", "/CN=client", "");
    let body = client.replace("MII", "MIJ");
    assert_ne!(body, client);
    for rules in [direct(&ca), chain(&ca)] {
        assert_eq!(rules.check(&presented(&body), in_days(0)), Err(UnreadableCertificate));
    }
}

#[test]
fn malformed_usage_is_not_taken_for_none() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    for extension in ["2.5.29.37=DER:0500", "2.5.29.37=DER:3000", "2.5.29.19=DER:0500"] {
        let client = pki.client("ca", "/CN=client", extension);
        for rules in [direct(&ca), chain(&ca)] {
            assert!(check(&rules, &[&client]).is_err(), "{extension}");
        }
    }
}

#[test]
fn later_blocks_are_decoded_in_chains_only() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let client = pki.client("ca", "/CN=client", "");
    let damaged = client.replace("MII", "MIJ");
    assert_eq!(check(&direct(&ca), &[&client, &damaged]), Ok(()));
    let refusal = check(&chain(&ca), &[&client, &damaged]).unwrap_err();
    assert_eq!(refusal.code(), "certificate_chain_unreadable");
}
