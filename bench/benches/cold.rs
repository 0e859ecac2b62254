//! Cold verification: every token is parsed and its signature checked each time.
//!
//! Read the rows as ratios within one run. `raw` is the signature alone, with a
//! key parsed before; what is between it and ours is base64, JSON, strictness,
//! lookups, rules, and the allocation of the answer.

use std::hint::black_box;

use aws_lc_rs::signature::{self, KeyPair as _, ParsedPublicKey, RsaPublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::{Keys, NOW, PeerClaims, SECRET, peer_validation};
use countersign_engine::Algorithm;
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::DecodingKey;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn cold(criterion: &mut Criterion) {
    let keys = Keys::generate();
    hs256(criterion, &keys);
    rs256(criterion, &keys);
    es256(criterion, &keys);
    eddsa(criterion, &keys);
}

/// A token, its signing input and its decoded signature.
fn parts(token: &str) -> (&str, Vec<u8>) {
    let (signing_input, signature) = token.rsplit_once('.').unwrap();
    (signing_input, URL_SAFE_NO_PAD.decode(signature).unwrap())
}

fn ours(criterion: &mut Criterion, keys: &Keys, algorithm: Algorithm) {
    let (verifier, token) = (keys.verifier(algorithm), keys.token(algorithm, 1));
    assert!(verifier.verify(token.as_bytes(), NOW).is_ok());
    criterion.bench_function(&format!("cold/{algorithm}/countersign"), |bencher| {
        bencher.iter(|| verifier.verify(black_box(token.as_bytes()), NOW).unwrap());
    });
}

fn peer(criterion: &mut Criterion, token: &str, algorithm: jsonwebtoken::Algorithm, key: &DecodingKey) {
    let validation = peer_validation(algorithm);
    criterion.bench_function(&format!("cold/{algorithm:?}/jsonwebtoken"), |bencher| {
        bencher.iter(|| jsonwebtoken::decode::<PeerClaims>(black_box(token), key, &validation).unwrap());
    });
}

fn raw(criterion: &mut Criterion, name: &str, token: &str, key: &ParsedPublicKey) {
    let (signing_input, signature) = parts(token);
    criterion.bench_function(&format!("cold/{name}/raw aws-lc, parsed key"), |bencher| {
        bencher.iter(|| key.verify_sig(black_box(signing_input.as_bytes()), &signature).unwrap());
    });
}

fn hs256(criterion: &mut Criterion, keys: &Keys) {
    ours(criterion, keys, Algorithm::Hs256);
    let token = keys.token(Algorithm::Hs256, 1);
    peer(criterion, &token, jsonwebtoken::Algorithm::HS256, &DecodingKey::from_secret(&SECRET));
    let (signing_input, signature) = parts(&token);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &SECRET);
    criterion.bench_function("cold/HS256/raw aws-lc", |bencher| {
        bencher.iter(|| aws_lc_rs::hmac::verify(&key, black_box(signing_input.as_bytes()), &signature).unwrap());
    });
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &SECRET);
    criterion.bench_function("cold/HS256/raw ring", |bencher| {
        bencher.iter(|| ring::hmac::verify(&key, black_box(signing_input.as_bytes()), &signature).unwrap());
    });
}

fn rs256(criterion: &mut Criterion, keys: &Keys) {
    ours(criterion, keys, Algorithm::Rs256);
    let token = keys.token(Algorithm::Rs256, 1);
    let public = keys.rsa.public_key();
    let (n, e) = (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
    peer(criterion, &token, jsonwebtoken::Algorithm::RS256, &DecodingKey::from_rsa_raw_components(n, e));
    let parsed = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256).unwrap();
    raw(criterion, "RS256", &token, &parsed);
}

fn es256(criterion: &mut Criterion, keys: &Keys) {
    ours(criterion, keys, Algorithm::Es256);
    let token = keys.token(Algorithm::Es256, 1);
    let parsed = ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, keys.ecdsa.public_key()).unwrap();
    raw(criterion, "ES256", &token, &parsed);
}

fn eddsa(criterion: &mut Criterion, keys: &Keys) {
    ours(criterion, keys, Algorithm::EdDsa);
    let token = keys.token(Algorithm::EdDsa, 1);
    let parsed = ParsedPublicKey::new(&signature::ED25519, keys.ed25519.public_key()).unwrap();
    raw(criterion, "EdDSA", &token, &parsed);
}

criterion_group!(benches, cold);
criterion_main!(benches);
