//! Keys as an operator writes them down: whatever is read must be a key that fits.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::written(data));
