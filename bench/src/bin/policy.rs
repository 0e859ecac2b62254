//! Cost of a decision of the access policy: found in the cache, as the ratio to the cached
//! verification before it, and evaluated, as the ratio to the library's interpreter alone.
//!
//! Usage: `taskset -c 1 target/dist/policy`, on an otherwise idle machine.

use std::hint::black_box;

use countersign_bench::{ISSUER, NOW, cache_bytes, paired::compare, routes::RoutedRequest};
use countersign_server::{
    authorization::{
        ProxiedRequest,
        policy::{DEFAULT_POLICY, Policy, PolicyInput},
    },
    config::{Config, ConfigFormat, RawConfig},
};
use http::HeaderMap;
use regorus::{Engine, Value};
use serde_json::{Value as Json, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENDPOINTS: &str = r#"{"GET /page": {"client_types": ["api"], "auth_label": "page.read",
    "read_only": true, "environment_param": null}}"#;

fn main() {
    cached();
    evaluated();
}

fn cached() {
    let directory = std::env::temp_dir().join(format!("countersign-policy-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (policy, endpoints) = (directory.join("policy.rego"), directory.join("endpoints.json"));
    std::fs::write(&policy, DEFAULT_POLICY).expect("a file");
    std::fs::write(&endpoints, ENDPOINTS).expect("a file");
    let mut raw = RawConfig::default();
    let text = format!(
        "[listen]\nauthorization=policy-engine\ntrusted_proxies=127.0.0.1\ndialect=nginx\n\
         [endpoints]\nfile={}\n[policy_engine]\npolicy_file={}\n",
        endpoints.display(),
        policy.display()
    );
    raw.add("bench", &text, ConfigFormat::Ini);
    let settings = Config::from_raw(raw).unwrap_or_else(|problems| panic!("{problems}")).settings;
    let _deleted = std::fs::remove_dir_all(&directory);
    let (authorization, listener) = (&settings.auth.authorization, &settings.listeners[0]);
    let access = listener.access.as_ref().expect("a provider");
    let RoutedRequest { verifier, token, .. } = RoutedRequest::new(1, cache_bytes(1_000));
    let headers = HeaderMap::new();
    let request = ProxiedRequest { method: "GET", target: "/page?x=1", headers: &headers };
    let verify = || verifier.verify(black_box(token.as_bytes()), NOW).is_ok();
    assert!(verify());
    let verified = verifier.verify(token.as_bytes(), NOW).expect("a good token");
    let decide = || {
        let prepared = authorization.prepare(access, Some(black_box(&request)));
        authorization.authorize(&prepared, &verified, Some(&request), None).is_ok()
    };
    assert!(verified.is_cached() && decide());
    compare("a cached decision of the policy / a cached verification", &decide, &verify);
}

fn evaluated() {
    let endpoints: Json = serde_json::from_str(ENDPOINTS).expect("endpoints");
    let policy = Policy::compile("p.rego".as_ref(), DEFAULT_POLICY, &endpoints).expect("a policy");
    let token = json!({"iss": ISSUER, "aud": [ISSUER], "urn:inmanta:ct": ["api"], "sub": "bob",
        "urn:inmanta:roles": {"e": ["operator"]}, "urn:inmanta:is_admin": false});
    let parameters = json!({"X-Inmanta-tid": "e", "x": "1"});
    let input = PolicyInput {
        endpoint_id: "GET /page",
        parameters: parameters.as_object().expect("an object"),
        token: token.as_object().expect("an object"),
        issuer: None,
        tenant: None,
    };
    let mut engine = Engine::new();
    engine.add_policy("p.rego".into(), DEFAULT_POLICY.into()).expect("a policy");
    engine.add_data(Value::from(json!({ "endpoints": endpoints }))).expect("data");
    let compiled = engine.compile_with_entrypoint(&"data.policy.allow".into()).expect("a rule");
    let request = json!({ "endpoint_id": "GET /page", "parameters": parameters });
    let document = json!({ "request": request, "token": token });
    let value = Value::from(document.clone());
    let ours = || policy.allows(black_box(input)) == Ok(true);
    let evaluate = |value: Value| {
        let result = compiled.eval_with_input(black_box(value));
        result.is_ok_and(|value| value == Value::Bool(true))
    };
    let from_json = || evaluate(Value::from(black_box(&document).clone()));
    compare("an evaluated policy / bare regorus with JSON", &ours, &from_json);
    let from_value = || evaluate(value.clone());
    compare("an evaluated policy / bare regorus with its own values", &ours, &from_value);
}
