//! Revocation lists of authorities.

use std::{fs, sync::Arc};

use countersign_server::identities::certificate::{
    CertificateRefusal::{NoPath, NotIssued, RevocationUnknown, Revoked},
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
    // A list of another authority with the same name proves nothing.
    let forged = Authority::root("ca").crl(&[2]);
    assert_eq!(check_listed(direct(&ca.pem()), &[&forged], &client), Err(NotIssued));
    assert_eq!(RevocationUnknown.status(), 503);
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
    let forged = Authority::root("middle").crl(&[]);
    assert_eq!(check_listed(rules(), &[&forged], &client), Err(NoPath));
}

#[test]
fn revoked_intermediate_with_constraints_is_refused() {
    let ca = Authority::root("ca");
    let upper = ca.constrained_authority("upper", 7, "other.net");
    let lower = upper.constrained_authority("lower", 8, "other.net");
    let client = lower.client("client", 1).pem();
    let rules = || chain(&ca.pem());
    let others = [ca.crl(&[8]), upper.crl(&[7]), lower.crl(&[2])];
    let forged = [Authority::root("ca").crl(&[]), Authority::root("upper").crl(&[])];
    let old = [ca.crl_in(EXPIRED, &[]), upper.crl_in(EXPIRED, &[])];
    for (lists, expected) in [
        (vec![], Ok(())),
        (others.iter().collect(), Ok(())),
        (vec![&ca.crl(&[7])], Err(Revoked)),
        (vec![&upper.crl(&[8])], Err(Revoked)),
        (vec![&lower.crl(&[1])], Err(Revoked)),
        (vec![&forged[0]], Err(NoPath)),
        (vec![&forged[1]], Err(NoPath)),
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
