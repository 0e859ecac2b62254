//! Issuers: their keys, the age of these, and fetches on request.

use std::time::Duration;

use countersign_engine::UnixTime;
use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    ConsoleContext, ConsoleRequest,
    danger::DangerousChange,
    error_page::ConsoleError,
    layout::{self, ConsolePage, as_command, form_token},
    live, request, see_other,
    session::ConsoleUser,
    table::{ConsoleTable, TableCell, TableColumn, TableOrder},
    text,
};
use crate::{
    audit::{AuditCaller, AuditEvent, AuditOperation, AuditOrigin, AuditOutcome},
    auth::Caller,
    base::{
        clock::{self, Stopwatch},
        printable::printable,
        reply::Body,
    },
    keys::issuer_status::{IssuerState, IssuerStatus},
};

const PATH: &str = "/console/issuers";
/// Longest wait for the fetches.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the name of an [`IssuerState`] for the style sheet.
const fn style(state: IssuerState) -> &'static str {
    match state {
        IssuerState::Static | IssuerState::Answers => "good",
        IssuerState::Waiting | IssuerState::Failing => "warning",
        IssuerState::NoKeys => "bad",
    }
}

/// A key of an [`IssuerRow`], or why it is not used.
pub(super) struct KeyRow {
    kid: String,
    algorithm: String,
    skipped: Option<String>,
}

/// An issuer. What its provider has written is [`printable`].
pub(super) struct IssuerRow {
    /// Its section.
    pub(super) section: String,
    /// Its name, `iss`.
    pub(super) issuer: String,
    /// The state of its keys.
    pub(super) state: IssuerState,
    /// The age of the last successful fetch, in words.
    pub(super) age: String,
    /// The time until the next fetch, in words.
    pub(super) next: String,
    /// Its keys, those in use first.
    pub(super) keys: Vec<KeyRow>,
    /// Where the keys are from.
    source: Option<String>,
    last_success: Option<UnixTime>,
    /// The last failed fetch, while fetches fail.
    failure: Option<(UnixTime, String)>,
}

impl IssuerRow {
    /// Returns all issuers, in the order of the configuration.
    pub(super) fn all(context: &ConsoleContext<'_>, now: UnixTime) -> Vec<Self> {
        let in_use = context.api.authenticator.keys_in_use();
        let rows = in_use.iter().map(|(source, keys)| {
            let status = IssuerStatus::of(source, keys.as_deref());
            let used = keys.iter().flat_map(|keys| keys.iter()).map(|key| KeyRow {
                kid: printable(key.kid().unwrap_or_default()),
                algorithm: key.algorithm().name().to_owned(),
                skipped: None,
            });
            let skipped = keys.iter().flat_map(|keys| keys.skipped()).map(|key| KeyRow {
                kid: printable(key.kid.as_deref().unwrap_or_default()),
                algorithm: String::new(),
                skipped: Some(printable(&key.error.to_string())),
            });
            Self {
                section: source.section().section().to_owned(),
                issuer: source.section().issuer.name.to_string(),
                state: status.state,
                age: live::age(status.last_success, now),
                next: next_fetch(status.next_fetch, status.is_fetching),
                keys: used.chain(skipped).collect(),
                source: source.renewed().map(|keys| keys.location.to_string()),
                last_success: status.last_success,
                failure: status.failure.map(|(at, error)| (at, printable(&error.text))),
            }
        });
        rows.collect()
    }

    /// Returns the name of its state for the style sheet.
    pub(super) const fn style(&self) -> &'static str {
        style(self.state)
    }

    /// Returns its state in words.
    pub(super) const fn state_words(&self) -> &'static str {
        self.state.words()
    }

    /// Returns its state in words, after a sign.
    pub(super) fn state_text(&self) -> String {
        let sign = match self.style() {
            "good" => "✓",
            "warning" => "!",
            _ => "✗",
        };
        format!("{sign} {}", self.state.words())
    }

    fn used_keys(&self) -> usize {
        self.keys.iter().filter(|key| key.skipped.is_none()).count()
    }

    /// Returns the number of keys, and of those that are not used.
    pub(super) fn key_text(&self) -> String {
        let (used, all) = (self.used_keys(), self.keys.len());
        let keys = if used == 1 { "key" } else { "keys" };
        if used == all {
            format!("{used} {keys}")
        } else {
            format!("{used} {keys}, {} not used", all - used)
        }
    }

    fn is_fetched(&self) -> bool {
        self.source.is_some()
    }
}

fn next_fetch(wait: Option<Duration>, is_fetching: bool) -> String {
    match wait {
        _ if is_fetching => "under way".into(),
        Some(wait) => text::until(wait.as_secs()),
        None => "–".into(),
    }
}

