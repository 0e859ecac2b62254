//! Revocation lists of authorities.

use std::{fs, sync::Arc};

use countersign_server::identities::certificate::{
    CertificateRefusal::{RevocationUnknown, Revoked},
    CertificateRules, RevocationLists,
};
use countersign_tests::{
    certificates::{Authority, EXPIRED},
    openssl::openssl,
    pki::OpensslPki,
};

use crate::fixture::{Checked, chain, check, direct};

/// Checks a chain with these revocation lists.
fn check_listed(rules: CertificateRules, lists: &[&str], pem: &str) -> Checked {
    let mut revoked = RevocationLists::default();
    for list in lists {
        revoked.add(list.as_bytes()).unwrap();
    }
    check(&CertificateRules { revoked: Arc::new(revoked), ..rules }, &[pem])
}

#[test]
fn revoked_certificate_is_refused() {
    let (ca, other) = (Authority::root("ca"), Authority::root("other"));
    let client = ca.client("client", 1).pem();
    let (good, bad, old) = (ca.crl(&[2]), ca.crl(&[1]), ca.crl_in(EXPIRED, &[2]));
    let of_other = other.crl(&[1]);
    for (lists, expected) in [
        (&[][..], Ok(())),
        (&[&*good][..], Ok(())),
        (&[&*bad], Err(Revoked)),
        (&[&*of_other], Ok(())),
        (&[&*of_other, &*bad], Err(Revoked)),
        (&[&*old], Err(RevocationUnknown)),
    ] {
        assert_eq!(check_listed(direct(&ca.pem()), lists, &client), expected);
        assert_eq!(check_listed(chain(&ca.pem()), lists, &client), expected);
    }
    assert_eq!(RevocationUnknown.status(), 503);
}

/// An administrator adds the newest list to those that are there, or before them.
#[test]
fn newest_list_counts() {
    let ca = Authority::root("ca");
    let client = ca.client("client", 1).pem();
    let middle = ca.constrained_authority("middle", 7, "other.net");
    let below = middle.client("client", 1).pem();
    let expired = ca.crl_in(EXPIRED, &[1, 7]);
    let [good, bad] =
        [(256, &[2][..]), (257, &[1, 7])].map(|(number, serials)| ca.numbered_crl(number, serials));
    let latest = ca.numbered_crl(1000, &[]);
    for (lists, expected) in [
        (vec![&good, &bad], Err(Revoked)),
        (vec![&good, &bad, &bad], Err(Revoked)),
        (vec![&good, &bad, &latest], Ok(())),
        (vec![&expired, &good], Ok(())),
        (vec![&expired, &bad], Err(Revoked)),
    ] {
        for lists in [lists.clone(), lists.into_iter().rev().collect()] {
            let lists: Vec<_> = lists.into_iter().map(String::as_str).collect();
            assert_eq!(check_listed(direct(&ca.pem()), &lists, &client), expected);
            assert_eq!(check_listed(chain(&ca.pem()), &lists, &client), expected);
            assert_eq!(check_listed(chain(&ca.pem()), &lists, &below), expected);
        }
    }
}

/// An authority keeps its name when it changes its key.
#[test]
fn key_of_an_authority_selects_its_list() {
    let (old, new) = (Authority::root("ca"), Authority::root("ca"));
    for ca in [&old, &new] {
        let other = if std::ptr::eq(ca, &old) { &new } else { &old };
        let client = ca.client("client", 1).pem();
        for (own, expected) in [(ca.crl(&[1]), Err(Revoked)), (ca.crl(&[2]), Ok(()))] {
            let of_other = other.numbered_crl(9, &[1]);
            for lists in [[&*own, &*of_other], [&*of_other, &*own]] {
                assert_eq!(check_listed(direct(&ca.pem()), &lists, &client), expected);
                assert_eq!(check_listed(chain(&ca.pem()), &lists, &client), expected);
            }
            assert_eq!(check_listed(direct(&ca.pem()), &[&of_other], &client), Ok(()));
        }
    }
}

