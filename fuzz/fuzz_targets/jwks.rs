//! JWK Sets under several policies: whatever becomes a key must be one that fits.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::jwks(data));
