//! The OpenAPI document of the API, made of the [table of operations](OPERATIONS).

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    operation::{AdminAnswer, AdminOperation, AdminPermission, path_schema},
    page::{AFTER, DEFAULT_LIMIT, LIMIT, MAX_LIMIT},
    table::OPERATIONS,
};
use crate::base::reply::{Body, json};

/// Version of the API. That of the program is not for clients without a token.
const VERSION: &str = "1";
/// Name of the schema of errors.
const PROBLEM: &str = "Problem";

/// Answers with the document.
pub(super) fn respond() -> Response<Body> {
    json(StatusCode::OK, &document())
}

/// Returns the document.
pub(super) fn document() -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert(PROBLEM.into(), problem_schema());
    for operation in OPERATIONS {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.to_lowercase()] = describe(operation);
        let answered = match operation.answer {
            AdminAnswer::One(schema)
            | AdminAnswer::Value(schema)
            | AdminAnswer::Created(schema)
            | AdminAnswer::List(schema)
            | AdminAnswer::All(schema) => Some(schema),
            AdminAnswer::Nothing | AdminAnswer::Document | AdminAnswer::Page => None,
        };
        for schema in operation.body.into_iter().chain(answered) {
            schema.add_to(&mut schemas);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Countersign Admin API", "version": VERSION },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
        },
    })
}

fn describe(operation: &AdminOperation) -> Value {
    let mut described = json!({
        "operationId": format!("{:?}", operation.action),
        "summary": operation.summary,
        "tags": [tag(operation)],
        "x-permission": permission(operation),
        "responses": responses(operation),
    });
    if operation.permission == AdminPermission::Open {
        described["security"] = json!([]);
    }
    let parameters = parameters(operation);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = operation.body {
        let content = json!({ "application/json": { "schema": body.reference() } });
        described["requestBody"] = json!({ "required": true, "content": content });
    }
    described
}

/// Returns the name of the resource of an operation: the first segment after the common ones, or
/// that of a resource in an environment.
pub(super) fn tag(operation: &AdminOperation) -> &'static str {
    let mut segments = operation.path.split('/').skip(3);
    let first = segments.next().unwrap_or_default();
    if first == "environments" { segments.nth(1).unwrap_or(first) } else { first }
}

/// Returns who may make a call, in words.
pub(super) fn permission(operation: &AdminOperation) -> String {
    match operation.permission {
        AdminPermission::Open => "every client, without a token".into(),
        AdminPermission::Administrator => "those who may administer the server".into(),
        AdminPermission::Call(method, path) => format!("those who may call {method} {path}"),
    }
}

fn parameters(operation: &AdminOperation) -> Vec<Value> {
    let in_path = operation.path_parameters().map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": path_schema(name).json() })
    });
    let in_query = operation.query.iter().map(|one| {
        json!({
            "name": one.name, "in": "query", "description": one.about,
            "schema": one.value.json(),
        })
    });
    let mut parameters: Vec<_> = in_path.chain(in_query).collect();
    let header = |name: &str, about: &str| {
        json!({
            "name": name, "in": "header", "description": about, "schema": { "type": "string" },
        })
    };
    if operation.is_paged() {
        parameters.push(json!({
            "name": LIMIT, "in": "query", "description": "Most items of the page.",
            "schema": {
                "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT,
            },
        }));
        parameters.push(json!({
            "name": AFTER, "in": "query",
            "description": "Where the page begins, as `next` of the page before has it.",
            "schema": { "type": "string" },
        }));
    }
    if matches!(operation.answer, AdminAnswer::One(_)) && operation.method == "GET" {
        parameters.push(header("If-None-Match", "Answers 304 if the ETag is still this one."));
    }
    if operation.has_precondition() {
        parameters.push(header("If-Match", "Answers 412 unless the ETag is still this one."));
    }
    parameters
}

