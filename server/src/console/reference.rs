//! The meaning of the figures of the overview, and of the reasons for refusals. Each number of the
//! overview leads here.

use countersign_engine::Blame;
use http::{Response, StatusCode};
use maud::{Markup, html};

use super::{
    ConsoleContext, ConsoleRequest,
    layout::{self, ConsolePage},
    live::reason_id,
    request,
    session::ConsoleUser,
    table::{ConsoleTable, TableCell, TableColumn, TableOrder},
    text::whole,
};
use crate::{
    base::{outcome::Outcome, reply::Body},
    observe::figures::refusals,
};

const PATH: &str = "/console/reference";

/// A figure of the overview.
struct FigureMeaning {
    /// Its name, as in [`FigureChart`](super::live::FigureChart).
    name: &'static str,
    title: &'static str,
    /// The meaning of the figure, and when to act.
    text: &'static str,
    /// The metrics from which it is made.
    metrics: &'static [&'static str],
}

const FIGURES: [FigureMeaning; 4] = [
    FigureMeaning {
        name: "requests",
        title: "Requests",
        text: "Requests with a token to verify, on average over the last ten seconds: /auth, \
               /v1/verify, and Check over gRPC, over all versions of HTTP.",
        metrics: &["countersign_requests_total"],
    },
    FigureMeaning {
        name: "refused",
        title: "Refused",
        text: "Those that were not allowed, for any of the reasons below. A rise for one issuer \
               is a problem of its tokens or keys. A rise without a token is one of the clients. \
               The metric also has the calls of the API, which are not part of the figure.",
        metrics: &["countersign_verifications_total"],
    },
    FigureMeaning {
        name: "p99",
        title: "99 % answered within",
        text: "The time from the end of the head of a request to its answer, as the upper bound \
               of a bucket of the histogram. Most of a rise is waiting: for keys of an issuer, \
               or for a budget of signature checks.",
        metrics: &["countersign_request_duration_seconds"],
    },
    FigureMeaning {
        name: "hits",
        title: "From the cache",
        text: "The part of tokens whose signature was checked before. It is low while clients \
               use each token once, and after a start. The metrics also have the tokens of calls \
               of the API, and of this console.",
        metrics: &[
            "countersign_remembered_verifications_total",
            "countersign_cold_verifications_total",
        ],
    },
];

/// Returns the link from a figure to its meaning.
pub(super) fn figure_link(name: &str) -> String {
    format!("{PATH}#{name}")
}

/// Returns the link from a reason for a refusal to its meaning.
pub(super) fn reason_link(reason: Outcome) -> String {
    figure_link(&reason_id(reason))
}

/// Returns the page.
pub(super) fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    request: &ConsoleRequest,
) -> Response<Body> {
    let query = request::query(request);
    let counts =
        context.api.figures.recent().map_or_else(Vec::new, |recent| recent.counts.reasons());
    let count = |reason: Outcome| {
        counts.iter().find(|(one, _)| *one == reason).map_or(0, |(_, count)| *count)
    };
    let table = ConsoleTable {
        columns: [
            TableColumn::sorted("Code", "code"),
            TableColumn::sorted("Reason", "reason"),
            TableColumn::sorted("What to do", "remedy"),
            TableColumn::number("Last minutes", "count"),
        ],
        rows: refusals().map(|reason| reason_row(reason, count(reason))).collect(),
        is_filtered: true,
    };
    let content = html! {
        h1 { "Figures and reasons" }
        section {
            h2 { "Figures" }
            dl.facts { @for figure in &FIGURES { (meaning(figure)) } }
        }
        section {
            h2 { "Reasons for refusals" }
            p.empty {
                "The code is in the header " code { "X-Auth-Error" } ", in the access log, and a \
                label of " code { "countersign_verifications_total" } ". The "
                a href="/console/inspect" { "inspector" }
                " finds the line of the configuration that refuses a token."
            }
            (layout::table_filter())
            (table.render(Some(TableOrder { path: PATH, query: &query })))
        }
    };
    let page = ConsolePage { title: "Figures and reasons", active: "", user: Some(user) };
    layout::respond(StatusCode::OK, &page, &content)
}

fn meaning(figure: &FigureMeaning) -> Markup {
    html! {
        dt id=(figure.name) { (figure.title) }
        dd {
            (figure.text)
            @for metric in figure.metrics { br; code { (metric) } }
        }
    }
}

fn reason_row(reason: Outcome, count: u64) -> [TableCell; 4] {
    let (words, remedy) = (reason.words(), remedy(reason));
    [
        TableCell::text(reason.name(), html! { code id=(reason_id(reason)) { (reason.name()) } }),
        TableCell::text(&words, html! { (words) }),
        TableCell::text(remedy, html! { (remedy) }),
        TableCell::number(count, html! { (whole(count)) }),
    ]
}

/// Returns which party has to act, and how.
const fn remedy(reason: Outcome) -> &'static str {
    match reason {
        Outcome::Rejected(reject) => match reject.blame() {
            Blame::Malformed => "The client sends something else than a token, or a part of one.",
            Blame::Untrusted => {
                "No configured issuer and key signed the token: compare its iss and kid with the \
                 issuers."
            }
            Blame::Claims => {
                "The token is authentic: the client needs another one, or the section of the \
                 issuer other rules."
            }
            Blame::Unavailable => {
                "The token may be good: look at the issuers, and at the log of this server."
            }
        },
        Outcome::NoToken => "The client sends no token, or a proxy removes it.",
        Outcome::Conflict => "The client sends two credentials: it has to send one.",
        Outcome::CrossSite => {
            "A proxy has to pass on Origin and Sec-Fetch-Site. Otherwise it may be an attack."
        }
        Outcome::Denied => "Test the request on the page Policy and routes.",
        Outcome::Undescribed => "Add the proxy to trusted_proxies, and check its dialect.",
        Outcome::WrongKey => "Compare the id of the key of the client with those of Tenants.",
        Outcome::Tenant => "The client names a tenant that its token does not have.",
        Outcome::UntrustedAddress => {
            "Add the address to the login method of the identity. Otherwise the token is stolen."
        }
        Outcome::UsesExhausted | Outcome::MethodDeleted => "The identity has to log in again.",
        Outcome::UsesUnavailable => "The database does not answer.",
        Outcome::Verified
        | Outcome::Preflight
        | Outcome::Public
        | Outcome::Anonymous
        | Outcome::ApiKey => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_remedy_and_a_place() {
        let mut ids: Vec<_> = refusals().map(reason_id).collect();
        assert!(refusals().all(|reason| !remedy(reason).is_empty()));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), refusals().count());
    }
}
