use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::{Value, json};

use super::{AdminApi, assert_problem};
use crate::{
    fixture::{self, DEFAULT_POLICY, claims, good_token, policy_engine, token},
    users::{Api, ENVIRONMENT, OTHER, configuration, session_of},
};

over_every_protocol!(
    request_is_decided_by_routes,
    request_is_decided_by_the_policy,
    calls_of_this_server_get_their_decision,
    rights_of_scoped_tokens_depend_on_the_path,
    decisions_are_those_of_the_call_itself,
    claims_are_those_of_tokens_of_this_server,
    mistakes_of_a_tested_request_are_located,
    routes_and_policy_are_read,
);

const CALL: &str = "POST /requests/test";
const ROUTES: &str = "[listen]\nauthorization=routes\nopen_paths=/static/*\n\
    [route_health]\nmatch=GET /healthz\npublic=true\n\
    [route_orders]\nmatch=GET /orders\nscopes=orders:read\n";

#[track_caller]
fn test(api: &AdminApi<'_>, body: Value) -> Value {
    let answer = api.send(CALL, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn by_policy() -> String {
    let engine = policy_engine(DEFAULT_POLICY);
    format!("authorization_provider=policy-engine\n[listen]\nauthorization=policy-engine\n{engine}")
}

fn request_is_decided_by_routes(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(ROUTES));
    let api = AdminApi::root(&server);
    let reader = token(&claims(json!({ "scope": "orders:read" })));
    let expired = token(&claims(json!({ "exp": 1 })));
    for (token, target, decision, reason) in [
        (&*reader, "/orders?x=1", "allowed", "the token meets every requirement"),
        (&good_token(), "/orders", "denied", "[route_orders] requires the scope orders:read"),
        (&reader, "/other", "denied", "no route matches"),
        (&expired, "/orders", "denied", "the token is refused (expired)"),
        (&expired, "/static/x", "allowed", "open_paths of the listener have it"),
    ] {
        let request =
            json!({ "listener": "main", "method": "GET", "target": target, "token": token });
        let tested = test(&api, request);
        assert_eq!(tested["decision"], decision, "{tested}");
        assert!(tested["reason"].as_str().unwrap().contains(reason), "{tested}");
        assert_eq!(json!([tested["policy"], tested["policy_input"]]), json!([null, null]));
    }
    let without_token = json!({ "listener": "main", "method": "GET", "target": "/orders" });
    let tested = test(&api, without_token);
    assert_eq!(tested["reason"], "the request has no token (401)");
    let of_route = |fact: &&Value| fact["label"] == "route";
    let route = tested["facts"].as_array().unwrap().iter().find(of_route).unwrap();
    assert_eq!(route["text"], "[route_orders], 2 of 2: GET /orders");
}

fn request_is_decided_by_the_policy(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(&by_policy()));
    let api = AdminApi::root(&server);
    for (role, decision, holds) in
        [("environment-expert-admin", "allowed", true), ("read-only", "denied", false)]
    {
        let claims = json!({
            "urn:inmanta:ct": ["api"],
            "urn:inmanta:is_admin": false,
            "urn:inmanta:roles": { ENVIRONMENT: [role] },
        });
        let target = "/api/v2/environment_auth";
        let request = json!({
            "method": "GET", "target": target, "environment": ENVIRONMENT, "claims": claims,
        });
        let tested = test(&api, request);
        assert_eq!(json!([tested["decision"], tested["policy_failure"]]), json!([decision, null]));
        let input = &tested["policy_input"]["request"]["endpoint_id"];
        assert_eq!(*input, format!("GET {target}"), "{tested}");
        let rules = tested["policy"]["rules"].as_array().unwrap();
        assert!(!rules.is_empty() && rules.iter().all(|rule| rule["holds"] == holds), "{tested}");
        assert_eq!(rules[0]["failed_expression"].is_string(), !holds, "{tested}");
    }
}

fn mistakes_of_a_tested_request_are_located(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    let with = |member: &str, value: Value| {
        let mut request = json!({ "method": "GET", "target": "/a", "token": "a.b.c" });
        request[member] = value;
        request
    };
    for (member, value) in [
        ("listener", json!("other")),
        ("listener", json!("")),
        ("method", json!("G T")),
        ("target", json!("a")),
        ("target", json!("/a b")),
        ("target", json!("/a\r\nb: c")),
        ("environment", json!("a\nb")),
        ("claims", json!({})),
        ("claims", json!([])),
        ("token", json!(1)),
        ("place", json!("main")),
    ] {
        let problem = assert_problem(&api.send(CALL, with(member, value)), 400, "invalid_request");
        assert_eq!(problem["pointer"], format!("/{member}"), "{problem}");
    }
    let agent = token(&claims(json!({ "urn:inmanta:ct": "agent" })));
    let agent = AdminApi { server: &server, token: agent };
    assert_problem(&agent.send(CALL, with("target", "/".into())), 403, "not_authorized");
    assert_eq!(api.get("/audit-events")["items"], json!([]), "nothing was changed");
}

