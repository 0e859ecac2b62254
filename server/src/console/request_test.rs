//! "As which request?": the form of a test of a request, and its result.

use maud::{Markup, html};

use super::{ConsoleContext, configuration::linked, request::FormFields};
use crate::{
    api::request_test::{API_PLACE, RequestMistake, TestResult, TestedRequest},
    authorization::{
        explanation::{DecidingFact, MET, NOT_MET},
        policy::explainer::{ExplainedRule, PolicyExplanation},
        preview::PreviewVerdict,
    },
};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Returns the request in the fields of a form.
pub(super) fn tested_request(form: &FormFields) -> TestedRequest<'_> {
    TestedRequest {
        place: form.get("place"),
        method: form.get("method"),
        target: form.get("target").trim(),
        environment: form.get("environment").trim(),
        tenant: form.get("tenant").trim(),
    }
}

/// Whether a form names a request.
pub(super) const fn is_given(request: &TestedRequest<'_>) -> bool {
    !request.target.is_empty()
}

/// Returns the fields of a form for a request.
pub(super) fn fields(request: &TestedRequest<'_>, context: &ConsoleContext<'_>) -> Markup {
    let listeners = &context.api.settings.deciding;
    let api = context.api.settings.authorization_provider.name();
    html! {
        div.filters {
            label {
                "Checked by "
                select name="place" {
                    option value=(API_PLACE) selected[request.place == API_PLACE] {
                        "the API of this server, by " (api)
                    }
                    @for one in &**listeners {
                        option value=(one.name) selected[request.place == one.name] {
                            "listener " (one.name) ", by " (one.access.provider.name())
                        }
                    }
                }
            }
            label {
                "Method "
                select name="method" {
                    @for one in METHODS { option selected[one == request.method] { (one) } }
                }
            }
            label {
                "Path and query "
                input name="target" value=(request.target) placeholder="/api/v2/environment"
                    autocomplete="off" spellcheck="false" autocapitalize="none";
            }
            label {
                "Environment, if any "
                input name="environment" value=(request.environment) autocomplete="off"
                    spellcheck="false" autocapitalize="none";
            }
            @if context.api.auth.tenancy.is_some() {
                label {
                    "X-Tenant-ID, if any "
                    input name="tenant" value=(request.tenant) autocomplete="off"
                        spellcheck="false" autocapitalize="none";
                }
            }
        }
    }
}

/// Returns what would be decided, and why.
pub(super) fn result(tested: &Result<TestResult, RequestMistake>) -> Markup {
    let TestResult { preview, explanation } = match tested {
        Ok(result) => result,
        Err(mistake) => {
            return html! { p.refusal role="alert" { "✗ " (mistake.text) } };
        }
    };
    html! {
        section.issuer {
            h2 { "This request" }
            (verdict(&preview.verdict))
            dl.facts { @for one in &preview.facts { (fact(one)) } }
            @match explanation {
                None => {},
                Some(Ok(explanation)) => (policy_rules(explanation)),
                Some(Err(reason)) => p.refusal {
                    "✗ The policy cannot be explained: " (reason)
                },
            }
            @if let Some(input) = &preview.policy_input {
                details {
                    summary { "Input of the policy" }
                    pre { (format!("{input:#}")) }
                }
            }
        }
    }
}

fn verdict(verdict: &PreviewVerdict) -> Markup {
    let (state, text, reason) = match verdict {
        PreviewVerdict::Allowed(reason) => ("good", "✓ allowed", reason),
        PreviewVerdict::Denied(reason) => ("bad", "✗ denied", reason),
        PreviewVerdict::Undecided(reason) => ("warning", "! not decided", reason),
    };
    html! { p.state.sentence data-state=(state) { (text) ": " (reason) } }
}

fn fact(DecidingFact { label, text }: &DecidingFact) -> Markup {
    let (state, sign) = match *label {
        MET => ("good", "✓ "),
        NOT_MET => ("bad", "✗ "),
        _ => ("", ""),
    };
    html! {
        dt { (label) }
        dd.state data-state=(state) { (sign) (linked(text)) }
    }
}

fn policy_rules(explanation: &PolicyExplanation) -> Markup {
    html! {
        @if !explanation.is_known_endpoint {
            p { "! The endpoint is not in " code { "data.endpoints" } "." }
        }
        table {
            thead { tr { th { "Rule" } th { "State" } th { "What it lacks" } } }
            tbody { @for rule in &explanation.rules { (policy_rule(rule)) } }
        }
        @if explanation.is_cut_off { p.empty { "Further rules were not examined." } }
        @if !explanation.prints.is_empty() {
            h2 { "The policy prints" }
            pre { @for line in &explanation.prints { (line) "\n" } }
        }
    }
}

fn policy_rule(rule: &ExplainedRule) -> Markup {
    let ExplainedRule { line, comment, failure } = rule;
    html! {
        tr {
            td data-label="Rule" { "line " (line) ": " (comment) }
            td data-label="State" {
                @match failure {
                    None => span.state data-state="good" { "✓ holds" },
                    Some(_) => span.state data-state="bad" { "✗ does not hold" },
                }
            }
            td data-label="What it lacks" {
                @if let Some((line, expression)) = failure {
                    "line " (line) ": " code { (expression) }
                }
            }
        }
    }
}
