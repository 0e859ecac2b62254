use super::*;
use crate::{algorithm::Algorithm, issuer::IssuerConfig};

fn token_id(id: &str, until: Option<u64>) -> Revocation {
    Revocation {
        target: RevocationTarget::TokenId { issuer: "i".into(), token_id: id.into() },
        until: until.map(UnixTime),
    }
}

fn of_issuer(name: &str) -> TokenIssuer<'static> {
    let config = IssuerConfig::new(name, "us", [Algorithm::Hs256]);
    TokenIssuer { config: Box::leak(Box::new(config)), tenant: None }
}

fn token(id: &str) -> RevocationSubject<'_> {
    RevocationSubject {
        issuer: of_issuer("i"),
        kid: Some("k"),
        token_id: Some(id),
        subject: Some("s"),
        environment: Some("e"),
        issued_at: Some(UnixTime(1000)),
        signing_input: b"h.p",
    }
}

fn check(writer: &RevocationsWriter, token: &RevocationSubject<'_>) -> Result<(), Reject> {
    writer.revocations().check(token, &mut Vec::new())
}

fn one(target: RevocationTarget) -> RevocationsWriter {
    let mut writer = RevocationsWriter::new(10);
    writer.insert(&[Revocation { target, until: None }]).unwrap();
    writer
}

#[test]
fn revocation_of_each_kind_matches_only_its_tokens() {
    let token_id = one(RevocationTarget::TokenId { issuer: "i".into(), token_id: "1".into() });
    assert_eq!(check(&token_id, &token("1")), Err(Reject::Revoked));
    for other in [
        token("2"),
        token(""),
        RevocationSubject { issuer: of_issuer("j"), ..token("1") },
        RevocationSubject { token_id: None, ..token("1") },
    ] {
        assert_eq!(check(&token_id, &other), Ok(()));
    }
    let environment =
        one(RevocationTarget::Environment { issuer: "i".into(), environment: "e".into() });
    assert_eq!(check(&environment, &token("1")), Err(Reject::Revoked));
    for other in [
        RevocationSubject { environment: Some("f"), ..token("1") },
        RevocationSubject { environment: None, ..token("1") },
        RevocationSubject { issuer: of_issuer("j"), ..token("1") },
    ] {
        assert_eq!(check(&environment, &other), Ok(()));
    }
    let key = one(RevocationTarget::Key { issuer: "i".into(), kid: "k".into() });
    assert_eq!(check(&key, &token("1")), Err(Reject::Revoked));
    for other in [
        RevocationSubject { kid: Some("l"), ..token("1") },
        RevocationSubject { kid: None, ..token("1") },
        RevocationSubject { issuer: of_issuer(""), ..token("1") },
    ] {
        assert_eq!(check(&key, &other), Ok(()));
    }
    let input = one(RevocationTarget::signing_input(b"h.p"));
    assert_eq!(check(&input, &token("1")), Err(Reject::Revoked));
    assert_eq!(check(&input, &RevocationSubject { signing_input: b"h.q", ..token("1") }), Ok(()));
}

#[test]
fn issued_before_is_exact_and_covers_missing_iat() {
    let subject = |moment| {
        one(RevocationTarget::Subject {
            issuer: "i".into(),
            subject: "s".into(),
            issued_before: UnixTime(moment),
        })
    };
    let issuer = |moment| {
        one(RevocationTarget::Everything {
            issuer: Some("i".into()),
            issued_before: UnixTime(moment),
        })
    };
    let all = |moment| {
        one(RevocationTarget::Everything { issuer: None, issued_before: UnixTime(moment) })
    };
    for revoked in [&subject as &dyn Fn(u64) -> RevocationsWriter, &issuer, &all] {
        assert_eq!(check(&revoked(1001), &token("1")), Err(Reject::Revoked));
        assert_eq!(check(&revoked(1000), &token("1")), Ok(()));
        assert_eq!(
            check(&revoked(0), &RevocationSubject { issued_at: None, ..token("1") }),
            Err(Reject::Revoked)
        );
    }
    assert_eq!(
        check(&subject(2000), &RevocationSubject { subject: Some("t"), ..token("1") }),
        Ok(())
    );
    assert_eq!(check(&subject(2000), &RevocationSubject { subject: None, ..token("1") }), Ok(()));
    assert_eq!(
        check(&issuer(2000), &RevocationSubject { issuer: of_issuer("j"), ..token("1") }),
        Ok(())
    );
    assert_eq!(
        check(&all(2000), &RevocationSubject { issuer: of_issuer("j"), ..token("1") }),
        Err(Reject::Revoked)
    );
}

