//! Endpoint files from OpenAPI documents (version 3, in JSON).
//!
//! An operation states its properties in `x-auth-label`, `x-client-types`, `x-read-only` and
//! `x-environment-param`, which its path or the document may state for all of theirs. Without
//! them, GET and HEAD are read-only, the client type is `api`, the label is the tag or the last
//! word of the path with `.read` or `.write`, and the endpoint is outside environments.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::EndpointTable;
use crate::base::redacted::quoted;

/// Converts an OpenAPI document into the endpoints of an endpoint file. `base` replaces the path of
/// the first server in the document, which is put before all paths.
///
/// # Errors
/// The mistake in the document, and its place.
pub fn import(document: &Value, base: Option<&str>) -> Result<Value, String> {
    let version = document["openapi"].as_str().unwrap_or_default();
    if !version.starts_with("3.") {
        return Err("not an OpenAPI document of version 3: it needs openapi = 3.x".into());
    }
    let paths = document["paths"].as_object().ok_or("the document has no paths")?;
    let base = base.unwrap_or_else(|| server_path(document)).trim_end_matches('/');
    let mut endpoints = BTreeMap::new();
    for (path, item) in paths {
        let operations = METHODS.iter().filter_map(|method| Some((*method, item.get(*method)?)));
        for (method, operation) in operations {
            let context = OpenApiOperation { document, item, operation, method, path };
            let id = format!("{} {base}{}", method.to_uppercase(), bracketed(path));
            let properties = context.properties().map_err(|text| format!("{id}: {text}"))?;
            endpoints.insert(id, properties);
        }
    }
    let file = json!({ "endpoints": endpoints });
    EndpointTable::default().add_file(&file.to_string()).map_err(|error| error.to_string())?;
    Ok(file)
}

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// An operation of a document, with all that applies to it.
struct OpenApiOperation<'d> {
    document: &'d Value,
    item: &'d Value,
    operation: &'d Value,
    method: &'d str,
    path: &'d str,
}

impl<'d> OpenApiOperation<'d> {
    fn properties(&self) -> Result<Value, String> {
        let is_read_only = match self.extension("x-read-only") {
            None => matches!(self.method, "get" | "head" | "options" | "trace"),
            Some(value) => value.as_bool().ok_or("x-read-only is not a boolean")?,
        };
        let label = match self.extension("x-auth-label") {
            None => self.default_label(is_read_only),
            Some(value) => value.as_str().ok_or("x-auth-label is not a string")?.into(),
        };
        let environment = match self.extension("x-environment-param") {
            None | Some(Value::Null) => Value::Null,
            Some(value @ Value::String(_)) => value.clone(),
            Some(_) => return Err("x-environment-param is not the name of a parameter".into()),
        };
        let client_types = self.extension("x-client-types").cloned().unwrap_or(json!(["api"]));
        let mut properties = json!({
            "auth_label": label,
            "client_types": client_types,
            "environment_param": environment,
            "read_only": is_read_only,
        });
        let parameters = self.parameters()?;
        if !parameters.is_empty() {
            properties["parameters"] = Value::Object(parameters);
        }
        Ok(properties)
    }

    /// Returns an extension of the operation, or else of its path, or of the document.
    fn extension(&self, name: &str) -> Option<&'d Value> {
        [self.operation, self.item, self.document].into_iter().find_map(|value| value.get(name))
    }

    fn default_label(&self, is_read_only: bool) -> String {
        let tag = self.operation["tags"][0].as_str();
        let last_word =
            self.path.rsplit('/').find(|segment| !segment.is_empty() && !segment.starts_with('{'));
        let group = tag.or(last_word).unwrap_or("api").to_lowercase().replace(' ', "-");
        format!("{group}.{}", if is_read_only { "read" } else { "write" })
    }

    /// Returns the parameters that are not just strings of the path or the query.
    fn parameters(&self) -> Result<Map<String, Value>, String> {
        let mut parameters = Map::new();
        let lists = [&self.item["parameters"], &self.operation["parameters"]];
        for written in lists.into_iter().filter_map(Value::as_array).flatten() {
            let parameter = resolve(self.document, written)?;
            let name = parameter["name"].as_str().ok_or("a parameter has no name")?;
            let place = parameter["in"].as_str().unwrap_or_default();
            let schema = resolve(self.document, &parameter["schema"])?;
            let described = describe(place, schema);
            match place {
                "cookie" => continue,
                "path" | "query" | "header" => {}
                other => return Err(format!("parameter {name} is in {}", quoted(other))),
            }
            if place == "header" || described.len() > 1 {
                parameters.insert(name.into(), Value::Object(described));
            }
        }
        let body = resolve(self.document, &self.operation["requestBody"])?;
        let schema = resolve(self.document, &body["content"]["application/json"]["schema"])?;
        for (name, written) in schema["properties"].as_object().into_iter().flatten() {
            let described = describe("body", resolve(self.document, written)?);
            if described.contains_key("default") && !parameters.contains_key(name) {
                parameters.insert(name.clone(), Value::Object(described));
            }
        }
        Ok(parameters)
    }
}

/// Returns place, type and default of a parameter, without a type that is a string.
fn describe(place: &str, schema: &Value) -> Map<String, Value> {
    let mut described = Map::from_iter([("in".to_owned(), place.into())]);
    // The type of an optional value may be a list of types, or one of several schemas.
    let alternatives = schema["anyOf"].as_array().map_or(&[][..], Vec::as_slice);
    let typed = |schema: &Value| schema.get("type").filter(|kind| *kind != "null").cloned();
    let kind = typed(schema).or_else(|| alternatives.iter().find_map(typed));
    let kind = match &kind {
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|one| *one != "null")
        }
        kind => kind.as_ref().and_then(Value::as_str),
    };
    let is_uuid = |schema: &Value| schema["format"] == "uuid";
    match kind {
        _ if is_uuid(schema) || alternatives.iter().any(is_uuid) => {
            described.insert("type".into(), "uuid".into());
        }
        Some(kind @ ("boolean" | "integer" | "number" | "array" | "object")) => {
            described.insert("type".into(), kind.into());
        }
        _ => {}
    }
    if let Some(default) = schema.get("default") {
        described.insert("default".into(), default.clone());
    }
    described
}

/// Follows a reference within the document.
fn resolve<'d>(document: &'d Value, value: &'d Value) -> Result<&'d Value, String> {
    let Some(reference) = value["$ref"].as_str() else { return Ok(value) };
    let found = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
    found.ok_or_else(|| format!("the reference {} leads outside the document", quoted(reference)))
}

/// Returns the path of the first server.
fn server_path(document: &Value) -> &str {
    let url = document["servers"][0]["url"].as_str().unwrap_or_default();
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|start| rest.get(start..)).unwrap_or_default(),
        None => url,
    };
    if path.contains('{') { "" } else { path }
}

/// Writes `<name>` for `{name}`.
fn bracketed(path: &str) -> String {
    path.replace('{', "<").replace('}', ">")
}
