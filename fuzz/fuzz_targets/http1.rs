//! What clients send over a connection: whatever it is, it is answered, once and alike.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::http1(data));
