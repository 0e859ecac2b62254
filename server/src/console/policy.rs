//! Routes and the access policy as loaded, and a test of what they decide.

use http::{Response, StatusCode};
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::{
    ConsoleContext,
    administrator_page::AdministratorPage,
    configuration::linked,
    error_page::ConsoleError,
    layout::{as_command, form_token, refusal},
    request::FormFields,
    request_test::{self, is_given, tested_request},
    session::ConsoleUser,
    text::whole,
};
use crate::{
    api::{
        request_test::{TestedBearer, TestedRequest},
        settings::DecidingListener,
    },
    auth::token_report::bare_token,
    authorization::{
        endpoints::EndpointTable,
        policy::Policy,
        routes::{RoutePattern, RouteTable},
    },
    base::{redacted::json_error, reply::Body},
};

/// The path of the page.
pub(super) const PATH: &str = "/console/policy";
const PAGE: AdministratorPage =
    AdministratorPage { title: "Policy and routes", path: PATH, right: "read the policy" };
/// Longest policy in bytes that the page has as a whole.
const MAX_SHOWN_BYTES: usize = 128 << 10;

/// Returns the page, with the test in a form if it has one.
///
/// # Errors
/// The user may not use it.
pub(super) async fn page(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    form: &FormFields,
) -> Result<Response<Body>, ConsoleError> {
    PAGE.check(context, user)?;
    let request = tested_request(form);
    let tested = if is_given(&request) { Some(test(context, &request, form).await) } else { None };
    let status = match &tested {
        Some(Err(_)) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    };
    let authorization = &context.api.auth.authorization;
    let policy = authorization.policy.policy.as_deref();
    let content = html! {
        h1 { "Policy and routes" }
        (listeners(context))
        section {
            h2 { "Test a request" }
            @if let Some(Err(mistake)) = &tested { (refusal(mistake)) }
            (test_form(context, user, &request, form))
        }
        @if let Some(Ok(tested)) = &tested { (tested) }
        (routes(&authorization.routes))
        (policy_text(policy))
        (endpoints(&authorization.endpoints))
        (as_command(
            "countersign routes explain GET /PATH --token - --config FILE < TOKEN\n\
             countersign policy explain --policy FILE < INPUT"
        ))
    };
    Ok(PAGE.respond(user, status, &content))
}

/// Returns the result of a test, or the mistake in its form.
async fn test(
    context: &ConsoleContext<'_>,
    request: &TestedRequest<'_>,
    form: &FormFields,
) -> Result<Markup, String> {
    let given = form.get("bearer").trim();
    if !given.starts_with('{') {
        let token = bare_token(given);
        let bearer =
            if token.is_empty() { TestedBearer::NoToken } else { TestedBearer::Token(token) };
        return Ok(request_test::result(&request.result(&context.api, bearer).await));
    }
    let claims = serde_json::from_str::<Map<String, Value>>(given);
    let claims = claims.map_err(|error| format!("The claims: {}.", json_error(&error)))?;
    let tested = request.result(&context.api, TestedBearer::Claims(&claims)).await;
    Ok(request_test::result(&tested))
}

fn test_form(
    context: &ConsoleContext<'_>,
    user: &ConsoleUser,
    request: &TestedRequest<'_>,
    form: &FormFields,
) -> Markup {
    html! {
        form method="post" action=(PATH) {
            (form_token(user))
            (request_test::fields(request, context))
            label for="bearer" { "Token, or claims as a JSON object; empty for no token" }
            textarea #bearer name="bearer" rows="5" autocomplete="off" spellcheck="false"
                autocapitalize="none" { (form.get("bearer")) }
            p.empty {
                "Claims are those of a token that this server signed. Neither is stored or logged."
            }
            p { button type="submit" { "Test" } }
        }
    }
}

fn listeners(context: &ConsoleContext<'_>) -> Markup {
    let api = context.api.settings.authorization_provider.name();
    html! {
        section {
            h2 { "What decides" }
            table {
                thead { tr { th { "Place" } th { "By" } th { "Without a token" } } }
                tbody {
                    @for DecidingListener { name, profile, access } in
                        &*context.api.settings.deciding
                    {
                        tr {
                            td data-label="Place" {
                                "listener " strong { (name) } ", as the " (profile.name())
                                " surface"
                            }
                            td data-label="By" { (access.provider.name()) }
                            td data-label="Without a token" {
                                (open_paths(access.open_paths.patterns()))
                            }
                        }
                    }
                    tr {
                        td data-label="Place" { "the API of this server" }
                        td data-label="By" { (api) }
                        td data-label="Without a token" { "health checks and the login" }
                    }
                }
            }
        }
    }
}

