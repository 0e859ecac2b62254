//! The default policy in another Rego engine, rego-cpp: the same decisions about random inputs.

use std::{fs, path::Path, process::Command};

use countersign_server::authorization::policy::DEFAULT_POLICY;
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, TestRng, TestRunner},
};
use serde_json::{Map, Value, json};

use super::{
    behaviours::endpoints,
    default_policy::default_policy,
    roles_and_endpoints::{ENVIRONMENT, ROLES},
};

const INPUTS: usize = 5000;

#[test]
fn another_engine_decides_the_same() {
    let endpoints = endpoints();
    let inputs = inputs(&endpoints);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name)
    };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy");
    let lines: Vec<_> = inputs.iter().map(Value::to_string).collect();
    let output = Command::new(tests.join(".venv/bin/python"))
        .arg(tests.join("decide.py"))
        .arg(file("policy.rego", DEFAULT_POLICY))
        .arg(file("data.json", &json!({ "endpoints": spelled(&endpoints) }).to_string()))
        .arg(file("inputs.jsonl", &lines.join("\n")))
        .output()
        .expect("tests/run installs the engine");
    let text = String::from_utf8(output.stdout).unwrap();
    let decisions: Vec<_> = text.lines().collect();
    assert_eq!(decisions.len(), INPUTS, "{}", String::from_utf8_lossy(&output.stderr));

    let policy = default_policy(&endpoints);
    let mut allowed = 0;
    for (input, decision) in inputs.iter().zip(decisions) {
        let ours = policy.allows_document(input).unwrap();
        assert_eq!(ours.to_string(), decision, "{input}");
        allowed += usize::from(ours);
    }
    // The inputs are varied enough to prove something.
    assert!((INPUTS / 10..INPUTS * 9 / 10).contains(&allowed), "{allowed} of {INPUTS} allowed");
}

/// Returns the endpoints with both spellings of their parameters, as policies have them.
fn spelled(endpoints: &Value) -> Value {
    let mut spelled = endpoints.clone();
    for (id, properties) in endpoints.as_object().unwrap() {
        spelled[id.replace('<', "{").replace('>', "}")] = properties.clone();
    }
    spelled
}

fn inputs(endpoints: &Value) -> Vec<Value> {
    let ids: Vec<_> = endpoints.as_object().unwrap().keys().cloned().collect();
    let id = prop_oneof![
        30 => select(ids),
        1 => Just("GET /api/v9/unknown".to_owned()),
        2 => Just("PUT /api/v1/file/<id>".to_owned()),
        2 => Just("PATCH /api/v2/user/{username}/password".to_owned()),
        2 => Just("POST /api/v1/notify/{id}".to_owned()),
    ];
    let issuer = prop_oneof![
        4 => Just(None),
        1 => Just(Some(json!({ "name": "auth_jwt_idp" }))),
    ];
    let input = (id, parameters(), token(), issuer).prop_map(|(id, parameters, token, issuer)| {
        let request = json!({ "endpoint_id": id, "parameters": parameters });
        let mut input = json!({ "request": request, "token": token });
        if let Some(issuer) = issuer {
            input["issuer"] = issuer;
        }
        input
    });
    let config = Config::default();
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    (0..INPUTS).map(|_| input.new_tree(&mut runner).unwrap().current()).collect()
}

fn parameters() -> impl Strategy<Value = Value> {
    let environment = prop_oneof![
        12 => Just(json!(ENVIRONMENT)),
        2 => Just(json!(ENVIRONMENT.replace('1', "2"))),
        1 => Just(json!(null)),
        1 => Just(json!(1)),
        1 => Just(json!([ENVIRONMENT])),
    ];
    let update = select(vec![json!(true), json!(false), json!(null), json!("false")]);
    let user = select(vec![json!("alice"), json!("bob"), json!(null)]);
    let member = prop_oneof![
        4 => (select(vec!["X-Inmanta-tid", "id", "environment", "environment_id"]), environment),
        1 => (Just("update"), update),
        1 => (Just("username"), user),
    ];
    vec(member, 0..7).prop_map(object)
}

fn token() -> impl Strategy<Value = Value> {
    let mut known = ROLES.to_vec();
    known.push("unknown");
    let assigned = prop_oneof![
        12 => vec(select(known), 0..3).prop_map(|roles| json!(roles)),
        1 => Just(json!("noc")),
        1 => Just(json!({ "noc": "noc" })),
        1 => Just(json!([["noc"], 1, null])),
    ];
    let roles = prop_oneof![
        12 => assigned.prop_map(|assigned| json!({ ENVIRONMENT: assigned })),
        1 => Just(json!(["noc"])),
        1 => Just(json!(null)),
    ];
    let is_admin = select(vec![json!(false), json!(true), json!("true"), json!(null)]);
    let member = prop_oneof![
        6 => (Just("urn:inmanta:roles"), roles),
        2 => (Just("sub"), select(vec![json!("alice"), json!("bob"), json!(null)])),
        1 => (Just("urn:inmanta:is_admin"), is_admin),
    ];
    vec(member, 0..4).prop_map(object)
}

fn object(members: Vec<(&'static str, Value)>) -> Value {
    members.into_iter().map(|(name, value)| (name.into(), value)).collect::<Map<_, _>>().into()
}
