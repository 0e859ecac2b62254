use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    openssl::SigningKey,
    over_every_protocol,
};
use serde_json::{Value, json};

use super::{ask, bearer, described, status, token};
use crate::{
    fixture,
    users::{Api, configuration, data, refused},
};

over_every_protocol!(policy_decides_about_checks);

const E1: &str = "11111111-1111-1111-1111-111111111111";
const DENIED: &str = "Request is not allowed by the access policy.";

const ENDPOINTS: &str = r#"{"endpoints": {
    "GET /api/v2/resource": {"client_types": ["api", "agent"], "auth_label": "resource.read",
        "read_only": true, "environment_param": "X-Inmanta-tid"},
    "GET /api/v2/project": {"client_types": ["api"], "auth_label": "project.read",
        "read_only": true, "environment_param": null},
    "POST /api/v1/notify/<id>": {"client_types": ["api"], "auth_label": "compiler.execute",
        "read_only": false, "environment_param": "id",
        "parameters": {"update": {"in": "query", "type": "boolean", "default": true}}},
    "GET /api/v1/notify/<id>": {"client_types": ["api"], "auth_label": "compiler.execute",
        "read_only": false, "environment_param": "id"},
    "POST /api/v1/deploy": {"client_types": ["api"], "auth_label": "deploy",
        "read_only": false, "environment_param": "X-Inmanta-tid"}
}}"#;

/// Returns a configuration whose listener asks this policy.
fn asking(sandbox: &Sandbox, policy: &str, rest: &str) -> String {
    sandbox.replace("endpoints.json", ENDPOINTS);
    let policy = match policy {
        fixture::DEFAULT_POLICY => policy,
        text => {
            sandbox.replace("policy.rego", text);
            "policy.rego"
        }
    };
    let engine = fixture::policy_engine(policy);
    let listen = match sandbox.protocol() {
        Some(_) => "authorization=policy-engine",
        None => "authorization=policy-engine\nprotocols=http/1.1, h2",
    };
    described(listen, &format!("[endpoints]\nfile=endpoints.json\n{engine}{rest}"))
}

/// Returns a token of a user with this role in [`E1`].
fn with_role(role: &str) -> String {
    token(json!({ "urn:inmanta:roles": { E1: [role] }, "urn:inmanta:is_admin": false }))
}

fn admin() -> String {
    token(json!({ "urn:inmanta:roles": {}, "urn:inmanta:is_admin": true }))
}

fn policy_decides_about_checks(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&asking(&sandbox, fixture::DEFAULT_POLICY, ""));
    let resource = |token: &str, environment: &str| {
        let lines = format!("X-Inmanta-tid: {environment}\r\n{}", bearer(token));
        ask(&server, ("GET", "/api/v2/resource"), &lines).status
    };
    let reader = with_role("read-only");
    for _ in 0..3 {
        assert_eq!(resource(&reader, E1), 200);
        assert_eq!(resource(&reader, "22222222-2222-2222-2222-222222222222"), 403);
        assert_eq!(resource(&fixture::good_token(), E1), 403);
        assert_eq!(resource(&admin(), E1), 200);
    }
    assert_eq!(ask(&server, ("GET", "/api/v2/resource"), &bearer(&reader)).status, 403, "c76");
}

