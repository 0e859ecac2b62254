//! Compact JWTs against one HS256 issuer: whatever is accepted must deserve it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::token(data));
