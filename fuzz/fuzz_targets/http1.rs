//! Bytes of an HTTP/1.1 connection: every request has exactly one answer, in pieces of any size.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::http1(data));
