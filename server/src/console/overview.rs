//! The overview: is it this server or a provider, which requests are refused and why, and what
//! changed.

use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    ConsoleContext,
    audit_log::EventTable,
    error_page::ConsoleError,
    issuers::IssuerRow,
    layout::{self, ConsolePage},
    live::{FigureChart, HEIGHT, LiveFigures, WIDTH},
    page_updates::FigureAudience,
    reference::{figure_link, reason_link},
    refused_requests,
    session::ConsoleUser,
    text::whole,
    traffic,
};
use crate::{
    audit::AuditFilter,
    base::{clock, outcome::Outcome, reply::Body},
};

/// Number of audit events.
const MAX_EVENTS: u32 = 10;

/// Returns the page.
///
/// # Errors
/// The database cannot be queried.
pub(super) async fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
) -> Result<Response<Body>, ConsoleError> {
    let figures = LiveFigures::of(context);
    let audience = audience(context, user);
    let changes = last_changes(context, audience).await?;
    let content = html! {
        h1 { "Overview" }
        div data-live-from="/console/overview/live" {
            p.sentence data-live="sentence" { (figures.sentence) }
            p.stale role="status" hidden { "! These figures are no longer updated." }
            div.charts { @for chart in &figures.charts { (small_chart(chart)) } }
            div.columns {
                section {
                    h2 { "Issuers" }
                    div data-block="issuers" { (issuer_table(&figures.issuers)) }
                }
                section {
                    h2 { "Refused in the last minutes" }
                    div data-block="reasons" { (reason_table(&figures.reasons)) }
                }
            }
        }
        section.short {
            h2 { "Last changes" }
            div data-block="changes" { (changes) }
            (show_all())
        }
        section.short #refused-requests {
            h2 { "Last refused requests" }
            div data-block="refused-requests" {
                (refused_requests::table(context, audience, clock::now()))
            }
            (show_all())
        }
        div.columns {
            section {
                h2 { "Answered in the last minutes" }
                div data-block="protocols" { (traffic::protocol_table(figures.recent.as_ref())) }
            }
            section {
                h2 { "Signature checks in the last minutes" }
                div data-block="checks" { (traffic::check_facts(figures.recent.as_ref())) }
            }
        }
    };
    let page = ConsolePage { title: "Overview", active: "/console", user: Some(user) };
    Ok(layout::respond(StatusCode::OK, &page, &content))
}

/// Returns which figures a user sees.
pub(super) fn audience(context: &ConsoleContext<'_>, user: &ConsoleUser) -> FigureAudience {
    if context.api.is_administrator(&user.session) {
        FigureAudience::Administrators
    } else {
        FigureAudience::Others
    }
}

/// Returns the last changes, which only administrators see.
///
/// # Errors
/// The database cannot be queried.
pub(super) async fn last_changes(
    context: &ConsoleContext<'_>,
    audience: FigureAudience,
) -> Result<Markup, ConsoleError> {
    let is_shown = audience == FigureAudience::Administrators;
    let Some(users) = context.api.users.filter(|_| is_shown) else {
        return Ok(html! { p.empty { "Administrators see the audit log here." } });
    };
    let filter = AuditFilter { limit: MAX_EVENTS, ..AuditFilter::default() };
    let events = users.store.audit_events(filter).await?;
    let table = EventTable::of(&users.store, events).await?;
    Ok(html! {
        (table.render(None))
        p { a href="/console/audit" { "All of the audit log" } }
    })
}

/// Shows the rows of a table beyond the first five while it is open. It is after the table, which
/// updates replace.
fn show_all() -> Markup {
    html! { details.all { summary { "Further rows" } } }
}

fn small_chart(chart: &FigureChart) -> Markup {
    html! {
        figure.chart {
            figcaption { a href=(figure_link(chart.name)) { (chart.title) } }
            strong data-live=(chart.name) { (chart.value) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none"
                aria-hidden="true" {
                polyline data-line=(chart.name) points=(chart.line) {}
            }
        }
    }
}

/// Returns the table of the issuers.
pub(super) fn issuer_table(issuers: &[IssuerRow]) -> Markup {
    html! {
        @if issuers.is_empty() {
            p.empty {
                "No issuer is configured: every token is refused. A section "
                code { "[auth_jwt_<name>]" } " adds one."
            }
        } @else {
            table {
                thead {
                    tr {
                        th { "Section" } th { "State" } th { "Keys" } th { "Last fetched" }
                        th { "Next fetch" }
                    }
                }
                tbody { @for issuer in issuers { (issuer_row(issuer)) } }
            }
        }
    }
}

fn issuer_row(issuer: &IssuerRow) -> Markup {
    let name = format!("issuer-{}", issuer.section);
    html! {
        tr {
            td data-label="Section" {
                a href={ "/console/issuers#" (name) } title=(issuer.issuer) { (issuer.section) }
            }
            td data-label="State" {
                span.state data-state=(issuer.style()) { (issuer.state_text()) }
            }
            td data-label="Keys" {
                a href={ "/console/issuers#" (name) } { (issuer.key_text()) }
            }
            td data-label="Last fetched" { (issuer.age) }
            td data-label="Next fetch" { (issuer.next) }
        }
    }
}

/// Returns the table of the reasons for refusals.
pub(super) fn reason_table(reasons: &[(Outcome, u64)]) -> Markup {
    html! {
        @if reasons.is_empty() {
            p.empty { "No request was refused." }
        } @else {
            table {
                thead { tr { th { "Reason" } th { "Code" } th.number { "Requests" } } }
                tbody {
                    @for (reason, count) in reasons {
                        tr {
                            td data-label="Reason" { (reason.words()) }
                            td data-label="Code" {
                                a href=(reason_link(*reason)) { code { (reason.name()) } }
                            }
                            td.number data-label="Requests" { (whole(*count)) }
                        }
                    }
                }
            }
        }
    }
}
