//! The settings of environments. They are fixed, and describe this server: it neither compiles nor
//! deploys, and protects no environment from deletion.

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::data;
use crate::base::reply::{Body, json};

/// Name, section and description of each setting, by name. All are booleans, and off.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("auto_deploy", "deploy", "Whether new versions are deployed. This server deploys none."),
    ("protected_environment", "environment", "Whether the environment cannot be deleted."),
    ("server_compile", "compiler", "Whether the server compiles models. This server does not."),
];

/// Returns the value of each setting.
pub(super) fn values() -> Value {
    SETTINGS.iter().map(|(name, ..)| ((*name).to_owned(), Value::Bool(false))).collect()
}

/// Answers with all settings and their definitions.
pub(super) fn respond(is_v1: bool) -> Response<Body> {
    let definitions: Map<_, _> = SETTINGS.iter().map(definition).collect();
    if is_v1 {
        let settings = json!({ "settings": values(), "metadata": definitions });
        return json(StatusCode::OK, &settings);
    }
    data(&json!({ "settings": values(), "definition": definitions }))
}

fn definition((name, section, doc): &(&str, &str, &str)) -> (String, Value) {
    let definition = json!({
        "name": name,
        "type": "bool",
        "default": false,
        "doc": doc,
        "recompile": false,
        "update_model": false,
        "agent_restart": false,
        "allowed_values": null,
        "section": section,
        // No call changes it.
        "protected": true,
        "protected_by": null,
    });
    ((*name).to_owned(), definition)
}
