//! Tracks verification by algorithm, uncached (`cold`: every token is parsed and its signature
//! checked) and cached, with the raw primitive and the peers.
//!
//! Read the rows as ratios within one run. `raw` is the signature check alone, with a key parsed in
//! advance. The difference between `raw` and ours is base64, JSON, strictness, lookups, rules, and
//! the allocation of the answer.

use std::{hint::black_box, time::Duration};

use aws_lc_rs::signature::{self, KeyPair as _, ParsedPublicKey, RsaPublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::{Keys, SECRET, accepts, cache_bytes, cached_verifier, peers};
use countersign_engine::{Algorithm, Verifier};
use criterion::{Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn verify(criterion: &mut Criterion) {
    let keys = Keys::generate();
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let token = keys.token(algorithm, 1);
        ours(criterion, "cold", algorithm, &token, &keys.verifier(algorithm));
        ours(
            criterion,
            "cached",
            algorithm,
            &token,
            &cached_verifier(algorithm, keys.key_set(algorithm), cache_bytes(1_000)),
        );
        for (name, peer) in peers::all(&keys, algorithm) {
            criterion.bench_function(&format!("verify/{algorithm}/{name}"), |bencher| {
                bencher.iter(|| assert!(peer(black_box(&token))));
            });
        }
        raw(criterion, algorithm, &token, raw_key(&keys, algorithm).as_ref());
    }
}

fn ours(
    criterion: &mut Criterion,
    how: &str,
    algorithm: Algorithm,
    token: &str,
    verifier: &Verifier,
) {
    criterion.bench_function(&format!("verify/{algorithm}/countersign {how}"), |bencher| {
        bencher.iter(|| assert!(accepts(verifier, black_box(token.as_bytes()))));
    });
}

/// Returns the parsed public key; HS256 has none.
fn raw_key(keys: &Keys, algorithm: Algorithm) -> Option<ParsedPublicKey> {
    let public = keys.rsa.public_key();
    let (n, e) = (
        public.modulus().big_endian_without_leading_zero(),
        public.exponent().big_endian_without_leading_zero(),
    );
    match algorithm {
        Algorithm::Rs256 => Some(
            RsaPublicKeyComponents { n, e }
                .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
                .unwrap(),
        ),
        Algorithm::Es256 => Some(
            ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, keys.ecdsa.public_key())
                .unwrap(),
        ),
        Algorithm::EdDsa => {
            Some(ParsedPublicKey::new(&signature::ED25519, keys.ed25519.public_key()).unwrap())
        }
        _ => None,
    }
}

fn raw(
    criterion: &mut Criterion,
    algorithm: Algorithm,
    token: &str,
    key: Option<&ParsedPublicKey>,
) {
    let (signing_input, signature) = token.rsplit_once('.').unwrap();
    let (input, signature) = (signing_input.as_bytes(), URL_SAFE_NO_PAD.decode(signature).unwrap());
    let (lc, ring) = (
        aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &SECRET),
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &SECRET),
    );
    let mut measure = |name: &str, work: &dyn Fn() -> bool| {
        criterion.bench_function(&format!("verify/{algorithm}/raw {name}"), |bencher| {
            bencher.iter(|| assert!(work()))
        });
    };
    if let Some(key) = key {
        measure("aws-lc, parsed key", &|| key.verify_sig(black_box(input), &signature).is_ok());
    } else {
        measure("aws-lc", &|| aws_lc_rs::hmac::verify(&lc, black_box(input), &signature).is_ok());
        measure("ring", &|| ring::hmac::verify(&ring, black_box(input), &signature).is_ok());
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(50);
    targets = verify
}
criterion_main!(benches);