#[test]
fn default_policy_decides_alike_on_every_surface() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&asking(&sandbox, fixture::DEFAULT_POLICY, ""));
    let notify = format!("/api/v1/notify/{E1}");
    let [with, without] = ["true", "false"].map(|update| format!("{notify}?update={update}"));
    for (request, token, expected) in [
        (("GET", "/api/v2/project"), fixture::good_token(), 200),
        (("HEAD", "/api/v2/project"), fixture::good_token(), 200),
        // Behaviour 65: the declared default is filled in.
        (("POST", notify.as_str()), with_role("noc"), 403),
        (("POST", &without), with_role("noc"), 200),
        (("POST", &with), with_role("noc"), 403),
        (("POST", &with), with_role("environment-admin"), 200),
        (("POST", &format!("{without}&update=true")), with_role("noc"), 403),
        // The endpoint data of the Inmanta server shows no default.
        (("GET", notify.as_str()), with_role("noc"), 403),
        (("GET", &without), with_role("noc"), 200),
        // Behaviour 75: an unknown endpoint.
        (("GET", "/api/v2/unknown"), with_role("environment-expert-admin"), 403),
        (("GET", "/api/v2/unknown"), admin(), 200),
        (("GET", "/api/v2//unknown"), admin(), 403),
    ] {
        assert_eq!(status(&server, request, &token), expected, "{request:?}");
    }
}

#[test]
fn agents_and_compilers_are_left_to_legacy() {
    let sandbox = Sandbox::new();
    let deny_all = "package policy\ndefault allow := false\n";
    let server = sandbox.serve(&asking(&sandbox, deny_all, ""));
    let resource = |client_types: &str, environment: Option<&str>| {
        let claims = json!({ "urn:inmanta:ct": client_types, "urn:inmanta:env": environment });
        let lines = format!("X-Inmanta-tid: {E1}\r\n{}", bearer(&token(claims)));
        ask(&server, ("GET", "/api/v2/resource"), &lines).status
    };
    assert_eq!(resource("api", None), 403);
    assert_eq!(resource("agent", Some(E1)), 200);
    assert_eq!(resource("agent", Some("22222222-2222-2222-2222-222222222222")), 403);
    assert_eq!(resource("compiler", Some(E1)), 403, "its client type may not make the call");
    assert_eq!(resource("api,compiler", None), 200);
}

