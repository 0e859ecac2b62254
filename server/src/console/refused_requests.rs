//! A part of the overview: the last refused requests, which only administrators see.

use countersign_engine::UnixTime;
use maud::{Markup, html};

use super::{
    ConsoleContext,
    page_updates::FigureAudience,
    reference::reason_link,
    text::{moment, whole},
};
use crate::{
    base::printable::printable,
    observe::{access_log::client_text, refused_requests::ListedRefusal},
};

/// Returns the table.
pub(super) fn table(
    context: &ConsoleContext<'_>,
    audience: FigureAudience,
    now: UnixTime,
) -> Markup {
    if audience == FigureAudience::Others {
        return html! { p.empty { "Administrators see the last refused requests here." } };
    }
    let refused = context.api.authenticator.metrics.refused.list();
    html! {
        @if refused.is_empty() {
            p.empty { "No request was refused since the start." }
        } @else {
            table {
                thead {
                    tr {
                        th { "Last time" } th { "Number" } th { "Reason" } th { "Client" }
                        th { "Request" } th { "Issuer" }
                    }
                }
                tbody { @for one in &refused { (row(one, now)) } }
            }
        }
    }
}

fn row(one: &ListedRefusal, now: UnixTime) -> Markup {
    let ListedRefusal { at, count, reason, client, method, path, section } = one;
    html! {
        tr {
            td data-label="Last time" { (moment(*at, now)) }
            td data-label="Number" { (whole(*count)) }
            td data-label="Reason" {
                (reason.words()) " " a href=(reason_link(*reason)) { code { (reason.name()) } }
            }
            td data-label="Client" { code { (client_text(*client)) } }
            td data-label="Request" {
                @if path.is_empty() { "–" }
                @else { code { (printable(method)) " " (printable(path)) } }
            }
            td data-label="Issuer" {
                @if section.is_empty() { "–" }
                @else { a href={ "/console/issuers#issuer-" (section) } { (section) } }
            }
        }
    }
}
