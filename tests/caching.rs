//! The verification cache: which results it stores and when it reuses them. The tests observe it
//! through the admission callback, which runs before each signature check.

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
    Algorithm, AudienceRule, Constraint, ExportFormat, ExportedClaim, Issuer, IssuerConfig,
    KeyMaterial, KeySet, Presentation, Reject, Revocation, RevocationTarget, RevocationsWriter,
    Rules, Snapshot, TokenCondition, TokenConditions, UnixTime, VerificationKey, Verifier,
};
use countersign_tests::engine::{
    HEADER, ISSUER, NOW, SECRET, cached_verifier, claims, config, config_with, replace,
    secret_keys, secret_verifier, set_keys, signing_input, snapshot, token, verifier, verifier_of,
};

/// How much of a verification was served from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheOutcome {
    /// The whole result is from the cache.
    Hit,
    /// The claims are checked again, the signature is known.
    SignatureCached,
    /// Full verification, including the signature.
    Miss,
}
use CacheOutcome::{Hit, Miss, SignatureCached};

#[track_caller]
fn verify(verifier: &Verifier, token: &str, now: UnixTime) -> (CacheOutcome, Option<Reject>) {
    let checks = Cell::new(0);
    let result = verifier.verify_if(token.as_bytes(), now, Presentation::default(), |_| {
        checks.set(checks.get() + 1);
        true
    });
    let is_hit = result.as_ref().is_ok_and(|verified| verified.is_cached());
    let outcome = match (checks.get(), is_hit) {
        (0, true) => Hit,
        (0, false) => SignatureCached,
        (1, false) => Miss,
        other => panic!("asked, remembered: {other:?}"),
    };
    (outcome, result.err())
}

/// Ed25519 signer. Results of asymmetric signatures are cached even if negative.
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

/// Returns the number of cached tokens, accepted and refused.
fn cached_counts(verifier: &Verifier) -> [u64; 2] {
    let statistics = verifier.cache_statistics().unwrap();
    [statistics.accepted.entries, statistics.refused.entries]
}

fn of(signer: &Signer) -> Verifier {
    verifier([(config([Algorithm::EdDsa]), signer.keys())])
}

#[test]
fn token_is_cached_after_first_verification() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    assert_eq!(verify(&verifier, &token, NOW), (Miss, None));
    for _ in 0..3 {
        assert_eq!(verify(&verifier, &token, NOW), (Hit, None));
    }
    let without = verifier_of(
        snapshot([(config([Algorithm::EdDsa]), signer.keys())]),
        Verifier::builder().cache_bytes(0),
    );
    assert_eq!(
        [0, 1].map(|_| verify(&without, &token, NOW)),
        [(Miss, None); 2],
        "a verifier without a cache"
    );
    assert_eq!(without.cache_statistics(), None);
    assert_eq!(cached_counts(&verifier), [1, 0]);
}

#[test]
fn verify_apart_neither_reads_nor_fills_the_cache() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let (good, expired) = (signer.token(""), signer.token("\"exp\":1"));
    let apart = |token: &str| {
        let verified = verifier.verify_apart(token.as_bytes(), NOW, Presentation::default());
        verified.map(|verified| verified.is_cached())
    };
    let counts = || (apart(&good), apart(&expired).err(), cached_counts(&verifier));
    assert_eq!(counts(), (Ok(false), Some(Reject::Expired), [0, 0]));
    verify(&verifier, &good, NOW);
    assert_eq!(counts(), (Ok(false), Some(Reject::Expired), [1, 0]));
}

#[test]
fn verification_id_lives_as_long_as_the_cached_result() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let (token, other) = (signer.token(""), signer.token(r#""x":1"#));
    let id = |token: &str| verifier.verify(token.as_bytes(), NOW).unwrap().verification_id();
    let (first, second) = (id(&token), id(&other));
    assert_ne!(first, second);
    assert_eq!([id(&token), id(&token), id(&other)], [first, first, second]);
    // The same keys again change no result; another key set, which has the key too, does.
    set_keys(&verifier, ISSUER, Some(&signer.keys()));
    assert_eq!(id(&token), first);
    let more = vec![signer.key("k"), Signer::new(2).key("other")];
    set_keys(&verifier, ISSUER, Some(&Arc::new(KeySet::published(more))));
    let renewed = id(&token);
    assert!(renewed > second);
    assert_eq!(id(&token), renewed);
}

#[test]
fn cache_hit_equals_first_verification() {
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
            (&b"bob"[..], &b"bob"[..], ISSUER.as_bytes())
        );
        assert_eq!(identity.client_types(), b"api,agent");
    }
}

