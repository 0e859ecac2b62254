use countersign_tests::{
    binary::Sandbox, client::Protocol, openssl::SigningKey, over_every_protocol,
    providers::JwksServer,
};
use serde_json::json;

use super::{AdminApi, assert_problem};
use crate::{
    audit::audit,
    fixture::{issuer_section, key_set},
    users::configuration,
};

over_every_protocol!(issuers_show_their_keys_and_fetches, keys_are_fetched_on_request);

/// Returns a provider that publishes a key.
fn provider() -> JwksServer {
    let key = SigningKey::generate("RS256", "the-key");
    JwksServer::start(&key_set(&[&key]))
}

/// Returns a configuration with a section for a provider.
fn with_provider(provider: &JwksServer) -> String {
    let keys = format!("jwks_uri={}", provider.uri());
    configuration(&issuer_section("oidc", "RS256", "https://idp/", &keys))
}

fn issuers_show_their_keys_and_fetches(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let provider = provider();
    let server = sandbox.serve(&with_provider(&provider));
    server.wait_until_ready();
    let api = AdminApi::root(&server);
    let issuers = api.get("/issuers")["items"].take();
    let sections = |index: usize| issuers[index]["section"].clone();
    assert_eq!([sections(0), sections(1)], ["auth_jwt_default", "auth_jwt_oidc"]);
    assert_eq!((&issuers[0]["source"], &issuers[0]["last_success"]), (&json!(null), &json!(null)));
    let fetched = &issuers[1];
    assert_eq!(fetched["keys"], json!([{ "kid": "the-key", "alg": "RS256" }]), "{fetched}");
    assert_eq!(fetched["source"], format!("jwks_uri {}", provider.uri()));
    assert!(fetched["last_success"].is_string() && fetched["is_failing"] == false, "{fetched}");
    assert_eq!(&api.get("/issuers/auth_jwt_oidc"), fetched);
    assert_problem(&api.ask("GET /issuers/other"), 404, "not_found");
}

fn keys_are_fetched_on_request(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let provider = provider();
    let server = sandbox.serve(&with_provider(&provider));
    server.wait_until_ready();
    let api = AdminApi::root(&server);
    let confirmed = json!({ "items": [{ "section": "auth_jwt_oidc", "result": "confirmed" }] });
    for call in ["POST /issuers/auth_jwt_oidc/refresh", "POST /issuers/refresh"] {
        let refreshed = api.ask(call);
        assert_eq!((refreshed.status, refreshed.json()), (200, confirmed.clone()), "{call}");
    }
    assert_problem(&api.ask("POST /issuers/auth_jwt_default/refresh"), 409, "conflict");
    assert_problem(&api.ask("POST /issuers/other/refresh"), 404, "not_found");
    let details = audit(&sandbox, &[]);
    let details: Vec<_> = details.iter().map(|event| &event["detail"]).collect();
    assert_eq!(details, ["section auth_jwt_oidc", "all sections"]);
}