#[test]
fn revoked_intermediate_is_refused() {
    let ca = Authority::root("ca");
    let middle = ca.authority("middle", 7);
    let client = middle.client("client", 1).pem();
    let rules = || chain(&ca.pem());
    assert_eq!(check_listed(rules(), &[&ca.crl(&[8]), &middle.crl(&[2])], &client), Ok(()));
    assert_eq!(check_listed(rules(), &[&ca.crl(&[7])], &client), Err(Revoked));
    assert_eq!(check_listed(rules(), &[&middle.crl(&[1])], &client), Err(Revoked));
    let of_other = Authority::root("middle").crl(&[1]);
    assert_eq!(check_listed(rules(), &[&of_other], &client), Ok(()));
}

#[test]
fn revoked_intermediate_with_constraints_is_refused() {
    let ca = Authority::root("ca");
    let upper = ca.constrained_authority("upper", 7, "other.net");
    let lower = upper.constrained_authority("lower", 8, "other.net");
    let client = lower.client("client", 1).pem();
    let rules = || chain(&ca.pem());
    let others = [ca.crl(&[8]), upper.crl(&[7]), lower.crl(&[2])];
    let of_others = [Authority::root("ca").crl(&[7]), Authority::root("upper").crl(&[8])];
    let old = [ca.crl_in(EXPIRED, &[]), upper.crl_in(EXPIRED, &[])];
    for (lists, expected) in [
        (vec![], Ok(())),
        (others.iter().collect(), Ok(())),
        (vec![&ca.crl(&[7])], Err(Revoked)),
        (vec![&upper.crl(&[8])], Err(Revoked)),
        (vec![&lower.crl(&[1])], Err(Revoked)),
        (of_others.iter().collect(), Ok(())),
        (vec![&old[0]], Err(RevocationUnknown)),
        (vec![&old[1]], Err(RevocationUnknown)),
    ] {
        let lists: Vec<_> = lists.into_iter().map(String::as_str).collect();
        assert_eq!(check_listed(rules(), &lists, &client), expected);
    }
}

#[test]
fn damaged_list_is_refused() {
    let list = Authority::root("ca").crl_der(&[1]);
    let mut lists = RevocationLists::default();
    assert_eq!(lists.add(&list), Ok(()));
    for damaged in [&b""[..], b"text", &list[..list.len() - 1], &[&list[..], b"0"].concat()] {
        assert!(lists.add(damaged).is_err());
    }
}

/// Without the option, `openssl ca` writes a list of version 1.
#[test]
fn list_of_version_1_is_refused_with_the_remedy() {
    let pki = OpensslPki::default();
    pki.authority("ca", None, "");
    let path = |name: &str, end: &str| pki.file(name, end).to_str().unwrap().to_owned();
    fs::write(pki.file("index", "txt"), "").unwrap();
    let text = format!(
        "[ca]\ndefault_ca=own\n[own]\ndatabase={}\ndefault_md=sha256\ndefault_crl_days=30\n\
         [list]\nauthorityKeyIdentifier=keyid:always\n",
        path("index", "txt")
    );
    fs::write(pki.file("list", "cnf"), text).unwrap();
    let make = |options: &[&str]| {
        let [key, ca, configuration, out] =
            [("ca", "key"), ("ca", "crt"), ("list", "cnf"), ("list", "crl")]
                .map(|(name, end)| path(name, end));
        let common = ["ca", "-gencrl", "-config", &configuration, "-keyfile", &key];
        openssl(&[&common[..], &["-cert", &ca, "-out", &out], options].concat(), b"");
        RevocationLists::default().add(&fs::read(out).unwrap())
    };
    let error = make(&[]).unwrap_err();
    assert!(error.contains("of version 1") && error.contains("-crlexts"), "{error}");
    assert_eq!(make(&["-crlexts", "list"]), Ok(()));
}
