//! Configuration files, INI and TOML: every mistake has a place, and no key is ever shown.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::configuration(data));
