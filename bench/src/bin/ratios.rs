//! The figures of cold verification, as ratios of paired rounds.
//!
//! Usage: `taskset -c 1 target/release/ratios`, on an otherwise idle machine.

use std::hint::black_box;

use aws_lc_rs::signature::{self, KeyPair as _, ParsedPublicKey, RsaPublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_bench::{Keys, NOW, PeerClaims, SECRET, paired::compare, peer_validation};
use countersign_engine::Algorithm;
use jsonwebtoken::DecodingKey;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let keys = Keys::generate();
    let token = |algorithm| keys.token(algorithm, 1);
    let hs256 = token(Algorithm::Hs256);
    let (input, tag) = parts(&hs256);
    let (lc, ring) = (
        aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &SECRET),
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &SECRET),
    );
    let raw_lc = || aws_lc_rs::hmac::verify(&lc, black_box(input), &tag).is_ok();
    let raw_ring = || ring::hmac::verify(&ring, black_box(input), &tag).is_ok();
    let peer_key = DecodingKey::from_secret(&SECRET);
    let peer = peer(&hs256, jsonwebtoken::Algorithm::HS256, &peer_key);
    compare("HS256 / jsonwebtoken", &ours(&keys, Algorithm::Hs256), &peer);
    compare("HS256 / raw aws-lc", &ours(&keys, Algorithm::Hs256), &raw_lc);
    compare("raw ring / raw aws-lc", &raw_ring, &raw_lc);

    let public = keys.rsa.public_key();
    let (n, e) = (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
    let parsed = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256);
    against_raw(&keys, Algorithm::Rs256, &parsed.expect("a key"));
    let (rs256, peer_key) = (token(Algorithm::Rs256), DecodingKey::from_rsa_raw_components(n, e));
    let peer = self::peer(&rs256, jsonwebtoken::Algorithm::RS256, &peer_key);
    compare("RS256 / jsonwebtoken", &ours(&keys, Algorithm::Rs256), &peer);

    let parsed = ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, keys.ecdsa.public_key());
    against_raw(&keys, Algorithm::Es256, &parsed.expect("a key"));
    let parsed = ParsedPublicKey::new(&signature::ED25519, keys.ed25519.public_key());
    against_raw(&keys, Algorithm::EdDsa, &parsed.expect("a key"));
}

/// A token's signing input and its decoded signature.
fn parts(token: &str) -> (&[u8], Vec<u8>) {
    let (signing_input, signature) = token.rsplit_once('.').expect("a token");
    (signing_input.as_bytes(), URL_SAFE_NO_PAD.decode(signature).expect("base64"))
}

fn ours(keys: &Keys, algorithm: Algorithm) -> impl Fn() -> bool {
    let (verifier, token) = (keys.verifier(algorithm), keys.token(algorithm, 1));
    move || verifier.verify(black_box(token.as_bytes()), NOW).is_ok()
}

fn peer<'p>(token: &'p str, algorithm: jsonwebtoken::Algorithm, key: &'p DecodingKey) -> impl Fn() -> bool + 'p {
    let validation = peer_validation(algorithm);
    move || jsonwebtoken::decode::<PeerClaims>(black_box(token), key, &validation).is_ok()
}

fn against_raw(keys: &Keys, algorithm: Algorithm, parsed: &ParsedPublicKey) {
    let token = keys.token(algorithm, 1);
    let (input, signature) = parts(&token);
    let raw = || parsed.verify_sig(black_box(input), &signature).is_ok();
    compare(&format!("{algorithm} / raw aws-lc, parsed key"), &ours(keys, algorithm), &raw);
}
