//! Bytes of a connection of HAProxy: the same answers to pieces of any size.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::spop(data));
