//! Batches of RSA signatures: lanes accept those that aws-lc accepts.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::rsa_lanes(data));
