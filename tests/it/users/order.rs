use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::{Value, json};

use super::{Api, ENVIRONMENT, OTHER, PASSWORD, assert_done, configuration, data, refused};
use crate::fixture;

over_every_protocol!(
    invalid_token_is_refused_on_open_calls,
    checks_run_in_the_order_of_the_real_system,
    environment_token_is_limited_to_its_environment,
    calls_require_their_client_types,
    invalid_arguments_are_refused,
    without_authentication_calls_are_read_only,
    cors_and_allowed_methods_are_answered,
);

const UNAUTHORIZED: &str = "Access to this resource is unauthorized";
const UNREADABLE: &str = "Access denied: Unable to decode provided JWT bearer token.";
const SCOPED: &str = "The authorization token is scoped to a specific environment.";
const ELSEWHERE: &str = "The authorization token is not valid for the requested environment.";

/// Returns every call with its arguments.
fn calls() -> Vec<(&'static str, Value)> {
    let user = json!({ "username": "bob", "password": PASSWORD });
    let assignment = json!({ "environment": ENVIRONMENT, "role": "noc" });
    let token = json!({ "client_types": ["api"] });
    vec![
        ("POST /login", user.clone()),
        ("POST /login/renew", json!({})),
        ("POST /logout", json!({})),
        ("GET /user", Value::Null),
        ("POST /user", user),
        ("DELETE /user/bob", Value::Null),
        ("PATCH /user/bob/password", json!({ "password": PASSWORD })),
        ("GET /current_user", Value::Null),
        ("PATCH /is_admin", json!({ "username": "bob", "is_admin": true })),
        ("GET /role", Value::Null),
        ("POST /role", json!({ "name": "noc" })),
        ("DELETE /role?name=noc", Value::Null),
        ("GET /role_assignment/bob", Value::Null),
        ("POST /role_assignment/bob", assignment),
        (
            "DELETE /role_assignment/bob?environment=11111111-1111-1111-1111-111111111111&role=noc",
            Value::Null,
        ),
        ("POST /api/v1/environment_auth", token.clone()),
        ("POST /environment_auth", token),
        ("GET /environment_auth", Value::Null),
        ("DELETE /environment_auth/11111111-1111-1111-1111-111111111111", Value::Null),
        ("GET /project", Value::Null),
        ("PUT /project", json!({ "name": "lab" })),
        ("GET /api/v1/project/11111111-1111-1111-1111-111111111111", Value::Null),
        ("DELETE /project/11111111-1111-1111-1111-111111111111", Value::Null),
        ("GET /environment_settings", Value::Null),
        ("GET /api/v1/serverstatus", Value::Null),
        ("GET /docs", Value::Null),
        ("GET /api/v1/environment", Value::Null),
        ("GET /environment", Value::Null),
        ("GET /environment/11111111-1111-1111-1111-111111111111", Value::Null),
        ("PUT /environment", json!({ "name": "prod", "project_id": OTHER })),
        ("DELETE /environment/11111111-1111-1111-1111-111111111111", Value::Null),
    ]
}

fn send_call(api: &Api<'_>, call: &str, body: &Value) -> countersign_tests::http::Response {
    if body.is_null() { api.ask(call) } else { api.send(call, body.clone()) }
}

fn invalid_token_is_refused_on_open_calls(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let (bad, anonymous) = (
        Api::bearing(&server, "abc").within(ENVIRONMENT),
        Api::anonymous(&server).within(ENVIRONMENT),
    );
    for (call, body) in calls() {
        let answer = send_call(&bad, call, &body);
        assert_eq!(
            (answer.status, answer.json()),
            (403, json!({ "message": UNREADABLE })),
            "{call}"
        );
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer error=\"invalid_token\""),
            "{call}"
        );
        let expected =
            if call == "POST /login" { "Invalid username or password" } else { UNAUTHORIZED };
        refused(&send_call(&anonymous, call, &body), 401, expected);
    }
    assert_eq!(data(&Api::root(&server).ask("GET /user")), json!([]), "no call had an effect");
    let twice = Api::bearing(&server, "abc").with("Authorization: Bearer abc").ask("GET /user");
    assert_eq!(
        (twice.status, twice.json()["message"].as_str().unwrap().contains("two credentials")),
        (401, true)
    );
    let other_scheme = Api::anonymous(&server).with("Authorization: Basic abc").ask("GET /user");
    refused(&other_scheme, 401, UNAUTHORIZED);
}

fn scoped(environment: &str, client_types: &str) -> String {
    fixture::token(&fixture::claims(
        json!({ "urn:inmanta:env": environment, "urn:inmanta:ct": client_types }),
    ))
}

