//! Every committed fuzz input through its target, on stable Rust and in every
//! test run: what fuzzing once found stays found.

use std::{fs, path::Path};

use countersign_tests::fuzz;

#[test]
fn every_committed_token_input_holds_the_invariants() {
    replay("token", fuzz::token);
}

#[test]
fn every_committed_jwks_input_holds_the_invariants() {
    replay("jwks", fuzz::jwks);
}

#[test]
fn every_committed_input_of_written_keys_holds_the_invariants() {
    replay("written", fuzz::written);
}

#[test]
fn every_committed_configuration_input_holds_the_invariants() {
    replay("configuration", fuzz::configuration);
}

#[test]
fn every_committed_http1_input_holds_the_invariants() {
    replay("http1", fuzz::http1);
}

#[test]
fn every_committed_http2_input_holds_the_invariants() {
    replay("http2", fuzz::http2);
}

#[test]
fn every_committed_http3_input_holds_the_invariants() {
    replay("http3", fuzz::http3);
}

#[test]
fn every_committed_question_of_a_proxy_holds_the_invariants() {
    replay("check_request", fuzz::check_request);
}

fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs: Vec<_> =
        fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(
        !inputs.is_empty(),
        "{} is empty: a replay of nothing proves nothing",
        corpus.display()
    );
    for input in inputs {
        let data = fs::read(&input).unwrap();
        // The panic of the body says what is wrong; this says with which input.
        let held = std::panic::catch_unwind(|| body(&data));
        assert!(held.is_ok(), "{} breaks an invariant, see above", input.display());
    }
}
