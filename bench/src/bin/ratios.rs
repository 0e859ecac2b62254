//! Figures of verification by algorithm, uncached and cached, as ratios of paired rounds to the raw
//! primitives and the peers.
//!
//! Usage: `taskset -c 1 target/dist/ratios`, on an otherwise idle machine.

use std::hint::black_box;

use aws_lc_rs::signature::{self, KeyPair as _, ParsedPublicKey, RsaPublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::{
    Keys, SECRET, accepts, cache_bytes, cached_verifier, paired::compare, peers,
};
use countersign_engine::{Algorithm, Verifier};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let keys = Keys::generate();
    cold_hs256(&keys);
    cold(&keys, Algorithm::Rs256, &rsa(&keys));
    let key = ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, keys.ecdsa.public_key());
    cold(&keys, Algorithm::Es256, &key.expect("a key"));
    let key = ParsedPublicKey::new(&signature::ED25519, keys.ed25519.public_key());
    cold(&keys, Algorithm::EdDsa, &key.expect("a key"));
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        cached(&keys, algorithm);
    }
}

/// Returns the signing input and the decoded signature of a token.
fn parts(token: &str) -> (&[u8], Vec<u8>) {
    let (signing_input, signature) = token.rsplit_once('.').expect("a signature");
    (signing_input.as_bytes(), URL_SAFE_NO_PAD.decode(signature).expect("base64url"))
}

fn rsa(keys: &Keys) -> ParsedPublicKey {
    let public = keys.rsa.public_key();
    let (n, e) = (
        public.modulus().big_endian_without_leading_zero(),
        public.exponent().big_endian_without_leading_zero(),
    );
    let parsed = RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256);
    parsed.expect("a key")
}

fn ours<'o>(verifier: &'o Verifier, token: &'o str) -> impl Fn() -> bool + 'o {
    move || accepts(verifier, black_box(token.as_bytes()))
}

fn cold_hs256(keys: &Keys) {
    let (verifier, token) = (keys.verifier(Algorithm::Hs256), keys.token(Algorithm::Hs256, 1));
    let (input, tag) = parts(&token);
    let (lc, ring) = (
        aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &SECRET),
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &SECRET),
    );
    let raw_lc = || aws_lc_rs::hmac::verify(&lc, black_box(input), &tag).is_ok();
    let raw_ring = || ring::hmac::verify(&ring, black_box(input), &tag).is_ok();
    // Noise: the ratio of a contestant to itself.
    compare("noise: cold HS256 / itself", &ours(&verifier, &token), &ours(&verifier, &token));
    compare("cold HS256 / raw aws-lc", &ours(&verifier, &token), &raw_lc);
    compare("raw ring / raw aws-lc", &raw_ring, &raw_lc);
    against_peers("cold", keys, Algorithm::Hs256, &verifier);
    let peer = peers::jsonwebtoken_every_claim(keys, Algorithm::Hs256);
    compare("cold HS256 / jsonwebtoken, every claim", &ours(&verifier, &token), &|| {
        peer(black_box(&token))
    });
}

fn cold(keys: &Keys, algorithm: Algorithm, key: &ParsedPublicKey) {
    let (verifier, token) = (keys.verifier(algorithm), keys.token(algorithm, 1));
    let (input, signature) = parts(&token);
    let raw = || key.verify_sig(black_box(input), &signature).is_ok();
    compare(&format!("cold {algorithm} / raw aws-lc, parsed key"), &ours(&verifier, &token), &raw);
    against_peers("cold", keys, algorithm, &verifier);
}

fn cached(keys: &Keys, algorithm: Algorithm) {
    let verifier = cached_verifier(algorithm, keys.key_set(algorithm), cache_bytes(1_000));
    against_peers("cached", keys, algorithm, &verifier);
}

fn against_peers(how: &str, keys: &Keys, algorithm: Algorithm, verifier: &Verifier) {
    let token = keys.token(algorithm, 1);
    for (name, peer) in peers::all(keys, algorithm) {
        compare(&format!("{how} {algorithm} / {name}"), &ours(verifier, &token), &|| {
            peer(black_box(&token))
        });
    }
}