fn routes_and_policy_are_read(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let rest = "[listener_b]\nbind=127.0.0.1:0\nauthorization=routes\nopen_paths=/static/*\n\
                [route_orders]\nmatch=GET /orders/*\nroles=ops\n";
    let server = sandbox.serve(&configuration(&format!("{}{rest}", by_policy())));
    let api = AdminApi::root(&server);
    let loaded = api.get("/authorization");
    assert_eq!(loaded["api"], "policy-engine");
    let listeners = loaded["listeners"].as_array().unwrap();
    let listener = listeners.iter().find(|one| one["name"] == "b").unwrap();
    assert_eq!(json!([listener["authorization"], listener["open_paths"]]), {
        json!(["routes", ["/static/*"]])
    });
    let route = &loaded["routes"][0];
    assert_eq!(json!([route["section"], route["requests"]]), {
        json!(["route_orders", "GET /orders/*"])
    });
    assert!(loaded["policy"]["text"].as_str().unwrap().contains("package policy"), "{loaded}");
    let (endpoints, pages) = api.pages("/endpoints?limit=20");
    assert!(pages > 1 && endpoints.iter().any(|one| one["id"] == "GET /api/v2/environment"));
}

/// What is decided about a call of this server, and a part of the reason.
#[track_caller]
fn assert_decided(tested: &Value, decision: &str, reason: &str) {
    assert_eq!(tested["decision"], decision, "{tested}");
    assert!(tested["reason"].as_str().unwrap().contains(reason), "{tested}");
}

fn calls_of_this_server_get_their_decision(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let options = format!("{}[identities]\nenabled=true\n", by_policy());
    let server = sandbox.serve(&configuration(&options));
    let api = AdminApi::root(&server);
    let (root, user) = (session_of("root", true), session_of("eve", false));
    let tokens = format!("/v1/admin/environments/{ENVIRONMENT}/tokens");
    for (call, expected) in [
        ("GET /v1/admin/users", "allowed, allowed, denied"),
        ("HEAD /v1/admin/issuers", "allowed, allowed, denied"),
        ("POST /v1/admin/users", "allowed, denied, denied"),
        ("PATCH /v1/admin/users/bob", "allowed, denied, denied"),
        (&format!("GET {tokens}"), "allowed, denied, denied"),
        ("GET /v1/admin/configuration", "allowed, denied, denied"),
        ("POST /v1/admin/tokens/inspect", "allowed, denied, denied"),
        ("GET /v1/admin/docs", "allowed, allowed, allowed"),
        ("GET /api/v1/identities", "allowed, denied, denied"),
        ("POST /api/v1/auth/tls-cert-auth/identities/x", "allowed, denied, denied"),
        ("GET /api/v1/identities/details", "denied, denied, denied"),
        ("POST /api/v1/auth/universal-auth/login", "allowed, allowed, allowed"),
        ("GET /api/v2/user", "allowed, allowed, denied"),
        ("GET /api/v2/health", "allowed, allowed, allowed"),
        ("OPTIONS /api/v2/user", "allowed, allowed, allowed"),
        ("POST /v1/verify", "allowed, allowed, allowed"),
        ("GET /.well-known/jwks.json", "allowed, allowed, allowed"),
        ("GET /metrics", "allowed, allowed, allowed"),
        ("POST /v1/revoke", "undecided, undecided, undecided"),
        ("GET /console/users", "undecided, undecided, undecided"),
        ("GET /auth", "undecided, undecided, undecided"),
        ("GET /v1/admin/nothing", "denied, denied, denied"),
        ("GET /v1/verify", "denied, denied, denied"),
        ("PUT /api/v1/identities", "denied, denied, denied"),
    ] {
        let (method, target) = call.split_once(' ').unwrap();
        let decisions = [Some(&root), Some(&user), None].map(|token| {
            let request = json!({ "method": method, "target": target, "token": token });
            let tested = test(&api, request);
            let reason = tested["reason"].as_str().unwrap();
            let has_no_call = call.ends_with("nothing") || call.starts_with("GET /v1/verify");
            let is_missing = has_no_call || call.starts_with("PUT");
            assert_eq!(reason.contains("no such call"), is_missing, "{call}: {tested}");
            tested["decision"].as_str().unwrap().to_owned()
        });
        assert_eq!(decisions.join(", "), expected, "{call}");
        let head = format!("{method} {target} HTTP/1.1\r\nAuthorization: Bearer {root}\r\n");
        let real = server.request(&head);
        let is_refused = matches!(real.status, 403 | 405) || call.ends_with("nothing");
        let is_decided = decisions[0] != "undecided";
        assert_eq!(is_refused && is_decided, decisions[0] == "denied", "{call}: {real:?}");
    }
    // A token that is not accepted is refused where none is needed.
    let request = json!({ "method": "GET", "target": "/api/v2/health", "token": "a.b.c" });
    assert_decided(&test(&api, request), "denied", "the token is refused");
    let real = server.request("GET /api/v2/health HTTP/1.1\r\nAuthorization: Bearer a.b.c\r\n");
    assert_eq!(real.status, 403);
}

