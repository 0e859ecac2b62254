use countersign_tests::{binary::Sandbox, client::Protocol, over_every_protocol};
use serde_json::{Value, json};

use super::{AdminApi, assert_problem};
use crate::{
    fixture::{DEFAULT_POLICY, claims, good_token, policy_engine, token},
    users::{ENVIRONMENT, configuration},
};

over_every_protocol!(
    request_is_decided_by_routes,
    request_is_decided_by_the_policy,
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
