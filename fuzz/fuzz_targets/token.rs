//! Compact JWTs against one HS256 issuer: an accepted token passes an independent check.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::token(data));
