//! The default policy against decisions of the Inmanta server.

use std::path::Path;

use countersign_server::authorization::policy::{DEFAULT_POLICY, Policy, PolicyInput};
use countersign_tests::shared;
use serde_json::{Map, Value, json};

/// Compiles the default policy for a table of endpoints.
pub(crate) fn default_policy(endpoints: &Value) -> Policy {
    Policy::compile(Path::new("inmanta.rego"), DEFAULT_POLICY, endpoints).unwrap()
}

/// Evaluates an input as the policy engine of the Inmanta server takes it.
pub(crate) fn allows(policy: &Policy, input: &Value) -> bool {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (parameters, token): (Map<_, _>, Map<_, _>) =
        (object(&input["request"]["parameters"]), object(&input["token"]));
    let endpoint_id = input["request"]["endpoint_id"].as_str().unwrap();
    let issuer = input["issuer"]["name"].as_str();
    let input =
        PolicyInput { endpoint_id, parameters: &parameters, token: &token, issuer, tenant: None };
    policy.allows(input).unwrap()
}

#[test]
fn recorded_decisions_are_the_same() {
    let (Some(endpoints), Some(cases)) = (
        shared::json("compat/inmanta_endpoints.json"),
        shared::json("compat/inmanta_policy_cases.json"),
    ) else {
        return;
    };
    let policy = default_policy(&endpoints["endpoints"]);
    for case in cases["cases"].as_array().unwrap() {
        assert_eq!(json!(allows(&policy, &case["input"])), case["allow"], "{}", case["name"]);
    }
}
