//! The OpenAPI document of the API, generated from the table of its endpoints, and a page that
//! shows it.

use std::fmt::Write as _;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{arguments::CallArguments, data, error::ApiError};
use crate::{
    api::{ApiContext, html::escaped},
    authorization::endpoints::{
        ParameterType,
        api::{ApiArgument, ApiEndpoint, ArgumentDefault, ENDPOINTS},
    },
    base::{
        reply::{Body, typed},
        route::ENVIRONMENT_HEADER,
    },
};

/// Format of the documentation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DocsFormat {
    /// JSON.
    OpenApi,
    /// A page for a browser. The Inmanta server's page loads Swagger UI from another host; this one
    /// loads nothing, because its address may have a token.
    Page,
}

impl DocsFormat {
    /// Reads the argument `format`.
    pub(super) fn read(arguments: &mut CallArguments) -> Result<Self, ApiError> {
        const NAME: &str = "format";
        match arguments.optional_text(NAME)?.as_deref() {
            None | Some("swagger") => Ok(Self::Page),
            Some("openapi") => Ok(Self::OpenApi),
            Some(_) => Err(arguments.invalid(NAME, "'openapi' or 'swagger'")),
        }
    }
}

/// Answers with the documentation. `description` is shown at its beginning.
pub(super) fn respond(
    context: &ApiContext<'_>,
    format: DocsFormat,
    description: Option<String>,
) -> Response<Body> {
    let document = document(context.settings.requires_token, description);
    if format == DocsFormat::OpenApi {
        return data(&document);
    }
    let mut response = typed(StatusCode::OK, "text/html; charset=UTF-8", page(&document));
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns the OpenAPI document.
fn document(requires_token: bool, description: Option<String>) -> Value {
    let mut info = json!({ "title": "Countersign", "version": env!("CARGO_PKG_VERSION") });
    if let Some(description) = description {
        info["description"] = description.into();
    }
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = endpoint.path.replace('<', "{").replace('>', "}");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[endpoint.method.to_lowercase()] = operation(endpoint, requires_token);
    }
    let mut document = json!({
        "openapi": "3.0.2",
        "info": info,
        "servers": [{ "url": "/" }],
        "paths": paths,
    });
    if requires_token {
        let scheme = json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" });
        document["components"] = json!({ "securitySchemes": { "bearerAuth": scheme } });
        document["security"] = json!([{ "bearerAuth": [] }]);
    }
    document
}

fn operation(endpoint: &ApiEndpoint, requires_token: bool) -> Value {
    let client_types: Vec<_> = endpoint.client_types.iter().map(|one| one.name()).collect();
    let mut described = json!({
        "operationId": endpoint.function(),
        "summary": endpoint.operation.summary(),
        "x-auth-label": endpoint.label,
        "x-client-types": client_types,
        "x-environment-param": endpoint.environment,
        "x-read-only": endpoint.read_only,
        "responses": { "200": { "description": "" } },
    });
    if requires_token && !endpoint.needs_token {
        described["security"] = json!([]);
    }
    let parameters = parameters(endpoint);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if !endpoint.takes_query() && !endpoint.arguments.is_empty() {
        described["requestBody"] = body(endpoint);
    }
    described
}

/// Returns the parameters in the path, a header and the query.
fn parameters(endpoint: &ApiEndpoint) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('<')?.strip_suffix('>')?;
        let kind = if matches!(name, "id" | "jti") { "uuid" } else { "" };
        Some(json!({ "name": name, "in": "path", "required": true, "schema": text(kind) }))
    });
    let header = endpoint.environment.filter(|name| *name == ENVIRONMENT_HEADER);
    let header = header.map(
        |name| json!({ "name": name, "in": "header", "required": true, "schema": text("uuid") }),
    );
    let query = endpoint.arguments.iter().filter(|_| endpoint.takes_query()).map(|argument| {
        json!({
            "name": argument.name,
            "in": "query",
            "required": argument.default == ArgumentDefault::Required,
            "schema": schema(argument),
        })
    });
    in_path.chain(header).chain(query).collect()
}

