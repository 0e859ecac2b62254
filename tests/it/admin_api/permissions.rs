use countersign_tests::{
    binary::Sandbox, client::Protocol, openssl::SigningKey, over_every_protocol,
};
use serde_json::json;

use super::{AdminApi, assert_problem};
use crate::{
    audit::audit_with,
    fixture::{SIGNING, claims, claims_of, issuer_section, key_set, policy_engine, token},
    users::{Api, PASSWORD, configuration, session_of},
};

over_every_protocol!(
    calls_need_a_token_that_is_accepted,
    administration_needs_an_administrator,
    external_issuers_may_read_but_not_administer,
    api_exists_only_where_accounts_do,
    document_and_page_need_no_token,
);

fn calls_need_a_token_that_is_accepted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = |token: &str| AdminApi { server: &server, token: token.to_owned() };
    let missing = api("").ask("GET /users");
    assert_problem(&missing, 401, "token_missing");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let expired = token(&claims(json!({ "exp": 1 })));
    let refused = api(&expired).ask("GET /users");
    assert_problem(&refused, 401, "expired");
    assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"));
    assert_problem(&api("").ask("GET /nothing"), 404, "no_such_call");
    let other = api("").ask("PUT /users");
    assert_problem(&other, 405, "method_not_allowed");
    assert_eq!(other.header("allow"), Some("GET, HEAD, POST"));
    let token = session_of("root", true);
    let twice = format!("Authorization: Bearer {token}\r\n");
    let conflict = api(&token).call("GET /users", &twice, "");
    assert_problem(&conflict, 400, "credential_conflict");
    assert_eq!(api(&token).ask("HEAD /users").status, 200);
}

fn administration_needs_an_administrator(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    // The policy decides about administrators: those that may make others administrators.
    let rules = "package policy\ndefault allow := false\n\
        allow if startswith(input.request.endpoint_id, \"GET \")\n\
        allow if input.request.endpoint_id == \"POST /api/v2/user\"\n\
        allow if input.token.sub in {\"root\", \"carol\"}\n";
    let policy = policy_engine(&sandbox.file("rules.rego", rules).display().to_string());
    let options = format!("authorization-provider=policy-engine\n{policy}");
    let server = sandbox.serve(&configuration(&options));
    let user = AdminApi { server: &server, token: session_of("bob", false) };
    assert_eq!(user.ask("GET /users").status, 200, "the policy allows it");
    for call in ["GET /audit-events", "GET /revocations", "POST /issuers/refresh", "GET /servers"] {
        assert_problem(&user.ask(call), 403, "not_authorized");
    }
    for administrator in [session_of("root", true), session_of("carol", false)] {
        let api = AdminApi { server: &server, token: administrator };
        assert_eq!(api.ask("GET /audit-events").status, 200);
    }
    let refusals = audit_with(&sandbox, "keys.refresh", 1);
    assert_eq!(refusals.len(), 1, "a refused change is recorded: {refusals:?}");
    assert_eq!(refusals[0]["by"]["user"], "bob");
}

fn external_issuers_may_read_but_not_administer(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let key = SigningKey::generate("RS256", "k");
    let keys = sandbox.file("jwks.json", key_set(&[&key]));
    let keys = format!("jwks_uri=file://{}", keys.display());
    let section = issuer_section("external", "RS256", "https://idp/", &keys);
    let server = sandbox.serve(&configuration(&section));
    server.wait_until_ready();
    let token = key.token(&claims_of("https://idp/"));
    let api = AdminApi { server: &server, token };
    assert_eq!(api.ask("GET /users").status, 200);
    // Whatever is wrong with the body.
    assert_problem(&api.call("POST /users", "", "{"), 403, "not_authorized");
    assert_problem(&api.ask("GET /revocations"), 403, "not_authorized");
}

fn api_exists_only_where_accounts_do(protocol: Protocol) {
    for configuration in
        [format!("{SIGNING}[server]\nauth=false\n"), SIGNING.replace("sign=true", "sign=false")]
    {
        let sandbox = Sandbox::over(protocol);
        let server = sandbox.serve(&configuration);
        let head = format!(
            "GET /v1/admin/users HTTP/1.1\r\nAuthorization: Bearer {}\r\n",
            session_of("root", true)
        );
        let response = server.request(&head);
        assert_eq!((response.status, &response.json()["code"]), (404, &json!("not_found")));
        assert_eq!(server.request("GET /v1/admin/docs HTTP/1.1\r\n").status, 404);
    }
}

fn document_and_page_need_no_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_user("bob");
    let api = AdminApi { server: &server, token: String::new() };
    assert_eq!(api.get("/openapi.json")["openapi"], "3.1.0");
    let page = api.ask("GET /docs");
    for answer in [&api.ask("GET /openapi.json"), &api.ask("GET /users"), &page] {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
        let transport_security = answer.header("strict-transport-security");
        assert_eq!(transport_security, Some("max-age=31536000"), "{answer:?}");
    }
    assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
    assert_eq!(page.header("content-type"), Some("text/html; charset=UTF-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.body.contains("GET /v1/admin/users/{username}"), "{}", page.body);
    assert!(!page.body.contains(PASSWORD) && !page.body.contains("<script"));
}
