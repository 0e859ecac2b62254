//! What clients send over the streams of HTTP/3: read alike in any pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::http3(data));
