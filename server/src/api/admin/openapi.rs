//! The OpenAPI document of the API, made of the [table of operations](OPERATIONS).

mod responses;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use self::responses::responses;
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
            | AdminAnswer::Issued(schema)
            | AdminAnswer::Recorded(schema)
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
            "headers": responses::headers(),
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
