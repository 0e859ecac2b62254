//! Users and their roles, by the calls of the API.

mod change_rights;

use http::{Method, Response, StatusCode};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use self::change_rights::{ChangeRights, RoleChange};
use super::{
    ConsoleRequest,
    api_call::{CallAnswer, UserCalls},
    danger::DangerousChange,
    error_page::ConsoleError,
    layout::{self, ConsolePage, as_command, form_token, refusal},
    request::{self, FormFields},
    row_filter::RowFilter,
    see_other,
    session::ConsoleUser,
    table::{ConsoleTable, TableCell, TableColumn, TableOrder},
};
use crate::base::{printable::printable, reply::Body};

const PATH: &str = "/console/users";

/// Returns the page of the users.
///
/// # Errors
/// The user may not list them.
pub(super) async fn page(
    calls: &UserCalls<'_>,
    request: &ConsoleRequest,
) -> Result<Response<Body>, ConsoleError> {
    let query = request::query(request);
    let done = match query.get("done") {
        "add" => "The user is added.",
        "delete" => "The user is deleted, and the sessions of the user have ended.",
        "admin" => "The rights are changed, and the sessions of the user have ended.",
        "password" => "The password is set, and the sessions of the user have ended.",
        "assign" => "The role is assigned. It is in tokens from the next sign-in of the user.",
        "unassign" => "The role is removed, and the sessions of the user have ended.",
        _ => "",
    };
    let notice = PageNotice { done, refused: "", username: "" };
    render(calls, StatusCode::OK, &notice, &query).await
}

/// Changes users or their roles.
///
/// # Errors
/// The change is unknown, or the page cannot be shown.
pub(super) async fn change(
    calls: &UserCalls<'_>,
    change: &str,
    form: &FormFields,
) -> Result<Response<Body>, ConsoleError> {
    let username = form.get("username");
    let named = |path: &str| format!("{path}/{}", utf8_percent_encode(username, NON_ALPHANUMERIC));
    let role = || json!({ "environment": form.get("environment"), "role": form.get("role") });
    let (method, target, body) = match change {
        "add" => {
            let body = json!({ "username": username, "password": form.get("password") });
            (Method::POST, "/api/v2/user".to_owned(), body)
        }
        "assign" => (Method::POST, named("/api/v2/role_assignment"), role()),
        "unassign" => {
            let query = [("environment", form.get("environment")), ("role", form.get("role"))];
            let query = serde_urlencoded::to_string(query).unwrap_or_default();
            let target = format!("{}?{query}", named("/api/v2/role_assignment"));
            (Method::DELETE, target, Value::Null)
        }
        _ => return Err(ConsoleError::NotFound),
    };
    let answer = calls.make(method, &target, body).await;
    if answer.status == StatusCode::OK {
        return Ok(see_other(&format!("{PATH}?done={change}")));
    }
    let typed = if change == "add" { username } else { "" };
    let message = answer.message();
    let notice = PageNotice { done: "", refused: &message, username: typed };
    render(calls, answer.status, &notice, &FormFields::default()).await
}

/// The result of the last [`change`], above the table.
struct PageNotice<'n> {
    done: &'n str,
    refused: &'n str,
    /// The name that was typed for a new user.
    username: &'n str,
}

/// What the forms need to know.
struct RoleChoices {
    /// Names of the roles.
    roles: Vec<String>,
    /// Ids and names of the environments.
    environments: Vec<(String, String)>,
}

async fn render(
    calls: &UserCalls<'_>,
    status: StatusCode,
    notice: &PageNotice<'_>,
    query: &FormFields,
) -> Result<Response<Body>, ConsoleError> {
    let users = calls.get("/api/v2/user").await.into_success()?;
    let roles = calls.get("/api/v2/role").await.unless_failed()?;
    let environments = calls.get("/api/v2/environment").await.unless_failed()?;
    let choices = RoleChoices::of(&roles, &environments);
    let users: Vec<_> = users.data().as_array().into_iter().flatten().collect();
    let role = choices.roles.first().map_or("", String::as_str);
    let rights = ChangeRights::of(calls, &users, role);
    let table = UserTable { user: calls.user, choices: &choices, rights: &rights };
    let may_add = calls.may_make("POST", "/api/v2/user");
    let content = html! {
        h1 { "Users and roles" }
        @if !notice.done.is_empty() { p role="status" { "✓ " (notice.done) } }
        (refusal(notice.refused))
        @if users.is_empty() {
            p.empty { "There are no local users yet: " code { "countersign user add NAME" } " adds one." }
        } @else {
            (table.render(users, query))
        }
        @if may_add { (new_user_form(calls.user, notice.username)) }
    };
    let page = ConsolePage { title: "Users and roles", active: PATH, user: Some(calls.user) };
    Ok(layout::respond(status, &page, &content))
}

impl RoleChoices {
    fn of(roles: &CallAnswer, environments: &CallAnswer) -> Self {
        let list = |answer: &CallAnswer| answer.data().as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let roles = list(roles);
        let roles = roles
            .iter()
            .map(|role| if role.is_string() { text(role) } else { text(&role["name"]) });
        let environments = list(environments);
        let environments = environments.iter().map(|one| (text(&one["id"]), text(&one["name"])));
        Self { roles: roles.collect(), environments: environments.collect() }
    }

    /// Returns the name of an environment, or its id.
    fn environment<'c>(&'c self, id: &'c str) -> &'c str {
        let found = self.environments.iter().find(|(one, _)| one == id);
        found.map_or(id, |(_, name)| name)
    }
}

/// The table of the users, with the changes that the user of the session may make.
struct UserTable<'t> {
    user: &'t ConsoleUser,
    choices: &'t RoleChoices,
    rights: &'t ChangeRights<'t>,
}

