//! The audit log: sign-ins, changes and refusals, with filters.

use countersign_engine::UnixTime;
use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    ConsoleContext, ConsoleRequest,
    administrator_page::AdministratorPage,
    error_page::ConsoleError,
    layout::as_command,
    request::{self, FormFields},
    session::ConsoleUser,
    table::{ConsoleTable, TableCell, TableColumn, TableOrder},
    text::{moment, whole},
};
use crate::{
    audit::{AuditEvent, AuditFilter, AuditOperation, AuditOutcome},
    base::{clock, printable::printable, reply::Body},
};

/// Rows of a page.
const MAX_ROWS: u32 = 50;
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
    let content = html! {
        h1 { "Audit log" }
        (filter_form(&query))
        (event_table(&events, Some(TableOrder { path: PATH, query: &query })))
        @if let Some(older) = older { p { a href=(older) rel="next" { "Older events" } } }
        (as_command("countersign audit"))
    };
    Ok(PAGE.respond(user, StatusCode::OK, &content))
}

/// Reads the filter in a query. Unknown names select all.
fn filter(query: &FormFields) -> AuditFilter {
    let user = query.get("user");
    AuditFilter {
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
                    @for one in AuditOperation::ALL { (choice(one.name(), query.get("operation"))) }
                }
            }
            label {
                "Outcome "
                select name="outcome" {
                    option value="" { "all" }
                    @for one in AuditOutcome::ALL { (choice(one.name(), query.get("outcome"))) }
                }
            }
            button type="submit" { "Filter" }
        }
    }
}

fn choice(name: &str, chosen: &str) -> Markup {
    html! { option selected[name == chosen] { (name) } }
}

/// Returns a table of events, the newest first.
pub(super) fn event_table(events: &[(i64, AuditEvent)], order: Option<TableOrder<'_>>) -> Markup {
    let now = clock::now();
    html! {
        @if events.is_empty() {
            p.empty { "No such change and no such sign-in is recorded yet." }
        } @else {
            (ConsoleTable {
                columns: [
                    TableColumn::sorted("When", "when"),
                    TableColumn::sorted("What", "what"),
                    TableColumn::sorted("By", "by"),
                    TableColumn::sorted("Outcome", "outcome"),
                ],
                rows: events.iter().rev().map(|(_, event)| event_row(event, now)).collect(),
                is_filtered: false,
            }
            .render(order))
        }
    }
}

fn event_row(event: &AuditEvent, now: UnixTime) -> [TableCell; 4] {
    let (operation, target, caller) = (event.operation.name(), target(event), caller(event));
    let what = html! { code { (operation) } (target) };
    [
        TableCell::number(event.at.0, moment(event.at, now)),
        TableCell::text(&format!("{operation}{target}"), what),
        TableCell::text(caller, html! { (printable(caller)) }),
        TableCell::text(event.outcome.name(), outcome(event)),
    ]
}

/// Returns what an event is applied to.
fn target(event: &AuditEvent) -> String {
    let target = &event.target;
    let parts = [&target.user, &target.role, &target.project, &target.environment, &target.token];
    parts.into_iter().flatten().map(|part| format!(" {}", printable(part))).collect()
}

/// Returns the user that made a change. A login has its user as the target.
fn caller(event: &AuditEvent) -> &str {
    let is_login = event.operation == AuditOperation::Login;
    let target = event.target.user.as_ref().filter(|_| is_login);
    let user = event.caller.user.as_ref().or(target);
    user.or(event.origin.client.as_ref()).map_or("–", String::as_str)
}

fn outcome(event: &AuditEvent) -> Markup {
    let (state, sign) = match event.outcome {
        AuditOutcome::Done => ("good", "✓"),
        AuditOutcome::Begun => ("warning", "!"),
        AuditOutcome::Refused | AuditOutcome::Failed => ("bad", "✗"),
    };
    html! {
        span.state data-state=(state) {
            (sign) " " (event.outcome.name())
            @if let Some(reason) = &event.reason { ": " (reason) }
            @if event.count > 1 { " (" (whole(event.count)) " times)" }
        }
    }
}
