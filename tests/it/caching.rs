use countersign_tests::{
    binary::Sandbox, client::Protocol, openssl::SigningKey, over_every_protocol,
};

use crate::fixture::{self, KEY, SIGNING, good_token};

over_every_protocol!(
    cached_token_gets_the_same_answer,
    bad_public_key_signature_is_cached,
    disabled_cache_verifies_every_token,
);

const CACHED: &str = "countersign_remembered_verifications_total";
const UNCACHED: &str = "countersign_cold_verifications_total";

fn cached_token_gets_the_same_answer(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let token = good_token();
    let mut client = server.client();
    let mut answers = (0..5).map(|_| {
        let mut answer = client
            .request(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"");
        answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
        (answer.status, answer.headers)
    });
    let first = answers.next().unwrap();
    assert_eq!(first.0, 200);
    assert!(answers.all(|answer| answer == first));
    assert_eq!(server.auth(&token).status, 200);
    assert_eq!((server.metric(CACHED), server.metric(UNCACHED)), (5, 1));
    let part = |name: &str| {
        ["accepted", "refused"].map(|part| server.metric(&format!("{name}{{part=\"{part}\"}}")))
    };
    assert_eq!(part("countersign_cache_tokens"), [1, 0]);
    assert_eq!(
        [part("countersign_cache_evicted_total"), part("countersign_cache_skipped_total")],
        [[0, 0]; 2]
    );
}

fn bad_public_key_signature_is_cached(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let keys = [SigningKey::generate("ES256", "k"), SigningKey::generate("ES256", "k")];
    let jwks = sandbox.file("jwks.json", fixture::key_set(&[&keys[0]]));
    let server =
        sandbox.serve(&fixture::with_idp("ES256", &format!("jwks_uri=file://{}", jwks.display())));
    let forged = keys[1].token(&fixture::claims_of("https://idp/"));
    for _ in 0..5 {
        assert_eq!(server.auth(&forged).status, 401);
    }
    assert_eq!((server.metric(CACHED), server.metric(UNCACHED)), (0, 1));
    assert_eq!(server.metric("countersign_cache_tokens{part=\"refused\"}"), 1);
}

fn disabled_cache_verifies_every_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}[cache]\nmegabytes=0\n"));
    let token = good_token();
    assert!((0..5).all(|_| server.auth(&token).status == 200));
    assert_eq!((server.metric(CACHED), server.metric(UNCACHED)), (0, 5));
    assert!(!server.operations("/metrics").body.contains("countersign_cache_"));
}

#[test]
fn invalid_cache_size_is_refused() {
    let sandbox = Sandbox::new();
    for megabytes in ["-1", "many", "1048577", "0.5"] {
        let config = sandbox.file("c.cfg", format!("{SIGNING}[cache]\nmegabytes={megabytes}\n"));
        let output = sandbox.run(["config", "check", "--config", config.to_str().unwrap()]);
        assert_eq!(output.code(), 2, "{megabytes}: {output:?}");
        assert!(
            output.stderr.contains("megabytes in cache must be a number from 0 to 1048576"),
            "{megabytes}: {}",
            output.stderr
        );
        assert!(!output.stderr.contains(KEY));
    }
}
