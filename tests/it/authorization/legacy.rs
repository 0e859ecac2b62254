use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::json;

use super::{ask, bearer, described, status, token};
use crate::users::{Api, configuration, refused};

over_every_protocol!(legacy_reads_the_environment_from_path_and_header);

const ENDPOINTS: &str = r#"{"endpoints": {
    "GET /env/<id>": {"client_types": ["api", "agent"], "auth_label": "env.read",
        "read_only": true, "environment_param": "id"},
    "GET /things": {"client_types": ["api", "compiler"], "auth_label": "thing.read",
        "read_only": true, "environment_param": "X-Inmanta-tid"},
    "POST /global": {"client_types": ["api"], "auth_label": "global.write",
        "read_only": false, "environment_param": null},
    "GET /report": {"client_types": ["compiler"], "auth_label": "report.read", "read_only": true,
        "environment_param": "environment", "allow_env_scoped_tokens": true},
    "GET /api/v1/file/<id>": {"client_types": ["agent"], "auth_label": "file.read",
        "read_only": true, "environment_param": null}
}}"#;

const E1: &str = "11111111-1111-1111-1111-111111111111";
const E2: &str = "22222222-2222-2222-2222-222222222222";

fn legacy(sandbox: &Sandbox, listen: &str) -> String {
    sandbox.file("endpoints.json", ENDPOINTS);
    described(&format!("authorization=legacy\n{listen}"), "[endpoints]\nfile=endpoints.json")
}

#[test]
fn legacy_decides_alike_on_every_surface() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&legacy(&sandbox, "protocols=http/1.1, h2"));
    let of = |client_types: &str, environment: Option<&str>| {
        token(json!({ "urn:inmanta:ct": client_types, "urn:inmanta:env": environment }))
    };
    let (env1, env2) = (format!("/env/{E1}"), format!("/env/{E2}"));
    let report = format!("/report?environment={E2}");
    for (request, token, expected) in [
        (("GET", env1.as_str()), of("api", None), 200),
        (("HEAD", &env1), of("api", None), 200),
        (("GET", &env1), of("agent", Some(E1)), 200),
        (("GET", &env1), of("compiler,agent", Some(E1)), 200),
        (("GET", &env1), of("compiler", Some(E1)), 403),
        (("GET", &env2), of("agent", Some(E1)), 403),
        (("POST", "/global"), of("api", None), 200),
        (("POST", "/global"), of("agent", None), 403),
        (("POST", "/global"), of("api", Some(E1)), 403),
        (("GET", &report), of("agent", Some(E1)), 200),
        (("GET", &report), of("agent", None), 403),
        (("GET", "/api/v1/file/x"), of("agent", Some(E1)), 200),
        (("GET", "/api/v1/file/x"), of("api", Some(E1)), 403),
        (("GET", "/things"), of("api", Some(E1)), 403),
        // Unknown endpoints.
        (("DELETE", &env1), of("api", None), 403),
        (("GET", "/other"), of("api", None), 403),
        (("GET", "//things"), of("api", None), 403),
    ] {
        assert_eq!(status(&server, request, &token), expected, "{request:?}");
    }
}

fn legacy_reads_the_environment_from_path_and_header(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&legacy(&sandbox, ""));
    let of_e1 = bearer(&token(json!({ "urn:inmanta:ct": "compiler", "urn:inmanta:env": E1 })));
    let things = |lines: &str| ask(&server, ("GET", "/things"), &format!("{lines}{of_e1}")).status;
    assert_eq!(things(&format!("X-Inmanta-tid: {E1}\r\n")), 200);
    assert_eq!(things(&format!("X-Inmanta-tid: {}\r\n", E1.to_uppercase())), 200);
    assert_eq!(things(""), 403);
    assert_eq!(things(&format!("X-Inmanta-tid: {E2}\r\n")), 403);
    assert_eq!(things(&format!("X-Inmanta-tid: {E1}\r\nX-Inmanta-tid: {E2}\r\n")), 403);
    let by_query = ("GET", "/things?X-Inmanta-tid=22222222-2222-2222-2222-222222222222");
    let both = format!("X-Inmanta-tid: {E1}\r\n{of_e1}");
    assert_eq!(ask(&server, by_query, &both).status, 403, "two environments");
}

#[test]
fn legacy_messages_are_those_of_the_inmanta_server() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let bearing = |claims| {
        let token = token(claims);
        move |call: &'static str| Api::bearing(&server, &token).ask(call)
    };
    let agent = bearing(json!({ "urn:inmanta:ct": "agent" }));
    refused(
        &agent("GET /user"),
        403,
        "The authorization token does not have a valid client type for this call. (['agent'] \
         provided, [<ClientType.api: 'api'>] expected)",
    );
}