fn body(endpoint: &ApiEndpoint) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for argument in endpoint.arguments {
        properties.insert(argument.name.into(), schema(argument));
        if argument.default == ArgumentDefault::Required {
            required.push(argument.name);
        }
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    let is_required = !required.is_empty();
    if is_required {
        schema["required"] = json!(required);
    }
    json!({ "required": is_required, "content": { "application/json": { "schema": schema } } })
}

fn schema(argument: &ApiArgument) -> Value {
    let mut schema = match argument.kind {
        ParameterType::String => text(""),
        ParameterType::Uuid => text("uuid"),
        ParameterType::Boolean => json!({ "type": "boolean" }),
        ParameterType::Integer => json!({ "type": "integer" }),
        ParameterType::Number => json!({ "type": "number" }),
        ParameterType::Array => json!({ "type": "array", "items": { "type": "string" } }),
        ParameterType::Object => json!({ "type": "object" }),
    };
    match argument.default.value() {
        None => {}
        Some(Value::Null) => schema["nullable"] = true.into(),
        Some(default) => schema["default"] = default,
    }
    schema
}

fn text(format: &str) -> Value {
    if format.is_empty() {
        json!({ "type": "string" })
    } else {
        json!({ "type": "string", "format": format })
    }
}

/// Returns a page with the calls, and the document below them.
fn page(document: &Value) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"UTF-8\">\n\
         <title>Countersign API</title>\n\
         </head>\n<body>\n<h1>Countersign API</h1>\n",
    );
    if let Some(description) = document["info"]["description"].as_str() {
        let _infallible = writeln!(page, "<p>{}</p>", escaped(description));
    }
    page.push_str("<table>\n");
    for endpoint in ENDPOINTS {
        let summary = endpoint.operation.summary();
        let call = escaped(&endpoint.id());
        let _infallible = writeln!(page, "<tr><td><code>{call}</code></td><td>{summary}</td></tr>");
    }
    let document = serde_json::to_string_pretty(document).unwrap_or_default();
    let _infallible = write!(
        page,
        "</table>\n<h2>OpenAPI</h2>\n<pre>{}</pre>\n</body>\n</html>\n",
        escaped(&document)
    );
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::authorization::endpoints::openapi;

    #[test]
    fn openapi_document_has_every_endpoint_of_the_table() {
        let document = document(true, None);
        let imported = openapi::import(&document, None).unwrap();
        let endpoints = imported["endpoints"].as_object().unwrap();
        assert_eq!(endpoints.len(), ENDPOINTS.len());
        for endpoint in ENDPOINTS {
            let (imported, expected) = (&endpoints[&endpoint.id()], endpoint.properties());
            for name in ["auth_label", "client_types", "environment_param", "read_only"] {
                assert_eq!(imported[name], expected[name], "{} {name}", endpoint.id());
            }
        }
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|item| item.as_object().unwrap().values());
        let ids = operations.map(|one| one["operationId"].as_str().unwrap());
        assert_eq!(ids.collect::<BTreeSet<_>>().len(), ENDPOINTS.len(), "ids are unique");
        let create = &document["paths"]["/api/v1/environment"]["put"]["requestBody"];
        let schema = &create["content"]["application/json"]["schema"];
        assert_eq!(schema["required"], json!(["project_id", "name"]));
        assert_eq!(schema["properties"]["branch"], json!({ "type": "string", "nullable": true }));
        let login = |requires_token| {
            super::document(requires_token, None)["paths"]["/api/v2/login"]["post"]["security"]
                .clone()
        };
        assert_eq!((login(true), login(false)), (json!([]), Value::Null));
    }

    #[test]
    fn page_escapes_the_description() {
        let document = document(true, Some("<script>alert(1)</script>&".into()));
        let page = page(&document);
        assert!(page.contains("<p>&lt;script&gt;alert(1)&lt;/script&gt;&amp;</p>"), "{page}");
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("<code>DELETE /api/v2/user/&lt;username&gt;</code>"), "{page}");
    }
}