fn rights_of_scoped_tokens_depend_on_the_path(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi::root(&server);
    Api::root(&server).add_environment(ENVIRONMENT);
    let token = Api::root(&server).issue(ENVIRONMENT);
    let of = |environment: &str| format!("/v1/admin/environments/{environment}/tokens");
    for (target, decision, reason) in [
        (of(ENVIRONMENT), "allowed", "the token allows the request"),
        (of(OTHER), "denied", "not valid for the requested environment"),
        ("/v1/admin/users".into(), "denied", "scoped to a specific environment"),
        ("/v1/admin/api-keys".into(), "denied", "scoped to a specific environment"),
    ] {
        let request = json!({ "method": "GET", "target": target, "token": token });
        let tested = test(&api, request);
        assert_decided(&tested, decision, reason);
        let facts = tested["facts"].as_array().unwrap();
        assert_eq!(facts[0], json!({ "label": "request", "text": format!("GET {target}") }));
        assert_eq!(facts[1]["label"], "needs", "{tested}");
    }
}

/// Scoped tokens at calls that name the environment in other forms, or need no token.
fn decisions_are_those_of_the_call_itself(protocol: Protocol) {
    for provider in ["", &by_policy()] {
        let sandbox = Sandbox::over(protocol);
        let server = sandbox.serve(&configuration(provider));
        let api = AdminApi::root(&server);
        Api::root(&server).add_environment(ENVIRONMENT);
        let scoped = Api::root(&server).issue(ENVIRONMENT);
        let environment = "/api/v2/environment_auth";
        let tokens = |id: &str| format!("/v1/admin/environments/{id}/tokens");
        for (call, named) in [
            (format!("GET {}", tokens(&ENVIRONMENT.to_uppercase())), ""),
            (format!("GET {}", tokens(&ENVIRONMENT.replace('-', ""))), ""),
            (format!("GET {}", tokens(&OTHER.to_uppercase())), ""),
            (format!("GET {environment}?tid={ENVIRONMENT}"), ""),
            (format!("GET {environment}"), ENVIRONMENT),
            (format!("GET {environment}"), &format!(" {ENVIRONMENT} ")),
            ("GET /api/v2/health".into(), ""),
            ("GET /api/v2/docs".into(), ""),
        ] {
            let (method, target) = call.split_once(' ').unwrap();
            let request = json!({
                "method": method, "target": target, "environment": named, "token": scoped,
            });
            let tested = test(&api, request);
            let mut head = format!("{call} HTTP/1.1\r\nAuthorization: Bearer {scoped}\r\n");
            if !named.is_empty() {
                head += &format!("X-Inmanta-Tid: {named}\r\n");
            }
            let real = server.request(&head);
            assert_eq!(real.status == 403, tested["decision"] == "denied", "{tested} {real:?}");
        }
    }
}

fn claims_are_those_of_tokens_of_this_server(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let configuration =
        configuration("").replace("client_types=agent,compiler,api", "client_types=agent,api");
    let server = sandbox.serve(&configuration);
    let api = AdminApi::root(&server);
    let request =
        |claims: Value| json!({ "method": "GET", "target": "/api/v2/user", "claims": claims });
    for (claims, pointer) in [
        (json!({ "urn:inmanta:ct": "nonsense" }), "/claims/urn:inmanta:ct"),
        (json!({ "urn:inmanta:ct": "api,nonsense" }), "/claims/urn:inmanta:ct"),
        (json!({ "urn:inmanta:ct": "" }), "/claims/urn:inmanta:ct"),
        (json!({ "urn:inmanta:ct": 7 }), "/claims/urn:inmanta:ct"),
        (json!({ "urn:inmanta:ct": [] }), "/claims/urn:inmanta:ct"),
        (json!({ "urn:inmanta:ct": ["api", "x"] }), "/claims/urn:inmanta:ct/1"),
        (json!({ "urn:inmanta:ct": "api", "urn:inmanta:env": "x" }), "/claims/urn:inmanta:env"),
        (json!({ "urn:inmanta:ct": "api", "urn:inmanta:env": null }), "/claims/urn:inmanta:env"),
    ] {
        let refused = api.send(CALL, request(claims));
        let problem = assert_problem(&refused, 400, "invalid_request");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    // As a real token, which is signed with the key of the server.
    for (claims, decision, reason) in [
        (json!({ "urn:inmanta:ct": "api, agent" }), "allowed", "allows the request"),
        (json!({ "urn:inmanta:ct": "compiler" }), "denied", "refused (client_types)"),
    ] {
        assert_decided(&test(&api, request(claims.clone())), decision, reason);
        let token = token(&fixture::claims(claims));
        let real = json!({ "method": "GET", "target": "/api/v2/user", "token": token });
        assert_decided(&test(&api, real), decision, reason);
    }
    // A token that states no client type has this one.
    assert_decided(&test(&api, request(json!({}))), "allowed", "allows the request");
}