fn responses(operation: &AdminOperation) -> Value {
    let mut responses = BTreeMap::new();
    let (status, success) = success(operation);
    responses.insert(status, success);
    if operation.permission == AdminPermission::Open {
        return json!(responses);
    }
    let mut add = |status, about: &str| {
        responses.insert(status, problem(about));
    };
    add("400", "The request is invalid, or has two credentials.");
    add("401", "The token is missing or rejected.");
    add("403", "The call is not allowed.");
    add("413", "The body is too long.");
    add("429", "Too many attempts.");
    add("503", "The call cannot be answered now.");
    if operation.path_parameters().next().is_some() {
        add("404", "Something in the path does not exist.");
    }
    if operation.conflicts {
        add("409", "The call conflicts with the present state.");
    }
    if operation.has_precondition() {
        add("412", "It was changed meanwhile.");
    }
    if matches!(operation.answer, AdminAnswer::One(_)) && operation.method == "GET" {
        responses.insert("304", json!({ "description": "It has not changed." }));
    }
    json!(responses)
}

/// Returns the status of a call that succeeds, and its answer.
fn success(operation: &AdminOperation) -> (&'static str, Value) {
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let etag = json!({ "ETag": { "schema": { "type": "string" } } });
    match operation.answer {
        AdminAnswer::Nothing => ("204", json!({ "description": "Done." })),
        AdminAnswer::One(schema) => (
            "200",
            json!({
                "description": "The resource.",
                "headers": etag,
                "content": content(schema.reference()),
            }),
        ),
        AdminAnswer::Value(schema) => {
            ("200", json!({ "description": "The result.", "content": content(schema.reference()) }))
        }
        AdminAnswer::Created(schema) => {
            ("201", json!({ "description": "Created.", "content": content(schema.reference()) }))
        }
        AdminAnswer::List(schema) => {
            let properties = json!({
                "items": { "type": "array", "items": schema.reference() },
                "next": {
                    "type": ["string", "null"],
                    "description": "The address of the next page; null on the last page.",
                },
            });
            let page = json!({
                "type": "object", "properties": properties, "required": ["items", "next"],
            });
            ("200", json!({ "description": "A page of the list.", "content": content(page) }))
        }
        AdminAnswer::All(schema) => {
            let items = json!({ "type": "array", "items": schema.reference() });
            let list = json!({
                "type": "object", "properties": { "items": items }, "required": ["items"],
            });
            ("200", json!({ "description": "The list.", "content": content(list) }))
        }
        AdminAnswer::Document => {
            let document = content(json!({ "type": "object" }));
            ("200", json!({ "description": "The document.", "content": document }))
        }
        AdminAnswer::Page => (
            "200",
            json!({
                "description": "The page.",
                "content": { "text/html": { "schema": { "type": "string" } } },
            }),
        ),
    }
}

fn problem(about: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{PROBLEM}") });
    json!({
        "description": about,
        "content": { "application/problem+json": { "schema": schema } },
    })
}

fn problem_schema() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    json!({
        "type": "object",
        "properties": {
            "type": text("`about:blank`."),
            "title": text("The status in words."),
            "status": { "type": "integer", "description": "The status." },
            "detail": text("The reason, for people."),
            "code": text("The reason, for programs."),
            "pointer": text("The member of the body that is wrong, as a JSON Pointer."),
            "parameter": text("The parameter that is wrong."),
        },
        "required": ["type", "title", "status", "detail", "code"],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::authorization::endpoints::api::{PathMatch, find_endpoint};

    #[test]
    fn document_has_every_operation_of_the_table() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let described = paths.values().flat_map(|item| item.as_object().unwrap().values());
        let ids: BTreeSet<_> = described.map(|one| one["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), OPERATIONS.len(), "ids are unique");
    }

    #[test]
    fn references_of_the_document_exist() {
        fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(elements) => elements.iter().for_each(|one| references(one, found)),
                _ => {}
            }
        }
        let (document, mut found) = (document(), BTreeSet::new());
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn permissions_are_those_of_calls_that_exist() {
        for operation in OPERATIONS {
            let AdminPermission::Call(method, path) = operation.permission else { continue };
            let found = find_endpoint(method, path);
            assert!(matches!(found, PathMatch::Endpoint(..)), "{method} {path}");
        }
    }

    #[test]
    fn changes_are_recorded_and_reads_are_not() {
        for operation in OPERATIONS {
            let is_recorded = operation.audited.is_some();
            let is_change = !matches!(operation.answer, AdminAnswer::Value(_));
            let is_change = is_change && operation.method != "GET";
            assert_eq!(is_recorded, is_change, "{}", operation.path);
        }
    }
}
