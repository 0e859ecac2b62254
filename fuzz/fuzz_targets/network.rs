//! Text as a network, and bytes as the address of a client.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::network(data));
