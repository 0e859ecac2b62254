//! Paths over intermediate authorities that the client presents.

use countersign_server::identities::certificate::CertificateRefusal::{
    IssuerUsage, NoPath, PathLength,
};
use countersign_tests::pki::{AUTHORITY, CertificateSpec, OpensslPki};

use crate::fixture::{chain, check};

/// Extensions of an authority with `pathlen`.
fn with_length(length: u32) -> String {
    format!("basicConstraints=critical,CA:TRUE,pathlen:{length}\nkeyUsage=keyCertSign\n")
}

/// Creates an authority with exactly these extensions.
fn authority(pki: &OpensslPki, name: &str, issuer: Option<&str>, extensions: &str) -> String {
    let subject = format!("/CN={name}");
    let spec = CertificateSpec { issuer, subject: &subject, extensions, ..Default::default() };
    pki.issue(name, &spec)
}

#[test]
fn path_is_found_in_any_order() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let upper = pki.authority("upper", Some("ca"), "");
    let lower = pki.authority("lower", Some("upper"), "");
    let client = pki.client("lower", "/CN=client", "");
    let unrelated = pki.authority("unrelated", None, "");
    let rules = chain(&ca);
    for pem in [
        &[&client, &lower, &upper][..],
        &[&client, &upper, &lower],
        &[&client, &unrelated, &ca, &upper, &lower, &lower, &client],
    ] {
        let pem: Vec<_> = pem.iter().map(|pem| pem.as_str()).collect();
        assert_eq!(check(&rules, &pem), Ok(()));
    }
    for pem in [&[&client][..], &[&client, &lower], &[&client, &upper]] {
        let pem: Vec<_> = pem.iter().map(|pem| pem.as_str()).collect();
        assert_eq!(check(&rules, &pem), Err(NoPath));
    }
}

#[test]
fn presented_root_is_not_trusted() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    let foreign = pki.authority("foreign", None, "");
    let client = pki.client("foreign", "/CN=client", "");
    assert_eq!(check(&chain(&ca), &[&client, &foreign]), Err(NoPath));
    // An authority of the right name, and with another key.
    let spec = CertificateSpec { subject: "/CN=ca", extensions: AUTHORITY, ..Default::default() };
    let forged = pki.issue("forged", &spec);
    let client = pki.client("forged", "/CN=client", "");
    assert_eq!(check(&chain(&ca), &[&client, &forged]), Err(NoPath));
}

#[test]
fn issuers_must_be_authorities() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    for extensions in [
        "",
        "basicConstraints=critical,CA:FALSE\n",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature\n",
    ] {
        let middle = authority(&pki, "middle", Some("ca"), extensions);
        let client = pki.client("middle", "/CN=client", "");
        assert_eq!(check(&chain(&ca), &[&client, &middle]), Err(NoPath), "{extensions}");
    }
    let without_usage = "basicConstraints=critical,CA:TRUE\n";
    let middle = authority(&pki, "middle", Some("ca"), without_usage);
    let client = pki.client("middle", "/CN=client", "");
    assert_eq!(check(&chain(&ca), &[&client, &middle]), Ok(()));
}

#[test]
fn usage_of_every_issuer_must_include_clients() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    for (usage, expected) in
        [("serverAuth", Err(IssuerUsage)), ("clientAuth", Ok(())), ("anyExtendedKeyUsage", Ok(()))]
    {
        let middle = pki.authority("middle", Some("ca"), &format!("extendedKeyUsage={usage}"));
        let client = pki.client("middle", "/CN=client", "");
        assert_eq!(check(&chain(&ca), &[&client, &middle]), expected, "{usage}");
        // The same for the configured authority.
        assert_eq!(check(&chain(&middle), &[&client]), expected, "{usage}");
        assert_eq!(check(&crate::fixture::direct(&middle), &[&client]), expected, "{usage}");
    }
}

