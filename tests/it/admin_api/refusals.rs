use std::os::unix::net::UnixStream;

use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    http::Connection,
    openssl::SigningKey,
    over_every_protocol,
};
use serde_json::{Value, json};

use super::{
    AdminApi, assert_problem,
    document::{ApiDocument, ApiTarget},
};
use crate::{
    fixture::{DEFAULT_POLICY, SIGNING, claims_of, issuer_section, key_set, policy_engine},
    orchestrate::tier::API_KEY,
    users::{Api, ENVIRONMENT, OTHER, claims, configuration, session_of},
};

over_every_protocol!(
    users_are_refused_without_a_hint,
    scoped_tokens_stay_in_their_environment,
    tokens_of_machine_identities_are_refused,
    tenants_read_no_more_than_by_other_calls,
    api_is_on_listeners_with_all_routes,
    refusals_before_a_call_are_problems,
);

/// Fills a server with one of each resource, and returns them.
fn filled(server: &Server<'_>) -> ApiTarget {
    let (api, root) = (Api::root(server), AdminApi::root(server));
    api.add_environment(ENVIRONMENT);
    api.add_environment(OTHER);
    let target = ApiTarget::example();
    api.add_user(&target.username);
    // With the access policy, the server has this role from its start.
    root.send("POST /roles", json!({ "name": target.role }));
    let assignment = format!("PUT /users/bob/roles/{ENVIRONMENT}/{}", target.role);
    assert_eq!(root.ask(&assignment).status, 204);
    let jti = claims(&api.issue(ENVIRONMENT))["jti"].as_str().unwrap().to_owned();
    let organizations = api.ask("GET /api/v1/organization").json();
    let organization = &organizations["organizations"][0]["id"];
    let new = json!({ "name": "build", "organizationId": organization });
    let created = api.send("POST /api/v1/identities", new).json();
    let id = created["identity"]["id"].as_str().unwrap().to_owned();
    ApiTarget { jti, id, ..target }
}

/// Returns names and ids that a server does not have.
fn missing() -> ApiTarget {
    let id = "33333333-3333-3333-3333-333333333333";
    ApiTarget {
        username: "nemo".into(),
        role: "nothing".into(),
        environment: id.into(),
        jti: id.into(),
        id: id.into(),
        section: "auth_jwt_nothing".into(),
    }
}

/// Returns the sorted ids of the calls that a token may make. All others are refused, in the same words
/// for targets that exist and for those that do not.
fn allowed(server: &Server<'_>, token: &str, targets: &[ApiTarget]) -> Vec<String> {
    let api = AdminApi { server, token: token.to_owned() };
    let document = ApiDocument::of(&api);
    let mut allowed = Vec::new();
    for operation in document.operations().iter().filter(|one| one.needs_token) {
        let body = document.body(operation);
        let answers = targets.iter().map(|target| {
            let answer = api.call(&target.call(operation), "", &body);
            (answer.status, answer.body)
        });
        let answers: Vec<_> = answers.collect();
        if answers[0].0 != 403 {
            allowed.push(operation.id.clone());
            continue;
        }
        let problem: Value = serde_json::from_str(&answers[0].1).unwrap();
        assert_eq!(problem["code"], "not_authorized", "{operation:?}");
        assert!(answers.iter().all(|one| *one == answers[0]), "{operation:?}: {answers:?}");
    }
    allowed.sort();
    allowed
}

fn users_are_refused_without_a_hint(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let policy = policy_engine(DEFAULT_POLICY);
    let options =
        format!("authorization-provider=policy-engine\n[identities]\nenabled=true\n{policy}");
    let server = sandbox.serve(&configuration(&options));
    let targets = [filled(&server), missing()];
    // The policy lets every user read what is outside environments.
    let allowed = allowed(&server, &session_of("eve", false), &targets);
    let reads = ["GetIssuer", "GetOverview", "GetRole", "GetUser", "ListAssignments"];
    let lists = ["ListEnvironments", "ListIssuers", "ListRoles", "ListUsers"];
    assert_eq!(allowed, [&reads[..], &lists].concat());
    let untouched = AdminApi::root(&server).ask("GET /users/bob");
    assert_eq!(untouched.json()["roles"], json!({ ENVIRONMENT: ["noc"] }), "{untouched:?}");
}

fn scoped_tokens_stay_in_their_environment(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration("[identities]\nenabled=true\n"));
    let target = filled(&server);
    let elsewhere = ApiTarget { environment: OTHER.into(), ..target.clone() };
    let token = Api::root(&server).issue(ENVIRONMENT);
    assert_eq!(allowed(&server, &token, &[elsewhere, missing()]), [""; 0]);
    let own = allowed(&server, &token, &[target, missing()]);
    assert_eq!(own, ["CreateToken", "GetToken", "ListTokens", "RevokeToken"]);
}

