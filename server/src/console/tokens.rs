//! Tokens of environments: created, listed and revoked by the calls of the API.

mod new_token;

use http::{Method, Response, StatusCode};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use self::new_token::NewTokenForm;
use super::{
    ConsoleRequest,
    api_call::{CallAnswer, UserCalls},
    error_page::ConsoleError,
    layout::{self, ConsolePage, form_token, refusal},
    page_right,
    request::{self, FormFields},
    row_filter::RowFilter,
    see_other,
    session::ConsoleUser,
    table::{ConsoleTable, TableCell, TableColumn, TableOrder},
    text::utc,
};
use crate::base::{clock, printable::printable, reply::Body};

const PATH: &str = "/console/tokens";
const TARGET: &str = "/api/v2/environment_auth";
/// Length of a time of the API without parts of a second.
const SECONDS: usize = 19;

/// The result of the last [`change`], and its fields.
#[derive(Default)]
struct TokensNotice<'n> {
    done: &'n str,
    refused: &'n str,
    /// A new token, which is shown once.
    token: Option<&'n str>,
    form: NewTokenForm,
}

/// Returns the page.
///
/// # Errors
/// The user may not list environments, or the database is unavailable.
pub(super) async fn page(
    calls: &UserCalls<'_>,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let query = request::query(request);
    let done = if query.get("done") == "revoke" { "The token is revoked." } else { "" };
    let notice = TokensNotice { done, ..TokensNotice::default() };
    render(calls, &query, StatusCode::OK, &notice).await
}

/// Creates or revokes a token.
///
/// # Errors
/// The change is unknown, or the page cannot be shown.
pub(super) async fn change(
    calls: &UserCalls<'_>,
    change: &str,
    form: &FormFields,
) -> Result<Response<Body>, ConsoleError> {
    let environment = form.get("environment");
    let new_token =
        if change == "create" { NewTokenForm::read(form) } else { NewTokenForm::default() };
    let shown = FormFields::of("environment", environment);
    if !new_token.is_valid() {
        let notice = TokensNotice { form: new_token, ..TokensNotice::default() };
        return render(calls, &shown, StatusCode::BAD_REQUEST, &notice).await;
    }
    let (method, target, body) = match change {
        "create" => (Method::POST, TARGET.to_owned(), new_token.arguments()),
        "revoke" => {
            let jti = utf8_percent_encode(form.get("jti"), NON_ALPHANUMERIC);
            (Method::DELETE, format!("{TARGET}/{jti}"), Value::Null)
        }
        _ => return Err(ConsoleError::NotFound),
    };
    let answer = calls.make_within(environment, method, &target, body).await;
    let message = answer.message();
    let notice = match (answer.status, change) {
        (StatusCode::OK, "revoke") => {
            let environment = utf8_percent_encode(environment, NON_ALPHANUMERIC);
            return Ok(see_other(&format!("{PATH}?environment={environment}&done=revoke")));
        }
        (StatusCode::OK, _) => {
            TokensNotice { token: answer.data().as_str(), ..TokensNotice::default() }
        }
        _ => TokensNotice { refused: &message, form: new_token, ..TokensNotice::default() },
    };
    render(calls, &shown, answer.status, &notice).await
}

async fn render(
    calls: &UserCalls<'_>,
    query: &FormFields,
    status: StatusCode,
    notice: &TokensNotice<'_>,
) -> Result<Response<Body>, ConsoleError> {
    let environments = calls.get("/api/v2/environment").await.into_success()?;
    let environments: Vec<_> = environments.data().as_array().into_iter().flatten().collect();
    let chosen = ChosenEnvironment::of(calls, &environments, query.get("environment"));
    let (status, shown) = match chosen {
        ChosenEnvironment::Known(id) => {
            (status, environment_tokens(calls, id, query, notice).await?)
        }
        ChosenEnvironment::Unknown => {
            (StatusCode::NOT_FOUND, refusal("This environment does not exist: choose another one."))
        }
        ChosenEnvironment::Absent => (status, no_environment()),
    };
    let content = html! {
        h1 { "Tokens" }
        @if !notice.done.is_empty() { p role="status" { "✓ " (notice.done) } }
        (refusal(notice.refused))
        @if let Some(token) = notice.token { (created(token)) }
        @if !environments.is_empty() { (environment_form(&environments, &chosen)) }
        (shown)
    };
    let page = ConsolePage { title: "Tokens", active: PATH, user: Some(calls.user) };
    Ok(layout::respond(status, &page, &content))
}

/// The environment whose tokens the page shows.
#[derive(PartialEq, Eq)]
enum ChosenEnvironment<'e> {
    /// The id of one that exists.
    Known(&'e str),
    /// The address has the id of one that does not exist.
    Unknown,
    /// No environment exists.
    Absent,
}

impl<'e> ChosenEnvironment<'e> {
    /// Returns the environment of this id. Without an id, the first one whose tokens the user may
    /// list, or the first one.
    fn of(calls: &UserCalls<'_>, environments: &[&'e Value], id: &str) -> Self {
        let ids = || environments.iter().filter_map(|one| one["id"].as_str());
        if !id.is_empty() {
            return ids().find(|one| *one == id).map_or(Self::Unknown, Self::Known);
        }
        let (context, session) = (calls.context, &calls.user.session);
        let is_listed = |id: &&str| page_right::may_list_tokens(context, session, Some(id));
        let first = ids().find(is_listed).or_else(|| ids().next());
        first.map_or(Self::Absent, Self::Known)
    }
}

