//! Verifiers of ours.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use countersign_engine::{
    Algorithm, ClientTypes, Issuer, IssuerConfig, KeyMaterial, KeySet, Rules, Snapshot,
    VerificationKey, Verifier,
};

use crate::tokens::{NOW, SECRET, TOKEN_BYTES};

/// The issuer of the tokens.
pub const ISSUER: &str = "https://corpus.countersign.example/";
/// Whom they are for.
pub const AUDIENCE: &str = "https://service.countersign.example/";

/// A verifier of ours for tokens of this algorithm, by these keys, without a cache.
///
/// # Panics
/// Never: there is one issuer.
#[must_use]
pub fn verifier(algorithm: Algorithm, keys: KeySet) -> Verifier {
    let issuer = Issuer::new(Arc::new(issuer(algorithm)), Some(Arc::new(keys)));
    Verifier::new(Snapshot::new([issuer]).expect("one issuer"))
}

/// The same with a cache of so many bytes.
///
/// # Panics
/// There is no room for it.
#[must_use]
pub fn cached_verifier(algorithm: Algorithm, keys: KeySet, bytes: usize) -> Verifier {
    verifier(algorithm, keys).with_cache(bytes).expect("room for a cache")
}

/// The bytes of a cache for so many of [`Tokens`](crate::Tokens): the promise of
/// the figure for memory, 400 bytes beside each token.
#[must_use]
pub const fn cache_of(tokens: usize) -> usize {
    tokens * (TOKEN_BYTES + 400)
}

/// A verifier of [`Tokens`](crate::Tokens) with a cache for so many of them.
#[must_use]
pub fn cached(tokens: usize) -> Verifier {
    cached_verifier(Algorithm::Hs256, padded_key(), cache_of(tokens))
}

/// The one key of [`Tokens`](crate::Tokens).
///
/// # Panics
/// The engine refuses the key.
#[must_use]
pub fn padded_key() -> KeySet {
    KeySet::new(vec![secret(Some("bench"), SECRET)])
}

fn secret(kid: Option<&str>, secret: [u8; 32]) -> VerificationKey {
    VerificationKey::new(kid, Algorithm::Hs256, KeyMaterial::Secret(&secret)).expect("a key")
}

/// How many issuers [`many_issuers`] has.
pub const MANY: usize = 1000;

/// A verifier of [`MANY`] issuers that share the secret, the usual one among them.
///
/// # Panics
/// Never: their names differ.
#[must_use]
pub fn many_issuers() -> Verifier {
    let named = |name: String| IssuerConfig { name: name.into(), ..issuer(Algorithm::Hs256) };
    let issuers = (0..MANY)
        .map(|number| Issuer::new(Arc::new(named(tenant(number))), Some(Arc::new(padded_key()))));
    Verifier::new(Snapshot::new(issuers).expect("different names"))
}

/// The name of one of [`many_issuers`]; the first is the usual issuer.
#[must_use]
pub fn tenant(number: usize) -> String {
    // As long as the others, so that only their number matters.
    if number == 0 {
        ISSUER.into()
    } else {
        format!("https://tenant-{number:04}.countersign.example/")
    }
}

/// Two sets of 100 secrets that have all but one in common, the one of the tokens
/// among those: an issuer's set before and after a rotation.
///
/// # Panics
/// The engine refuses a key.
#[must_use]
pub fn hundred_keys() -> [KeySet; 2] {
    let key = |number: u8| match number {
        0 => secret(Some("bench"), SECRET),
        _ => secret(Some(&format!("key-{number}")), [number; 32]),
    };
    [1..=99, 2..=100].map(|others| KeySet::new(iter::once(0).chain(others).map(key).collect()))
}

/// Does `work` while another thread replaces the issuer's keys twice a millisecond.
///
/// # Panics
/// The other thread does.
pub fn replacing(verifier: &Verifier, work: impl FnOnce()) {
    let (done, sets) = (AtomicBool::new(false), hundred_keys().map(Arc::new));
    thread::scope(|scope| {
        scope.spawn(|| {
            for set in sets.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                verifier.replace_keys(ISSUER, set);
                thread::sleep(Duration::from_micros(500));
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
}

fn issuer(algorithm: Algorithm) -> IssuerConfig {
    IssuerConfig {
        name: ISSUER.into(),
        section: "auth_jwt_bench".into(),
        algorithms: [algorithm].into_iter().collect(),
        kid_required: true,
        rules: Rules {
            audience: AUDIENCE.into(),
            token_types: None,
            max_lifetime: None,
            leeway: 0,
            username_claim: "preferred_username".into(),
            lists_of_strings: true,
            client_types: ClientTypes {
                claim: "urn:inmanta:ct".into(),
                when_absent: Some("api".into()),
                allowed: Some(Box::new(["api".into()])),
            },
            environment_claim: "urn:inmanta:env".into(),
            constraints: Box::new([]),
        },
    }
}

/// Verifies it now; for what asks with `true` or `false`.
#[must_use]
pub fn accepts(verifier: &Verifier, token: &[u8]) -> bool {
    verifier.verify(token, NOW).is_ok()
}

/// Verifies it now, and says whether the cache answered. It has to be a good one.
///
/// # Panics
/// It is not.
#[must_use]
pub fn hits(verifier: &Verifier, token: &[u8]) -> bool {
    verifier.verify(token, NOW).expect("a good token").is_cached()
}
