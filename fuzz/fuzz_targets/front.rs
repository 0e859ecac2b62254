//! Bytes of an HTTP/1.1 connection to a front without a server: it delimits every request as an
//! independent parser does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::front(data));