fn tokens_of_machine_identities_are_refused(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration("[identities]\nenabled=true\n"));
    let target = filled(&server);
    let api = Api::root(&server);
    let path = format!("/api/v1/auth/universal-auth/identities/{}", target.id);
    let attached = api.send(&format!("POST {path}"), json!({})).json();
    let secret = api.send(&format!("POST {path}/client-secrets"), json!({})).json();
    let credentials = json!({
        "clientId": attached["identityUniversalAuth"]["clientId"],
        "clientSecret": secret["clientSecret"],
    });
    let login = Api::anonymous(&server).send("POST /api/v1/auth/universal-auth/login", credentials);
    let token = login.json()["accessToken"].as_str().unwrap().to_owned();
    assert_eq!(server.auth(&token).status, 200);
    assert_eq!(allowed(&server, &token, &[target, missing()]), [""; 0]);
}

fn tenants_read_no_more_than_by_other_calls(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let key = SigningKey::generate("RS256", "k");
    let keys = format!("jwks_uri=file://{}", sandbox.file("k.json", key_set(&[&key])).display());
    let socket = sandbox.path().join("tier.sock");
    let options = format!(
        "[identities]\nenabled=true\n[listener_tier]\nbind=unix:{}\nsurface=orchestrate\n\
         [multi_tenancy]\napi_key={API_KEY}\n{}",
        socket.display(),
        issuer_section("tenants", "RS256", "https://idp/", &keys)
    );
    let server = sandbox.serve(&configuration(&options));
    server.wait_until_ready();
    let target = filled(&server);
    let mut claims = claims_of("https://idp/");
    claims["http://tenant.info/"] = json!({ "tenant_id": "*", "username": "root" });
    let allowed = allowed(&server, &key.token(&claims), &[target, missing()]);
    let reads = ["GetIssuer", "GetOverview", "GetRole", "GetToken", "GetUser", "ListAssignments"];
    let lists = ["ListEnvironments", "ListIssuers", "ListRoles", "ListTokens", "ListUsers"];
    assert_eq!(allowed, [&reads[..], &lists].concat());
    // An API key does not count as a token, on either listener.
    let head = format!("GET /v1/admin/users HTTP/1.1\r\nX-API-Key: {API_KEY}\r\n");
    assert_problem(&server.request(&head), 401, "token_missing");
    let mut connection = Connection::over(UnixStream::connect(&socket).unwrap());
    connection.send(&head, b"");
    assert_problem(&connection.receive(false), 401, "token_missing");
}

fn refusals_before_a_call_are_problems(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let long = "x".repeat(70_000);
    for (call, body, status, code) in [
        ("POST /users", &*long, 413, "body_too_large"),
        ("PUT /users/bob/password", &long, 413, "body_too_large"),
        ("GET /nothing", "", 404, "no_such_call"),
        ("POST /nothing", "{}", 404, "no_such_call"),
        ("PUT /users", "{}", 405, "method_not_allowed"),
    ] {
        assert_problem(&api.call(call, "", body), status, code);
    }
    // The type of a body is not looked at.
    let typed = api.call("POST /roles", "Content-Type: text/plain\r\n", "{\"name\":\"noc\"}");
    assert_eq!(typed.status, 201, "{typed:?}");
    drop(server);
    let server = sandbox.serve(&SIGNING.replace("sign=true", "sign=false"));
    let missing = server.request("GET /v1/admin/users HTTP/1.1\r\n");
    assert_problem(&missing, 404, "not_found");
}

fn api_is_on_listeners_with_all_routes(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    for (serves, expected) in [("everything", 200), ("auth", 404)] {
        let socket = sandbox.path().join(format!("{serves}.sock"));
        let listener =
            format!("[listener_internal]\nbind=unix:{}\nserves={serves}\n", socket.display());
        let server = sandbox.serve(&configuration(&listener));
        assert_eq!(AdminApi::root(&server).ask("GET /users").status, 200);
        let token = session_of("root", true);
        let mut connection = Connection::over(UnixStream::connect(&socket).unwrap());
        for path in ["users", "docs"] {
            let head =
                format!("GET /v1/admin/{path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
            connection.send(&head, b"");
            let answer = connection.receive(false);
            assert_eq!(answer.status, expected, "{serves} {path}");
            if expected == 404 {
                assert_problem(&answer, 404, "not_found");
            }
        }
    }
}
