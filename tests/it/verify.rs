use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    http::Response,
    over_every_protocol,
};
use serde_json::json;

use crate::fixture::{self, SIGNING};

/// `POST /v1/verify/batch`.
mod batch;

over_every_protocol!(
    verify_returns_all_claims_for_each_encoding,
    claims_are_returned_as_they_were_signed,
    verify_answers_a_bad_token_with_a_problem,
    verify_limits_the_body_to_the_token_size,
    verify_without_a_token_is_a_bad_request,
);

fn post(server: &Server<'_>, lines: &str, body: &str) -> Response {
    server.send(&format!("POST /v1/verify HTTP/1.1\r\n{lines}"), body.as_bytes())
}

fn verify_returns_all_claims_for_each_encoding(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let token = fixture::token(&fixture::claims(json!({ "level": 7, "urn:inmanta:env": "e1" })));
    let json_body = json!({ "token": token }).to_string();
    let answers = [
        post(&server, "Content-Type: application/json\r\n", &json_body),
        post(&server, "Content-Type: application/x-www-form-urlencoded\r\n", &json_body),
        post(&server, "", &format!("hint=access_token&token={}", token.replace('.', "%2E"))),
        post(&server, "Content-Type: application/jwt\r\n", &token),
        post(&server, &format!("Authorization: Bearer {token}\r\n"), ""),
    ];
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(
            answer.json(),
            json!({
                "ok": true,
                "section": "auth_jwt_default",
                "issuer": fixture::ISSUER,
                "subject": "bob",
                "username": "bob",
                "client_types": ["api"],
                "environment": "e1",
                "expires_at": 4_102_444_800u64,
                "claims": { "iss": fixture::ISSUER, "aud": [fixture::ISSUER], "sub": "bob", "exp": 4_102_444_800u64, "level": 7, "urn:inmanta:env": "e1" },
            })
        );
    }
}

fn claims_are_returned_as_they_were_signed(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let numbers = r#""id":123456789012345678901234567890,"x":[1e400, {"y":-1E+999}],"z":1.50"#;
    let answer = post(&server, "", &fixture::token_with_members(numbers));
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains(numbers), "{}", answer.body);
    let late = fixture::token_with_members(r#""nbf":1e400"#);
    assert_eq!(post(&server, "", &late).json()["code"], "nbf_format");
}

fn verify_answers_a_bad_token_with_a_problem(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    let expired = fixture::token(&fixture::claims(json!({ "exp": 1 })));
    let answer = post(&server, "", &json!({ "token": expired }).to_string());
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"));
    let problem = answer.json();
    assert_eq!((&problem["code"], &problem["status"]), (&json!("expired"), &json!(401)));
    assert_eq!(post(&server, "", &json!({ "token": "" }).to_string()).json()["code"], "segments");
    assert_eq!(post(&server, "", "not-a-token").json()["code"], "segments");
}

fn verify_limits_the_body_to_the_token_size(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(SIGNING);
    assert_eq!(post(&server, "", &"a".repeat(65_536)).json()["code"], "too_long");
    assert_eq!(
        post(&server, "", &"a".repeat(65_537)).status,
        413,
        "independent of max_request_body_size"
    );
}

fn verify_without_a_token_is_a_bad_request(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{SIGNING}[server]\nmax_request_body_size=1000\n"));
    for (body, status, code) in [
        ("", 400, "token_missing"),
        ("{}", 400, "token_missing"),
        ("{\"token\":null}", 400, "token_missing"),
        ("{\"token\":5}", 400, "body"),
        ("{", 400, "body"),
        ("{\"token\":\"a\",\"token\":\"b\"}", 400, "body"),
        ("x=1&y=2", 400, "token_missing"),
        ("token=a&token=b", 400, "credential_conflict"),
    ] {
        let answer = post(&server, "", body);
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{body:?}");
    }
    let large = post(&server, "", &"a".repeat(1001));
    assert_eq!((large.status, &large.json()["code"]), (413, &json!("body_too_large")));
    let metrics = server.operations("/metrics").body;
    assert!(
        metrics.contains("countersign_verifications_total{outcome=\"conflict\",code=\"\"} 1\n"),
        "{metrics}"
    );
    let wrong_method = server.request("GET /v1/verify HTTP/1.1\r\n");
    assert_eq!((wrong_method.status, wrong_method.header("allow")), (405, Some("POST")));
}
