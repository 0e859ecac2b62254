//! Users: deletion, another password, and the rights of administrators.

use http::Method;
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{ChangePreview, DangerousChange, count};
use crate::console::{
    api_call::UserCalls,
    error_page::{CallRefusal, ConsoleError},
    request::FormFields,
};

const PAGE: &str = "/console/users";

/// A user, and what depends on it.
struct UserAccount {
    username: String,
    /// Whether no other user is an administrator.
    is_only_admin: bool,
    /// Whether it is an administrator.
    is_admin: bool,
    /// Its roles, each with the id of its environment.
    roles: Vec<String>,
    /// Whether it is the user of the session.
    is_own: bool,
    /// What a change of its password, or another user of the same name, would change.
    credentials: String,
}

impl UserAccount {
    async fn find(calls: &UserCalls<'_>, username: &str) -> Result<Self, ConsoleError> {
        let users = calls.get("/api/v2/user").await.into_success()?;
        let users: Vec<_> = users.data().as_array().into_iter().flatten().collect();
        let is_admin = |one: &Value| one["is_admin"] == true;
        let found = users.iter().find(|one| one["username"] == username);
        let Some(found) = found.filter(|_| !username.is_empty()) else {
            let message = format!("No user has the name {username}.");
            return Err(CallRefusal::not_found(message).into());
        };
        Ok(Self {
            username: username.to_owned(),
            is_only_admin: is_admin(found) && users.iter().filter(|one| is_admin(one)).count() == 1,
            is_admin: is_admin(found),
            roles: roles_of(found),
            is_own: calls.user.session.username() == Some(username),
            credentials: credentials(calls, username).await?,
        })
    }

    /// Returns the number of its roles, and the first of them by name.
    fn described_roles(&self) -> String {
        /// Most roles that are named.
        const MAX_NAMED: usize = 20;
        let all = count(self.roles.len(), "role");
        let named: Vec<_> = self.roles.iter().take(MAX_NAMED).map(String::as_str).collect();
        match self.roles.len() {
            0 => all,
            number if number > MAX_NAMED => format!("{all}, such as {}", named.join(", ")),
            _ => format!("{all}: {}", named.join(", ")),
        }
    }

    fn consequences(&self, change: DangerousChange) -> Vec<String> {
        let Self { username, is_only_admin, is_admin, roles, is_own, .. } = self;
        let mut all = vec![format!("All sessions of {username} end at once, on every server.")];
        match change {
            DangerousChange::DeleteUser => {
                if !roles.is_empty() {
                    all.push(format!("{username} loses {}.", self.described_roles()));
                }
                let tokens = "Tokens of environments stay valid, also those that the user created.";
                all.push(tokens.into());
            }
            DangerousChange::SetPassword => {
                all.push("The old password is refused from now on.".into());
            }
            DangerousChange::GrantAdmin if *is_admin => {
                all.push(format!("{username} is an administrator already."));
            }
            DangerousChange::GrantAdmin => all.push(format!(
                "After the next sign-in, {username} may change everything: users, roles, tokens, \
                 environments and identities."
            )),
            _ => {
                if !is_admin {
                    all.push(format!("{username} is not an administrator any more."));
                }
                all.push(format!("{username} keeps {}.", self.described_roles()));
            }
        }
        let loses_rights =
            matches!(change, DangerousChange::DeleteUser | DangerousChange::WithdrawAdmin);
        if *is_only_admin && loses_rights {
            all.push(
                "No other user is an administrator. To make one, it then takes the token of \
                 countersign token bootstrap."
                    .into(),
            );
        }
        if *is_own {
            all.push("It is your own account: you are signed out.".into());
        }
        if change == DangerousChange::DeleteUser {
            all.push("It cannot be undone.".into());
        }
        all
    }
}

pub(super) async fn preview(
    calls: &UserCalls<'_>,
    change: DangerousChange,
    username: &str,
) -> Result<ChangePreview, ConsoleError> {
    let account = UserAccount::find(calls, username).await?;
    let consequences = account.consequences(change);
    let UserAccount { is_admin, roles, credentials, .. } = &account;
    let state = json!([is_admin, roles, credentials]).to_string();
    let (title, button, done, command) = match change {
        DangerousChange::DeleteUser => ("Delete the user", "Delete the user", "delete", "delete"),
        DangerousChange::SetPassword => {
            ("Set a password for", "Set the password", "password", "password")
        }
        DangerousChange::GrantAdmin => {
            ("Make an administrator of", "Make an administrator", "admin", "admin")
        }
        _ => ("Withdraw the rights of", "Withdraw the rights", "admin", "admin --revoke"),
    };
    let inputs = match change {
        DangerousChange::SetPassword => password_fields(&account),
        _ => html! {},
    };
    Ok(ChangePreview {
        title: format!("{title} {username}"),
        consequences,
        name: account.username,
        state,
        inputs,
        button,
        back: PAGE.into(),
        done: format!("{PAGE}?done={done}"),
        command: format!("countersign user {command} NAME"),
    })
}

fn password_fields(account: &UserAccount) -> Markup {
    html! {
        @if account.is_own {
            label for="current" { "Your current password" }
            input #current name="current" type="password" autocomplete="current-password" required;
        }
        label for="password" { "New password" }
        input #password name="password" type="password" autocomplete="new-password" required;
    }
}

/// Checks that the user may make the call of a change. Its password is not looked at.
pub(super) fn check_permission(
    calls: &UserCalls<'_>,
    change: DangerousChange,
    fields: &FormFields,
) -> Result<(), ConsoleError> {
    let (method, target, body) = call(change, fields);
    calls.check(method, &target, body)
}

pub(super) async fn make(
    calls: &UserCalls<'_>,
    change: DangerousChange,
    fields: &FormFields,
) -> Result<(), ConsoleError> {
    let (method, target, body) = call(change, fields);
    calls.make(method, &target, body).await.into_success().map(drop)
}

/// Returns the method, the target and the body of the call that makes a change.
fn call(change: DangerousChange, fields: &FormFields) -> (Method, String, Value) {
    let username = fields.get("user");
    let path = format!("/api/v2/user/{}", utf8_percent_encode(username, NON_ALPHANUMERIC));
    match change {
        DangerousChange::DeleteUser => (Method::DELETE, path, Value::Null),
        DangerousChange::SetPassword => {
            let mut body = json!({ "password": fields.get("password") });
            let current = fields.get("current");
            if !current.is_empty() {
                body["current_password"] = current.into();
            }
            (Method::PATCH, format!("{path}/password"), body)
        }
        _ => {
            let is_admin = change == DangerousChange::GrantAdmin;
            let body = json!({ "username": username, "is_admin": is_admin });
            (Method::PATCH, "/api/v2/is_admin".into(), body)
        }
    }
}

/// Returns the roles of a user in the form of the API, each with its environment.
fn roles_of(user: &Value) -> Vec<String> {
    let environments = user["roles"].as_object().into_iter().flatten();
    let roles = environments.flat_map(|(environment, roles)| {
        let names = roles.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(move |role| format!("{role} in {environment}"))
    });
    roles.collect()
}

/// Returns the password hash of a user, and the end of its earlier sessions.
async fn credentials(calls: &UserCalls<'_>, username: &str) -> Result<String, ConsoleError> {
    let users = calls.context.api.users.ok_or(ConsoleError::Unavailable)?;
    let user = users.store.user(username).await?;
    Ok(user.map(|user| user.credential_state()).unwrap_or_default())
}
