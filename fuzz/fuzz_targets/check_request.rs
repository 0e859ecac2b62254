//! Envoy's `CheckRequest` over gRPC: decoded as prost decodes it, and answered.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::check_request(data));
