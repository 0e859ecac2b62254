//! The token inspector: what a token contains, which checks it passes, and what it may do.
//!
//! A token is in the body of a request and in its answer, and nowhere else.

use countersign_engine::{Reject, UnixTime};
use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    ConsoleContext,
    administrator_page::AdministratorPage,
    configuration::linked,
    error_page::ConsoleError,
    layout::{as_command, form_token},
    request::FormFields,
    request_test::{self, is_given, tested_request},
    session::ConsoleUser,
    text::moment,
};
use crate::{
    api::request_test::{TestedBearer, TestedRequest},
    auth::token_report::{
        DecodedPart, InspectedToken, MemberMeaning, ReportRow, TokenReport, bare_token,
    },
    base::{clock, printable::printable, reply::Body},
};

/// The path of the page.
pub(super) const PATH: &str = "/console/inspect";
const PAGE: AdministratorPage =
    AdministratorPage { title: "Token inspector", path: PATH, right: "inspect tokens" };

/// Returns the page, with the token of a form if it has one.
///
/// # Errors
/// The user may not use it.
pub(super) async fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    form: &FormFields,
) -> Result<Response<Body>, ConsoleError> {
    PAGE.check(context, user)?;
    let token = bare_token(form.get("token"));
    let request = tested_request(form);
    let tested = if token.is_empty() || !is_given(&request) {
        None
    } else {
        Some(request.result(&context.api, TestedBearer::Token(token)).await)
    };
    let content = html! {
        h1 { "Token inspector" }
        p.empty {
            "The token is decoded and checked on this server. It is not stored, not logged, and \
             not in an address."
        }
        (token_form(context, user, token, &request))
        @if !token.is_empty() { (inspected(context, token, clock::now())) }
        @if let Some(tested) = &tested { (request_test::result(tested)) }
        (as_command("countersign token explain --config FILE < TOKEN"))
    };
    Ok(PAGE.respond(user, StatusCode::OK, &content))
}

fn token_form(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    token: &str,
    request: &TestedRequest<'_>,
) -> Markup {
    html! {
        form method="post" action=(PATH) {
            (form_token(user))
            label for="token" { "Token" }
            textarea #token name="token" rows="6" autocomplete="off" spellcheck="false"
                autocapitalize="none" required autofocus[token.is_empty()] { (token) }
            details open[is_given(request)] {
                summary { "As which request?" }
                (request_test::fields(request, context))
            }
            p { button type="submit" { "Inspect" } }
        }
    }
}

fn inspected(context: &ConsoleContext<'_>, token: &str, now: UnixTime) -> Markup {
    let (authenticator, sections) = (context.api.authenticator, &context.api.settings.loaded);
    let inspected = InspectedToken::of(authenticator, (token, now), sections);
    let Some(parts) = &inspected.parts else {
        return html! {
            @if let Err(reject) = inspected.report {
                section.issuer { (unreadable(reject, &inspected.damages)) }
            }
        };
    };
    html! {
        @match &inspected.report {
            Ok(report) => (verdict(report)),
            Err(reject) => (unreadable(*reject, &inspected.damages)),
        }
        (tinted(token))
        div.columns.even {
            section.part data-part="header" { h2 { "Header" } (members(&parts.header, now)) }
            section.part data-part="payload" { h2 { "Payload" } (members(&parts.payload, now)) }
        }
        @if let Ok(report) = &inspected.report { (checks(report)) }
    }
}

/// Returns why a token cannot be read, and where it is damaged.
fn unreadable(reject: Reject, damages: &[String]) -> Markup {
    html! {
        p.state.sentence data-state="bad" {
            "✗ not a token that can be read: " (reject) " " code { (reject.code()) }
        }
        ul { @for one in damages { li { (printable(one)) } } }
    }
}

fn verdict(report: &TokenReport) -> Markup {
    html! {
        @match report.first_reject() {
            None => p.state.sentence data-state="good" {
                "✓ The rules of its issuer accept this token."
            },
            Some(reject) => p.state.sentence data-state="bad" {
                "✗ refused: " (reject) " " code { (reject.code()) }
            },
        }
    }
}

/// Returns a token with a tint for each of its parts.
fn tinted(token: &str) -> Markup {
    let mut parts = token.splitn(3, '.');
    let mut next = || parts.next().unwrap_or_default();
    let (header, payload, signature) = (next(), next(), next());
    html! {
        pre.token {
            span.part data-part="header" { (header) } "."
            span.part data-part="payload" { (payload) } "."
            span.part data-part="signature" { (signature) }
        }
    }
}

fn members(part: &DecodedPart, now: UnixTime) -> Markup {
    html! {
        @match &part.members {
            None => p.empty { (part.length) " bytes that are not a JSON object." },
            Some(members) => dl.facts {
                @for one in members {
                    dt { (printable(&one.name)) }
                    dd {
                        code { (printable(&one.value)) }
                        @if let Some(meaning) = one.meaning { br; (meaning_of(meaning, now)) }
                    }
                }
            },
        }
    }
}

fn meaning_of(meaning: MemberMeaning, now: UnixTime) -> Markup {
    html! {
        span.exact {
            @match meaning {
                MemberMeaning::Words(words) => { (words) },
                MemberMeaning::Time(words, None) => { (words) ": not a valid date" },
                MemberMeaning::Time(words, Some(at)) => {
                    (if words == "expires" && at <= now { "expired" } else { words })
                    " " (moment(at, now))
                },
            }
        }
    }
}

fn checks(report: &TokenReport) -> Markup {
    html! {
        section {
            h2 { "Checks, in their order" }
            @if report.is_authentic || report.claims.is_empty() {
                (check_table(report.rows()))
            } @else {
                (check_table(report.authenticity.iter()))
                p.refusal {
                    "! The claims are not authentic: anyone could have written them. If they "
                    "were, the checks would be:"
                }
                (check_table(report.claims.iter()))
            }
        }
    }
}

fn check_table<'r>(rows: impl Iterator<Item = &'r ReportRow>) -> Markup {
    html! {
        table.checks {
            thead {
                tr { th { "Check" } th { "Expected" } th { "Found" } th { "Decided by" } }
            }
            tbody { @for row in rows { (check_row(row)) } }
        }
    }
}

fn check_row(row: &ReportRow) -> Markup {
    html! {
        tr {
            td data-label="Check" {
                @match row.result {
                    Ok(()) => span.state data-state="good" { "✓ " (row.name) },
                    Err(reject) => {
                        span.state data-state="bad" { "✗ " (row.name) }
                        br; (reject) " " code { (reject.code()) }
                    },
                }
            }
            td data-label="Expected" { (printable(&row.expected)) }
            td data-label="Found" { (printable(&row.found)) }
            td data-label="Decided by" {
                @for line in &row.decided_by { code { (linked(line)) } br; }
            }
        }
    }
}
