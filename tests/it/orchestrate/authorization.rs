use countersign_tests::{
    binary::{Sandbox, Server},
    client::Protocol,
    grpc::{CheckOutcome, Envoy, check_request, with_target},
    http::Response,
    over_every_protocol,
};
use serde_json::json;

use super::tier::{API_KEY, TenantProvider, configuration, outcome};
use crate::fixture;

over_every_protocol!(
    routes_decide_by_the_acting_tenant,
    policy_decides_by_the_acting_tenant,
    e4_claims_never_pass_for_the_tenant,
);

const ROUTES: &str = "[route_acme]\nmatch=GET /acme\ntenants=acme, acme:*\n\
    [route_below]\nmatch=GET /below\ntenants=acme:*\n\
    [route_public]\nmatch=GET /public\ntenants=_\n\
    [route_all]\nmatch=GET /all\ntenants=*\n\
    [route_encoded]\nmatch=GET /encoded\ntenants=Z%C3%BCrich\n\
    [route_scope]\nmatch=GET /scope\ntenants=acme\nscopes=read\n";

/// Asks `/auth` about `GET path`, twice: the second answer about a token is from the cache.
#[track_caller]
fn ask(server: &Server<'_>, path: &str, lines: &[(&str, &str)]) -> Response {
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "GET /auth HTTP/1.1\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: {path}\r\n{lines}"
    );
    let [first, second] = [0; 2].map(|_| server.request(&head));
    assert_eq!(first.status, second.status);
    second
}

/// Like [`ask`], for a token. An empty `asked` is no `X-Tenant-ID`.
#[track_caller]
fn ask_as(server: &Server<'_>, path: &str, token: &str, asked: &str) -> u16 {
    let authorization = format!("Bearer {token}");
    ask(server, path, &[("Authorization", &authorization), ("X-Tenant-ID", asked)]).status
}

fn routes_decide_by_the_acting_tenant(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), TenantProvider::start());
    let server = sandbox.serve(&configuration(&provider, "authorization=routes", ROUTES));
    for (path, own, asked, expected) in [
        ("/acme", "acme", "", 200),
        ("/acme", "acme:eu:it", "", 200),
        ("/acme", "acme", "_", 403),
        ("/acme", "acmes", "", 403),
        ("/acme", "*", "", 403),
        ("/acme", "*", "acme", 200),
        ("/acme", "*", "other", 403),
        ("/below", "acme:eu", "", 200),
        ("/below", "acme:eu", "acme", 403),
        ("/below", "acme", "", 403),
        ("/public", "_", "", 200),
        ("/public", "acme", "", 403),
        ("/public", "acme", "_", 200),
        ("/public", "*", "", 200),
        ("/all", "*", "", 200),
        ("/all", "*", "*", 200),
        ("/all", "*", "_", 403),
        ("/all", "*", "acme", 403),
        ("/all", "acme", "", 403),
        ("/all", "acme", "other", 401),
        ("/encoded", "Zürich", "", 200),
        ("/encoded", "Z%C3%BCrich", "", 403),
        ("/scope", "acme", "", 403),
    ] {
        let token = provider.token(own);
        assert_eq!(ask_as(&server, path, &token, asked), expected, "{path}: {own} x {asked}");
    }
    let tenancy = json!({ "tenant_id": "acme" });
    let reader = provider.token_with(tenancy, &[("scope", json!("read"))]);
    assert_eq!(ask_as(&server, "/scope", &reader, ""), 200);
    // An API key is not subject to rules.
    assert_eq!(outcome(&ask(&server, "/acme", &[("X-API-Key", API_KEY)])), "_; *; ");
}

const POLICY: &str = r#"package policy

default allow := false

allow if {
	input.request.endpoint_id == "GET /outer"
	input.request.tenant == "a"
	input.request.allowed_tenants == ["_", "a"]
	input.token["urn:countersign:tenant"] == "a:b"
	input.token["urn:countersign:username"] == "alice"
	not input.request.username
}

allow if {
	input.request.endpoint_id == "GET /user"
	input.request.username == "alice"
}

allow if {
	input.request.endpoint_id == "GET /all"
	input.request.allowed_tenants == ["*"]
	input.token["urn:countersign:tenant"] == "*"
}

allow if {
	input.request.endpoint_id == "GET /spoofed"
	input.token["urn:countersign:tenant"] == "root"
}

