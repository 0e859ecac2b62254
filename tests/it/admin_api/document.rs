//! The document is walked: each of its operations is called on a real server.

use std::cmp::Reverse;

use countersign_tests::{
    binary::Sandbox, certificates::Authority, client::Protocol, http::Response, over_every_protocol,
};
use serde_json::{Value, json};

use super::AdminApi;
use crate::{
    fixture::ISSUER,
    users::{Api, ENVIRONMENT, PASSWORD, configuration},
};

over_every_protocol!(every_operation_answers_as_documented, refusals_have_documented_headers);

/// Calls that conflict with the static keys of a server.
const UNSUCCESSFUL: [&str; 1] = ["RefreshIssuer"];

fn every_operation_answers_as_documented(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration("[identities]\nenabled=true\n"));
    Api::root(&server).add_environment(ENVIRONMENT);
    let api = AdminApi::root(&server);
    let document = ApiDocument::of(&api);
    let mut operations = document.operations();
    assert!(operations.len() > 30, "{operations:?}");
    // What is created first is read, changed and deleted then; an assignment before its user and
    // its role.
    let order = |method: &str| {
        ["POST", "PUT", "GET", "PATCH", "DELETE"].iter().position(|one| *one == method)
    };
    operations.sort_by_key(|one| {
        let length = if one.method == "DELETE" { one.path.len() } else { 0 };
        (order(&one.method), Reverse(length))
    });
    let mut target = ApiTarget::example();
    for operation in operations {
        let call = target.call(&operation);
        let response = api.call(&call, "", &document.body(&operation));
        let (status, id) = (response.status, &*operation.id);
        assert!(status < 500, "{call}: {response:?}");
        assert_eq!(status < 300, !UNSUCCESSFUL.contains(&id), "{call}: {response:?}");
        document.check(&call, &operation, &response);
        match id {
            "CreateToken" => response.json()["jti"].as_str().unwrap().clone_into(&mut target.jti),
            "CreateIdentity" => {
                response.json()["id"].as_str().unwrap().clone_into(&mut target.id);
            }
            _ => {}
        }
    }
}

fn refusals_have_documented_headers(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let api = AdminApi { server: &server, token: String::new() };
    let document = ApiDocument::of(&api);
    for operation in document.operations().iter().filter(|one| one.needs_token) {
        let call = ApiTarget::example().call(operation);
        let refused = api.call(&call, "", &document.body(operation));
        assert_eq!(refused.status, 401, "{call}: {refused:?}");
        assert!(refused.header("www-authenticate").is_some(), "{call}: {refused:?}");
        document.check(&call, operation, &refused);
    }
}

/// Headers that are documented with each answer that has them.
const HEADERS: [&str; 4] = ["ETag", "Location", "Retry-After", "WWW-Authenticate"];

/// The values of parameters in paths.
#[derive(Clone)]
pub(super) struct ApiTarget {
    pub(super) username: String,
    pub(super) role: String,
    pub(super) environment: String,
    pub(super) jti: String,
    pub(super) id: String,
    pub(super) section: String,
}

impl ApiTarget {
    /// Returns the names that [`ApiDocument::body`] creates, and the section of the server's own
    /// tokens.
    pub(super) fn example() -> Self {
        Self {
            username: "bob".into(),
            role: "noc".into(),
            environment: ENVIRONMENT.into(),
            jti: ENVIRONMENT.into(),
            id: ENVIRONMENT.into(),
            section: "auth_jwt_default".into(),
        }
    }

    /// Returns the call of an operation.
    pub(super) fn call(&self, operation: &ApiOperation) -> String {
        let path = operation
            .path
            .replace("{username}", &self.username)
            .replace("{role}", &self.role)
            .replace("{environment}", &self.environment)
            .replace("{jti}", &self.jti)
            .replace("{id}", &self.id)
            .replace("{section}", &self.section);
        format!("{} {path}", operation.method)
    }
}

/// An operation of the document.
#[derive(Debug)]
pub(super) struct ApiOperation {
    pub(super) id: String,
    pub(super) method: String,
    path: String,
    pub(super) needs_token: bool,
    described: Value,
}

/// The OpenAPI document.
pub(super) struct ApiDocument(Value);

impl ApiDocument {
    /// Reads the document of a server.
    pub(super) fn of(api: &AdminApi<'_>) -> Self {
        Self(api.get("/openapi.json"))
    }