#[test]
fn c60_roles_of_the_policy_are_created_and_never_deleted() {
    let sandbox = Sandbox::new();
    let roles = |list: &str| {
        let policy = format!("package policy\n{list}\ndefault allow := true\n");
        sandbox.replace("policy.rego", policy);
        let engine = fixture::policy_engine("policy.rego");
        let options = format!("authorization-provider=policy-engine\n{engine}");
        data(&Api::root(&sandbox.serve(&configuration(&options))).ask("GET /role"))
    };
    assert_eq!(roles(r#"roles := ["b", "a"]"#), json!(["a", "b"]));
    assert_eq!(roles(r#"roles := {"a", "c"}"#), json!(["a", "b", "c"]));
    assert_eq!(roles(""), json!(["a", "b", "c"]));
}

#[test]
fn foreign_issuers_state_no_roles_and_own_no_password() {
    let key = SigningKey::generate("ES256", "k");
    let sandbox = Sandbox::new();
    let keys = sandbox.file("jwks.json", fixture::key_set(&[&key]));
    let section = |administers: bool| {
        let options = format!("jwks_uri=file://{}\nadministers={administers}", keys.display());
        fixture::issuer_section("idp", "ES256", "https://idp/", &options)
    };
    let claims = |changes: Value| {
        let mut claims = fixture::claims_of("https://idp/");
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        key.token(&claims)
    };
    let reader = claims(json!({ "urn:inmanta:roles": { E1: ["read-only"] } }));
    let root = claims(json!({ "urn:inmanta:is_admin": true }));
    for (administers, expected) in [(false, 403), (true, 200)] {
        let sandbox = Sandbox::new();
        let configuration = asking(&sandbox, fixture::DEFAULT_POLICY, &section(administers));
        let server = sandbox.serve(&configuration);
        let lines = |token| format!("X-Inmanta-tid: {E1}\r\n{}", bearer(token));
        for token in [&reader, &root] {
            let answer = ask(&server, ("GET", "/api/v2/resource"), &lines(token));
            assert_eq!(answer.status, expected, "administers={administers}");
        }
        // A namesake of a local user, whose password is not theirs.
        let password = ("PATCH", "/api/v2/user/bob/password");
        let own = bearer(&fixture::good_token());
        assert_eq!(ask(&server, password, &own).status, 200);
        assert_eq!(ask(&server, password, &bearer(&claims(json!({})))).status, 403);
    }
}

/// Returns a policy that allows everything while a condition holds.
fn allowing_if(condition: &str) -> String {
    format!("package policy\ndefault allow := false\nallow if {{ {condition} }}\n")
}

#[test]
fn syntax_error_keeps_the_policy_or_refuses_to_start() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&asking(&sandbox, &allowing_if("true"), ""));
    let project = |server: &Server<'_>| {
        ask(server, ("GET", "/api/v2/project"), &bearer(&fixture::good_token())).status
    };
    assert_eq!((project(&server), project(&server)), (200, 200));
    let log =
        server.reload_after(|| drop(sandbox.replace("policy.rego", "package policy\nallow if {")));
    assert!(log.contains("policy.rego:2:"), "{log}");
    let read = || std::fs::read_to_string(sandbox.path().join("policy_engine.log")).unwrap();
    countersign_tests::eventually(|| read().contains("policy.rego:2:"));
    assert_eq!(project(&server), 200);
    server.reload_after(|| drop(sandbox.replace("policy.rego", allowing_if("false"))));
    assert_eq!(project(&server), 403, "a cached decision ends with its policy");

    sandbox.replace("policy.rego", "package policy\nallow if {");
    let output = sandbox.run(["--config", "server.cfg"]);
    assert_eq!(output.code(), 2);
    assert!(output.stderr.contains("policy.rego:2:"), "{}", output.stderr);
    assert!(output.stderr.contains("policy_engine.log"), "{}", output.stderr);
    let log = std::fs::read_to_string(sandbox.path().join("policy_engine.log")).unwrap();
    assert!(log.starts_with("[ERROR]") && log.contains("policy.rego:2:"), "{log}");
}

#[test]
fn missing_policy_and_engine_have_inmanta_messages() {
    let sandbox = Sandbox::new();
    let check = |policy_engine: &str| {
        let section = format!("[policy_engine]\n{policy_engine}\n");
        let options = format!("authorization-provider=policy-engine\n{section}");
        sandbox.replace("server.cfg", configuration(&options));
        let output = sandbox.run(["config", "check", "--config", "server.cfg"]);
        assert_eq!(output.code(), 2, "{}", output.stderr);
        output.stderr
    };
    let missing = check("policy-file=/missing/policy.rego");
    assert!(missing.contains("Access policy file /missing/policy.rego not found."), "{missing}");
    assert!(missing.contains("countersign policy print-default"), "{missing}");
    let policy = format!("policy-file={}\n", fixture::DEFAULT_POLICY);
    let unset = check(&format!("{policy}executable="));
    assert!(unset.contains("Config option policy_engine.executable was not set."), "{unset}");
    let missing = check(&format!("{policy}executable=/missing/opa"));
    let text = "Config option policy_engine.executable doesn't point to a file: /missing/opa.";
    assert!(missing.contains(text) && missing.contains("remove the line"), "{missing}");
    let level = check(&format!("{policy}log-level=warn"));
    assert!(
        level.contains("Invalid value warn. Valid values: ['debug', 'info', 'error']"),
        "{level}"
    );
}

#[test]
fn cached_decisions_are_logged_as_the_guide_shows() {
    let sandbox = Sandbox::new();
    let info = "log-level=info\n";
    let server = sandbox.serve(&asking(&sandbox, &allowing_if("true"), info));
    let good = bearer(&fixture::good_token());
    for _ in 0..3 {
        let request = ("GET", "/api/v2/project?password=secret&environment_details=no");
        assert_eq!(ask(&server, request, &good).status, 200);
    }
    let read = || std::fs::read_to_string(sandbox.path().join("policy_engine.log")).unwrap();
    countersign_tests::eventually(|| read().matches("[INFO] Received request.").count() == 3);
    let log = read();
    let expected = "[INFO] Received request.\n  req_path = \"/v1/data/policy/allow\"\n  req_body = |\n      {\n        \"input\": {\n          \"request\": {\n            \"endpoint_id\": \"GET /api/v2/project\",";
    assert!(log.contains(expected), "{log}");
    assert!(log.contains("\"environment_details\": \"no\""), "{log}");
    assert!(log.contains("**********") && !log.contains("secret"), "{log}");
    assert!(log.contains("client_addr = \"@\"") && log.contains("req_method = \"POST\""), "{log}");
}

#[test]
fn failed_evaluation_denies_and_is_logged() {
    let sandbox = Sandbox::new();
    let endless = "count([x | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); x := a * b]) > 0";
    let server = sandbox.serve(&asking(&sandbox, &allowing_if(endless), ""));
    let good = bearer(&fixture::good_token());
    assert_eq!(ask(&server, ("GET", "/api/v2/project"), &good).status, 403);
    let read = || std::fs::read_to_string(sandbox.path().join("policy_engine.log")).unwrap();
    countersign_tests::eventually(|| read().contains("[ERROR]"));
    let log = read();
    // A limit that is reached within a built-in has a line and column, elsewhere it has none.
    assert!(log.contains("err = \"policy.rego:"), "{log}");
    assert!(log.contains(": rule data.policy.allow: the evaluation takes"), "{log}");
    assert!(!log.contains("bob"), "{log}");
}

#[test]
fn failed_evaluation_is_not_remembered_as_a_denial() {
    let sandbox = Sandbox::new();
    let large =
        "startswith(input.request.endpoint_id, \"GET\")\ncount(numbers.range(1, 9000000)) > 0";
    let server = sandbox.serve(&asking(&sandbox, &allowing_if(large), ""));
    let good = bearer(&fixture::good_token());
    let read = || std::fs::read_to_string(sandbox.path().join("policy_engine.log")).unwrap();
    for (method, failures) in [("DELETE", 0), ("GET", 20)] {
        for _ in 0..20 {
            assert_eq!(ask(&server, (method, "/api/v2/project"), &good).status, 403);
        }
        countersign_tests::eventually(|| read().matches("[ERROR]").count() == failures);
    }
    let log = read();
    assert!(log.contains("too large arguments"), "{log}");
}

#[test]
fn policy_that_depends_on_the_time_is_always_evaluated() {
    let sandbox = Sandbox::new();
    let until = (fixture::now() + 4) * 1_000_000_000;
    let server =
        sandbox.serve(&asking(&sandbox, &allowing_if(&format!("time.now_ns() < {until}")), ""));
    let good = bearer(&fixture::good_token());
    let project = || ask(&server, ("GET", "/api/v2/project"), &good).status;
    assert_eq!([project(), project(), project()], [200; 3]);
    countersign_tests::eventually(|| project() == 403);
}

#[test]
fn api_calls_are_asked_with_their_arguments() {
    let sandbox = Sandbox::new();
    let rule = r#"input.request.endpoint_id == "POST /api/v2/environment_auth"
        input.request.parameters.idempotent == false
        input.request.parameters.client_types == ["api"]
        input.request.parameters["X-Inmanta-tid"] == "11111111-1111-1111-1111-111111111111""#;
    let environment = r#"input.request.endpoint_id in
        {"PUT /api/v2/project", "PUT /api/v2/environment"}"#;
    let policy = format!("{}allow if {{ {environment} }}\n", allowing_if(rule));
    sandbox.replace("policy.rego", policy);
    let engine = fixture::policy_engine("policy.rego");
    let options = format!("authorization-provider=policy-engine\n{engine}");
    let server = sandbox.serve(&configuration(&options));
    let root = Api::root(&server);
    let project = "33333333-3333-3333-3333-333333333333";
    let new = json!({ "name": "lab", "project_id": project });
    assert_eq!(root.send("PUT /project", new).status, 200);
    let new = json!({ "name": "prod", "environment_id": E1, "project_id": project });
    assert_eq!(root.send("PUT /environment", new).status, 200);
    let scoped = root.within(E1);
    let create = |arguments: Value| scoped.send("POST /environment_auth", arguments);
    assert_eq!(create(json!({ "client_types": ["api"] })).status, 200);
    refused(&create(json!({ "client_types": ["api"], "idempotent": true })), 403, DENIED);
    refused(&create(json!({ "client_types": ["agent"] })), 403, DENIED);
    refused(&root.ask("GET /user"), 403, DENIED);
}

#[test]
fn c44_documentation_takes_its_token_from_the_query() {
    let sandbox = Sandbox::new();
    let engine = fixture::policy_engine(fixture::DEFAULT_POLICY);
    let endpoints = r#"{"GET /api/v2/docs": {"client_types": ["api"], "auth_label": "docs.read",
        "read_only": true, "environment_param": null}}"#;
    sandbox.file("endpoints.json", endpoints);
    let rest = format!("[endpoints]\nfile=endpoints.json\n{engine}");
    let listen = "surface=inmanta\nauthorization=policy-engine";
    let server = sandbox.serve(&described(listen, &rest));
    let docs = |query: &str| ask(&server, ("GET", &format!("/api/v2/docs{query}")), "").status;
    let good = fixture::good_token();
    assert_eq!(docs(""), 401);
    assert_eq!(docs(&format!("?token={good}")), 200);
    assert_eq!(docs("?token=abc"), 403, "a rejected token of this surface");
    assert_eq!(docs(&format!("?token={good}&token={good}")), 401, "two tokens");
    let elsewhere = format!("/api/v2/user?token={good}");
    assert_eq!(ask(&server, ("GET", &elsewhere), "").status, 401);
    assert_eq!(ask(&server, ("POST", &format!("/api/v2/docs?token={good}")), "").status, 401);
}