fn no_environment() -> Markup {
    html! {
        p.empty {
            "Tokens belong to an environment, and none exists yet: "
            code { "countersign environment add NAME" } " makes the first one."
        }
    }
}

/// Returns the tokens of an environment, and the form of a new one for those who may create it.
async fn environment_tokens(
    calls: &UserCalls<'_>,
    environment: &str,
    query: &FormFields,
    notice: &TokensNotice<'_>,
) -> Result<Markup, ConsoleError> {
    let listed = calls.make_within(environment, Method::GET, TARGET, Value::Null).await;
    let tokens = listed.unless_failed()?;
    let table = TokenTable {
        user: calls.user,
        environment,
        now: &time_now(),
        may_create: calls.may_make_within(environment, "POST", TARGET),
        may_revoke: calls.may_make_within(environment, "DELETE", &format!("{TARGET}/jti")),
    };
    Ok(html! {
        (table.render(&tokens, query))
        @if table.may_create { (notice.form.render(calls.user, environment)) }
    })
}

/// Shows a new token, which is not stored.
fn created(token: &str) -> Markup {
    html! {
        section.issuer role="status" {
            p { "✓ The token is created. It is shown once, and not stored: copy it now." }
            pre { code data-copy="" { (token) } }
        }
    }
}

fn environment_form(environments: &[&Value], chosen: &ChosenEnvironment<'_>) -> Markup {
    html! {
        form.filters method="get" action=(PATH) {
            label {
                "Environment "
                select name="environment" {
                    @for one in environments {
                        @let id = one["id"].as_str().unwrap_or_default();
                        option value=(id) selected[*chosen == ChosenEnvironment::Known(id)] {
                            (printable(one["name"].as_str().unwrap_or(id)))
                        }
                    }
                }
            }
            button type="submit" { "Show" }
        }
    }
}

/// The table of the tokens of an environment.
struct TokenTable<'t> {
    user: &'t ConsoleUser,
    environment: &'t str,
    /// The time now in the form of the API.
    now: &'t str,
    /// Whether the user may create a token there.
    may_create: bool,
    /// Whether the user may revoke the tokens.
    may_revoke: bool,
}

impl TokenTable<'_> {
    fn render(&self, tokens: &CallAnswer, query: &FormFields) -> Markup {
        let filter = RowFilter::of(query);
        let mut rows: Vec<_> = tokens.data().as_array().into_iter().flatten().collect();
        let is_empty = rows.is_empty();
        rows.retain(|one| filter.accepts(one));
        html! {
            @if tokens.status != StatusCode::OK {
                (refusal(&tokens.message()))
            } @else if is_empty {
                p.empty {
                    "This environment has no tokens yet."
                    @if self.may_create { " The form below makes the first one." }
                }
            } @else {
                (filter.form(PATH, Some(("environment", self.environment))))
                @if rows.is_empty() { p.empty { "No token has this text." } }
                (ConsoleTable {
                    columns: [
                        TableColumn::sorted("Id", "id"),
                        TableColumn::sorted("Client types", "types"),
                        TableColumn::sorted("Created", "created"),
                        TableColumn::sorted("Expires", "expires"),
                        TableColumn::sorted("Last used", "used"),
                        TableColumn::sorted("State", "state"),
                    ],
                    rows: rows.iter().map(|one| self.row(one)).collect(),
                    is_filtered: true,
                }
                .render_part(TableOrder { path: PATH, query }))
            }
        }
    }

    fn row(&self, one: &Value) -> [TableCell; 6] {
        let jti = one["jti"].as_str().unwrap_or_default();
        let client_types = one["client_types"].as_array().into_iter().flatten();
        let client_types: Vec<_> = client_types.filter_map(Value::as_str).collect();
        let client_types = client_types.join(", ");
        let created = html! {
            (utc(&one["issued_at"]))
            @if let Some(by) = one["created_by"].as_str() { " by " (printable(by)) }
        };
        // Times of the API are in the order of their texts, which are the same in length.
        let time =
            |name: &str, content| TableCell::text(one[name].as_str().unwrap_or_default(), content);
        [
            TableCell::text(jti, html! { code data-copy="" { (jti) } }),
            TableCell::text(&client_types, html! { (client_types) }),
            time("issued_at", created),
            time("expires_at", html! { (utc(&one["expires_at"])) }),
            time("last_used", html! { (utc(&one["last_used"])) }),
            time("revoked_at", self.state(one, jti)),
        ]
    }

    fn state(&self, one: &Value, jti: &str) -> Markup {
        html! {
            @if one["revoked_at"].is_string() {
                span.state data-state="bad" { "✗ revoked " (utc(&one["revoked_at"])) }
            } @else {
                @if has_expired(one, self.now) {
                    span.state data-state="warning" { "! expired" }
                }
                @if self.may_revoke {
                    form.inline method="post" action="/console/tokens/revoke" {
                        (form_token(self.user))
                        input type="hidden" name="environment" value=(self.environment);
                        input type="hidden" name="jti" value=(jti);
                        button type="submit" aria-label={ "Revoke token " (jti) } { "Revoke" }
                    }
                }
            }
        }
    }
}

/// Returns the time now in the form of the API, without parts of a second.
fn time_now() -> String {
    clock::rfc3339(clock::now()).unwrap_or_default()
}

fn has_expired(one: &Value, now: &str) -> bool {
    let end = one["expires_at"].as_str().and_then(|end| end.get(..SECONDS));
    end.zip(now.get(..SECONDS)).is_some_and(|(end, now)| end <= now)
}
