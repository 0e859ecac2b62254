//! What a cache remembers of tokens, and what it never does: seen through the
//! question that is asked before a signature is checked.

use std::{
    cell::Cell,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::{
    Algorithm, Issuer, IssuerConfig, KeyMaterial, KeySet, Reject, Revocation, RevocationTarget,
    RevocationsWriter, Rules, Snapshot, UnixTime, VerificationKey, Verifier,
};
use countersign_tests::engine::{
    HEADER, ISSUER, NOW, SECRET, claims, config, config_with, cached_verifier, secret_keys,
    secret_verifier, signing_input, snapshot, token, verifier,
};

/// CacheOutcome a token was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheOutcome {
    /// From the cache, whole.
    Hit,
    /// The whole way, but for the signature.
    SignatureCached,
    /// The whole way.
    Miss,
}
use CacheOutcome::{SignatureCached, Miss, Hit};

#[track_caller]
fn ask(verifier: &Verifier, token: &str, now: UnixTime) -> (CacheOutcome, Option<Reject>) {
    let asked = Cell::new(0);
    let verdict = verifier.verify_if(token.as_bytes(), now, |_| {
        asked.set(asked.get() + 1);
        true
    });
    let remembered = verdict.as_ref().is_ok_and(|verified| verified.is_cached());
    let outcome = match (asked.get(), remembered) {
        (0, true) => Hit,
        (0, false) => SignatureCached,
        (1, false) => Miss,
        other => panic!("asked, remembered: {other:?}"),
    };
    (outcome, verdict.err())
}

