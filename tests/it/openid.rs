use countersign_tests::{
    binary::{Sandbox, Server},
    http::Connection,
    oidc::{AUDIENCE, OidcProvider},
};
use serde_json::json;

use crate::fixture;

const ALGORITHMS: [&str; 2] = ["RS256", "ES256"];

fn serve<'s>(sandbox: &'s Sandbox, provider: &OidcProvider) -> Server<'s> {
    serve_with(sandbox, provider.issuer(), &format!("jwks_uri={}", provider.jwks_uri()))
}

fn serve_with<'s>(sandbox: &'s Sandbox, issuer: &str, options: &str) -> Server<'s> {
    sandbox.serve(&format!(
        "{}[auth_jwt_openid]\nalgorithms=RS256,ES256\nclient_types=api\nissuer={issuer}\naudience={AUDIENCE}\n{options}\n",
        fixture::SIGNING
    ))
}

#[track_caller]
fn assert_tokens_are_accepted(server: &Server<'_>, provider: &OidcProvider) {
    for algorithm in ALGORITHMS {
        let answer = server.auth(&provider.token(algorithm));
        // The provider's clients are named after their algorithms.
        assert_eq!(
            (answer.status, answer.header("x-auth-user")),
            (200, Some(algorithm)),
            "{}",
            server.log()
        );
    }
}

#[test]
fn tokens_of_a_certified_provider_verify() {
    let (sandbox, provider) = (Sandbox::new(), OidcProvider::start());
    let server = serve(&sandbox, &provider);
    assert_tokens_are_accepted(&server, &provider);
    assert_eq!(provider.requests(), (1, 0), "one request for the keys serves every token");
}

#[test]
fn tokens_of_rotated_out_keys_are_refused() {
    let (sandbox, provider) = (Sandbox::new(), OidcProvider::start());
    let old = ALGORITHMS.map(|algorithm| provider.token(algorithm));
    let kids = provider.rotate();
    let server = serve(&sandbox, &provider);
    for (algorithm, old) in ALGORITHMS.iter().zip(old) {
        assert_eq!(server.auth(&old).status, 401, "{algorithm}");
        assert_eq!(server.auth(&provider.token(algorithm)).status, 200, "{algorithm}");
    }
    assert_eq!(kids.len(), ALGORITHMS.len());
}

#[test]
fn discovered_provider_can_rotate_its_keys() {
    let (sandbox, provider) = (Sandbox::new(), OidcProvider::start());
    let server = serve_with(
        &sandbox,
        provider.issuer(),
        &format!("discovery_uri={}", provider.discovery_uri()),
    );
    let old = ALGORITHMS.map(|algorithm| provider.token(algorithm));
    for token in &old {
        assert_eq!(server.auth(token).status, 200, "{}", server.log());
    }
    provider.rotate();
    for algorithm in ALGORITHMS {
        assert_eq!(
            server.auth(&provider.token(algorithm)).status,
            200,
            "{algorithm}: {}",
            server.log()
        );
    }
    for token in &old {
        assert_eq!(server.auth(token).status, 401, "the withdrawn key must not verify");
    }
    // An unknown kid fetches the keys again, not the metadata.
    assert_eq!(provider.requests(), (2, 1));
}

#[test]
fn issuer_must_match_the_metadata_exactly() {
    let (sandbox, provider) = (Sandbox::new(), OidcProvider::start());
    let issuer = format!("{}/", provider.issuer());
    let server =
        serve_with(&sandbox, &issuer, &format!("discovery_uri={}", provider.discovery_uri()));
    assert!(server.log().contains("the discovery document names the issuer"), "{}", server.log());
    assert_eq!(provider.requests().0, 0, "its keys are not asked for");
}

#[test]
fn provider_metadata_name_issuer_and_keys() {
    let provider = OidcProvider::start();
    let host = provider.issuer().strip_prefix("http://").unwrap();
    let path = provider.discovery_uri().replace(provider.issuer(), "");
    let mut connection = Connection::open(host.parse().unwrap());
    // The provider derives the URIs in its metadata from the Host header.
    connection.send_raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    let metadata = connection.receive(false).json();
    assert_eq!(
        (&metadata["issuer"], &metadata["jwks_uri"]),
        (&json!(provider.issuer()), &json!(provider.jwks_uri()))
    );
    assert_eq!(provider.requests(), (0, 1));
}

/// Starts a server for one issuer, without a configuration file.
fn serve_issuer<'s>(sandbox: &'s Sandbox, issuer: &str, audience: &str) -> Server<'s> {
    let arguments =
        ["serve", "--issuer", issuer, "--audience", audience, "--listen", "127.0.0.1:0"];
    sandbox.start(arguments)
}

#[test]
fn issuer_option_verifies_without_a_configuration() {
    let sandbox = Sandbox::new().variable("INMANTA_METRICS_BIND_PORT", "0");
    let provider = OidcProvider::start();
    let server = serve_issuer(&sandbox, provider.issuer(), AUDIENCE);
    server.wait_until_ready();
    assert_tokens_are_accepted(&server, &provider);
    assert_eq!(server.auth(&fixture::good_token()).status, 401, "no other issuer is accepted");
    assert_eq!(provider.requests(), (1, 1));
    let state = sandbox.path().join(".local/state/countersign");
    assert!(!state.join("countersign.cfg").exists(), "no signing key is generated");
    assert!(server.reload().contains("configuration reloaded and in force"), "{}", server.log());
    let (_, printed) = server.stop("TERM");
    let line = format!("issuer    {}, for audience {AUDIENCE}", provider.issuer());
    assert!(printed.iter().any(|one| one.trim() == line), "{printed:?}");
}

#[test]
fn issuer_option_requires_the_audience_in_tokens() {
    let sandbox = Sandbox::new().variable("INMANTA_METRICS_BIND_PORT", "0");
    let provider = OidcProvider::start();
    let server = serve_issuer(&sandbox, provider.issuer(), "https://other.example/");
    server.wait_until_ready();
    let answer = server.auth(&provider.token("RS256"));
    assert_eq!((answer.status, answer.header("x-auth-error")), (401, None), "{answer:?}");
}

#[test]
fn issuer_option_mistakes_name_the_remedy() {
    let sandbox = Sandbox::new();
    sandbox.file("c.cfg", fixture::SIGNING);
    let issuer = ["--issuer", "https://idp.example"];
    let audience = ["--audience", "https://service.example/"];
    for (arguments, text) in [
        (issuer.to_vec(), "--audience"),
        (audience.to_vec(), "--issuer"),
        (["--listen", "127.0.0.1:0"].to_vec(), "--issuer"),
        ([&issuer[..], &audience, &["-c", "c.cfg"]].concat(), "--issuer: excludes --config"),
        ([&["--issuer", "idp.example"][..], &audience].concat(), "write an https://"),
        ([&["--issuer", "https://idp.example/?a=b"][..], &audience].concat(), "without query"),
        ([&issuer[..], &["--audience", ""]].concat(), "a value is required"),
    ] {
        let refused = sandbox.run(["serve"].iter().chain(&arguments));
        assert!(refused.code() == 2 && refused.stderr.contains(text), "{arguments:?}: {refused:?}");
    }
}
