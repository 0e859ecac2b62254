//! Key changes under full verification load. Valid tokens stay valid, and tokens of a withdrawn key
//! are refused from the next verification on.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use countersign_engine::{
    Algorithm, Issuer, IssuerConfig, KeyIdentity, KeyMaterial, KeySet, Reject, VerificationKey,
    Verifier,
};
use countersign_tests::engine::{
    ISSUER, NOW, claims, config, set_keys, sign_with, signing_input, verifier,
};

fn secret(number: u8) -> [u8; 32] {
    [number; 32]
}

/// Key set of the keys `first` to `first + 99`.
fn hundred_keys(first: u8) -> Arc<KeySet> {
    let key = |number: u8| {
        let kid = format!("key-{number}");
        VerificationKey::new(Some(&kid), Algorithm::Hs256, KeyMaterial::Secret(&secret(number)))
            .unwrap()
    };
    Arc::new(KeySet::new((first..first + 100).map(key).collect()))
}

fn token(number: u8) -> String {
    sign_with(
        &secret(number),
        &signing_input(format!(r#"{{"alg":"HS256","kid":"key-{number}"}}"#), claims("")),
    )
}

fn verify(verifier: &Verifier, token: &str) -> Result<KeyIdentity, Reject> {
    verifier.verify(token.as_bytes(), NOW).map(|verified| verified.key())
}

#[test]
fn d3_key_swap_under_load_is_atomic() {
    const SWAPS: u64 = 2000;
    let verifier = verifier([(config([Algorithm::Hs256]), hundred_keys(0))]);
    // The first key is in every other set, the second in every set.
    let (sometimes, always) = (token(0), token(50));
    // Odd while the set without the first key is certainly active.
    let (phase, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let counts = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut counts = HashMap::new();
                    while !done.load(Ordering::Acquire) {
                        verify(&verifier, &always).unwrap();
                        let before = phase.load(Ordering::SeqCst);
                        let result = verify(&verifier, &sometimes).err();
                        let certain = before % 2 == 1 && phase.load(Ordering::SeqCst) == before;
                        assert!(
                            !certain || result == Some(Reject::KidUnknown),
                            "a withdrawn key still verifies"
                        );
                        *counts.entry((certain, result)).or_insert(0u64) += 1;
                    }
                    counts
                })
            })
            .collect();
        for swap in 0..SWAPS {
            let (keys, withdrawn) = (hundred_keys(u8::try_from(swap % 2).unwrap()), swap % 2 == 1);
            if !withdrawn {
                phase.store(2 * swap, Ordering::SeqCst);
            }
            set_keys(&verifier, ISSUER, Some(&keys));
            if withdrawn {
                phase.store(2 * swap + 1, Ordering::SeqCst);
                assert_eq!(
                    verify(&verifier, &sometimes).err(),
                    Some(Reject::KidUnknown),
                    "refused from the next verification on"
                );
            }
        }
        done.store(true, Ordering::Release);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    let count_of = |what| counts.iter().filter_map(|counts| counts.get(&what)).sum::<u64>();
    assert!(
        count_of((false, None)) > 0 && count_of((true, Some(Reject::KidUnknown))) > 0,
        "{counts:?}"
    );
}

#[test]
fn concurrent_changes_of_two_issuers_are_both_kept() {
    let other = IssuerConfig { name: "https://other/".into(), ..config([Algorithm::Hs256]) };
    let verifier =
        verifier([(config([Algorithm::Hs256]), hundred_keys(0)), (other, hundred_keys(0))]);
    let sets = [0, 1].map(hundred_keys);
    thread::scope(|scope| {
        for issuer in [ISSUER, "https://other/"] {
            let (verifier, sets) = (&verifier, &sets);
            scope.spawn(move || {
                // The first swap differs from the present keys, which the same keys would keep.
                for swap in 1..=2000 {
                    let keys = &sets[swap % 2];
                    set_keys(verifier, issuer, Some(keys));
                    let snapshot = verifier.snapshot();
                    let current = snapshot.issuer(issuer).and_then(Issuer::keys);
                    assert!(current.is_some_and(|current| Arc::ptr_eq(current, keys)));
                }
            });
        }
    });
}

#[test]
fn refresh_with_same_keys_keeps_their_identities() {
    let verifier = verifier([(config([Algorithm::Hs256]), hundred_keys(0))]);
    let identities =
        || (0..100).map(|number| verify(&verifier, &token(number)).unwrap()).collect::<Vec<_>>();
    let before = identities();
    set_keys(&verifier, ISSUER, Some(&hundred_keys(0)));
    assert_eq!(identities(), before);
    set_keys(&verifier, ISSUER, Some(&hundred_keys(1)));
    assert_eq!(
        (1..100).map(|number| verify(&verifier, &token(number)).unwrap()).collect::<Vec<_>>(),
        before[1..]
    );
    assert_eq!(verify(&verifier, &token(0)).err(), Some(Reject::KidUnknown));
    assert!(!before.contains(&verify(&verifier, &token(100)).unwrap()));
}

#[test]
fn issuer_without_keys_does_not_affect_others() {
    let mut other = config([Algorithm::Hs256]);
    other.name = "https://other/".into();
    let verifier =
        verifier([(config([Algorithm::Hs256]), hundred_keys(0)), (other, hundred_keys(0))]);
    let of_other = sign_with(
        &secret(7),
        &signing_input(
            r#"{"alg":"HS256","kid":"key-7"}"#,
            claims("").replace(ISSUER, "https://other/"),
        ),
    );
    set_keys(&verifier, ISSUER, None);
    assert_eq!(verify(&verifier, &token(7)).err(), Some(Reject::KeysUnavailable));
    assert!(verify(&verifier, &of_other).is_ok());
    assert_eq!(
        verifier.claimed_issuer(token(7).as_bytes()).map(|issuer| issuer.name.clone()).as_deref(),
        Some(ISSUER)
    );
    set_keys(&verifier, ISSUER, Some(&hundred_keys(0)));
    assert!(verify(&verifier, &token(7)).is_ok());
    assert!(verifier.claimed_issuer(b"a.b.c").is_none());
}