impl UserTable<'_> {
    /// Returns the part of the table that the query selects.
    fn render(&self, mut users: Vec<&Value>, query: &FormFields) -> Markup {
        let filter = RowFilter::of(query);
        users.retain(|one| filter.accepts(one));
        html! {
            (filter.form(PATH, None))
            @if users.is_empty() { p.empty { "No user has this text." } }
            (ConsoleTable {
                columns: [
                    TableColumn::sorted("User", "user"),
                    TableColumn::sorted("Rights", "rights"),
                    TableColumn::sorted("Roles", "roles"),
                    TableColumn::plain("Changes"),
                ],
                rows: users.iter().map(|one| self.row(one)).collect(),
                is_filtered: true,
            }
            .render_part(TableOrder { path: PATH, query }))
        }
    }

    fn row(&self, one: &Value) -> [TableCell; 4] {
        let username = one["username"].as_str().unwrap_or_default();
        let is_admin = one["is_admin"].as_bool().unwrap_or_default();
        let rights = if is_admin { "administrator" } else { "–" };
        let count = |roles: &Value| roles.as_array().map_or(0, Vec::len);
        let assigned = one["roles"].as_object().map_or(0, |roles| roles.values().map(count).sum());
        [
            TableCell::text(username, html! { strong { (printable(username)) } }),
            TableCell::text(rights, html! { (rights) }),
            TableCell::number(assigned as u64, self.roles(username, &one["roles"])),
            TableCell::plain(self.changes(username, is_admin)),
        ]
    }

    /// Returns the roles of a user, each with the button that removes it.
    fn roles(&self, username: &str, roles: &Value) -> Markup {
        let assigned = roles.as_object().into_iter().flatten().flat_map(|(environment, roles)| {
            let names = roles.as_array().into_iter().flatten().filter_map(Value::as_str);
            names.map(move |role| (environment, role))
        });
        let assigned: Vec<_> = assigned.collect();
        html! {
            @if assigned.is_empty() { "–" }
            @for (environment, role) in assigned {
                @let name = printable(self.choices.environment(environment));
                @if self.rights.has_role_change(RoleChange::Unassign, environment) {
                    form.inline method="post" action="/console/users/unassign" {
                        (form_token(self.user))
                        input type="hidden" name="username" value=(username);
                        input type="hidden" name="environment" value=(environment);
                        input type="hidden" name="role" value=(role);
                        (printable(role)) " in " (name) " "
                        button type="submit" aria-label={
                            "Remove role " (printable(role)) " of " (printable(username))
                        } { "Remove" }
                    }
                } @else {
                    div { (printable(role)) " in " (name) }
                }
            }
        }
    }

    /// Returns the changes of a user that are allowed.
    fn changes(&self, username: &str, is_admin: bool) -> Markup {
        let is_assignable = |id: &str| self.rights.has_role_change(RoleChange::Assign, id);
        let environments = &self.choices.environments;
        let dangerous = self.dangerous_changes(username, is_admin);
        let is_assigning = match environments.as_slice() {
            [] => !dangerous.is_empty(),
            environments => environments.iter().any(|(id, _)| is_assignable(id)),
        };
        html! {
            @if dangerous.is_empty() && !is_assigning {
                "–"
            } @else {
                details {
                    summary { "Change" }
                    @if is_assigning { (self.assignment_form(username)) }
                    @if !dangerous.is_empty() {
                        ul.danger {
                            @for (change, text) in dangerous {
                                li { a href=(change.address(&[username])) { (text) } }
                            }
                        }
                    }
                }
            }
        }
    }

    fn assignment_form(&self, username: &str) -> Markup {
        let RoleChoices { roles, environments } = self.choices;
        let is_assignable = |id: &str| self.rights.has_role_change(RoleChange::Assign, id);
        html! {
            @if roles.is_empty() || environments.is_empty() {
                p.empty { "A role needs an environment: none exists yet." }
            } @else {
                form method="post" action="/console/users/assign" {
                    (form_token(self.user))
                    input type="hidden" name="username" value=(username);
                    label {
                        "Role "
                        select name="role" {
                            @for role in roles { option value=(role) { (printable(role)) } }
                        }
                    }
                    label {
                        "Environment "
                        select name="environment" {
                            @for (id, name) in environments {
                                @if is_assignable(id) { option value=(id) { (printable(name)) } }
                            }
                        }
                    }
                    button type="submit" { "Assign" }
                }
            }
        }
    }

    /// Returns the changes that cannot be undone, or that decide who administers, with their texts.
    fn dangerous_changes(
        &self,
        username: &str,
        is_admin: bool,
    ) -> Vec<(DangerousChange, &'static str)> {
        let rights = if is_admin {
            (DangerousChange::WithdrawAdmin, "Withdraw administrator rights…")
        } else {
            (DangerousChange::GrantAdmin, "Make an administrator…")
        };
        let all = [
            rights,
            (DangerousChange::SetPassword, "Set a password…"),
            (DangerousChange::DeleteUser, "Delete the user…"),
        ];
        all.into_iter().filter(|(change, _)| self.rights.has(*change, username)).collect()
    }
}

fn new_user_form(user: &ConsoleUser, username: &str) -> Markup {
    html! {
        section.narrow {
            h2 { "Add a user" }
            form method="post" action="/console/users/add" {
                (form_token(user))
                label for="new-username" { "Username" }
                input #new-username name="username" value=(username) autocomplete="off"
                    autocapitalize="none" spellcheck="false" required;
                label for="new-password" { "Password" }
                input #new-password name="password" type="password" autocomplete="new-password"
                    required;
                button.main type="submit" { "Add" }
            }
            (as_command("countersign user add NAME"))
        }
    }
}