fn checks_run_in_the_order_of_the_real_system(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_environment(ENVIRONMENT);
    let token = scoped(OTHER, "api");
    let (anonymous, bearer) = (Api::anonymous(&server), Api::bearing(&server, &token));
    // 401 precedes 400, and 400 precedes 403.
    refused(&anonymous.send("POST /user", json!({})), 401, UNAUTHORIZED);
    refused(&bearer.send("POST /user", json!({})), 400, "Field 'username' is required.");
    refused(
        &bearer.send("POST /user", json!({ "username": "bob", "password": PASSWORD })),
        403,
        SCOPED,
    );
    // 400 precedes 404, and 404 precedes 403.
    let list =
        |api: &Api<'_>, environment: &str| api.within(environment).ask("GET /environment_auth");
    refused(&list(&anonymous, OTHER), 401, UNAUTHORIZED);
    refused(&bearer.ask("GET /environment_auth"), 400, "Field 'tid' is required.");
    refused(
        &list(&bearer, "no-uuid"),
        400,
        "Failed to validate argument\n1 validation error for \
         environment_token_list_arguments\ntid\n  Input should be a valid UUID, invalid character: \
         found `n` at 0",
    );
    refused(&list(&bearer, OTHER), 404, "The given environment id does not exist!");
    refused(&list(&bearer, ENVIRONMENT), 403, ELSEWHERE);
    let twice = bearer.within(ENVIRONMENT).within(OTHER).ask("GET /environment_auth");
    refused(&twice, 400, "X-Inmanta-tid is given twice");
}

fn environment_token_is_limited_to_its_environment(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    for environment in [ENVIRONMENT, OTHER] {
        root.add_environment(environment);
    }
    let token = scoped(ENVIRONMENT, "api");
    let bearer = Api::bearing(&server, &token);
    let list = |environment: &str| bearer.within(environment).ask("GET /environment_auth");
    assert_eq!(data(&list(ENVIRONMENT)), json!([]));
    refused(&list(OTHER), 403, ELSEWHERE);
    assert_eq!(bearer.ask(&format!("GET /environment/{ENVIRONMENT}")).status, 200);
    refused(&bearer.ask(&format!("DELETE /environment/{OTHER}")), 403, ELSEWHERE);
    for call in ["GET /user", "GET /environment", "GET /current_user", "POST /login/renew"] {
        refused(&bearer.ask(call), 403, SCOPED);
    }
    // The environment is checked before the client types.
    let agent = scoped(ENVIRONMENT, "agent");
    refused(&Api::bearing(&server, &agent).ask("GET /user"), 403, SCOPED);
}

fn calls_require_their_client_types(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    Api::root(&server).add_environment(ENVIRONMENT);
    let bearer = |client_types: Value| {
        let token = fixture::token(&fixture::claims(json!({ "urn:inmanta:ct": client_types })));
        Api::bearing(&server, &token).within(ENVIRONMENT)
    };
    let text = |provided: &str, expected: &str| {
        format!(
            "The authorization token does not have a valid client type for this call. \
             ([{provided}] provided, [{expected}] expected)"
        )
    };
    let (api, compiler) = ("<ClientType.api: 'api'>", "<ClientType.compiler: 'compiler'>");
    refused(
        &bearer(json!("agent,compiler")).ask("GET /user"),
        403,
        &text("'agent', 'compiler'", api),
    );
    let issue = json!({ "client_types": ["api"], "idempotent": true });
    let answer = bearer(json!("agent")).send("POST /environment_auth", issue);
    refused(&answer, 403, &text("'agent'", &format!("{api}, {compiler}")));
    let agent = json!({ "client_types": ["agent"] });
    assert_eq!(bearer(json!("compiler")).send("POST /environment_auth", agent).status, 200);
    refused(&bearer(json!("compiler")).ask("GET /environment_auth"), 403, &text("'compiler'", api));
    for client_types in [json!("agent, api"), json!(["compiler", "api"]), Value::Null] {
        assert_eq!(bearer(client_types).ask("GET /environment_auth").status, 200);
    }
}

