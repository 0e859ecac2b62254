use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol, shared};
use serde_json::{Value, json};

use crate::fixture;

over_every_protocol!(
    health_is_open_but_validates_a_token,
    health_ignores_tokens_with_authentication_off,
    rejected_token_status_can_be_401,
);

/// The time of the recordings.
const RECORDED: &str = "1700000000";

#[test]
fn recorded_tokens_get_the_recorded_answers() {
    let Some(recording) = shared::json("compat/inmanta_decode_cases.json") else { return };
    let sandbox = Sandbox::new();
    let jwks = sandbox.file("jwks.json", recording["jwks"].to_string());
    let mut text = String::new();
    for (section, options) in recording["config"].as_object().unwrap() {
        text += &format!("[{section}]\n");
        for (option, value) in options.as_object().unwrap() {
            text += &format!("{option}={}\n", value.as_str().unwrap());
        }
        if section == "auth_jwt_oidc" {
            text += &format!("jwks_uri=file://{}\n", jwks.display());
        }
    }
    let config = sandbox.file("c.cfg", text);
    let cases = recording["cases"].as_array().unwrap();
    let tokens: String =
        cases.iter().map(|case| format!("{}\n", case["token"].as_str().unwrap())).collect();
    let output = sandbox.run_with_input(
        [
            "token",
            "verify",
            "--surface",
            "inmanta",
            "--now",
            RECORDED,
            "-c",
            config.to_str().unwrap(),
        ],
        tokens,
    );
    let answers = output.json_lines();
    assert_eq!(answers.len(), cases.len());
    for (case, answer) in cases.iter().zip(&answers) {
        compare(case, answer, &recording["decided"]);
    }
}

fn compare(case: &Value, answer: &Value, decided: &Value) {
    let name = case["name"].as_str().unwrap();
    let accepted = |claims: Value| json!({ "ok": true, "section": case["section"], "username": case["username"], "claims": claims });
    match (&decided[name], name) {
        (Value::Number(status), _) => {
            assert_eq!(
                (&answer["ok"], &answer["status"]),
                (&json!(false), &json!(status)),
                "{name}: {answer}"
            );
        }
        (Value::String(_), name) => {
            let mut claims = case["claims"].clone();
            claims["urn:inmanta:ct"] =
                if name == "ct list1" { json!(["api"]) } else { json!(["api", "agent"]) };
            assert_eq!(answer, &accepted(claims), "{name}");
        }
        _ if case["status"] == 200 => {
            assert_eq!(answer, &accepted(case["claims"].clone()), "{name}")
        }
        _ => {
            assert_eq!(answer["status"], case["status"], "{name}: {answer}");
            assert_eq!(answer["message"], case["body"]["message"], "{name}: {answer}");
            assert!(answer["code"].is_string(), "{name}: {answer}");
        }
    }
}

fn health_is_open_but_validates_a_token(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!(
        "{}[server]\nauth=true\naccess-control-allow-origin=*\n",
        fixture::SIGNING
    ));
    let health = |lines: &str| server.request(&format!("GET /api/v2/health HTTP/1.1\r\n{lines}"));
    let answer = health("");
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"data":null}"#));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let preflight = server.request("OPTIONS /api/v2/health HTTP/1.1\r\n");
    assert!(
        preflight.status == 200
            && preflight
                .header("access-control-allow-headers")
                .unwrap()
                .ends_with("X-Inmanta-tid, Authorization")
    );
    assert_eq!(health(&format!("Authorization: Bearer {}\r\n", fixture::good_token())).status, 200);
    let refused = health("Authorization: Bearer abc\r\n");
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.json(),
        json!({ "message": "Access denied: Unable to decode provided JWT bearer token." })
    );
    assert!(
        refused.header("www-authenticate").unwrap().starts_with("Bearer error=\"invalid_token\"")
    );
}

fn health_ignores_tokens_with_authentication_off(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&format!("{}[server]\nauth=false\n", fixture::SIGNING));
    assert_eq!(
        server.request("GET /api/v2/health HTTP/1.1\r\nAuthorization: Bearer abc\r\n").status,
        200
    );
    assert_eq!(server.auth("abc").status, 401, "/auth always verifies");
}

fn rejected_token_status_can_be_401(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox
        .serve(&format!("{}[server]\nauth=true\nrejected_token_status=401\n", fixture::SIGNING));
    let refused = server.request("GET /api/v2/health HTTP/1.1\r\nAuthorization: Bearer abc\r\n");
    assert_eq!(
        (refused.status, refused.json()["message"].as_str().unwrap().starts_with("Access denied")),
        (401, true)
    );
}

#[test]
fn c43_client_types_outside_the_section_are_refused() {
    let sandbox = Sandbox::new();
    let agents = fixture::SIGNING.replace("agent,compiler,api", "agent,compiler");
    let verdict = |options: &str, claims: Value| {
        let config = sandbox.file("c.cfg", format!("{agents}{options}"));
        let token = fixture::token(&fixture::claims(claims));
        sandbox
            .run_with_input(
                ["token", "verify", "--surface", "inmanta", "-c", config.to_str().unwrap()],
                token,
            )
            .json_lines()[0]["code"]
            .clone()
    };
    assert_eq!(verdict("", json!({ "urn:inmanta:ct": "agent" })), Value::Null);
    assert_eq!(verdict("", json!({ "urn:inmanta:ct": "agent,api" })), "client_types");
    assert_eq!(verdict("", json!({})), "client_types", "the default is api");
    assert_eq!(verdict("enforce_client_types=false\n", json!({})), Value::Null);
    assert_eq!(verdict("legacy_require_client_type=true\n", json!({})), "client_types_missing");
    assert_eq!(
        verdict("", json!({ ":urn:inmanta:ct": "agent" })),
        "client_types",
        "the name with a leading colon is another claim"
    );
}