    /// Returns all operations.
    pub(super) fn operations(&self) -> Vec<ApiOperation> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, described)| ApiOperation {
                id: described["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
                needs_token: described["security"].is_null(),
                described: described.clone(),
            })
        });
        operations.collect()
    }

    /// Returns an example of the body of an operation; an empty one without a body.
    pub(super) fn body(&self, operation: &ApiOperation) -> String {
        let content = &operation.described["requestBody"]["content"]["application/json"];
        match (&*operation.id, self.example(&content["schema"])) {
            ("AddRevocation", _) => json!({ "issuer": ISSUER, "jti": "x" }).to_string(),
            (_, Value::Null) => String::new(),
            (_, example) => example.to_string(),
        }
    }

    /// Returns a value with the required members of a schema.
    fn example(&self, schema: &Value) -> Value {
        let schema = self.resolved(schema);
        if let Some(choice) = schema["enum"].get(0) {
            return choice.clone();
        }
        match schema["type"].as_str() {
            Some("object") => {
                let required = schema["required"].as_array().unwrap().iter();
                let required = required.map(|name| name.as_str().unwrap());
                let member = |name: &str| {
                    let value = match name {
                        "username" => "bob".into(),
                        "name" => "noc".into(),
                        "password" => PASSWORD.into(),
                        "ca_certificate" => Authority::root("ca").pem().into(),
                        "target" => "/api/v2/user".into(),
                        "method" => "GET".into(),
                        _ => self.example(&schema["properties"][name]),
                    };
                    (name.to_owned(), value)
                };
                Value::Object(required.map(member).collect())
            }
            Some("array") => json!([self.example(&schema["items"])]),
            Some("boolean") => true.into(),
            Some("integer") => schema["minimum"].clone(),
            Some("string") => "x".into(),
            Some(other) => panic!("{other}"),
            None => Value::Null,
        }
    }

    fn resolved<'v>(&'v self, schema: &'v Value) -> &'v Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
            None => schema,
        }
    }

    /// Checks that an answer is documented.
    fn check(&self, call: &str, operation: &ApiOperation, response: &Response) {
        let documented = &operation.described["responses"][response.status.to_string()];
        assert!(documented.is_object(), "{call}: {} is not documented", response.status);
        for name in HEADERS {
            let is_given = response.header(&name.to_lowercase()).is_some();
            let is_documented = documented["headers"][name].is_object();
            assert!(is_documented || !is_given, "{call}: {name} is not documented");
            // Refusals for some causes lack one.
            let is_expected = is_documented && response.status < 300;
            assert!(is_given || !is_expected, "{call}: {name} is missing");
        }
        let Some(content) = documented["content"].as_object() else {
            assert_eq!(response.body, "", "{call}");
            return;
        };
        let (media_type, content) = content.iter().next().unwrap();
        let given = response.header("content-type").unwrap();
        assert_eq!(given.split(';').next(), Some(&**media_type), "{call}");
        if media_type.ends_with("json") {
            self.validate(call, &content["schema"], &response.json());
        }
    }

    /// Checks a value by its schema.
    fn validate(&self, place: &str, schema: &Value, value: &Value) {
        let schema = self.resolved(schema);
        if let Some(choices) = schema["anyOf"].as_array() {
            return match value {
                Value::Null => assert_eq!(choices[1]["type"], "null", "{place}"),
                value => self.validate(place, &choices[0], value),
            };
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => Vec::from_iter(one.as_str()),
        };
        let actual = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(types.contains(&actual), "{place}: {value} is not {types:?}");
        match value {
            Value::String(text) if schema["format"] == "uuid" => {
                assert_eq!((text.len(), text.matches('-').count()), (36, 4), "{place}: {text}");
            }
            Value::String(text) if schema["format"] == "date-time" => {
                assert!(text.ends_with('Z') && text.len() == 20, "{place}: {text}");
            }
            Value::Array(elements) => {
                for element in elements {
                    self.validate(place, &schema["items"], element);
                }
            }
            Value::Object(members) => {
                for name in schema["required"].as_array().into_iter().flatten() {
                    assert!(members.contains_key(name.as_str().unwrap()), "{place}: no {name}");
                }
                for (name, member) in members {
                    let place = format!("{place} {name}");
                    match (&schema["properties"][name], &schema["additionalProperties"]) {
                        (Value::Null, Value::Bool(false)) => panic!("{place} is not documented"),
                        (Value::Null, Value::Null) => {}
                        (Value::Null, others) => self.validate(&place, others, member),
                        (property, _) => self.validate(&place, property, member),
                    }
                }
            }
            _ => {}
        }
    }
}
