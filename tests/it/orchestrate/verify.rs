use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    http::Response,
    over_every_protocol,
};
use serde_json::{Value, json};

use super::tier::{API_KEY, NAMESPACE, TenantProvider, configuration};

over_every_protocol!(
    verify_answers_with_the_tenant,
    verify_counts_headers_of_the_described_request,
    verify_refuses_tenants_with_a_stable_code,
);

fn verify(server: &Server<'_>, lines: &str, body: &Value) -> Response {
    let head = format!("POST /v1/verify HTTP/1.1\r\n{lines}");
    server.send(&head, body.to_string().as_bytes())
}

fn described(token: &str, headers: Value) -> Value {
    json!({ "token": token, "request": { "method": "GET", "uri": "/a", "headers": headers } })
}

/// Returns the tenant, the allowed tenants and the user of an answer.
#[track_caller]
fn tenancy(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    let answer = response.json();
    json!([answer["tenant"], answer["allowed_tenants"], answer["username"]])
}

fn verify_answers_with_the_tenant(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), TenantProvider::start());
    let server = sandbox.serve(&configuration(&provider, "", ""));
    for (own, expected) in [
        ("foo", json!(["foo", ["_", "foo"], "alice"])),
        ("a:b", json!(["a:b", ["_", "a", "a:b"], "alice"])),
        ("_", json!(["_", ["_"], "alice"])),
        ("*", json!(["_", ["*"], "alice"])),
        (
            "Zürich, 5 %",
            json!(["Z%C3%BCrich%2C%205%20%25", ["_", "Z%C3%BCrich%2C%205%20%25"], "alice"]),
        ),
    ] {
        let token = provider.token(own);
        // The headers of the call itself are about another request.
        let lines = "X-Tenant-ID: _\r\nX-Username: bob\r\nX-API-Key: wrong\r\n";
        let answer = verify(&server, lines, &json!({ "token": token }));
        assert_eq!(tenancy(&answer), expected, "{own}");
        assert_eq!(answer.json()["claims"][NAMESPACE]["tenant_id"], own);
        let bearer = format!("{lines}Authorization: Bearer {token}\r\n");
        let answer = server.request(&format!("POST /v1/verify HTTP/1.1\r\n{bearer}"));
        assert_eq!(tenancy(&answer), expected, "{own}");
    }
    let nameless = provider.token_with(json!({ "tenant_id": "foo" }), &[]);
    let answer = verify(&server, "", &json!({ "token": nameless }));
    assert_eq!(tenancy(&answer), json!(["foo", ["_", "foo"], null]));
}

fn verify_counts_headers_of_the_described_request(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), TenantProvider::start());
    let server = sandbox.serve(&configuration(&provider, "", ""));
    let (nested, every) = (provider.token("a:b"), provider.token("*"));
    for (token, headers, expected) in [
        (&nested, json!({}), json!(["a:b", ["_", "a", "a:b"], "alice"])),
        (&nested, json!({ "X-Tenant-ID": "" }), json!(["a:b", ["_", "a", "a:b"], "alice"])),
        (&nested, json!({ "x-tenant-id": "a" }), json!(["a", ["_", "a"], null])),
        (&every, json!({ "X-TENANT-ID": "foo" }), json!(["foo", ["_", "foo"], null])),
        (&every, json!({ "X-Tenant-ID": "*" }), json!(["_", ["*"], null])),
    ] {
        let answer = verify(&server, "", &described(token, headers.clone()));
        assert_eq!(tenancy(&answer), expected, "{headers}");
        assert_eq!(answer.json()["allowed"], true);
    }
    // The API key decides before the token, whether it is right or wrong.
    for key in [API_KEY, "wrong"] {
        let answer = verify(&server, "", &described(&every, json!({ "X-API-Key": key })));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("credential_conflict")));
        assert!(!answer.body.contains(key), "{answer:?}");
    }
}

fn verify_refuses_tenants_with_a_stable_code(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), TenantProvider::start());
    let server = sandbox.serve(&configuration(&provider, "", ""));
    let of_foo = json!({ "tenant_id": "foo", "username": "alice" });
    for (claim, headers, code) in [
        (Value::Null, json!({}), "tenant_claim_null"),
        (json!("foo"), json!({}), "tenant_claim_format"),
        (json!({ "tenant_id": "a::b" }), json!({}), "tenant_claim_format"),
        (json!({ "tenant_id": "*:x" }), json!({}), "tenant_claim_format"),
        (json!({ "tenant_id": "" }), json!({}), "tenant_empty"),
        (json!({ "username": "alice" }), json!({}), "tenant_empty"),
        (of_foo.clone(), json!({ "X-Tenant-ID": "bar" }), "tenant_forbidden"),
        (of_foo.clone(), json!({ "X-Tenant-ID": "*" }), "tenant_forbidden"),
        (of_foo.clone(), json!({ "X-Username": "alice" }), "username_forbidden"),
    ] {
        let token = provider.token_with(claim.clone(), &[]);
        for _ in 0..2 {
            let answer = verify(&server, "", &described(&token, headers.clone()));
            let problem = answer.json();
            assert_eq!((answer.status, &problem["code"]), (401, &json!(code)), "{claim} {headers}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
            assert_eq!(problem.get("tenant"), None);
        }
    }
    let without = provider.token_with(of_foo, &[(NAMESPACE, Value::Null)]);
    let answer = verify(&server, "", &json!({ "token": without }));
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("tenant_claim_missing")));
    // As `/auth`, the surface demands that a token names its key.
    let late =
        provider.token_with(json!({ "tenant_id": "foo" }), &[("iat", json!(4_000_000_000u64))]);
    assert_eq!(verify(&server, "", &json!({ "token": late })).json()["code"], "iat_future");
    assert_eq!(server.auth(&late).status, 401);
}

#[test]
fn verify_has_no_tenant_on_other_surfaces() {
    let (sandbox, provider) = (Sandbox::new(), TenantProvider::start());
    let text = configuration(&provider, "", "[listener_tier]\nbind=127.0.0.1:0\n");
    let (first, tier) = text.split_once("[listener_tier]").unwrap();
    let first = first.replace("surface=orchestrate", "surface=generic");
    let server = sandbox.serve(&format!("{first}[listener_tier]\nsurface=orchestrate{tier}"));
    let token = provider.token("foo");
    let body = described(&token, json!({ "X-Tenant-ID": "bar", "X-API-Key": "wrong" }));
    let answer = verify(&server, "", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!((answer.get("tenant"), answer.get("allowed_tenants")), (None, None));
}
