use countersign_tests::binary::Sandbox;
use serde_json::{Value, json};

use super::{ask, bearer, described, token};

#[test]
fn imported_openapi_document_is_an_endpoint_file() {
    let sandbox = Sandbox::new();
    let document = json!({
        "openapi": "3.0.3",
        "servers": [{"url": "/v1"}],
        "paths": {"/orders/{id}": {
            "get": {"x-client-types": ["agent"]},
            "delete": {"x-environment-param": "id"},
        }},
    });
    sandbox.file("openapi.json", document.to_string());
    let output = sandbox.run(["endpoints", "import", "openapi.json"]);
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""));
    let endpoints: Value = serde_json::from_str(&output.stdout).unwrap();
    let delete = &endpoints["endpoints"]["DELETE /v1/orders/<id>"];
    assert_eq!((&delete["environment_param"], &delete["read_only"]), (&json!("id"), &json!(false)));
    assert!(
        output.stdout.starts_with("{\n    \"endpoints\": {\n        \"DELETE /v1/orders/<id>\"")
    );

    sandbox.file("endpoints.json", &output.stdout);
    let server =
        sandbox.serve(&described("authorization=legacy", "[endpoints]\nfile=endpoints.json\n"));
    let order = |client_types: &str| {
        let token = token(json!({ "urn:inmanta:ct": client_types }));
        ask(&server, ("GET", "/v1/orders/7"), &bearer(&token)).status
    };
    assert_eq!((order("agent"), order("api")), (200, 403));
    let changed = output.stdout.replace("\"agent\"", "\"api\"");
    server.reload_after(|| drop(sandbox.replace("endpoints.json", &changed)));
    assert_eq!((order("agent"), order("api")), (403, 200), "a changed file is read again");
    let log = server.reload_after(|| drop(sandbox.replace("endpoints.json", "{")));
    assert!(log.contains("endpoints.json") && log.contains("continuing with the present one"));
    assert_eq!((order("agent"), order("api")), (403, 200));
}

#[test]
fn import_errors_name_place_and_remedy() {
    let sandbox = Sandbox::new();
    for (text, expected) in [
        ("openapi: 3.1.0\n", "convert a document in YAML to JSON first"),
        (r#"{"openapi": "2.0"}"#, "not an OpenAPI document of version 3"),
        (
            r##"{"openapi": "3.1.0", "paths": {"/x": {"get": {"parameters": [{"$ref": "#/no"}]}}}}"##,
            "GET /x: the reference \"#/no\" leads outside the document",
        ),
    ] {
        sandbox.replace("openapi.json", text);
        let output = sandbox.run(["endpoints", "import", "openapi.json"]);
        assert_eq!((output.code(), output.stdout.as_str()), (1, ""));
        assert!(output.stderr.contains("cannot import openapi.json"), "{}", output.stderr);
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
    assert_eq!(sandbox.run(["endpoints", "import", "missing.json"]).code(), 1);
}

#[test]
fn endpoint_file_mistake_refuses_to_start() {
    let sandbox = Sandbox::new();
    sandbox.file("endpoints.json", r#"{"GET /x": {"client_types": ["api"]}}"#);
    let configuration = described("authorization=legacy", "[endpoints]\nfile=endpoints.json\n");
    sandbox.file("server.cfg", configuration);
    let output = sandbox.run(["config", "check", "--config", "server.cfg"]);
    assert_eq!(output.code(), 2);
    assert!(
        output.stderr.contains("endpoints.json: endpoint GET /x: missing field"),
        "{}",
        output.stderr
    );
}