fn invalid_arguments_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    for (call, body, text) in [
        ("POST /login", r#"{"username":"bob"}"#, "Field 'password' is required."),
        (
            "POST /login",
            r#"{"username":"bob","password":5}"#,
            "Failed to validate argument\n1 validation error for login_arguments\npassword\n  \
             Input should be a valid string",
        ),
        (
            "POST /login",
            r#"{"username":null,"password":"x"}"#,
            "Failed to validate argument\n1 validation error for login_arguments\nusername\n  \
             Input should be a valid string",
        ),
        (
            "POST /user",
            r#"{"username":"bob","password":"12345678","is_admin":true}"#,
            "request contains fields {'is_admin'} that are not declared in method and no kwargs \
             argument is provided.",
        ),
        ("POST /user", r#"["bob"]"#, "the body is not a JSON object"),
        ("POST /role", "", "Field 'name' is required."),
        ("POST /role", "null", "Field 'name' is required."),
        (
            "DELETE /user/bob",
            "{}",
            "the call has a body: a DELETE call has its arguments in the query",
        ),
        (
            "POST /role?name=noc",
            "{}",
            "the argument name is in the query: a POST call has its arguments in the body",
        ),
        (
            "PATCH /user/bob/password",
            r#"{"username":"eve","password":"12345678"}"#,
            "the argument username is not the same as in the path",
        ),
        (
            "PATCH /is_admin",
            r#"{"username":"bob","is_admin":"true"}"#,
            "Failed to validate argument\n1 validation error for \
             set_is_admin_arguments\nis_admin\n  Input should be a valid boolean",
        ),
        ("PATCH /is_admin", r#"{"username":"bob"}"#, "Field 'is_admin' is required."),
        (
            "POST /role_assignment/bob",
            r#"{"environment":"prod","role":"noc"}"#,
            "Failed to validate argument\n1 validation error for \
             assign_role_arguments\nenvironment\n  Input should be a valid UUID, invalid \
             character: found `p` at 0",
        ),
        ("DELETE /role", "", "Field 'name' is required."),
        ("DELETE /role?name=a&name=b", "", "the argument name is given twice"),
        (
            "GET /role?nam=a",
            "",
            "request contains fields {'nam'} that are not declared in method and no kwargs \
             argument is provided.",
        ),
        (
            "PUT /environment",
            r#"{"name":"prod","project_id":"22222222-2222-2222-2222-222222222222","environment_id":"1"}"#,
            "Failed to validate argument\n1 validation error for \
             environment_create_arguments\nenvironment_id\n  Input should be a valid UUID, invalid \
             length: found 1",
        ),
        (
            "GET /environment/prod",
            "",
            "Failed to validate argument\n1 validation error for environment_get_arguments\nid\n  \
             Input should be a valid UUID, invalid character: found `p` at 0",
        ),
    ] {
        refused(&root.send_raw(call, body), 400, text);
    }
    for body in [r#"{"username":"bob","#, "name=noc", "{} {}"] {
        let answer = root.send_raw("POST /user", body);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        let text = "The request body couldn't be decoded as a JSON: line 1 column ";
        assert!(answer.status == 400 && message.starts_with(text), "{answer:?}");
    }
    let twice = root.send_raw("POST /role", r#"{"name":"a","name":"b"}"#);
    refused(&twice, 400, "the argument name is given twice");
    for call in [
        "GET /users",
        "GET /api/v1/user",
        "POST /role/",
        "GET /user/bob/password/x",
        "GET /api/v2/",
    ] {
        assert_eq!(root.ask(call).status, 404, "{call}");
    }
    assert_eq!(
        (data(&root.ask("GET /user")), data(&root.ask("GET /role"))),
        (json!([]), json!([]))
    );
}

fn without_authentication_calls_are_read_only(protocol: Protocol) {
    const OFF: &str = "Server authentication should be enabled. To setup the initial user use the \
         inmanta-initial-user-setup tool.";
    const NO_TOKEN: &str = "Authentication is disabled, generating a token is not allowed";
    let sandbox = Sandbox::over(protocol);
    Api::root(&sandbox.serve(&configuration(""))).add_environment(ENVIRONMENT);
    let server = sandbox.serve(&format!("{}[server]\nauth=false\n", fixture::SIGNING));
    let client = Api::bearing(&server, "abc").within(ENVIRONMENT);
    for (call, body) in calls() {
        let answer = send_call(&client, call, &body);
        match call {
            "GET /user" => assert_eq!(data(&answer), json!([])),
            "GET /role" => assert_eq!(data(&answer), json!([])),
            "GET /current_user" => {
                refused(&answer, 404, "No current user found, probably an API token is used.")
            }
            _ if call.starts_with("GET ") => {}
            "POST /environment_auth" | "POST /api/v1/environment_auth" => {
                refused(&answer, 400, NO_TOKEN);
            }
            _ => refused(&answer, 400, OFF),
        }
    }
    assert_eq!(server.auth("abc").status, 401, "/auth always verifies");
}

fn cors_and_allowed_methods_are_answered(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server =
        sandbox.serve(&configuration("access-control-allow-origin=https://console.example\n"));
    let anonymous = Api::anonymous(&server);
    let preflight = anonymous.ask("OPTIONS /login");
    assert_done(&preflight);
    let allowed = "Origin, Accept, Content-Type, X-Requested-With, X-CSRF-Token, X-Inmanta-tid, \
         Authorization";
    assert_eq!(preflight.header("access-control-allow-headers"), Some(allowed));
    let methods = "HEAD, GET, POST, PUT, OPTIONS, DELETE, PATCH";
    assert_eq!(preflight.header("access-control-allow-methods"), Some(methods));
    for (call, allowed) in [
        ("PUT /role", "GET, POST, DELETE"),
        ("GET /login", "POST"),
        ("POST /user/bob", "DELETE"),
        ("HEAD /is_admin", "PATCH"),
        ("GET /api/v1/environment_auth", "POST"),
    ] {
        let answer = anonymous.ask(call);
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{call}");
        if !call.starts_with("HEAD") {
            assert_eq!(
                answer.json(),
                json!({ "message": format!("this call is made by {allowed}") })
            );
        }
    }
    for call in ["OPTIONS /user", "GET /user", "GET /nothing", "PUT /role"] {
        assert_eq!(
            anonymous.ask(call).header("access-control-allow-origin"),
            Some("https://console.example"),
            "{call}"
        );
    }
    let with_token = Api::root(&server).ask("GET /user");
    assert_eq!(with_token.header("access-control-allow-origin"), Some("https://console.example"));
}
