//! Bytes of HTTP/3 streams: the same result in pieces of any size.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::http3(data));