#[test]
fn cache_survives_refresh_with_same_keys() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    assert_eq!(verify(&verifier, &token, NOW), (Miss, None));
    set_keys(&verifier, ISSUER, Some(&signer.keys()));
    assert_eq!(verify(&verifier, &token, NOW), (Hit, None));
}

#[test]
fn cache_survives_reload_of_same_issuer() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    assert_eq!(verify(&verifier, &token, NOW), (Miss, None));
    let reload = |config: IssuerConfig| {
        let issuer = || Issuer::new(Arc::new(config.clone()), Some(signer.keys()));
        verifier.update(|snapshot| snapshot.set_issuers([issuer()])).unwrap();
    };
    reload(config([Algorithm::EdDsa]));
    assert_eq!(verify(&verifier, &token, NOW), (Hit, None));
    reload(IssuerConfig { kid_required: true, ..config([Algorithm::EdDsa]) });
    assert_eq!(verify(&verifier, &token, NOW), (SignatureCached, None));
}

#[test]
fn cache_keeps_signatures_across_config_changes() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    assert_eq!(verify(&verifier, &token, NOW), (Miss, None));
    let more = || Arc::new(KeySet::published(vec![Signer::new(2).key("other"), signer.key("k")]));
    set_keys(&verifier, ISSUER, Some(&more()));
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &token, NOW)),
        [(SignatureCached, None), (Hit, None)]
    );
    let config = |change: fn(&mut Rules)| IssuerConfig {
        algorithms: [Algorithm::EdDsa].into_iter().collect(),
        ..config_with(change)
    };
    replace(
        &verifier,
        snapshot([(config(|rules| rules.audience = AudienceRule::new("them")), more())]),
    );
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &token, NOW)),
        [(SignatureCached, Some(Reject::Audience)); 2]
    );
    replace(&verifier, snapshot([(config(|_| ()), more())]));
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &token, NOW)),
        [(SignatureCached, None), (Hit, None)]
    );
    // Cache entries must not depend on the position of their issuer in the snapshot.
    let other_issuer = IssuerConfig { name: "https://other/".into(), ..config(|_| ()) };
    replace(&verifier, snapshot([(other_issuer, more()), (config(|_| ()), more())]));
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &token, NOW)),
        [(SignatureCached, None), (Hit, None)]
    );
}

#[test]
fn d4_cached_result_is_bound_to_its_key() {
    let (old, new) = (Signer::new(1), Signer::new(2));
    let verifier = of(&old);
    let (good, bad) = (old.token(""), new.token(""));
    assert_eq!([0, 1].map(|_| verify(&verifier, &good, NOW)), [(Miss, None), (Hit, None)]);
    // The failed check of an asymmetric signature is cached, too.
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &bad, NOW)),
        [(Miss, Some(Reject::Signature)), (SignatureCached, Some(Reject::Signature))]
    );
    set_keys(&verifier, ISSUER, Some(&new.keys()));
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &good, NOW)),
        [(Miss, Some(Reject::Signature)), (SignatureCached, Some(Reject::Signature))]
    );
    assert_eq!([0, 1].map(|_| verify(&verifier, &bad, NOW)), [(Miss, None), (Hit, None)]);
    set_keys(&verifier, ISSUER, Some(&old.keys()));
    assert_eq!(verify(&verifier, &good, NOW).1, None);
    assert_eq!(verify(&verifier, &bad, NOW).1, Some(Reject::Signature));
}

/// Verifies with at most this number of admitted checks. Returns the number of requested ones.
fn verify_within(verifier: &Verifier, token: &str, admitted: u32) -> (u32, Option<Reject>) {
    let mut checks = 0;
    let result = verifier.verify_if(token.as_bytes(), NOW, Presentation::default(), |check| {
        assert_eq!(check.algorithm, Algorithm::EdDsa);
        checks += 1;
        checks <= admitted
    });
    (checks, result.err())
}

