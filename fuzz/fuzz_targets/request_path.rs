//! Text as a request target, whose path rules are compared with.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::request_path(data));