allow if {
	input.request.endpoint_id == "GET /spoofed"
	input.token["urn:countersign:username"] == "root"
}

allow if {
	input.request.endpoint_id == "GET /claim"
	input.token.tenant == "root"
}
"#;

/// Returns the configuration of a listener that asks [`POLICY`].
fn asking_policy(sandbox: &Sandbox, provider: &TenantProvider, listen: &str) -> String {
    sandbox.replace("policy.rego", POLICY);
    let paths = ["outer", "user", "all", "spoofed", "claim"];
    let endpoints = paths.map(|path| {
        let properties = json!({
            "client_types": ["api"], "auth_label": path, "read_only": true,
            "environment_param": null,
        });
        (format!("GET /{path}"), properties)
    });
    let endpoints: serde_json::Map<_, _> = endpoints.into_iter().collect();
    sandbox.replace("endpoints.json", json!({ "endpoints": endpoints }).to_string());
    let engine = fixture::policy_engine("policy.rego");
    let listen = format!("authorization=policy-engine\n{listen}");
    configuration(provider, &listen, &format!("[endpoints]\nfile=endpoints.json\n{engine}"))
}

fn policy_decides_by_the_acting_tenant(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), TenantProvider::start());
    let server = sandbox.serve(&asking_policy(&sandbox, &provider, ""));
    let (nested, every) = (provider.token("a:b"), provider.token("*"));
    // Several times, so that each answer meets the cached decisions about the others.
    for _ in 0..3 {
        for (path, token, asked, expected) in [
            ("/outer", &nested, "a", 200),
            ("/outer", &nested, "", 403),
            ("/outer", &nested, "a:b", 403),
            ("/outer", &nested, "_", 403),
            ("/outer", &nested, "c", 401),
            ("/outer", &every, "a", 403),
            ("/user", &nested, "", 200),
            ("/user", &nested, "a:b", 403),
            ("/all", &every, "", 200),
            ("/all", &every, "a", 403),
            ("/all", &every, "_", 403),
            ("/all", &nested, "", 403),
        ] {
            assert_eq!(ask_as(&server, path, token, asked), expected, "{path}: {asked}");
        }
    }
    assert_eq!(outcome(&ask(&server, "/spoofed", &[("X-API-Key", API_KEY)])), "_; *; ");
}

fn e4_claims_never_pass_for_the_tenant(protocol: Protocol) {
    let (sandbox, provider) = (Sandbox::over(protocol), TenantProvider::start());
    let spoofing = |tenancy| {
        let claims = ["urn:countersign:tenant", "urn:countersign:username", "tenant"]
            .map(|name| (name, json!("root")));
        provider.token_with(tenancy, &claims)
    };
    let tokens =
        [json!({ "tenant_id": "foo", "username": "alice" }), json!({ "tenant_id": "foo" })];
    let tokens = tokens.map(spoofing);
    for surface in ["", "surface=generic"] {
        let text = asking_policy(&sandbox, &provider, "");
        let server = sandbox.serve(&match surface {
            "" => text,
            generic => text.replace("surface=orchestrate", generic),
        });
        for token in &tokens {
            assert_eq!(ask_as(&server, "/spoofed", token, ""), 403, "{surface}");
            assert_eq!(ask_as(&server, "/claim", token, ""), 200, "{surface}");
        }
    }
}

