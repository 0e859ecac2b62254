//! Static keys in every format that an operator may configure: an accepted key fits its algorithms.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::static_keys_file(data));