/// A person of an OpenID provider, a service and an agent, with each provider.
#[test]
fn every_kind_of_token_is_decided_by_every_provider() {
    let key = SigningKey::generate("ES256", "k");
    let keys = Sandbox::new();
    let file = keys.file("jwks.json", fixture::key_set(&[&key]));
    let idp = fixture::issuer_section(
        "idp",
        "ES256",
        "https://idp/",
        &format!("jwks_uri=file://{}\nadministers=true", file.display()),
    );
    let mut person = fixture::claims_of("https://idp/");
    person["urn:inmanta:roles"] = json!({ E1: ["read-only"] });
    person["groups"] = json!(["staff"]);
    let person = key.token(&person);
    let service = token(json!({ "scope": "resources" }));
    let agent = token(json!({ "urn:inmanta:ct": "agent", "urn:inmanta:env": E1 }));
    let rules = "[route_all]\nmatch=GET /api/v2/resource\nclaims=groups has staff or scope is \
                 resources\n";
    for (provider, expected) in [
        ("none", [200, 200, 200]),
        ("routes", [200, 200, 403]),
        ("legacy", [200, 200, 200]),
        ("policy-engine", [200, 403, 200]),
    ] {
        let sandbox = Sandbox::new();
        let configuration = asking(&sandbox, fixture::DEFAULT_POLICY, &format!("{rules}{idp}"));
        let listen = format!("authorization={provider}");
        let configuration = configuration.replace("authorization=policy-engine", &listen);
        let server = sandbox.serve(&configuration);
        let statuses = [&person, &service, &agent].map(|token| {
            let lines = format!("X-Inmanta-tid: {E1}\r\n{}", bearer(token));
            ask(&server, ("GET", "/api/v2/resource"), &lines).status
        });
        assert_eq!(statuses, expected, "{provider}");
    }
}
