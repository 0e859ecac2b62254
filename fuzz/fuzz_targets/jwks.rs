//! JWK Sets under several policies: an accepted key fits its policy.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::jwks(data));
