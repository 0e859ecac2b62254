use countersign_tests::{
    binary::{Sandbox, Server},
    database::query_sqlite,
    eventually,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
};

use crate::fixture::{self, claims_of, key_set};

const ISSUER: &str = "https://idp/";
const DATABASE: &str = ".local/state/countersign/countersign.db";

/// A server that has fetched and stored the keys, and has stopped.
struct StoppedServer {
    sandbox: Sandbox,
    provider: JwksServer,
    configuration: String,
    token: String,
}

impl StoppedServer {
    fn new(options: &str) -> Self {
        let key = SigningKey::generate("ES256", "k");
        let token = key.token(&claims_of(ISSUER));
        let (sandbox, provider) = (Sandbox::new(), JwksServer::start(&key_set(&[&key])));
        let source = format!("jwks_uri={}\njwks_request_timeout=600\n{options}", provider.uri());
        let configuration = fixture::with_idp("ES256", &source);
        let server = sandbox.serve(&configuration);
        assert_eq!(server.auth(&token).status, 200, "{}", server.log());
        let count = "SELECT count(*) FROM countersign_key_set";
        eventually(|| query(&sandbox, count) == "1");
        server.stop("TERM");
        Self { sandbox, provider, configuration, token }
    }

    /// Starts the server again, while the provider does not answer.
    fn restart(&self) -> Server<'_> {
        self.restart_with(&self.configuration)
    }

    fn restart_with(&self, configuration: &str) -> Server<'_> {
        self.provider.respond_with(CannedResponse::hang());
        self.sandbox.listen(configuration)
    }
}

/// Executes a statement in the database of the sandbox, and returns the first value.
fn query(sandbox: &Sandbox, statement: &str) -> String {
    query_sqlite(&sandbox.path().join(DATABASE), statement)
}

#[test]
fn stored_keys_serve_a_start_without_the_provider() {
    let stopped = StoppedServer::new("");
    let server = stopped.restart();
    server.wait_until_ready();
    assert_eq!(server.auth(&stopped.token).status, 200, "{}", server.log());
    let unknown = SigningKey::generate("ES256", "unknown").token(&claims_of(ISSUER));
    assert_eq!(server.auth(&unknown).status, 503, "the provider does not answer");
    assert!(server.log().contains("using stored keys"), "{}", server.log());
    let status = &server.operations("/keys").json()["issuers"][1];
    assert!(status["seconds_since_success"].as_u64().is_some_and(|age| age < 60), "{status}");
    server.stop("TERM");
    // Another set replaces the stored one as soon as the provider answers.
    let StoppedServer { sandbox, provider, configuration, token } = &stopped;
    provider.publish(&key_set(&[&SigningKey::generate("ES256", "other")]));
    let server = sandbox.serve(configuration);
    eventually(|| server.auth(token).status == 401);
}

#[test]
fn stored_keys_of_another_configuration_are_not_used() {
    let stopped = StoppedServer::new("");
    for (from, to) in [
        ("/jwks.json", "/moved.json"),
        ("jwks_request_timeout", "validate_cert=false\njwks_request_timeout"),
        ("jwks_request_timeout", "jwks_stale=0\njwks_request_timeout"),
        ("[auth_jwt_oidc]", "[auth_jwt_renamed]"),
    ] {
        let before = stopped.provider.requests();
        let server = stopped.restart_with(&stopped.configuration.replace(from, to));
        // The stored keys are read before the first fetch.
        eventually(|| stopped.provider.requests() > before);
        assert_eq!(server.auth(&stopped.token).status, 503, "{to}: {}", server.log());
    }
}

#[test]
fn stored_keys_are_used_until_jwks_stale_by_any_clock() {
    let stopped = StoppedServer::new("jwks_stale=3");
    let set_time = |at: &str| {
        let statement = format!("UPDATE countersign_key_set SET fetched_at = fetched_at + {at}");
        query(&stopped.sandbox, &statement);
    };
    let server = stopped.restart();
    server.wait_until_ready();
    assert_eq!(server.auth(&stopped.token).status, 200, "{}", server.log());
    eventually(|| server.auth(&stopped.token).status == 503);
    assert!(server.log().contains("keys withdrawn"), "{}", server.log());
    server.stop("TERM");
    // Too old, and of an unknown age: stored by a clock that was a year ahead.
    for shift in ["-1000", "31536000 + 1000"] {
        set_time(shift);
        let before = stopped.provider.requests();
        let server = stopped.restart();
        eventually(|| stopped.provider.requests() > before);
        assert_eq!(server.auth(&stopped.token).status, 503, "{}", server.log());
        let is_reported = server.log().contains("they were fetched in the future");
        assert_eq!(is_reported, shift.starts_with("3153"), "{}", server.log());
        server.stop("TERM");
    }
}

#[test]
fn damaged_stored_keys_are_not_used() {
    let stopped = StoppedServer::new("");
    let damage = "UPDATE countersign_key_set SET keys = replace(keys, 'ES256', 'HS256')";
    query(&stopped.sandbox, damage);
    let server = stopped.restart();
    eventually(|| server.log().contains("the stored keys cannot be used"));
    assert_eq!(server.auth(&stopped.token).status, 503);
}