#[test]
fn revocation_names_are_unambiguous() {
    let joined = one(RevocationTarget::TokenId { issuer: "ab".into(), token_id: "c".into() });
    assert_eq!(
        check(
            &joined,
            &RevocationSubject { issuer: of_issuer("a"), token_id: Some("bc"), ..token("") }
        ),
        Ok(())
    );
    let subject = one(RevocationTarget::Subject {
        issuer: "i".into(),
        subject: "k".into(),
        issued_before: UnixTime(9999),
    });
    assert_eq!(check(&subject, &token("k")), Ok(()), "a key or a token of the same name");
}

#[test]
fn stricter_of_two_revocations_applies() {
    let subject = |moment, until| Revocation {
        target: RevocationTarget::Subject {
            issuer: "i".into(),
            subject: "s".into(),
            issued_before: UnixTime(moment),
        },
        until,
    };
    let mut writer = RevocationsWriter::new(1);
    writer
        .insert(&[
            subject(500, None),
            subject(1500, Some(UnixTime(1))),
            subject(700, Some(UnixTime(5))),
        ])
        .unwrap();
    assert_eq!((writer.count(), writer.all()), (1, vec![subject(1500, None)]));
}

#[test]
fn revocation_capacity_is_exact_and_all_or_nothing() {
    let mut writer = RevocationsWriter::new(3);
    writer.insert(&[token_id("1", None), token_id("2", None)]).unwrap();
    assert_eq!(
        writer.insert(&[token_id("3", None), token_id("4", None)]),
        Err(RevocationCapacityError { capacity: 3 })
    );
    assert_eq!((writer.count(), check(&writer, &token("3"))), (2, Ok(())));
    writer.insert(&[token_id("3", None), token_id("1", None)]).unwrap();
    assert_eq!(writer.insert(&[token_id("4", None)]), Err(RevocationCapacityError { capacity: 3 }));
    assert_eq!(writer.insert(&[token_id("3", None)]), Ok(()), "an existing entry needs no room");
    writer.restore(&[token_id("5", None)]);
    assert_eq!(
        (writer.count(), check(&writer, &token("5"))),
        (4, Err(Reject::Revoked)),
        "stored revocations are never dropped"
    );
    assert_eq!(writer.insert(&[token_id("6", None)]), Err(RevocationCapacityError { capacity: 3 }));
    assert_eq!(writer.insert(&[token_id("5", None)]), Ok(()));
}

#[test]
fn revocations_are_purged_when_expired_not_before() {
    let mut writer = RevocationsWriter::new(10);
    writer
        .insert(&[token_id("1", Some(100)), token_id("2", Some(101)), token_id("3", None)])
        .unwrap();
    assert_eq!(writer.purge_expired(UnixTime(99)), 0);
    assert_eq!(writer.purge_expired(UnixTime(100)), 1);
    assert_eq!(["1", "2", "3"].map(|id| check(&writer, &token(id)).is_err()), [false, true, true]);
    assert_eq!(writer.purge_expired(UnixTime(u64::MAX)), 1);
    assert_eq!((writer.count(), check(&writer, &token("3"))), (1, Err(Reject::Revoked)));
}

#[test]
fn revocations_outside_a_complete_set_are_removed() {
    let mut writer = RevocationsWriter::new(10);
    writer.insert(&[token_id("1", None), token_id("2", None), token_id("3", None)]).unwrap();
    let kept = [token_id("1", None), token_id("3", None)];
    let hashes = kept.iter().map(|one| writer.entry_hash(&one.target)).collect();
    assert_eq!(writer.retain(&hashes), 1);
    assert_eq!(["1", "2", "3"].map(|id| check(&writer, &token(id)).is_err()), [true, false, true]);
    assert_eq!((writer.retain(&hashes), writer.count(), writer.all().len()), (0, 2, 2));
}

