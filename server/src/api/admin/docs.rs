//! The documentation of the API as a page for a browser, made of the
//! [table of operations](OPERATIONS). It loads nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::{
    openapi::{permission, tag},
    operation::{AdminAnswer, AdminOperation},
    schema::{MemberSchema, ObjectSchema, ValueSchema},
    table::OPERATIONS,
};
use crate::{
    api::html::escaped,
    base::{
        reply::{Body, typed},
        secret_hash::hash,
    },
};

/// The style sheet. It is within the page, and the only one that a browser applies.
const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}\
h3{margin:1.5rem 0 0;font-size:1rem}\
code{font:0.9em ui-monospace,monospace;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:0.25rem 0.75rem 0.25rem 0;\
border-bottom:1px solid var(--line)}";

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Answers with the page.
pub(super) fn respond() -> Response<Body> {
    let mut response = typed(StatusCode::OK, "text/html; charset=UTF-8", page());
    let style = STANDARD.encode(hash(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    for (name, value) in [(header::REFERRER_POLICY, "no-referrer"), (OPENER_POLICY, "same-origin")]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn page() -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"UTF-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Countersign Admin API</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Countersign Admin API</h1>\n\
         <p>Also as an <a href=\"/v1/admin/openapi.json\">OpenAPI document</a>. Errors are \
         problems (RFC 9457) in JSON.</p>\n"
    );
    let mut last = "";
    for operation in OPERATIONS {
        let tag = tag(operation);
        if tag != last {
            page.push_str(&format!("<h2>{}</h2>\n", escaped(tag)));
            last = tag;
        }
        describe(&mut page, operation);
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn describe(page: &mut String, operation: &AdminOperation) {
    let (method, path) = (operation.method, escaped(operation.path));
    let summary = words(operation.summary);
    let permission = escaped(&permission(operation));
    page.push_str(&format!(
        "<h3><code>{method} {path}</code></h3>\n<p>{summary} For {permission}.</p>\n"
    ));
    if !operation.query.is_empty() {
        let rows = operation.query.iter().map(|one| (one.name, one.value, one.about, false));
        table(page, "Parameter", rows);
    }
    if let Some(body) = operation.body {
        object(page, "Member of the body", body);
    }
    match operation.answer {
        AdminAnswer::One(schema)
        | AdminAnswer::Value(schema)
        | AdminAnswer::Created(schema)
        | AdminAnswer::Issued(schema)
        | AdminAnswer::Recorded(schema) => object(page, "Member of the answer", schema),
        AdminAnswer::List(schema) | AdminAnswer::All(schema) => {
            object(page, "Member of an item", schema);
        }
        AdminAnswer::Nothing | AdminAnswer::Document | AdminAnswer::Page => {}
    }
}

fn object(page: &mut String, title: &str, schema: &ObjectSchema) {
    let row = |one: &MemberSchema| (one.name, one.value, one.about, one.is_required);
    table(page, title, schema.members.iter().map(row));
}

fn table(
    page: &mut String,
    title: &str,
    rows: impl Iterator<Item = (&'static str, ValueSchema, &'static str, bool)>,
) {
    page.push_str(&format!("<table>\n<tr><th>{title}</th><th>Value</th><th></th></tr>\n"));
    for (name, value, about, is_required) in rows {
        let (kind, about) = (kind(value), words(about));
        let name = if is_required { name.to_owned() } else { format!("{name}?") };
        let row = format!("<tr><td><code>{name}</code></td><td>{kind}</td><td>{about}</td></tr>\n");
        page.push_str(&row);
    }
    page.push_str("</table>\n");
}

fn kind(value: ValueSchema) -> String {
    match value {
        ValueSchema::Text(_)
        | ValueSchema::Name
        | ValueSchema::Username
        | ValueSchema::Password => "text".into(),
        ValueSchema::Uuid => "UUID".into(),
        ValueSchema::Time => "time".into(),
        ValueSchema::Flag => "true or false".into(),
        ValueSchema::Whole(..) => "number".into(),
        ValueSchema::Choice(choices) => choices.join(", "),
        ValueSchema::Choices(choices) => format!("list of {}", choices.join(", ")),
        ValueSchema::Texts => "list of texts".into(),
        ValueSchema::TextLists => "lists of texts by name".into(),
        ValueSchema::TextMap => "texts by name".into(),
        ValueSchema::AnyObject => "object".into(),
        ValueSchema::Object(object) => object.name.into(),
        ValueSchema::Objects(object) => format!("list of {}", object.name),
    }
}

/// Returns text with the parts in backquotes as code.
fn words(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| {
        let part = escaped(part);
        if index % 2 == 1 { format!("<code>{part}</code>") } else { part }
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_describes_every_operation() {
        let page = page();
        for operation in OPERATIONS {
            let call = format!("<code>{} {}</code>", operation.method, escaped(operation.path));
            assert!(page.contains(&call), "{call}");
        }
        assert!(!page.contains("<script"));
    }
}
