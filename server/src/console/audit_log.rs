//! The audit log: sign-ins, changes and refusals, with filters.

mod event_table;

use countersign_engine::UnixTime;
use http::{Response, StatusCode};
use maud::{Markup, html};

pub(super) use self::event_table::EventTable;
use super::{
    ConsoleContext, ConsoleRequest,
    administrator_page::AdministratorPage,
    error_page::ConsoleError,
    layout::as_command,
    request::{self, FormFields},
    session::ConsoleUser,
    table::TableOrder,
};
use crate::{
    audit::{AuditFilter, AuditOperation, AuditOutcome},
    base::{clock, reply::Body},
};

/// Rows of a page.
const MAX_ROWS: u32 = 50;
/// Choices of the filter by time: seconds, and their words.
const SINCE: [(&str, &str); 4] = [
    ("3600", "the last hour"),
    ("86400", "the last day"),
    ("604800", "the last 7 days"),
    ("2592000", "the last 30 days"),
];
const PATH: &str = "/console/audit";
const PAGE: AdministratorPage =
    AdministratorPage { title: "Audit log", path: PATH, right: "read the audit log" };

/// Returns the page.
///
/// # Errors
/// The user may not read the log, or the database cannot be queried.
pub(super) async fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    PAGE.check(context, user)?;
    let query = request::query(request);
    let store = &context.api.users.ok_or(ConsoleError::Unavailable)?.store;
    let events = store.audit_events(filter(&query)).await?;
    let is_full = u32::try_from(events.len()).is_ok_and(|count| count == MAX_ROWS);
    let older = events.first().filter(|_| is_full).map(|(id, _)| older_page(&query, *id));
    let table = EventTable::of(store, events).await?;
    let content = html! {
        h1 { "Audit log" }
        (filter_form(&query))
        (table.render(Some(TableOrder { path: PATH, query: &query })))
        @if let Some(older) = older { p { a href=(older) rel="next" { "Older events" } } }
        (as_command("countersign audit"))
    };
    Ok(PAGE.respond(user, StatusCode::OK, &content))
}

/// Reads the filter in a query. Unknown names select all.
fn filter(query: &FormFields) -> AuditFilter {
    let user = query.get("user");
    let since = query.get("since").parse::<u64>();
    AuditFilter {
        since: since.ok().map(|seconds| UnixTime(clock::now().0.saturating_sub(seconds))),
        user: (!user.is_empty()).then(|| user.to_owned()),
        operation: AuditOperation::ALL
            .iter()
            .copied()
            .find(|one| one.name() == query.get("operation")),
        outcome: AuditOutcome::ALL.into_iter().find(|one| one.name() == query.get("outcome")),
        before: query.get("before").parse().ok(),
        limit: MAX_ROWS,
        ..AuditFilter::default()
    }
}

/// Returns the address of the events before the one with this id.
fn older_page(query: &FormFields, before: i64) -> String {
    query.address(PATH, &[("before", &before.to_string())])
}

fn filter_form(query: &FormFields) -> Markup {
    html! {
        form.filters method="get" action=(PATH) {
            label { "User " input name="user" value=(query.get("user")) data-filter-key=""; }
            label {
                "Operation "
                select name="operation" {
                    option value="" { "all" }
                    @for one in AuditOperation::ALL {
                        (choice(one.name(), one.name(), query.get("operation")))
                    }
                }
            }
            label {
                "Outcome "
                select name="outcome" {
                    option value="" { "all" }
                    @for one in AuditOutcome::ALL {
                        (choice(one.name(), one.name(), query.get("outcome")))
                    }
                }
            }
            label {
                "Time "
                select name="since" {
                    option value="" { "all" }
                    @for (seconds, words) in SINCE {
                        (choice(seconds, words, query.get("since")))
                    }
                }
            }
            button type="submit" { "Filter" }
        }
    }
}

fn choice(value: &str, words: &str, chosen: &str) -> Markup {
    html! { option value=(value) selected[value == chosen] { (words) } }
}