#[test]
fn each_key_of_one_kid_is_checked_once() {
    let signers = [1, 2, 3].map(Signer::new);
    let set = |signers: &[Signer]| {
        Arc::new(KeySet::published(signers.iter().map(|signer| signer.key("k")).collect()))
    };
    let verifier = of(&signers[0]);
    set_keys(&verifier, ISSUER, Some(&set(&signers)));
    let forged = Signer::new(4).token("");
    // A check that is not admitted leaves the token undecided, and the others are not repeated.
    assert_eq!(verify_within(&verifier, &forged, 1), (2, Some(Reject::NotAdmitted)));
    assert_eq!(verify_within(&verifier, &forged, 0), (1, Some(Reject::NotAdmitted)));
    assert_eq!(verify_within(&verifier, &forged, 2), (2, Some(Reject::Signature)));
    assert_eq!(verify_within(&verifier, &forged, 0), (0, Some(Reject::Signature)));
    let tried: Vec<_> = signers
        .iter()
        .map(|signer| {
            let token = signer.token("");
            let (checks, reject) = verify_within(&verifier, &token, 3);
            assert_eq!(reject, None);
            assert_eq!(verify_within(&verifier, &token, 0), (0, None));
            let verified = verifier.verify(token.as_bytes(), NOW).unwrap();
            assert_eq!(verified.key(), signer.key("k").identity(), "the key that signed it");
            checks
        })
        .collect();
    assert_eq!(tried.iter().sum::<u32>(), 1 + 2 + 3, "{tried:?}");
    // A token that is refused for a claim is authentic nevertheless.
    let expired = signers[2].token(r#""exp":1"#);
    assert_eq!(verify_within(&verifier, &expired, 3).1, Some(Reject::Expired));
    assert_eq!(verify_within(&verifier, &expired, 0), (0, Some(Reject::Expired)));
    // A key that is withdrawn has no effect, whatever is cached about the others.
    let token = signers[1].token("");
    set_keys(&verifier, ISSUER, Some(&set(&signers[..1])));
    assert_eq!(verify_within(&verifier, &token, 1).1, Some(Reject::Signature));
    set_keys(&verifier, ISSUER, Some(&set(&signers)));
    assert_eq!(verify_within(&verifier, &forged, 0), (0, Some(Reject::Signature)));
    assert_eq!(verify_within(&verifier, &token, 0), (0, None));
}

#[test]
fn d7_forgeries_never_evict_accepted_tokens() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let good: Vec<_> =
        (0..100).map(|number| signer.token(&format!(r#""jti":"{number}""#))).collect();
    assert!(good.iter().all(|token| verify(&verifier, token, NOW) == (Miss, None)));
    let forged: Vec<_> =
        (0..1_000).map(|number| Signer::new(2).token(&format!(r#""jti":"{number}""#))).collect();
    for _ in 0..2 {
        assert!(
            forged.iter().all(|token| verify(&verifier, token, NOW).1 == Some(Reject::Signature))
        );
        assert!(good.iter().all(|token| verify(&verifier, token, NOW) == (Hit, None)));
    }
    let statistics = verifier.cache_statistics().unwrap();
    assert_eq!((statistics.accepted.entries, statistics.accepted.evicted), (100, 0));
    assert!(
        statistics.refused.entries < 500 && statistics.refused.evicted > 1_000,
        "{statistics:?}"
    );
}

#[test]
fn refused_token_signature_is_checked_once() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let (expired, early) =
        (signer.token(r#""exp":1"#), signer.token(&format!(r#""nbf":{}"#, NOW.0 + 10)));
    for (token, reject) in [(&expired, Reject::Expired), (&early, Reject::NotYetValid)] {
        assert_eq!(
            [0, 1, 2].map(|_| verify(&verifier, token, NOW)),
            [
                (Miss, Some(reject)),
                (SignatureCached, Some(reject)),
                (SignatureCached, Some(reject))
            ]
        );
    }
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &early, UnixTime(NOW.0 + 10))),
        [(SignatureCached, None), (Hit, None)],
        "d2"
    );
    assert_eq!(cached_counts(&verifier), [1, 2]);
}

#[test]
fn hmac_results_are_not_cached_when_refused() {
    let verifier = secret_verifier();
    let bad = countersign_tests::engine::sign_with(&[1; 32], &signing_input(HEADER, claims("")));
    assert_eq!([0, 1].map(|_| verify(&verifier, &bad, NOW)), [(Miss, Some(Reject::Signature)); 2]);
    let expired = token(HEADER, claims(r#""exp":1"#));
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &expired, NOW)),
        [(Miss, Some(Reject::Expired)); 2]
    );
    assert_eq!(cached_counts(&verifier), [0, 0]);
}

#[test]
fn token_not_admitted_is_not_cached() {
    let signer = Signer::new(1);
    let verifier = of(&signer);
    let token = signer.token("");
    for _ in 0..2 {
        let result = verifier.verify_if(token.as_bytes(), NOW, Presentation::default(), |check| {
            assert_eq!((&*check.issuer.name, check.algorithm), (ISSUER, Algorithm::EdDsa));
            false
        });
        assert_eq!(result.err(), Some(Reject::NotAdmitted));
    }
    assert_eq!([0, 1].map(|_| verify(&verifier, &token, NOW)), [(Miss, None), (Hit, None)]);
}

/// Creates a verifier with a revocation table.
fn verifier_with_revocations() -> (Verifier, RevocationsWriter) {
    let revoker = RevocationsWriter::new(100);
    let snapshot = snapshot([(config([Algorithm::Hs256]), secret_keys(Some("k"), SECRET))]);
    let builder = Verifier::builder().revocations(revoker.revocations()).cache_bytes(1 << 20);
    (verifier_of(snapshot, builder), revoker)
}

fn cached_token(verifier: &Verifier, jti: &str, sub: &str, iat: u64) -> String {
    let claims = format!(
        r#"{{"iss":"{ISSUER}","aud":"us","sub":"{sub}","jti":"{jti}","urn:inmanta:env":"e","iat":{iat}}}"#
    );
    let token = token(r#"{"alg":"HS256","kid":"k"}"#, claims);
    assert_eq!(verify(verifier, &token, NOW), (Miss, None));
    assert_eq!(verify(verifier, &token, NOW), (Hit, None));
    token
}

#[test]
fn revocation_of_every_kind_reaches_cached_tokens() {
    let issued = NOW.0 - 100;
    let issuer: Box<str> = ISSUER.into();
    let kinds: [fn(&Box<str>, &str) -> RevocationTarget; 7] = [
        |issuer, _| RevocationTarget::TokenId { issuer: issuer.clone(), token_id: "1".into() },
        |issuer, _| RevocationTarget::Subject {
            issuer: issuer.clone(),
            subject: "bob".into(),
            issued_before: NOW,
        },
        |issuer, _| RevocationTarget::Key { issuer: issuer.clone(), kid: "k".into() },
        |issuer, _| RevocationTarget::Environment {
            issuer: issuer.clone(),
            environment: "e".into(),
        },
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
            assert_eq!(
                verify(&verifier, &token, NOW),
                (SignatureCached, Some(Reject::Revoked)),
                "{target:?}"
            );
        }
        assert_eq!(revoker.purge_expired(NOW), 1);
        assert_eq!([0, 1, 2].map(|_| verify(&verifier, &token, NOW).1), [None; 3], "{target:?}");
        assert_eq!(verify(&verifier, &token, NOW), (Hit, None), "{target:?}");
    }
}

#[test]
fn revocation_keeps_other_tokens_cached() {
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
            // Covers tokens issued before `NOW`, which these were not.
            Revocation {
                target: RevocationTarget::Everything { issuer: Some(issuer), issued_before: NOW },
                until: None,
            },
        ])
        .unwrap();
    // The filter may have a few false positives.
    let untouched =
        others.iter().filter(|token| verify(&verifier, token, NOW) == (Hit, None)).count();
    assert!(untouched >= 18, "{untouched} of 20");
    assert!(others.iter().all(|token| verify(&verifier, token, NOW).1.is_none()));
}

#[test]
fn revocation_by_input_costs_others_one_lookup() {
    let (verifier, mut revoker) = verifier_with_revocations();
    let [one, other] = ["1", "2"].map(|jti| cached_token(&verifier, jti, "bob", NOW.0));
    let input = one.rsplit_once('.').unwrap().0;
    revoker
        .insert(&[Revocation {
            target: RevocationTarget::signing_input(input.as_bytes()),
            until: None,
        }])
        .unwrap();
    assert_eq!(verify(&verifier, &one, NOW), (SignatureCached, Some(Reject::Revoked)));
    assert_eq!(
        [0, 1].map(|_| verify(&verifier, &other, NOW)),
        [(SignatureCached, None), (Hit, None)]
    );
}

#[test]
fn unknown_revocations_suspend_the_cache() {
    let (verifier, mut revoker) = verifier_with_revocations();
    let token = cached_token(&verifier, "1", "bob", NOW.0);
    revoker.mark_unavailable();
    assert_eq!(
        verify(&verifier, &token, NOW),
        (SignatureCached, Some(Reject::RevocationsUnavailable))
    );
    revoker.insert(&[]).unwrap();
    assert_eq!(verify(&verifier, &token, NOW), (Hit, None));
}

#[test]
fn new_token_is_verified_at_most_once_per_thread() {
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
                        let result = verifier.verify_if(
                            token.as_bytes(),
                            NOW,
                            Presentation::default(),
                            |_| {
                                own += 1;
                                true
                            },
                        );
                        assert!(result.is_ok());
                    }
                    checked.fetch_max(own, Ordering::Relaxed);
                });
            }
        });
        // A cache write is skipped if another writer holds the set. The token is then checked
        // once more.
        let skipped =
            usize::try_from(verifier.cache_statistics().unwrap().accepted.skipped).unwrap();
        let maximum = checked.into_inner();
        assert!(
            maximum >= 1 && maximum <= 1 + skipped,
            "one thread has checked a signature {maximum} times"
        );
    }
}