#[test]
fn tenants_decide_alike_on_every_surface() {
    let (sandbox, provider) = (Sandbox::new(), TenantProvider::start());
    let listen = "authorization=routes\nprotocols=http/1.1, h2\nopen_paths=/open\n";
    let server = sandbox.serve(&configuration(&provider, listen, ROUTES));
    let envoy = Envoy::plain(server.address);
    for (path, own, asked, user, expected) in [
        ("/acme", "acme", "", "", 200),
        ("/acme", "*", "acme", "", 200),
        ("/acme", "*", "", "", 403),
        ("/below", "acme:eu", "acme", "", 403),
        ("/acme", "acme", "other", "", 401),
        ("/acme", "acme", "", "alice", 401),
        ("/open", "acme", "other", "alice", 200),
        ("/none", "acme", "", "", 403),
    ] {
        let token = provider.token(own);
        let authorization = format!("Bearer {token}");
        let lines = [("x-tenant-id", asked), ("x-username", user)];
        let credential = [("authorization", &*authorization)];
        let asked = ask(&server, path, &[&credential[..], &lines].concat());
        let check = with_target(check_request(&[&credential[..], &lines].concat()), "GET", path);
        let checked = CheckOutcome::of(envoy.check(check).unwrap());
        let headers = json!({ "X-Tenant-ID": lines[0].1, "x-username": user });
        let request = json!({ "method": "GET", "uri": path, "headers": headers });
        let body = json!({ "token": token, "request": request }).to_string();
        let verified = server.send("POST /v1/verify HTTP/1.1\r\n", body.as_bytes());
        let case = format!("{path}: {own} x {lines:?}");
        let statuses = (asked.status, checked.status, verified.status);
        assert_eq!(statuses, (expected, expected.into(), expected), "{case}");
        if expected == 200 {
            let answer = verified.json();
            let allowed: Vec<_> = answer["allowed_tenants"].as_array().unwrap().iter().collect();
            let allowed: Vec<_> = allowed.into_iter().map(|one| one.as_str().unwrap()).collect();
            let shown = [
                answer["tenant"].as_str().unwrap(),
                &allowed.join(","),
                answer["username"].as_str().unwrap_or_default(),
            ];
            assert_eq!(shown.join("; "), outcome(&asked), "{case}");
            assert_eq!(checked.header("x-auth-tenant"), asked.header("x-auth-tenant"), "{case}");
        }
    }
}

#[test]
fn tenants_of_routes_are_checked_at_load() {
    let (sandbox, provider) = (Sandbox::new(), TenantProvider::start());
    let check = |listen: &str, rest: &str| {
        let text = configuration(&provider, listen, rest);
        sandbox.replace("server.cfg", text);
        sandbox.run(["config", "check", "--config", "server.cfg"])
    };
    let output = check("authorization=routes", ROUTES);
    assert_eq!(output.code(), 0, "{output:?}");
    let shown = "allows a token with one of the tenants acme, acme:*";
    assert!(output.text().contains(shown), "{output:?}");
    for (tenants, message) in [
        ("", "tenants in route_a is empty"),
        ("a, a::b", r#""a::b" is not a tenant"#),
        ("_:*", "is not a tenant"),
        ("Zürich", "write Z%C3%BCrich"),
    ] {
        let rule = format!("[route_a]\nmatch=GET /a\ntenants={tenants}\n");
        let output = check("authorization=routes", &rule);
        assert!(output.code() != 0 && output.stderr.contains(message), "{tenants}: {output:?}");
    }
    let output = check("authorization=routes", "[route_a]\nmatch=GET /a\ntenants=a\ndeny=true\n");
    assert!(output.stderr.contains("deny and tenants in route_a exclude"), "{output:?}");
    let other = "[listener_other]\nbind=127.0.0.1:0\nauthorization=routes\n";
    let output = check("authorization=routes", &format!("{other}{ROUTES}"));
    let warning = "listener other has no tenants, so it denies all requests of [route_acme]";
    assert!(output.stdout.contains(warning) || output.stderr.contains(warning), "{output:?}");
}

#[test]
fn routes_explain_takes_the_tenant_into_account() {
    let (sandbox, provider) = (Sandbox::new(), TenantProvider::start());
    let text = configuration(&provider, "authorization=routes", ROUTES);
    sandbox.replace("server.cfg", text);
    let explain = |path: &str, own: &str, asked: &str| {
        let arguments = [
            "routes",
            "explain",
            "GET",
            path,
            "--token",
            "-",
            "--tenant",
            asked,
            "--config",
            "server.cfg",
        ];
        sandbox.run_with_input(arguments, provider.token(own))
    };
    let output = explain("/acme", "*", "acme");
    assert_eq!(output.code(), 0, "{output:?}");
    for line in ["tenant    acme", "met       one of the tenants acme, acme:*"] {
        assert!(output.stdout.contains(line), "{output:?}");
    }
    let output = explain("/acme", "*", "");
    assert_eq!(output.code(), 1, "{output:?}");
    for line in ["tenant    _", "not met   one of the tenants acme, acme:*"] {
        assert!(output.stdout.contains(line), "{output:?}");
    }
    let output = explain("/acme", "acme", "other");
    let expected = r#"denied: access to tenant "other" forbidden (401)"#;
    assert!(output.code() == 1 && output.stdout.contains(expected), "{output:?}");
}
