//! The default policy against a second implementation of its description: every role at every
//! endpoint.

use std::collections::BTreeSet;

use countersign_server::authorization::endpoints::EndpointTable;
use countersign_tests::shared;
use serde_json::{Value, json};

use super::default_policy::{allows, default_policy};

pub(crate) const ENVIRONMENT: &str = "11111111-1111-1111-1111-111111111111";

pub(crate) const ROLES: [&str; 5] =
    ["read-only", "noc", "operator", "environment-admin", "environment-expert-admin"];

/// Returns the labels of a role.
fn labels(role: &str) -> BTreeSet<String> {
    const READ_ONLY: &str = "agent compile-report compiler.status desired-state \
        discovered-resources docs dryrun environment environment.setting fact file graphql metrics \
        notification parameter pip-config project resource status lsm.callback lsm.catalog \
        lsm.docs lsm.instance lsm.order";
    const NOC: &str =
        "deploy dryrun.write agent.pause-resume environment.halt-resume notification.write";
    const OPERATOR: &str = "lsm.instance.write lsm.order.write";
    const ADMIN: &str = "desired-state.write environment.modify environment.setting.write \
        lsm.callback.write lsm.catalog.write lsm.instance.migrate compiler.execute";
    let words = |text: &'static str| text.split_whitespace().map(str::to_owned);
    let mut labels: BTreeSet<String> = words(READ_ONLY).map(|label| label + ".read").collect();
    let level = ROLES.iter().position(|known| *known == role).unwrap();
    for (needed, added) in [(1, NOC), (2, OPERATOR), (3, ADMIN)] {
        if level >= needed {
            labels.extend(words(added));
        }
    }
    labels
}

/// Whether a user may make a call of an endpoint in [`ENVIRONMENT`], by the description.
pub(crate) fn is_described(id: &str, endpoint: &Value, input: &Value) -> bool {
    let token = &input["token"];
    if token["urn:inmanta:is_admin"] == true {
        return true;
    }
    let parameters = &input["request"]["parameters"];
    let of_no_environment = endpoint["environment_param"].is_null() && endpoint.is_object();
    let label = endpoint["auth_label"].as_str().unwrap_or_default();
    let is_password = id == "PATCH /api/v2/user/<username>/password";
    (endpoint["read_only"] == true && of_no_environment && label != "support.support-archive.read")
        || id == "PUT /api/v1/file/<id>"
        || (is_password
            && input.get("issuer").is_none()
            && token["sub"].is_string()
            && token["sub"] == parameters["username"])
        || roles(endpoint, input).any(|role| role_allows(role, id, endpoint, parameters))
}

/// Returns the roles of the user in the environment of the call.
fn roles<'i>(endpoint: &Value, input: &'i Value) -> impl Iterator<Item = &'i str> {
    let parameter = endpoint["environment_param"].as_str();
    let environment =
        parameter.and_then(|parameter| input["request"]["parameters"][parameter].as_str());
    let assigned = environment.map(|environment| &input["token"]["urn:inmanta:roles"][environment]);
    let roles = assigned.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    roles.filter(|role| ROLES.contains(role))
}

fn role_allows(role: &str, id: &str, endpoint: &Value, parameters: &Value) -> bool {
    let label = endpoint["auth_label"].as_str().unwrap_or_default();
    let is_compile = id == "GET /api/v1/notify/<id>" || id == "POST /api/v1/notify/<id>";
    let keeps_sources = parameters.get("update").is_none_or(|update| *update == false);
    let is_api = endpoint["client_types"].as_array().unwrap().contains(&json!("api"));
    labels(role).contains(label)
        || (is_compile && keeps_sources && role != "read-only")
        || (role == "environment-expert-admin" && is_api && label != "environment.create")
}

/// Returns an input of a user with one role.
fn input(id: &str, endpoint: &Value, role: Option<&str>) -> Value {
    let mut parameters = json!({});
    if let Some(parameter) = endpoint["environment_param"].as_str() {
        parameters[parameter] = ENVIRONMENT.into();
    }
    let assigned = role.map_or_else(|| json!({}), |role| json!({ ENVIRONMENT: [role] }));
    let token = json!({ "sub": "bob", "urn:inmanta:ct": ["api"], "urn:inmanta:roles": assigned });
    json!({ "request": { "endpoint_id": id, "parameters": parameters }, "token": token })
}

#[test]
fn every_role_is_as_described_at_every_endpoint() {
    let Some(endpoints) = shared::json("compat/inmanta_endpoints.json") else { return };
    let policy = default_policy(&endpoints["endpoints"]);
    let mut allowed = [0; 7];
    for (id, endpoint) in endpoints["endpoints"].as_object().unwrap() {
        let roles = [None].into_iter().chain(ROLES.map(Some));
        for (index, role) in roles.enumerate() {
            let mut input = input(id, endpoint, role);
            for update in [json!(null), json!(false), json!(true)] {
                if !update.is_null() {
                    input["request"]["parameters"]["update"] = update.clone();
                }
                let expected = is_described(id, endpoint, &input);
                let text = format!("{id} {role:?} {update}");
                assert_eq!(allows(&policy, &input), expected, "{text}");
                // The declared default of `update` is true.
                allowed[index] += u32::from(update == true && expected);
            }
        }
        let mut input = input(id, endpoint, None);
        input["token"]["urn:inmanta:is_admin"] = true.into();
        allowed[6] += u32::from(allows(&policy, &input));
    }
    // As observed, but for the operator, who may do what noc may, and the expert, who may make
    // every call that concerns the environment.
    assert_eq!(allowed[..5], [25, 69, 78, 78, 91]);
    assert_eq!(allowed[6], 123);
    assert!(allowed[5] > 99, "{allowed:?}");
}

#[test]
fn endpoints_of_this_server_have_the_real_properties() {
    let Some(real) = shared::json("compat/inmanta_endpoints.json") else { return };
    let ours = EndpointTable::of_api().data()["endpoints"].take();
    let mut others = Vec::new();
    for (id, properties) in ours.as_object().unwrap() {
        match real["endpoints"].get(id) {
            Some(expected) => assert_eq!(properties, expected, "{id}"),
            None => others.push(id.as_str()),
        }
    }
    // The real server does not authorize the first two, and does not have the third.
    assert_eq!(others, ["GET /api/v2/health", "POST /api/v2/login", "POST /api/v2/logout"]);
}
