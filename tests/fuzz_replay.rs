//! Replay of the committed fuzz corpus on stable Rust in every test run, so that a bug found by
//! fuzzing does not return.

use std::{fs, path::Path};

use countersign_tests::fuzz;

#[test]
fn fuzz_corpus_token_holds() {
    replay("token", fuzz::token);
}

#[test]
fn fuzz_corpus_jwks_holds() {
    replay("jwks", fuzz::jwks);
}

#[test]
fn fuzz_corpus_static_keys_holds() {
    replay("static_keys", fuzz::static_keys_file);
}

#[test]
fn fuzz_corpus_rsa_lanes_holds() {
    replay("rsa_lanes", fuzz::rsa_lanes);
}

#[test]
fn fuzz_corpus_configuration_holds() {
    replay("configuration", fuzz::configuration);
}

#[test]
fn fuzz_corpus_front_holds() {
    replay("front", fuzz::front);
}

#[test]
fn fuzz_corpus_http1_holds() {
    replay("http1", fuzz::http1);
}

#[test]
fn fuzz_corpus_http2_holds() {
    replay("http2", fuzz::http2);
}

#[test]
fn fuzz_corpus_http3_holds() {
    replay("http3", fuzz::http3);
}

#[test]
fn fuzz_corpus_spop_holds() {
    replay("spop", fuzz::spop);
}

#[test]
fn fuzz_corpus_network_holds() {
    replay("network", fuzz::network);
}

#[test]
fn fuzz_corpus_request_path_holds() {
    replay("request_path", fuzz::request_path);
}

#[test]
fn fuzz_corpus_check_request_holds() {
    replay("check_request", fuzz::check_request);
}

#[test]
fn fuzz_corpus_certificate_header_holds() {
    replay("certificate_header", fuzz::certificate_header);
}

#[test]
fn fuzz_corpus_certificate_rules_holds() {
    replay("certificate_rules", fuzz::certificate_rules);
}

fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs: Vec<_> =
        fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "the corpus {} is empty", corpus.display());
    for input in inputs {
        let data = fs::read(&input).unwrap();
        // The panic of the body names the violation, this one the input.
        let held = std::panic::catch_unwind(|| body(&data));
        assert!(held.is_ok(), "{} violates an invariant, see above", input.display());
    }
}
