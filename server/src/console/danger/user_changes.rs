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
    /// Number of its roles, in all environments.
    roles: usize,
    /// Whether it is the user of the session.
    is_own: bool,
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
        let count = |roles: &Value| roles.as_array().map_or(0, Vec::len);
        Ok(Self {
            username: username.to_owned(),
            is_only_admin: is_admin(found) && users.iter().filter(|one| is_admin(one)).count() == 1,
            roles: found["roles"].as_object().map_or(0, |all| all.values().map(count).sum()),
            is_own: calls.user.session.username() == Some(username),
        })
    }

    fn consequences(&self, change: DangerousChange) -> Vec<String> {
        let Self { username, is_only_admin, roles, is_own, .. } = self;
        let mut all = vec![format!("All sessions of {username} end at once, on every server.")];
        match change {
            DangerousChange::DeleteUser => {
                if *roles > 0 {
                    all.push(format!("{username} loses {}.", count(*roles, "role")));
                }
                let tokens = "Tokens of environments stay valid, also those that the user created.";
                all.push(tokens.into());
            }
            DangerousChange::SetPassword => {
                all.push("The old password is refused from now on.".into());
            }
            DangerousChange::GrantAdmin => all.push(format!(
                "After the next sign-in, {username} may change everything: users, roles, tokens, \
                 environments and identities."
            )),
            _ => all.push(format!("{username} keeps {}.", count(*roles, "role"))),
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

pub(super) async fn make(
    calls: &UserCalls<'_>,
    change: DangerousChange,
    fields: &FormFields,
) -> Result<(), ConsoleError> {
    let username = fields.get("user");
    let path = format!("/api/v2/user/{}", utf8_percent_encode(username, NON_ALPHANUMERIC));
    let (method, target, body) = match change {
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
    };
    calls.make(method, &target, body).await.into_success().map(drop)
}
