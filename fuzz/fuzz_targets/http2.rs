//! Bytes of an HTTP/2 connection: frames in pieces of any size, and field sections.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::http2(data));