#[test]
fn unavailable_revocations_refuse_every_token() {
    let mut writer = RevocationsWriter::unavailable(10);
    assert!(!writer.revocations().are_available());
    assert_eq!(check(&writer, &token("1")), Err(Reject::RevocationsUnavailable));
    writer.insert(&[]).unwrap();
    assert_eq!((writer.revocations().are_available(), check(&writer, &token("1"))), (true, Ok(())));
    writer.mark_unavailable();
    assert_eq!(check(&writer, &token("1")), Err(Reject::RevocationsUnavailable));
    writer.preload(&[token_id("1", None)]);
    assert_eq!(check(&writer, &token("2")), Err(Reject::RevocationsUnavailable));
    writer.insert(&[]).unwrap();
    assert_eq!(["1", "2"].map(|id| check(&writer, &token(id))), [Err(Reject::Revoked), Ok(())]);
}

#[test]
fn every_revocation_round_trips() {
    let targets = [
        RevocationTarget::TokenId { issuer: "ä".into(), token_id: String::new().into() },
        RevocationTarget::Subject {
            issuer: "i".into(),
            subject: "s\0".into(),
            issued_before: UnixTime(7),
        },
        RevocationTarget::Key { issuer: String::new().into(), kid: "k".into() },
        RevocationTarget::Environment { issuer: "i".into(), environment: "e".into() },
        RevocationTarget::Everything { issuer: Some("i".into()), issued_before: UnixTime(8) },
        RevocationTarget::Everything { issuer: None, issued_before: UnixTime(9) },
        RevocationTarget::SigningInput([3; 32]),
    ];
    for target in targets {
        let revocation = Revocation { target, until: Some(UnixTime(50)) };
        let mut writer = RevocationsWriter::new(10);
        writer.insert(std::slice::from_ref(&revocation)).unwrap();
        assert_eq!(writer.all(), [revocation]);
    }
}

#[test]
fn ten_thousand_revocations_are_distinguished() {
    let mut writer = RevocationsWriter::new(10_000);
    let entries: Vec<_> = (0..10_000).map(|id| token_id(&id.to_string(), None)).collect();
    for part in entries.chunks(100) {
        writer.insert(part).unwrap();
    }
    assert_eq!((writer.count(), writer.all().len()), (10_000, 10_000));
    assert!((0..10_000).all(|id| check(&writer, &token(&id.to_string())).is_err()));
    assert!((10_000..20_000).all(|id| check(&writer, &token(&id.to_string())).is_ok()));
}

#[test]
fn filter_grows_with_its_capacity() {
    for capacity in [1000, 1_000_000, 20_000_000, 250_000_000] {
        assert!(filter::words_for(capacity) * 64 >= capacity * 16, "{capacity}");
    }
    // Half a hash addresses every bit.
    assert_eq!(filter::words_for(usize::MAX) * 64, 1 << 32);
}

#[test]
fn token_is_revoked_under_every_name_of_its_issuer() {
    let config = IssuerConfig {
        aliases: ["alias".into()].into(),
        ..IssuerConfig::new("i/{tenantid}", "us", [Algorithm::Hs256])
    };
    let of = |tenant| RevocationSubject {
        issuer: TokenIssuer { config: &config, tenant: Some(tenant) },
        ..token("1")
    };
    for (name, of_a, of_b) in [
        ("i/a", Err(Reject::Revoked), Ok(())),
        ("i/{tenantid}", Err(Reject::Revoked), Err(Reject::Revoked)),
        ("alias", Err(Reject::Revoked), Err(Reject::Revoked)),
        ("i/c", Ok(()), Ok(())),
    ] {
        let issuer: Box<str> = name.into();
        for target in [
            RevocationTarget::Everything {
                issuer: Some(issuer.clone()),
                issued_before: UnixTime(2000),
            },
            RevocationTarget::Key { issuer: issuer.clone(), kid: "k".into() },
            RevocationTarget::TokenId { issuer, token_id: "1".into() },
        ] {
            let revoked = one(target);
            assert_eq!((check(&revoked, &of("a")), check(&revoked, &of("b"))), (of_a, of_b));
            if of_a.is_err() {
                let revocations = revoked.revocations();
                let hashes = revocations.hashes(&of("a"));
                assert!(revocations.may_apply(hashes, || of("a").issuer, None), "{name}");
            }
        }
    }
}
