//! The audit log.

use countersign_engine::UnixTime;
use serde_json::{Value, json};

use super::{
    AdminCall, Answer,
    error::AdminError,
    operation::QueryParameter,
    page::ListPage,
    schema::{MAX_TEXT, ValueSchema},
    time,
};
use crate::audit::{AuditEvent, AuditFilter, AuditOperation, AuditOutcome};

/// Outcomes of the audit log, for its filter.
const OUTCOMES: &[&str] = &["begun", "done", "refused", "failed"];

/// The parameters that select events.
pub(super) const FILTER: &[QueryParameter] = &[
    QueryParameter {
        name: "user",
        value: ValueSchema::Text(MAX_TEXT),
        about: "Only events by or about this user.",
    },
    QueryParameter {
        name: "operation",
        value: ValueSchema::Text(MAX_TEXT),
        about: "Only events of this operation, such as `user.add`.",
    },
    QueryParameter {
        name: "outcome",
        value: ValueSchema::Choice(OUTCOMES),
        about: "Only events with this outcome.",
    },
    QueryParameter {
        name: "since",
        value: ValueSchema::Whole(0, u32::MAX as u64),
        about: "Only events since this time, in seconds since 1970.",
    },
];

/// Returns a [`ListPage`] of the [`AuditEvent`]s, the newest first.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let query = &call.query;
    let unknown = || AdminError::parameter("operation", "unknown operation");
    let operation = query.get("operation").map(|name| {
        AuditOperation::ALL.iter().copied().find(|one| one.name() == name).ok_or_else(unknown)
    });
    let filter = AuditFilter {
        since: query.get("since").and_then(|at| at.parse().ok()).map(UnixTime),
        user: query.get("user").map(str::to_owned),
        operation: operation.transpose()?,
        outcome: query
            .get("outcome")
            .and_then(|name| AuditOutcome::ALL.into_iter().find(|one| one.name() == name)),
        before: page.after_number()?,
        limit: u32::try_from(page.limit + 1).unwrap_or(u32::MAX),
        ..AuditFilter::default()
    };
    let events = call.users.store.audit_events(filter).await?;
    let items = events.iter().rev().map(|(id, event)| (id.to_string(), shown(*id, event)));
    Ok(page.of_rest(call, items.collect()))
}

fn shown(id: i64, event: &AuditEvent) -> Value {
    json!({
        "id": id,
        "time": time(event.at),
        "operation": event.operation.name(),
        "outcome": event.outcome.name(),
        "reason": event.reason,
        "detail": event.detail,
        "by": event.caller,
        "from": event.origin,
        "target": event.target_json(),
        "count": event.count,
    })
}