#[test]
fn length_of_the_path_is_limited_by_every_issuer() {
    let pki = OpensslPki::default();
    let ca = authority(&pki, "ca", None, &with_length(1));
    let upper = authority(&pki, "upper", Some("ca"), &with_length(0));
    let client = pki.client("upper", "/CN=client", "");
    assert_eq!(check(&chain(&ca), &[&client, &upper]), Ok(()));
    // One below an authority that permits none, and two below one that permits one.
    let lower = pki.authority("lower", Some("upper"), "");
    let client = pki.client("lower", "/CN=client", "");
    assert_eq!(check(&chain(&ca), &[&client, &lower, &upper]), Err(PathLength));
    assert_eq!(check(&chain(&upper), &[&client, &lower]), Err(PathLength));
    let upper = pki.authority("upper", Some("ca"), "");
    let lower = pki.authority("lower", Some("upper"), "");
    let client = pki.client("lower", "/CN=client", "");
    assert_eq!(check(&chain(&ca), &[&client, &lower, &upper]), Err(PathLength));
    assert_eq!(check(&chain(&upper), &[&client, &lower]), Ok(()));
}

#[test]
fn alternative_path_is_tried() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    pki.authority("old", None, "");
    // The same authority, certified by an authority that is not trusted, by one for servers only,
    // and by one that is good.
    let cross = |issuer: &str| {
        let spec = CertificateSpec {
            issuer: Some(issuer),
            key: Some("middle"),
            subject: "/CN=middle",
            extensions: AUTHORITY,
            ..Default::default()
        };
        pki.issue("middle", &spec)
    };
    let servers = pki.authority("servers", Some("ca"), "extendedKeyUsage=serverAuth");
    let clients = pki.authority("clients", Some("ca"), "extendedKeyUsage=clientAuth");
    let (by_old, by_servers, by_clients) = (cross("old"), cross("servers"), cross("clients"));
    let client = pki.client("middle", "/CN=client", "");
    let all = [&by_old, &by_servers, &by_clients, &servers, &clients];
    let in_this_order = |order: &[usize]| {
        let pem: Vec<_> = order.iter().map(|index| all[*index].as_str()).collect();
        check(&chain(&ca), &[&[client.as_str()], &pem[..]].concat())
    };
    assert_eq!(in_this_order(&[0, 1, 2, 3, 4]), Ok(()));
    assert_eq!(in_this_order(&[4, 3, 2, 1, 0]), Ok(()));
    assert_eq!(in_this_order(&[2, 4]), Ok(()));
    assert_eq!(in_this_order(&[0, 1, 3]), Err(IssuerUsage));
    assert_eq!(in_this_order(&[0]), Err(NoPath));
}

#[test]
fn renewed_key_of_the_root_is_followed() {
    let pki = OpensslPki::default();
    let ca = pki.authority("root", None, "");
    let spec = CertificateSpec {
        issuer: Some("root"),
        key: Some("renewed"),
        subject: "/CN=root",
        extensions: AUTHORITY,
        ..Default::default()
    };
    let renewed = pki.issue("renewed", &spec);
    let middle = pki.authority("middle", Some("renewed"), "");
    let client = pki.client("middle", "/CN=client", "");
    assert_eq!(check(&chain(&ca), &[&client, &middle, &renewed]), Ok(()));
}

#[test]
fn search_of_equal_names_is_bounded() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca", None, "");
    pki.authority("loop", None, "");
    // Fifteen authorities of one name, each of which may have issued each of the others.
    let loops: Vec<_> = (0..15)
        .map(|nth| {
            let key = format!("key{nth}");
            let spec = CertificateSpec {
                issuer: Some("loop"),
                key: Some(&key),
                subject: "/CN=loop",
                extensions: AUTHORITY,
                ..Default::default()
            };
            pki.issue("another", &spec)
        })
        .collect();
    let client = pki.client("loop", "/CN=client", "");
    let pem: Vec<_> = [&client].into_iter().chain(&loops).map(String::as_str).collect();
    assert_eq!(check(&chain(&ca), &pem), Err(NoPath));
}

#[test]
fn path_of_seven_intermediates_is_too_long() {
    let pki = OpensslPki::default();
    let ca = pki.authority("ca0", None, "");
    let mut pem: Vec<String> = Vec::new();
    for nth in 1..=7 {
        let issuer = format!("ca{}", nth - 1);
        pem.push(pki.authority(&format!("ca{nth}"), Some(&issuer), ""));
        let client = pki.client(&format!("ca{nth}"), "/CN=client", "");
        let all: Vec<_> = [&client].into_iter().chain(&pem).map(String::as_str).collect();
        let expected = if nth <= 6 { Ok(()) } else { Err(NoPath) };
        assert_eq!(check(&chain(&ca), &all), expected, "{nth} intermediates");
    }
}
