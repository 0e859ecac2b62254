//! Client certificates against the rules of an identity: only those that the authority signed pass.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::certificate_rules(data));