/// Signs with Ed25519, whose verdicts are worth remembering.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn key(&self, kid: &str) -> VerificationKey {
        let material =
            KeyMaterial::OctetKeyPair { curve: "Ed25519", x: self.0.public_key().as_ref() };
        VerificationKey::new(Some(kid), Algorithm::EdDsa, material).unwrap()
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::new(KeySet::published(vec![self.key("k")]))
    }

    fn token(&self, members: &str) -> String {
        let input = signing_input(r#"{"alg":"EdDSA","kid":"k"}"#, claims(members));
        let signature = self.0.sign(input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// CacheOutcome many tokens are remembered as accepted, and how many as refused.
fn cached_counts(verifier: &Verifier) -> [u64; 2] {
    let statistics = verifier.cache_statistics().unwrap();
    [statistics.accepted.entries, statistics.refused.entries]
}

fn of(signer: &Signer) -> Verifier {
    verifier([(config([Algorithm::EdDsa]), signer.keys())])
}

#[test]
fn a_token_is_verified_once_and_then_remembered() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    assert_eq!(ask(&verifier, &token, NOW), (Miss, None));
    for _ in 0..3 {
        assert_eq!(ask(&verifier, &token, NOW), (Hit, None));
    }
    let without = Verifier::new(snapshot([(config([Algorithm::EdDsa]), signer.keys())]));
    assert_eq!(
        [0, 1].map(|_| ask(&without, &token, NOW)),
        [(Miss, None); 2],
        "a verifier without a cache"
    );
    assert_eq!(without.cache_statistics(), None);
    assert_eq!(cached_counts(&verifier), [1, 0]);
}

#[test]
fn a_hit_says_what_the_first_verification_said() {
    let verifier = secret_verifier();
    let members =
        r#""exp":1800000000,"urn:inmanta:ct":["api","agent"],"urn:inmanta:env":"e1","x":[1]"#;
    let token = token(HEADER, claims(members).replace(r#","x":[1]"#, ""));
    let [first, second] = [0, 1].map(|_| verifier.verify(token.as_bytes(), NOW).unwrap());
    assert_eq!([first.is_cached(), second.is_cached()], [false, true]);
    for verified in [&first, &second, &second.clone()] {
        let claims = verified.claims();
        assert_eq!((claims.subject(), claims.username()), (Some("bob"), Some("bob")));
        assert_eq!(claims.client_types().collect::<Vec<_>>(), ["api", "agent"]);
        assert_eq!(
            (claims.environment(), claims.expires_at()),
            (Some("e1"), Some(UnixTime(1_800_000_000)))
        );
        assert_eq!(claims.json(), first.claims().json());
        assert_eq!((&*verified.issuer().name, verified.key()), (ISSUER, first.key()));
        let identity = verified.identity();
        assert_eq!(
            (identity.subject(), identity.user(), identity.issuer()),
            ("bob", "bob", ISSUER)
        );
        assert_eq!(identity.client_types(), "api,agent");
    }
}

#[test]
fn the_same_keys_again_change_nothing() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    assert_eq!(ask(&verifier, &token, NOW), (Miss, None));
    verifier.replace_keys(ISSUER, &signer.keys());
    assert_eq!(ask(&verifier, &token, NOW), (Hit, None));
}

#[test]
fn a_key_more_or_another_rule_costs_a_parse_and_no_signature() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    assert_eq!(ask(&verifier, &token, NOW), (Miss, None));
    let more = || Arc::new(KeySet::published(vec![Signer::new(2).key("other"), signer.key("k")]));
    verifier.replace_keys(ISSUER, &more());
    assert_eq!([0, 1].map(|_| ask(&verifier, &token, NOW)), [(SignatureCached, None), (Hit, None)]);
    let config = |change: fn(&mut Rules)| IssuerConfig {
        algorithms: [Algorithm::EdDsa].into_iter().collect(),
        ..config_with(change)
    };
    verifier.replace(snapshot([(config(|rules| rules.audience = "them".into()), more())]));
    assert_eq!([0, 1].map(|_| ask(&verifier, &token, NOW)), [(SignatureCached, Some(Reject::Audience)); 2]);
    verifier.replace(snapshot([(config(|_| ()), more())]));
    assert_eq!([0, 1].map(|_| ask(&verifier, &token, NOW)), [(SignatureCached, None), (Hit, None)]);
    // The place of an issuer among others is nothing that an entry may rely on.
    let stranger = IssuerConfig { name: "https://other/".into(), ..config(|_| ()) };
    verifier.replace(snapshot([(stranger, more()), (config(|_| ()), more())]));
    assert_eq!([0, 1].map(|_| ask(&verifier, &token, NOW)), [(SignatureCached, None), (Hit, None)]);
}

#[test]
fn d4_the_verdict_of_one_key_is_none_of_anothers() {
    let (old, new) = (Signer::new(1), Signer::new(2));
    let verifier = of(&old);
    let (good, bad) = (old.token(""), new.token(""));
    assert_eq!([0, 1].map(|_| ask(&verifier, &good, NOW)), [(Miss, None), (Hit, None)]);
    // What an asymmetric key did not sign is known to be so.
    assert_eq!(
        [0, 1].map(|_| ask(&verifier, &bad, NOW)),
        [(Miss, Some(Reject::Signature)), (SignatureCached, Some(Reject::Signature))]
    );
    verifier.replace_keys(ISSUER, &new.keys());
    assert_eq!(
        [0, 1].map(|_| ask(&verifier, &good, NOW)),
        [(Miss, Some(Reject::Signature)), (SignatureCached, Some(Reject::Signature))]
    );
    assert_eq!([0, 1].map(|_| ask(&verifier, &bad, NOW)), [(Miss, None), (Hit, None)]);
    verifier.replace_keys(ISSUER, &old.keys());
    assert_eq!(ask(&verifier, &good, NOW).1, None);
    assert_eq!(ask(&verifier, &bad, NOW).1, Some(Reject::Signature));
}

#[test]
fn d7_a_flood_of_forgeries_fills_its_own_part_and_no_other() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let good: Vec<_> =
        (0..100).map(|number| signer.token(&format!(r#""jti":"{number}""#))).collect();
    assert!(good.iter().all(|token| ask(&verifier, token, NOW) == (Miss, None)));
    let forged: Vec<_> =
        (0..1_000).map(|number| Signer::new(2).token(&format!(r#""jti":"{number}""#))).collect();
    for _ in 0..2 {
        assert!(forged.iter().all(|token| ask(&verifier, token, NOW).1 == Some(Reject::Signature)));
        assert!(good.iter().all(|token| ask(&verifier, token, NOW) == (Hit, None)));
    }
    let statistics = verifier.cache_statistics().unwrap();
    assert_eq!((statistics.accepted.entries, statistics.accepted.evicted), (100, 0));
    assert!(
        statistics.refused.entries < 500 && statistics.refused.evicted > 1_000,
        "{statistics:?}"
    );
}

#[test]
fn a_genuine_token_that_is_refused_has_its_signature_checked_once() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let (expired, early) =
        (signer.token(r#""exp":1"#), signer.token(&format!(r#""nbf":{}"#, NOW.0 + 10)));
    for (token, reject) in [(&expired, Reject::Expired), (&early, Reject::NotYetValid)] {
        assert_eq!(
            [0, 1, 2].map(|_| ask(&verifier, token, NOW)),
            [(Miss, Some(reject)), (SignatureCached, Some(reject)), (SignatureCached, Some(reject))]
        );
    }
    assert_eq!(
        [0, 1].map(|_| ask(&verifier, &early, UnixTime(NOW.0 + 10))),
        [(SignatureCached, None), (Hit, None)],
        "d2"
    );
    assert_eq!(cached_counts(&verifier), [1, 2]);
}

#[test]
fn an_hmac_is_computed_again_rather_than_looked_up() {
    let verifier = secret_verifier();
    let bad = countersign_tests::engine::sign_with(&[1; 32], &signing_input(HEADER, claims("")));
    assert_eq!([0, 1].map(|_| ask(&verifier, &bad, NOW)), [(Miss, Some(Reject::Signature)); 2]);
    let expired = token(HEADER, claims(r#""exp":1"#));
    assert_eq!([0, 1].map(|_| ask(&verifier, &expired, NOW)), [(Miss, Some(Reject::Expired)); 2]);
    assert_eq!(cached_counts(&verifier), [0, 0]);
}

#[test]
fn what_was_not_admitted_is_not_remembered() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    for _ in 0..2 {
        let verdict = verifier.verify_if(token.as_bytes(), NOW, |cold| {
            assert_eq!((&*cold.issuer.name, cold.algorithm), (ISSUER, Algorithm::EdDsa));
            false
        });
        assert_eq!(verdict.err(), Some(Reject::NotAdmitted));
    }
    assert_eq!([0, 1].map(|_| ask(&verifier, &token, NOW)), [(Miss, None), (Hit, None)]);
}

/// A verifier whose tokens can be revoked.
fn verifier_with_revocations() -> (Verifier, RevocationsWriter) {
    let revoker = RevocationsWriter::new(100);
    let snapshot = snapshot([(config([Algorithm::Hs256]), secret_keys(Some("k"), SECRET))]);
    let verifier = Verifier::with_revocations(snapshot, Arc::clone(revoker.revocations()));
    (verifier.with_cache(1 << 20).unwrap(), revoker)
}

fn cached_token(verifier: &Verifier, jti: &str, sub: &str, iat: u64) -> String {
    let claims =
        format!(r#"{{"iss":"{ISSUER}","aud":"us","sub":"{sub}","jti":"{jti}","iat":{iat}}}"#);
    let token = token(r#"{"alg":"HS256","kid":"k"}"#, claims);
    assert_eq!(ask(verifier, &token, NOW), (Miss, None));
    assert_eq!(ask(verifier, &token, NOW), (Hit, None));
    token
}

#[test]
fn every_kind_of_revocation_reaches_remembered_tokens() {
    let issued = NOW.0 - 100;
    let issuer: Box<str> = ISSUER.into();
    let kinds: [fn(&Box<str>, &str) -> RevocationTarget; 6] = [
        |issuer, _| RevocationTarget::TokenId { issuer: issuer.clone(), token_id: "1".into() },
        |issuer, _| RevocationTarget::Subject {
            issuer: issuer.clone(),
            subject: "bob".into(),
            issued_before: NOW,
        },
        |issuer, _| RevocationTarget::Key { issuer: issuer.clone(), kid: "k".into() },
        |issuer, _| RevocationTarget::Everything {
            issuer: Some(issuer.clone()),
            issued_before: NOW,
        },
        |_, _| RevocationTarget::Everything { issuer: None, issued_before: NOW },
        |_, token| RevocationTarget::signing_input(token.rsplit_once('.').unwrap().0.as_bytes()),
    ];
    for kind in kinds {
        let (verifier, mut revoker) = verifier_with_revocations();
        let token = cached_token(&verifier, "1", "bob", issued);
        let target = kind(&issuer, &token);
        revoker.insert(&[Revocation { target: target.clone(), until: Some(NOW) }]).unwrap();
        for _ in 0..3 {
            assert_eq!(ask(&verifier, &token, NOW), (SignatureCached, Some(Reject::Revoked)), "{target:?}");
        }
        assert_eq!(revoker.purge_expired(NOW), 1);
        assert_eq!([0, 1, 2].map(|_| ask(&verifier, &token, NOW).1), [None; 3], "{target:?}");
        assert_eq!(ask(&verifier, &token, NOW), (Hit, None), "{target:?}");
    }
}

#[test]
fn a_revocation_leaves_other_tokens_remembered() {
    let (verifier, mut revoker) = verifier_with_revocations();
    let others: Vec<_> = (0..20)
        .map(|number| cached_token(&verifier, &format!("j{number}"), &format!("u{number}"), NOW.0))
        .collect();
    let issuer: Box<str> = ISSUER.into();
    revoker
        .insert(&[
            Revocation {
                target: RevocationTarget::TokenId {
                    issuer: issuer.clone(),
                    token_id: "another".into(),
                },
                until: None,
            },
            Revocation {
                target: RevocationTarget::Subject {
                    issuer: issuer.clone(),
                    subject: "bob".into(),
                    issued_before: NOW,
                },
                until: None,
            },
            // Of what was issued before: these were not.
            Revocation {
                target: RevocationTarget::Everything { issuer: Some(issuer), issued_before: NOW },
                until: None,
            },
        ])
        .unwrap();
    // The filter may be wrong about a few.
    let untouched =
        others.iter().filter(|token| ask(&verifier, token, NOW) == (Hit, None)).count();
    assert!(untouched >= 18, "{untouched} of 20");
    assert!(others.iter().all(|token| ask(&verifier, token, NOW).1.is_none()));
}

#[test]
fn a_token_by_signing_input_costs_the_others_one_look() {
    let (verifier, mut revoker) = verifier_with_revocations();
    let [one, other] = ["1", "2"].map(|jti| cached_token(&verifier, jti, "bob", NOW.0));
    let input = one.rsplit_once('.').unwrap().0;
    revoker
        .insert(&[Revocation {
            target: RevocationTarget::signing_input(input.as_bytes()),
            until: None,
        }])
        .unwrap();
    assert_eq!(ask(&verifier, &one, NOW), (SignatureCached, Some(Reject::Revoked)));
    assert_eq!([0, 1].map(|_| ask(&verifier, &other, NOW)), [(SignatureCached, None), (Hit, None)]);
}

#[test]
fn while_revocations_are_unknown_nothing_that_is_remembered_counts() {
    let (verifier, mut revoker) = verifier_with_revocations();
    let token = cached_token(&verifier, "1", "bob", NOW.0);
    revoker.mark_unavailable();
    assert_eq!(ask(&verifier, &token, NOW), (SignatureCached, Some(Reject::RevocationsUnavailable)));
    revoker.insert(&[]).unwrap();
    assert_eq!(ask(&verifier, &token, NOW), (Hit, None));
}

#[test]
fn a_new_token_that_all_threads_meet_at_once_is_verified_at_most_once_by_each() {
    const THREADS: usize = 4;
    let signer = Signer::new(1);
    let verifier = of(&signer);
    for round in 0..50 {
        let token = signer.token(&format!(r#""jti":"{round}""#));
        let (checked, start) = (AtomicUsize::new(0), Barrier::new(THREADS));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    let mut own = 0;
                    for _ in 0..20 {
                        let verdict = verifier.verify_if(token.as_bytes(), NOW, |_| {
                            own += 1;
                            true
                        });
                        assert!(verdict.is_ok());
                    }
                    checked.fetch_max(own, Ordering::Relaxed);
                });
            }
        });
        // A token is left out, and checked once more, when a writer was interrupted.
        let skipped =
            usize::try_from(verifier.cache_statistics().unwrap().accepted.skipped).unwrap();
        let most = checked.into_inner();
        assert!(
            most >= 1 && most <= 1 + skipped,
            "one thread has checked a signature {most} times"
        );
    }
}

#[test]
fn two_issuers_in_one_cache_keep_their_tokens_apart() {
    let issuer = |name: &str, secret: &[u8]| {
        let config = IssuerConfig { name: name.into(), ..config([Algorithm::Hs256]) };
        Issuer::new(Arc::new(config), Some(secret_keys(None, secret)))
    };
    let verifier = cached_verifier(
        Snapshot::new([issuer(ISSUER, SECRET), issuer("https://two/", SECRET)]).unwrap(),
    );
    let one = token(HEADER, claims(""));
    let two = token(HEADER, claims("").replace(ISSUER, "https://two/"));
    for outcome in [Miss, Hit, Hit] {
        assert_eq!([&one, &two].map(|token| ask(&verifier, token, NOW)), [(outcome, None); 2]);
    }
    assert_eq!(
        verifier.verify(two.as_bytes(), NOW).unwrap().issuer().name.as_ref(),
        "https://two/"
    );
    verifier.withdraw_keys("https://two/");
    assert_eq!(ask(&verifier, &two, NOW), (SignatureCached, Some(Reject::KeysUnavailable)));
    assert_eq!(ask(&verifier, &one, NOW), (Hit, None));
}

#[test]
fn a_cache_too_large_for_the_machine_is_refused() {
    let verifier = Verifier::new(Snapshot::default());
    let fault = verifier.with_cache(usize::MAX / 2).map(drop).unwrap_err();
    assert!(fault.to_string().contains("no room"), "{fault}");
}
