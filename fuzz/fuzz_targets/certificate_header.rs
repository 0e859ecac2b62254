//! Client certificates in the header of a proxy: two parsers read the same certificate.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::certificate_header(data));
