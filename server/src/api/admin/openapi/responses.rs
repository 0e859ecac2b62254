//! The responses of an operation in the OpenAPI document, with their headers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::PROBLEM;
use crate::api::admin::{
    operation::{AdminAction, AdminAnswer, AdminOperation, AdminPermission},
    schema::ObjectSchema,
};

/// A header of responses, as [`headers`] describes it.
#[derive(Clone, Copy)]
enum ResponseHeader {
    Tag,
    Location,
    RetryAfter,
    Challenge,
    NewSession,
}

impl ResponseHeader {
    const ALL: [Self; 5] =
        [Self::Tag, Self::Location, Self::RetryAfter, Self::Challenge, Self::NewSession];

    /// Returns its name, which is that in the components of the document too.
    const fn name(self) -> &'static str {
        match self {
            Self::Tag => "ETag",
            Self::Location => "Location",
            Self::RetryAfter => "Retry-After",
            Self::Challenge => "WWW-Authenticate",
            Self::NewSession => "Authorization",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Tag => "The tag of the resource, for `If-Match` and `If-None-Match`.",
            Self::Location => "The address of the new resource.",
            Self::RetryAfter => "The seconds after which to try again.",
            Self::Challenge => "What the call needs (RFC 6750).",
            Self::NewSession => {
                "`Bearer` and the token of a new session, if the password is \
                                 one's own."
            }
        }
    }

    fn schema(self) -> Value {
        match self {
            Self::RetryAfter => json!({ "type": "integer", "minimum": 0 }),
            _ => json!({ "type": "string" }),
        }
    }
}

/// Returns the headers that responses refer to.
pub(super) fn headers() -> Value {
    let described = ResponseHeader::ALL.map(|one| {
        let header = json!({ "description": one.about(), "schema": one.schema() });
        (one.name().to_owned(), header)
    });
    described.into_iter().collect::<Map<_, _>>().into()
}

/// Returns the responses of an operation, by status.
pub(super) fn responses(operation: &AdminOperation) -> Value {
    let mut responses = BTreeMap::new();
    let (status, success) = success(operation);
    responses.insert(status, success);
    if operation.permission == AdminPermission::Open {
        return json!(responses);
    }
    let challenge = &[ResponseHeader::Challenge][..];
    let retry = &[ResponseHeader::RetryAfter][..];
    let mut add = |status, about: &str, headers| {
        responses.insert(status, with_headers(problem(about), headers));
    };
    add("400", "The request is invalid, or has two credentials.", challenge);
    add("401", "The token is missing or rejected.", challenge);
    add("403", "The call is not allowed.", &[]);
    add("413", "The body is too long.", &[]);
    add("429", "Too many attempts.", retry);
    add("503", "The call cannot be answered now.", retry);
    if operation.body.is_some() {
        add("415", "The body is compressed.", &[]);
    }
    if operation.path_parameters().next().is_some() {
        add("404", "Something in the path does not exist.", &[]);
    }
    if operation.conflicts {
        add("409", "The call conflicts with the present state.", &[]);
    }
    if operation.has_precondition() {
        add("412", "It was changed meanwhile.", &[]);
    }
    if matches!(operation.answer, AdminAnswer::One(_)) && operation.method == "GET" {
        let unchanged = json!({ "description": "It has not changed." });
        responses.insert("304", with_headers(unchanged, &[ResponseHeader::Tag]));
    }
    json!(responses)
}

/// Returns the status of a call that succeeds, and its answer.
fn success(operation: &AdminOperation) -> (&'static str, Value) {
    use ResponseHeader::{Location, NewSession, Tag};
    match operation.answer {
        AdminAnswer::Nothing => {
            let sets_password = operation.action == AdminAction::SetPassword;
            let headers = if sets_password { &[NewSession][..] } else { &[] };
            ("204", with_headers(json!({ "description": "Done." }), headers))
        }
        AdminAnswer::One(schema) => ("200", with_headers(value("The resource.", schema), &[Tag])),
        AdminAnswer::Value(schema) => ("200", value("The result.", schema)),
        AdminAnswer::Created(schema) => {
            ("201", with_headers(value("Created.", schema), &[Tag, Location]))
        }
        AdminAnswer::Issued(schema) => {
            ("201", with_headers(value("Created.", schema), &[Location]))
        }
        AdminAnswer::Recorded(schema) => ("201", value("Recorded.", schema)),
        AdminAnswer::List(schema) => ("200", list("A page of the list.", schema, true)),
        AdminAnswer::All(schema) => ("200", list("The list.", schema, false)),
        AdminAnswer::Document => {
            let document = content(&json!({ "type": "object" }));
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

fn value(about: &str, schema: &ObjectSchema) -> Value {
    json!({ "description": about, "content": content(&schema.reference()) })
}

fn list(about: &str, schema: &ObjectSchema, is_paged: bool) -> Value {
    let mut list = json!({
        "type": "object",
        "properties": { "items": { "type": "array", "items": schema.reference() } },
        "required": ["items"],
    });
    if is_paged {
        list["required"] = json!(["items", "next"]);
        list["properties"]["next"] = json!({
            "type": ["string", "null"],
            "description": "The address of the next page; null on the last page.",
        });
    }
    json!({ "description": about, "content": content(&list) })
}

fn content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn problem(about: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{PROBLEM}") });
    json!({
        "description": about,
        "content": { "application/problem+json": { "schema": schema } },
    })
}

/// Adds headers to a response.
fn with_headers(mut response: Value, headers: &[ResponseHeader]) -> Value {
    if !headers.is_empty() {
        let reference = |one: &ResponseHeader| {
            let reference = json!({ "$ref": format!("#/components/headers/{}", one.name()) });
            (one.name().to_owned(), reference)
        };
        response["headers"] = headers.iter().map(reference).collect::<Map<_, _>>().into();
    }
    response
}
