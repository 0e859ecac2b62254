//! What clients send over HTTP/2: frames in any pieces, and field sections.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::http2(data));
