//! Configuration files, INI and TOML: every problem has a location, and no key appears in a
//! message.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::configuration(data));