/// Returns the page of the issuers.
pub(super) fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    request: &ConsoleRequest,
) -> Response<Body> {
    let now = clock::now();
    let rows = IssuerRow::all(context, now);
    let administers = context.api.is_administrator(&user.session);
    let can_refresh = administers && rows.iter().any(IssuerRow::is_fetched);
    let query = request::query(request);
    let order = TableOrder { path: PATH, query: &query };
    let result = match query.get("fetched") {
        "ok" => "All fetches succeeded.",
        "failed" => "A fetch failed or takes longer: its reason is below.",
        _ if query.get("done") == "revoke" => "✓ The tokens of the subject are revoked.",
        _ => "",
    };
    let content = html! {
        div.title {
            h1 { "Issuers" }
            @if can_refresh {
                form method="post" action="/console/issuers/refresh" {
                    (form_token(user))
                    button type="submit" { "Fetch all keys now" }
                }
            }
        }
        @if !result.is_empty() { p role="status" { (result) } }
        @if rows.is_empty() {
            p.empty {
                "No issuer is configured: every token is refused. A section "
                code { "[auth_jwt_<name>]" } " adds one."
            }
        }
        @for row in &rows { (issuer(row, now, order, administers)) }
        @if can_refresh { (as_command("countersign keys refresh")) }
    };
    let page = ConsolePage { title: "Issuers", active: PATH, user: Some(user) };
    layout::respond(StatusCode::OK, &page, &content)
}

fn issuer(row: &IssuerRow, now: UnixTime, order: TableOrder<'_>, administers: bool) -> Markup {
    html! {
        section.issuer id={ "issuer-" (row.section) } {
            h2 { (row.section) }
            dl.facts {
                dt { "Issuer" } dd { code data-copy="" { (row.issuer) } }
                dt { "State" } dd.state data-state=(row.style()) { (row.state_text()) }
                @if let Some(source) = &row.source { dt { "Keys from" } dd { code { (source) } } }
                @if let Some(at) = row.last_success {
                    dt { "Last fetched" } dd { (text::moment(at, now)) }
                }
                @if row.is_fetched() { dt { "Next fetch" } dd { (row.next) } }
                @if let Some((at, reason)) = &row.failure {
                    dt { "Last failure" } dd { (text::moment(*at, now)) br; (reason) }
                }
            }
            (key_table(row, order))
            @if administers { (subject_form(&row.section)) }
        }
    }
}

/// Returns the form that leads to the revocation of all tokens of a subject.
fn subject_form(section: &str) -> Markup {
    html! {
        details {
            summary { "Revoke the tokens of a subject" }
            form method="get" action=(DangerousChange::RevokeSubject.path()) {
                input type="hidden" name="section" value=(section);
                label {
                    "Subject (sub) "
                    input name="subject" autocomplete="off" autocapitalize="none"
                        spellcheck="false" required;
                }
                " " button type="submit" { "Revoke…" }
            }
        }
    }
}

fn key_table(row: &IssuerRow, order: TableOrder<'_>) -> Markup {
    html! {
        @if row.keys.is_empty() {
            p.empty { "No keys." }
        } @else {
            (ConsoleTable {
                columns: [
                    TableColumn::sorted("Key id", "kid"),
                    TableColumn::sorted("Algorithm", "algorithm"),
                    TableColumn::sorted("State", "state"),
                ],
                rows: row.keys.iter().map(key_row).collect(),
                is_filtered: false,
            }
            .render(Some(order)))
        }
    }
}

fn key_row(key: &KeyRow) -> [TableCell; 3] {
    let kid = html! {
        @if key.kid.is_empty() { "without an id" } @else { code data-copy="" { (key.kid) } }
    };
    let state = html! {
        @match &key.skipped {
            None => span.state data-state="good" { "✓ in use" },
            Some(reason) => span.state data-state="warning" { "! not used: " (reason) },
        }
    };
    [
        TableCell::text(&key.kid, kid),
        TableCell::text(&key.algorithm, html! { (key.algorithm) }),
        TableCell::text(key.skipped.as_deref().unwrap_or_default(), state),
    ]
}

/// Has all keys fetched now, and waits for the results.
///
/// # Errors
/// The user may not do so, or the change cannot be recorded.
pub(super) async fn refresh(
    context: &ConsoleContext<'_>,
    caller: &Caller<'_, '_>,
    user: &ConsoleUser,
) -> Result<Response<Body>, ConsoleError> {
    let origin = AuditOrigin {
        client: Some(caller.client.get().to_string()),
        peer: Some(caller.client.peer().to_string()),
    };
    let mut event = AuditEvent::new(AuditOperation::RefreshKeys, origin, clock::now());
    event.caller = AuditCaller::of(&user.session);
    if !context.api.is_administrator(&user.session) {
        event.outcome = AuditOutcome::Refused;
        event.reason = Some("not_authorized".into());
        context.api.audit.record_later(event);
        return Err(ConsoleError::Forbidden("You may not have keys fetched.".into()));
    }
    let mut begun = context.api.audit.begin(event).await?;
    let (mut is_ok, started) = (true, Stopwatch::start());
    for fetch in context.api.authenticator.keys.request_fetches() {
        let limit = FETCH_TIMEOUT.saturating_sub(started.elapsed());
        is_ok &= matches!(fetch.ended(limit).await, Some(Ok(())));
    }
    begun.event_mut().outcome = if is_ok { AuditOutcome::Done } else { AuditOutcome::Failed };
    context.api.audit.finish(begun).await;
    let result = if is_ok { "ok" } else { "failed" };
    Ok(see_other(&format!("/console/issuers?fetched={result}")))
}