#[test]
fn cache_separates_tokens_of_two_issuers() {
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
        assert_eq!([&one, &two].map(|token| verify(&verifier, token, NOW)), [(outcome, None); 2]);
    }
    assert_eq!(
        verifier.verify(two.as_bytes(), NOW).unwrap().issuer().name.as_ref(),
        "https://two/"
    );
    set_keys(&verifier, "https://two/", None);
    assert_eq!(verify(&verifier, &two, NOW), (SignatureCached, Some(Reject::KeysUnavailable)));
    assert_eq!(verify(&verifier, &one, NOW), (Hit, None));
}

#[test]
fn cache_too_large_for_the_machine_is_refused() {
    let fault = Verifier::builder().cache_bytes(usize::MAX / 2).build().map(drop).unwrap_err();
    assert!(fault.to_string().contains("cannot allocate"), "{fault}");
}

fn is(claim: &str, value: &str) -> TokenCondition {
    TokenCondition::Claim(Constraint::Is { claim: claim.into(), value: value.into() })
}

#[test]
fn conditions_of_a_token_are_stored_with_its_result() {
    let count = 130;
    let wanted = |offset: usize| {
        let list = (0..count).map(|number| is("n", &(number + offset).to_string())).collect();
        TokenConditions::new(list).unwrap()
    };
    let exported = ExportedClaim { path: "n".into(), format: ExportFormat::Text };
    let config = |conditions: &TokenConditions| {
        config_with(|rules| {
            rules.conditions = conditions.clone();
            rules.exported_claims = [exported.clone()].into();
        })
    };
    let with = |conditions| snapshot([(config(conditions), secret_keys(None, SECRET))]);
    let (conditions, others) = (wanted(0), wanted(100));
    let verifier = cached_verifier(with(&conditions));
    let token = token(HEADER, claims(r#""n":128"#));
    let check = |is_cached, conditions: &TokenConditions, met: usize| {
        let verified = verifier.verify(token.as_bytes(), NOW).unwrap();
        assert_eq!(verified.is_cached(), is_cached);
        let found = verified.conditions(conditions);
        let all: Vec<_> = (0..count).filter(|index| found.meets(*index)).collect();
        assert_eq!(all, [met]);
        assert_eq!(verified.identity().exported_values().collect::<Vec<_>>(), [b"128"]);
        assert_eq!(verified.claims().subject(), Some("bob"));
    };
    check(false, &conditions, 128);
    check(true, &conditions, 128);
    check(true, &others, 28);
    verifier.update(|snapshot| *snapshot = with(&others));
    check(false, &others, 28);
    check(true, &others, 28);
    check(true, &conditions, 128);
}

#[test]
fn withheld_claim_is_withheld_from_cached_tokens() {
    let conditions = TokenConditions::new(vec![is("admin", "true")]).unwrap();
    let with = |withheld: &[&str]| {
        let config = config_with(|rules| {
            rules.conditions = conditions.clone();
            rules.withheld_claims = withheld.iter().map(|name| Box::from(*name)).collect();
        });
        [Issuer::new(Arc::new(config), Some(secret_keys(None, SECRET)))]
    };
    let verifier = cached_verifier(Snapshot::new(with(&[])).unwrap());
    let token = token(HEADER, claims(r#""admin":true"#));
    let met = || {
        let verified = verifier.verify(token.as_bytes(), NOW).unwrap();
        (verified.is_cached(), verified.conditions(&conditions).meets(0))
    };
    assert_eq!([met(), met()], [(false, true), (true, true)]);
    verifier.update(|snapshot| snapshot.set_issuers(with(&["admin"]))).unwrap();
    assert_eq!([met(), met()], [(false, false), (true, false)]);
    verifier.update(|snapshot| snapshot.set_issuers(with(&["admin"]))).unwrap();
    assert_eq!(met(), (true, false), "the same rules");
}
