//! Machine identities, their roles and login methods, by the calls of the API.

mod detail;

use http::{Method, Response, StatusCode};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    ConsoleRequest,
    api_call::{CallAnswer, UserCalls},
    error_page::ConsoleError,
    layout::{self, ConsolePage, as_command},
    request::{self, FormFields},
    table::{ConsoleTable, TableCell, TableColumn, TableOrder},
    text::whole,
};
use crate::base::{printable::printable, reply::Body};

const PATH: &str = "/console/identities";
/// Rows of a page.
const MAX_ROWS: u64 = 50;

/// Returns the page: all identities, or the one in the query.
///
/// # Errors
/// The user may not administer identities, or the database is unavailable.
pub(super) async fn page(
    calls: &UserCalls<'_>,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let query = request::query(request);
    let content = if calls.context.api.settings.identities.is_none() {
        disabled()
    } else if query.get("id").is_empty() {
        list(calls, &query).await?
    } else {
        detail::detail(calls, query.get("id"), !query.get("done").is_empty()).await?
    };
    let page = ConsolePage { title: "Identities", active: PATH, user: Some(calls.user) };
    Ok(layout::respond(StatusCode::OK, &page, &content))
}

/// Reads what the API has about identities at a path.
///
/// # Errors
/// The call is refused.
async fn get(calls: &UserCalls<'_>, target: &str) -> Result<CallAnswer, ConsoleError> {
    call(calls, Method::GET, target, Value::Null).await
}

async fn call(
    calls: &UserCalls<'_>,
    method: Method,
    target: &str,
    body: Value,
) -> Result<CallAnswer, ConsoleError> {
    calls.make_infisical(method, target, body).await.into_success()
}

fn disabled() -> Markup {
    html! {
        h1 { "Identities" }
        p.empty {
            "Machine identities are switched off. " code { "enabled = true" } " in "
            code { "[identities]" } " switches them on."
        }
    }
}

async fn list(calls: &UserCalls<'_>, query: &FormFields) -> Result<Markup, ConsoleError> {
    let offset = query.get("offset").parse::<u64>().unwrap_or_default();
    let name = query.get("name");
    let search = if name.is_empty() { json!({}) } else { json!({ "name": { "$contains": name } }) };
    let body = json!({ "search": search, "offset": offset, "limit": MAX_ROWS });
    let found = call(calls, Method::POST, "/api/v1/identities/search", body).await?;
    let organizations = get(calls, "/api/v1/organization").await?;
    let identities: Vec<_> = found.body()["identities"].as_array().into_iter().flatten().collect();
    let count = found.body()["totalCount"].as_u64().unwrap_or_default();
    Ok(html! {
        h1 { "Identities" }
        @if query.get("done") == "delete" {
            p role="status" { "✓ The identity is deleted, and its tokens are refused." }
        }
        (organization_list(&organizations))
        form.filters method="get" action=(PATH) {
            label { "Name " input name="name" value=(name) data-filter-key=""; }
            button type="submit" { "Filter" }
        }
        @if identities.is_empty() {
            p.empty {
                @if name.is_empty() { "No identity exists yet. The first is made by:" }
                @else { "No identity has this in its name." }
            }
        } @else {
            p { (whole(count)) @if count == 1 { " identity" } @else { " identities" } }
            (ConsoleTable {
                columns: [
                    TableColumn::sorted("Name", "name"),
                    TableColumn::sorted("Id", "id"),
                    TableColumn::sorted("Role", "role"),
                    TableColumn::sorted("Login methods", "methods"),
                ],
                rows: identities.iter().map(|one| row(one)).collect(),
                is_filtered: false,
            }
            .render(Some(TableOrder { path: PATH, query })))
            (other_pages(offset, count, query))
        }
        (as_command("countersign identity create NAME --role no-access"))
    })
}

fn organization_list(organizations: &CallAnswer) -> Markup {
    let organizations = organizations.body()["organizations"].as_array();
    html! {
        @for one in organizations.into_iter().flatten() {
            dl.facts {
                dt { "Organization" }
                dd { (text(&one["name"])) " (" (text(&one["slug"])) ")" }
                dt { "Its id" }
                dd { code data-copy="" { (text(&one["id"])) } }
            }
        }
    }
}

fn row(one: &Value) -> [TableCell; 4] {
    let (identity, id) = (&one["identity"], text(&one["identityId"]));
    let (name, role) = (text(&identity["name"]), role(one));
    let methods = texts(&identity["authMethods"]);
    let link = html! {
        a href={ (PATH) "?id=" (utf8_percent_encode(&id, NON_ALPHANUMERIC)) } { (name) }
    };
    [
        TableCell::text(&name, link),
        TableCell::text(&id, html! { code data-copy="" { (id) } }),
        TableCell::text(&role, html! { (role) }),
        TableCell::text(&methods, html! { (methods) }),
    ]
}

/// Returns the role of a membership, that of the organization.
fn role(membership: &Value) -> String {
    match membership["customRole"]["slug"].as_str() {
        Some(slug) => printable(slug),
        None => text(&membership["role"]),
    }
}

fn other_pages(offset: u64, count: u64, query: &FormFields) -> Markup {
    let at = |offset: u64| query.address(PATH, &[("offset", &offset.to_string())]);
    html! {
        p {
            @if offset > 0 {
                a href=(at(offset.saturating_sub(MAX_ROWS))) rel="prev" { "Previous" } " "
            }
            @if offset.saturating_add(MAX_ROWS) < count {
                a href=(at(offset.saturating_add(MAX_ROWS))) rel="next" { "Next" }
            }
        }
    }
}

/// Returns a text of the API, without control characters.
fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

/// Returns a list of texts, or a single one, for display.
fn texts(value: &Value) -> String {
    let texts: Vec<_> = match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(printable).collect(),
        Value::String(one) if !one.is_empty() => vec![printable(one)],
        _ => Vec::new(),
    };
    if texts.is_empty() { "–".into() } else { texts.join(", ") }
}