fn open_paths(patterns: &[RoutePattern]) -> String {
    let patterns: Vec<_> = patterns.iter().map(RoutePattern::to_string).collect();
    if patterns.is_empty() {
        "–".into()
    } else {
        format!("GET and HEAD of {}", patterns.join(", "))
    }
}

fn routes(routes: &RouteTable) -> Markup {
    let others = if routes.allows_others() { "any valid token" } else { "no request" };
    html! {
        section {
            h2 { "Routes, of which the first that matches decides" }
            @if routes.rules().is_empty() {
                p.empty {
                    "No rules by route. A section " code { "[route_<name>]" } " with "
                    code { "match = GET /orders/*" } " makes the first one, and "
                    code { "authorization = routes" } " of a listener asks it."
                }
            } @else {
                table {
                    thead { tr { th { "Rule" } th { "Requests" } th { "Allows" } } }
                    tbody {
                        @for rule in routes.rules() {
                            tr {
                                td data-label="Rule" {
                                    code { (linked(&format!("[{}]", rule.name))) }
                                }
                                td data-label="Requests" { (rule.pattern_list()) }
                                td data-label="Allows" { (rule.access()) }
                            }
                        }
                        tr {
                            td data-label="Rule" { "otherwise" }
                            td data-label="Requests" { "all others" }
                            td data-label="Allows" { (others) }
                        }
                    }
                }
            }
        }
    }
}

fn policy_text(policy: Option<&Policy>) -> Markup {
    html! {
        section {
            h2 { "Access policy" }
            @match policy {
                None => p.empty {
                    "No listener and no call of the API asks a policy: "
                    code { "authorization_provider = policy-engine" } " in " code { "[server]" }
                    " does. " code { "countersign policy print-default" }
                    " prints one to start with."
                },
                Some(policy) => {
                    p {
                        code { (policy.path()) } ", "
                        @if policy.is_deterministic() { "decisions can be cached" }
                        @else { "decisions are not cached" }
                        @if !policy.roles().is_empty() { "; roles: " (policy.roles().join(", ")) }
                    }
                    details {
                        summary {
                            "Its text, " (whole(policy.text().lines().count() as u64)) " lines"
                        }
                        (numbered(policy.text()))
                    }
                },
            }
        }
    }
}

/// Returns a text with the numbers of its lines, up to [`MAX_SHOWN_BYTES`].
fn numbered(text: &str) -> Markup {
    let mut size = 0;
    let fits = |line: &&str| {
        size += line.len() + 1;
        size <= MAX_SHOWN_BYTES
    };
    let lines: Vec<_> = text.lines().take_while(fits).collect();
    let missing = text.lines().count() - lines.len();
    html! {
        pre.source {
            @for (index, line) in lines.iter().enumerate() {
                span.exact { (format!("{:4} ", index + 1)) } (line) "\n"
            }
        }
        @if missing > 0 { p.empty { (missing) " further lines are in the file." } }
    }
}

fn endpoints(table: &EndpointTable) -> Markup {
    let mut data = table.data();
    let endpoints = data["endpoints"].take();
    let endpoints: Vec<_> = endpoints.as_object().into_iter().flatten().collect();
    let list = |value: &Value| {
        let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    html! {
        details {
            summary { "Known endpoints, " (endpoints.len()) }
            table {
                thead {
                    tr {
                        th { "Endpoint" } th { "Client types" } th { "Label" }
                        th { "Environment" }
                    }
                }
                tbody {
                    @for (id, properties) in &endpoints {
                        tr {
                            td data-label="Endpoint" { code { (id) } }
                            td data-label="Client types" { (list(&properties["client_types"])) }
                            td data-label="Label" {
                                (properties["auth_label"].as_str().unwrap_or_default())
                            }
                            td data-label="Environment" {
                                (properties["environment_param"].as_str().unwrap_or("–"))
                            }
                        }
                    }
                }
            }
        }
    }
}
