//! The token inspector: what a token contains, which checks it passes, and what it may do.
//!
//! A token is in the body of a request and in its answer, and nowhere else.

mod damage;

use countersign_engine::{Presentation, Reject, UnixTime, jws::UnverifiedToken};
use http::{Response, StatusCode};
use maud::{Markup, html};

use self::damage::damages;
use super::{
    ConsoleContext,
    administrator_page::AdministratorPage,
    configuration::linked,
    error_page::ConsoleError,
    layout::{as_command, form_token},
    request::FormFields,
    request_test::{TestedBearer, TestedRequest},
    session::ConsoleUser,
    text::moment,
};
use crate::{
    auth::token_report::{
        MemberMeaning, ReportRow, TokenMember, TokenReport, claim_members, header_members,
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
    let request = TestedRequest::of(form);
    let tested = if token.is_empty() || !request.is_given() {
        None
    } else {
        Some(request.result(context, TestedBearer::Token(token)).await)
    };
    let content = html! {
        h1 { "Token inspector" }
        p.empty {
            "The token is decoded and checked on this server. It is not stored, not logged, and \
             not in an address."
        }
        (token_form(context, user, token, &request))
        @if !token.is_empty() { (inspected(context, token, clock::now())) }
        @if let Some(tested) = tested { (tested) }
        (as_command("countersign token explain --config FILE < TOKEN"))
    };
    Ok(PAGE.respond(user, StatusCode::OK, &content))
}

/// Returns a token without the spaces and the words of a header that are often copied with it.
pub(super) fn bare_token(text: &str) -> &str {
    let text = text.trim();
    let text = strip_prefix(text, "authorization:").trim_start();
    strip_prefix(text, "bearer ").trim_start()
}

fn strip_prefix<'t>(text: &'t str, prefix: &str) -> &'t str {
    match text.split_at_checked(prefix.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(prefix) => rest,
        _ => text,
    }
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
            details open[request.is_given()] {
                summary { "As which request?" }
                (request.fields(context))
            }
            p { button type="submit" { "Inspect" } }
        }
    }
}

fn inspected(context: &ConsoleContext<'_>, token: &str, now: UnixTime) -> Markup {
    let parts = match UnverifiedToken::decode(token.as_bytes()) {
        Ok(parts) => parts,
        Err(reject) => {
            return html! { section.issuer { (unreadable(reject, token)) } };
        }
    };
    let sections = &context.settings.loaded.sections;
    let authenticator = context.api.authenticator;
    let presented = (token.as_bytes(), now);
    let report = TokenReport::of(authenticator, presented, Presentation::default(), sections);
    html! {
        @match &report {
            Ok(report) => (verdict(report)),
            Err(reject) => (unreadable(*reject, token)),
        }
        (tinted(token))
        div.columns.even {
            section.part data-part="header" {
                h2 { "Header" }
                (members(header_members(&parts.header), &parts.header, now))
            }
            section.part data-part="payload" {
                h2 { "Payload" }
                (members(claim_members(&parts.payload), &parts.payload, now))
            }
        }
        @if let Ok(report) = &report { (checks(report)) }
    }
}

/// Returns why a token cannot be read, and where it is damaged.
fn unreadable(reject: Reject, token: &str) -> Markup {
    html! {
        p.state.sentence data-state="bad" {
            "✗ not a token that can be read: " (reject) " " code { (reject.code()) }
        }
        ul { @for one in damages(token) { li { (printable(&one)) } } }
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

fn members(members: Option<Vec<TokenMember>>, json: &[u8], now: UnixTime) -> Markup {
    html! {
        @match members {
            None => p.empty { (json.len()) " bytes that are not a JSON object." },
            Some(members) => dl.facts {
                @for one in &members {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_taken_out_of_its_header() {
        for text in
            ["a.b.c", " a.b.c\n", "Bearer a.b.c", "authorization: bearer  a.b.c", "BEARER a.b.c"]
        {
            assert_eq!(bare_token(text), "a.b.c", "{text}");
        }
        assert_eq!(bare_token("bear"), "bear");
    }
}
