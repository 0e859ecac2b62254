use countersign_tests::{
    binary::Sandbox,
    openssl::SigningKey,
    providers::{CannedResponse, JwksServer},
};
use serde_json::{Value, json};

use super::{accepted, refused, with_claim};
use crate::{
    fixture::{self, SIGNING},
    users::{Api, configuration, data},
};

#[test]
fn c38_slow_provider_affects_only_its_own_tokens() {
    let (key, provider) =
        (SigningKey::generate("RS256", "k"), JwksServer::start_with(CannedResponse::hang()));
    let sandbox = Sandbox::new();
    let idp = fixture::with_idp(
        "RS256",
        &format!("jwks_uri={}\njwks_request_timeout=0.2\n", provider.uri()),
    );
    let server = sandbox.serve(&format!("{idp}[server]\nauth=true\n"));
    accepted(&server, &fixture::good_token());
    let answer =
        Api::bearing(&server, &key.token(&fixture::claims_of("https://idp/"))).ask("GET /health");
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{answer:?}");
    assert!(
        server
            .log()
            .contains("Unable to load key data for auth_jwt_oidc using the provided jwks_uri"),
        "{}",
        server.log()
    );
    // It recovers without a restart when the provider answers.
    provider.publish(&fixture::key_set(&[&key]));
    countersign_tests::eventually(|| {
        server.auth(&key.token(&fixture::claims_of("https://idp/"))).status == 200
    });
}

#[test]
fn c42_custom_header_and_username_claim_are_used() {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::new();
    let keys = sandbox.file("jwks.json", fixture::key_set(&[&key]));
    let idp = fixture::with_idp(
        "ES256",
        &format!("jwks_uri=file://{}\njwt_username_claim=name\n", keys.display()),
    );
    let server =
        sandbox.serve(&format!("{idp}[server]\nauth=true\nauth_additional_header=Jwt-Assertion\n"));
    let mut claims = fixture::claims_of("https://idp/");
    claims["name"] = json!("test-user");
    let assertion = Api::anonymous(&server).with(&format!("Jwt-Assertion: {}", key.token(&claims)));
    assert_eq!(data(&assertion.ask("GET /current_user")), json!({ "username": "test-user" }));
    let both = assertion.with(&format!("Authorization: Bearer {}", fixture::good_token()));
    assert_eq!(data(&both.ask("GET /current_user")), json!({ "username": "test-user" }));
}

#[test]
fn c62_open_calls_need_no_token() {
    for provider in ["legacy", "policy-engine"] {
        let sandbox = Sandbox::new();
        let engine = fixture::policy_engine(fixture::DEFAULT_POLICY);
        let options = format!("authorization-provider={provider}\n{engine}");
        let server = sandbox.serve(&configuration(&options));
        let anonymous = Api::anonymous(&server);
        assert_eq!(
            (anonymous.ask("GET /health").status, anonymous.log_in("bob", "x").status),
            (200, 401),
            "{provider}"
        );
        assert_eq!(
            anonymous.log_in("bob", "x").json(),
            json!({ "message": "Invalid username or password" })
        );
    }
}

#[test]
fn c79_claims_constraints_are_enforced() {
    let demanding = format!(
        "{SIGNING}claims=\n    prod in environments\n    type is dc\n[server]\nauth=true\n"
    );
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&demanding);
    let token = |environments: Value, kind: Value| {
        fixture::token(&fixture::claims(json!({ "environments": environments, "type": kind })))
    };
    accepted(&server, &token(json!(["dev", "prod"]), json!("dc")));
    for (environments, kind) in [
        (json!(["dev"]), json!("dc")),
        (json!(["prod"]), json!("lab")),
        (json!("prod"), json!("dc")),
        (json!(["prod"]), json!(["dc"])),
        (Value::Null, json!("dc")),
        (json!(["prod"]), json!(true)),
    ] {
        let text = "The configured claims constraints did not match. See logs for details.";
        refused(&server, &token(environments, kind), text);
    }
    refused(&server, &with_claim("exp", json!(1)), "Signature has expired");
}
