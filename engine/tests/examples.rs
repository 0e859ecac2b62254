//! Runs the examples, which `cargo test` builds, and compares their output.

use std::{env, path::Path, process::Command};

/// Maximum length of an example, in lines.
const MAX_LINES: usize = 60;

/// Runs an example and returns its output.
#[track_caller]
fn run(name: &str) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{name}.rs"));
    #[expect(clippy::disallowed_methods, reason = "the example itself is under test")]
    let lines = std::fs::read_to_string(source).unwrap().lines().count();
    assert!(lines <= MAX_LINES, "{name} has {lines} lines, at most {MAX_LINES}");
    // This program is target/PROFILE/deps/examples-HASH.
    let test = env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let output = Command::new(&program).output().unwrap_or_else(|error| {
        panic!("{}: {error}: run cargo build -p countersign-engine --examples", program.display())
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed:\n{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn verify_hs256_accepts_caches_and_refuses() {
    assert_eq!(
        run("verify_hs256"),
        "1799999998: alice, from the cache: false\n\
         1800000004: alice, from the cache: true\n\
         1800000005: refused, expired: the token has expired (exp)\n"
    );
}

#[test]
fn verify_jwks_uses_published_keys_only() {
    assert_eq!(
        run("verify_jwks"),
        "1 usable\n\
         skipped keys[1] (kid \"mistake\"): a shared secret (oct) must not be in a published key set\n\
         {\"iss\":\"https://idp.example/\",\"aud\":\"api\",\"sub\":\"alice\",\"exp\":1800000000}\n\
         forged: Err(Signature)\n"
    );
}

#[test]
fn rotate_replaces_keys_when_a_kid_is_unknown() {
    assert_eq!(
        run("rotate"),
        "before the first fetch: refused: keys_unavailable\n\
         fetch because of Some(Start)\n\
         with k1 only: refused: kid_unknown\n\
         fetch because of Some(UnknownKid)\n\
         with k2: accepted, cached: false, then accepted, cached: true\n\
         next fetch at Some(301s)\n"
    );
}

#[test]
fn revoke_refuses_tokens_by_id_and_by_subject() {
    assert_eq!(
        run("revoke"),
        "at first: [\"ok\", \"ok\"]\n\
         expires at Some(1800000000)\n\
         after token 1 is revoked: [\"revoked\", \"ok\"]\n\
         after alice is revoked: [\"revoked\", \"revoked\"]\n\
         purged 1, 1 left\n"
    );
}
