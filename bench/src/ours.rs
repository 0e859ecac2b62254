//! Verifiers of Countersign's engine, with and without a cache.

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
    Algorithm, ClientTypes, Issuer, IssuerConfig, KeyMaterial, KeySet, Rules, UsernameRule,
    VerificationKey, Verifier,
};

use crate::parameters::{AUDIENCE, ISSUER, NOW, SECRET, TOKEN_BYTES};

/// Returns a [`Verifier`] for one algorithm and these keys, without a cache.
///
/// # Panics
/// The keys are for another algorithm.
#[must_use]
pub fn verifier(algorithm: Algorithm, keys: KeySet) -> Verifier {
    cached_verifier(algorithm, keys, 0)
}

/// Returns the verifier of [`verifier`] with a cache of `bytes`.
///
/// # Panics
/// The keys are for another algorithm, or the cache cannot be allocated.
#[must_use]
pub fn cached_verifier(algorithm: Algorithm, keys: KeySet, bytes: usize) -> Verifier {
    let builder = Verifier::builder().issuer(issuer(algorithm), keys).cache_bytes(bytes);
    builder.build().expect("a usable key and room for a cache")
}

/// Returns the cache size in bytes for this many [`Tokens`](crate::Tokens): each token plus 400
/// bytes, the limit of the memory figure.
#[must_use]
pub const fn cache_bytes(tokens: usize) -> usize {
    tokens * (TOKEN_BYTES + 400)
}

/// Returns a verifier of [`Tokens`](crate::Tokens) whose cache holds this many of them.
#[must_use]
pub fn verifier_caching(tokens: usize) -> Verifier {
    cached_verifier(Algorithm::Hs256, padded_key(), cache_bytes(tokens))
}

/// Returns the key set of [`Tokens`](crate::Tokens): one HS256 secret.
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

/// Number of issuers in [`many_issuers`].
pub const ISSUER_COUNT: usize = 1000;

/// Returns a verifier of [`ISSUER_COUNT`] issuers that share one secret. [`ISSUER`] is the first.
///
/// # Panics
/// Never: the issuer names differ.
#[must_use]
pub fn many_issuers() -> Verifier {
    let named = |name: String| IssuerConfig { name: name.into(), ..issuer(Algorithm::Hs256) };
    let issuers = (0..ISSUER_COUNT)
        .map(|number| Issuer::new(Arc::new(named(tenant(number))), Some(Arc::new(padded_key()))));
    Verifier::builder().issuers(issuers).cache_bytes(0).build().expect("different names")
}

/// Returns the name of one issuer of [`many_issuers`]; number 0 is [`ISSUER`].
#[must_use]
pub fn tenant(number: usize) -> String {
    // All names have the length of [`ISSUER`], so that only the number of issuers matters.
    if number == 0 {
        ISSUER.into()
    } else {
        format!("https://tenant-{number:04}.countersign.example/")
    }
}

/// Returns two sets of 100 secrets: an issuer's keys before and after a rotation. They share 99
/// keys, including the key of the tokens.
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

/// Runs `work` while another thread replaces the issuer's keys twice a millisecond.
///
/// # Panics
/// The other thread panics.
pub fn with_key_replacement(verifier: &Verifier, work: impl FnOnce()) {
    let (done, sets) = (AtomicBool::new(false), hundred_keys().map(Arc::new));
    thread::scope(|scope| {
        scope.spawn(|| {
            for set in sets.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                verifier
                    .update(|snapshot| snapshot.set_keys(ISSUER, Some(set)))
                    .expect("the issuer");
                thread::sleep(Duration::from_micros(500));
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
}

fn issuer(algorithm: Algorithm) -> IssuerConfig {
    let rules = Rules::new(AUDIENCE);
    let client_types = ClientTypes {
        when_absent: Some("api".into()),
        allowed: Some(Box::new(["api".into()])),
        ..rules.client_types
    };
    let username = UsernameRule { claims: ["preferred_username".into()].into(), ..rules.username };
    IssuerConfig {
        kid_required: true,
        rules: Rules { username, client_types, ..rules },
        ..IssuerConfig::new(ISSUER, AUDIENCE, [algorithm])
    }
}

/// Whether the verifier accepts the token at [`NOW`].
#[must_use]
pub fn accepts(verifier: &Verifier, token: &[u8]) -> bool {
    verifier.verify(token, NOW).is_ok()
}

/// Whether the cache answered for this token at [`NOW`].
///
/// # Panics
/// The token is rejected.
#[must_use]
pub fn hits(verifier: &Verifier, token: &[u8]) -> bool {
    verifier.verify(token, NOW).expect("a good token").is_cached()
}
