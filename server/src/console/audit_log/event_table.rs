//! Events of the audit log as a table.

use std::collections::HashMap;

use countersign_engine::UnixTime;
use maud::{Markup, html};

use crate::{
    audit::{AuditEvent, AuditOperation, AuditOutcome},
    base::{clock, printable::printable},
    console::{
        error_page::ConsoleError,
        table::{ConsoleTable, TableCell, TableColumn, TableOrder},
        text::{moment, whole},
    },
    store::Store,
};

/// Events, with the names of the machine identities that they have by id.
pub(in crate::console) struct EventTable {
    events: Vec<(i64, AuditEvent)>,
    names: HashMap<String, String>,
}

impl EventTable {
    /// Finds the names of the identities.
    ///
    /// # Errors
    /// The database cannot be queried.
    pub(in crate::console) async fn of(
        store: &Store,
        events: Vec<(i64, AuditEvent)>,
    ) -> Result<Self, ConsoleError> {
        let mut names = HashMap::new();
        for (_, event) in &events {
            for id in [&event.target.user, &event.caller.user].into_iter().flatten() {
                if names.contains_key(id) || uuid::Uuid::parse_str(id).is_err() {
                    continue;
                }
                let identity = store.machine_identity(id).await?;
                names
                    .insert(id.clone(), identity.map(|identity| identity.name).unwrap_or_default());
            }
        }
        Ok(Self { events, names })
    }

    /// Returns the table, the newest event first.
    pub(in crate::console) fn render(&self, order: Option<TableOrder<'_>>) -> Markup {
        let now = clock::now();
        html! {
            @if self.events.is_empty() {
                p.empty { "No such change and no such sign-in is recorded yet." }
            } @else {
                (ConsoleTable {
                    columns: [
                        TableColumn::sorted("When", "when"),
                        TableColumn::sorted("What", "what"),
                        TableColumn::sorted("By", "by"),
                        TableColumn::sorted("From", "from"),
                        TableColumn::sorted("Outcome", "outcome"),
                    ],
                    rows: self.events.iter().rev().map(|(_, event)| self.row(event, now)).collect(),
                    is_filtered: false,
                }
                .render(order))
            }
        }
    }

    fn row(&self, event: &AuditEvent, now: UnixTime) -> [TableCell; 5] {
        let (operation, target) = (event.operation.name(), self.target(event));
        let what = html! { code { (operation) } (target) (further("", event.detail.as_deref())) };
        let caller = self.caller(event);
        let by = html! { (caller) (further("of ", event.caller.issuer.as_deref())) };
        let client = event.origin.client.as_deref().unwrap_or("–");
        let peer = event.origin.peer.as_deref().filter(|peer| *peer != client);
        let from = html! { (printable(client)) (further("through ", peer)) };
        [
            TableCell::number(event.at.0, moment(event.at, now)),
            TableCell::text(&format!("{operation}{target}"), what),
            TableCell::text(&caller, by),
            TableCell::text(client, from),
            TableCell::text(event.outcome.name(), outcome(event)),
        ]
    }

    /// Returns what an event is applied to.
    fn target(&self, event: &AuditEvent) -> String {
        let target = &event.target;
        let user = target.user.iter().map(|user| self.shown(user));
        let others = [&target.role, &target.project, &target.environment, &target.token];
        let others = others.into_iter().flatten().map(|part| printable(part));
        user.chain(others).map(|part| format!(" {part}")).collect()
    }

    /// Returns the user that made a change. A login has its user as the target.
    fn caller(&self, event: &AuditEvent) -> String {
        let is_login = event.operation == AuditOperation::Login;
        let target = event.target.user.as_ref().filter(|_| is_login);
        let user = event.caller.user.as_ref().or(target);
        user.map_or_else(|| "–".into(), |user| self.shown(user))
    }

    /// Returns a user, or the name and id of a machine identity.
    fn shown(&self, user: &str) -> String {
        match self.names.get(user) {
            Some(name) if !name.is_empty() => format!("{} ({user})", printable(name)),
            _ => printable(user),
        }
    }
}

/// Returns a further line of a cell.
fn further(before: &str, text: Option<&str>) -> Markup {
    html! {
        @if let Some(text) = text { br; span.empty { (before) (printable(text)) } }
    }
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
            @if let Some(reason) = &event.reason { ": " (printable(reason)) }
            @if event.count > 1 { " (" (whole(event.count)) " times)" }
        }
    }
}
