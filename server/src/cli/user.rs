//! `countersign user`: users of a running server.

use http::StatusCode;
use serde_json::json;

use super::{
    CommandError, ConfigSource,
    arguments::{UserArgs, UserCommand},
    client::{ApiCall, ServerClient},
    connection::{ServerConnection, TokenSource},
    password::PasswordInput,
    print, printable,
    sessions::SessionStore,
    table::print_list,
};

pub(super) fn run(source: &ConfigSource, args: UserArgs) -> Result<(), CommandError> {
    let client = ServerClient::of(source, &args.server)?;
    match args.command {
        UserCommand::Add { name, admin, password_stdin } => {
            add(&client, &name, admin, PasswordInput::choose(password_stdin))
        }
        UserCommand::List { json } => list(&client, json),
        UserCommand::Delete { name } => {
            client.call(ApiCall::delete(&["user", &name]))?;
            Ok(print(format_args!("User {name} is deleted."))?)
        }
        UserCommand::Password { name, password_stdin } => {
            change(&client, &name, PasswordInput::choose(password_stdin))
        }
        UserCommand::Admin { name, revoke } => {
            set_admin(&client, &name, !revoke)?;
            Ok(print(format_args!(
                "User {name} is {} an administrator.",
                if revoke { "no longer" } else { "now" }
            ))?)
        }
    }
}

fn add(
    client: &ServerClient,
    name: &str,
    admin: bool,
    passwords: PasswordInput,
) -> Result<(), CommandError> {
    let password = passwords.ask_new(&format!("Password of {name}: "))?;
    client.call(ApiCall::post(&["user"], json!({ "username": name, "password": password })))?;
    if admin {
        set_admin(client, name, true)?;
    }
    Ok(print(format_args!(
        "User {name} is added{}.",
        if admin { ", as an administrator" } else { "" }
    ))?)
}

fn list(client: &ServerClient, as_json: bool) -> Result<(), CommandError> {
    let users = client.call(ApiCall::get(&["user"]))?;
    let columns = [
        ("USER", "username"),
        ("ADMIN", "is_admin"),
        ("METHOD", "auth_method"),
        ("ROLES", "roles"),
    ];
    Ok(print_list(&users, &columns, as_json)?)
}

fn change(client: &ServerClient, name: &str, passwords: PasswordInput) -> Result<(), CommandError> {
    let mut body = json!({});
    if is_caller(client, name)? {
        body["current_password"] = passwords.ask("Your current password: ")?.into();
    }
    body["password"] = passwords.ask_new(&format!("New password of {name}: "))?.into();
    let token = client.call_for_token(ApiCall::patch(&["user", name, "password"], body))?;
    // A change of one's own password ends the session that the call was made in.
    if let Some(token) = token {
        store_session(client.connection(), &token)?;
    }
    Ok(print(format_args!("The password of {name} is changed."))?)
}

/// Replaces the stored token, if the call was made with it.
fn store_session(connection: &ServerConnection, token: &str) -> Result<(), CommandError> {
    if connection.token_source == TokenSource::Session {
        SessionStore::of_user()?.save(&connection.session_key(), &printable(token))?;
    }
    Ok(())
}

/// Whether the token belongs to this user, who must then give the current password.
fn is_caller(client: &ServerClient, name: &str) -> Result<bool, CommandError> {
    match client.call(ApiCall::get(&["current_user"])) {
        Ok(user) => Ok(user["username"] == name),
        // The token does not belong to a user.
        Err(error) if error.status == Some(StatusCode::NOT_FOUND) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn set_admin(client: &ServerClient, name: &str, is_admin: bool) -> Result<(), CommandError> {
    client
        .call(ApiCall::patch(&["is_admin"], json!({ "username": name, "is_admin": is_admin })))?;
    Ok(())
}
