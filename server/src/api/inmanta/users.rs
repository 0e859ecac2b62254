//! User endpoints.

use std::collections::BTreeSet;

use countersign_engine::{Rules, UnixTime};
use http::Response;
use serde_json::{Value, json};

use super::{
    CallContext, data,
    error::{ApiError, ChangeRefusal},
    login, ok_empty,
    request::UserRequest,
    signer, with_token,
};
use crate::{
    accounts::{check_username, session::Session},
    base::{clock, reply::Body},
    revocation::{RevocationEntry, record::RevocationRecord},
    store::{
        StoreError,
        users::{Roles, User},
    },
};

pub(super) async fn respond(
    context: &CallContext<'_>,
    request: UserRequest,
) -> Result<Response<Body>, ApiError> {
    match request {
        UserRequest::List => list(context).await,
        UserRequest::Add { username, password } => add(context, &username, &password).await,
        UserRequest::Delete { username } => delete(context, &username).await,
        UserRequest::SetPassword { username, password, current } => {
            set_password(context, &username, &password, current).await
        }
        UserRequest::SetAdmin { username, is_admin } => {
            set_admin(context, &username, is_admin).await
        }
        UserRequest::Current => current(context),
    }
}

/// Returns a user in the API's JSON form; with `roles` in lists of all users.
pub(in crate::api) fn user_json(user: &User, roles: Option<&Roles>) -> Value {
    let mut shown = json!({ "username": user.username, "auth_method": user.auth_method, "is_admin": user.is_admin });
    if let Some(roles) = roles {
        shown["roles"] = json!(roles);
    }
    shown
}

async fn list(context: &CallContext<'_>) -> Result<Response<Body>, ApiError> {
    let (users, roles) =
        (context.users.store.users().await?, context.users.store.roles_of_all().await?);
    let none = Roles::new();
    let shown =
        users.iter().map(|user| user_json(user, Some(roles.get(&user.username).unwrap_or(&none))));
    Ok(data(&shown.collect()))
}

async fn add(
    context: &CallContext<'_>,
    username: &str,
    password: &str,
) -> Result<Response<Body>, ApiError> {
    check_username(username).map_err(|mistake| ApiError::argument("username", mistake))?;
    check_password(context, password)?;
    let password_hash = context.users.hash(password).await?;
    let user = User::new(username, password_hash, false);
    match context.users.store.add_user(user.clone()).await {
        Ok(()) => Ok(data(&user_json(&user, None))),
        Err(StoreError::AlreadyExists) => {
            Err(ApiError::Conflict(format!("A user with name {} already exists.", user.username)))
        }
        Err(error) => Err(error.into()),
    }
}

fn check_password(context: &CallContext<'_>, password: &str) -> Result<(), ApiError> {
    let checked = context.api.settings.login.passwords.check(password);
    checked.map_err(|mistake| ApiError::argument("password", mistake))
}

/// Removes a user, and ends their sessions. No session may outlive the user, neither an
/// existing one nor one issued concurrently; sessions are therefore ended before and after.
async fn delete(context: &CallContext<'_>, username: &str) -> Result<Response<Body>, ApiError> {
    if context.users.store.user(username).await?.is_none() {
        return Err(no_such_user(username));
    }
    end_sessions(context, username, sessions_end(context)).await?;
    let was_there = context.users.store.delete_user(username).await?;
    end_sessions(context, username, sessions_end(context)).await?;
    if was_there { Ok(ok_empty()) } else { Err(no_such_user(username)) }
}

/// Changes a password. A user changing their own must give the current one. Changing another
/// user's password ends their sessions.
async fn set_password(
    context: &CallContext<'_>,
    username: &str,
    password: &str,
    current: Option<String>,
) -> Result<Response<Body>, ApiError> {
    check_password(context, password)?;
    if context.users.store.user(username).await?.is_none() {
        return Err(no_such_user(username));
    }
    if context.session.is_some_and(|session| session.username() == Some(username)) {
        let current = current.ok_or_else(|| {
            let text = "changing your own password requires the current password";
            ApiError::argument("current_password", text)
        })?;
        return set_own_password(context, username, password, &current).await;
    }
    let hash = context.users.hash(password).await?;
    let end = sessions_end(context);
    if !context.users.store.set_password_hash(username, &hash, end).await? {
        return Err(no_such_user(username));
    }
    end_sessions(context, username, end).await?;
    Ok(ok_empty())
}

/// Changes the caller's own password. It ends their other sessions, and this one is replaced by a
/// new one, whose token is in the header of the response.
async fn set_own_password(
    context: &CallContext<'_>,
    username: &str,
    password: &str,
    current: &str,
) -> Result<Response<Body>, ApiError> {
    let section = context.signer()?;
    let checked = login::authenticate(context, section, username, current).await;
    let user = checked.map_err(|error| match ApiError::from(error) {
        ApiError::Unauthorized(_) => {
            ApiError::Unauthorized("The current password is incorrect".into())
        }
        error => error,
    })?;
    let hash = context.users.hash(password).await?;
    let end = sessions_end(context);
    let (store, old) = (&context.users.store, &user.password_hash);
    // Not if the password was changed concurrently.
    if !store.change_password_hash(username, old, &hash, end).await? {
        let text = format!("The password of user {username} was changed meanwhile.");
        return Err(ApiError::Conflict(text));
    }
    end_sessions(context, username, end).await?;
    if !context.session.is_some_and(Session::is_login) {
        return Ok(ok_empty());
    }
    match login::begin_session(context, section, username, &hash).await {
        Ok(session) => Ok(with_token(ok_empty(), session.token())),
        // The password is changed. The client has to log in.
        Err(_) => Ok(ok_empty()),
    }
}

async fn set_admin(
    context: &CallContext<'_>,
    username: &str,
    is_admin: bool,
) -> Result<Response<Body>, ApiError> {
    let unknown = || {
        let text = format!("No user exists with username {username}.");
        ApiError::refused(ChangeRefusal::Missing, text)
    };
    if is_admin {
        return if context.users.store.grant_admin(username).await? {
            Ok(ok_empty())
        } else {
            Err(unknown())
        };
    }
    let before = context.users.store.user(username).await?.ok_or_else(unknown)?;
    // The request may be the retry of one that failed half-way.
    if before.is_admin || before.sessions_since.0 != 0 {
        let end = sessions_end(context);
        if !context.users.store.revoke_admin(username, end).await? {
            return Err(unknown());
        }
        end_sessions(context, username, end).await?;
    }
    Ok(ok_empty())
}

fn current(context: &CallContext<'_>) -> Result<Response<Body>, ApiError> {
    let username = context.session.and_then(|session| session.username());
    let username = username.ok_or_else(|| {
        ApiError::not_found("No current user found, probably an API token is used.")
    })?;
    Ok(data(&json!({ "username": username })))
}

/// Returns the time up to which sessions are ended now. It includes the whole current second,
/// and the leeway by which another node's clock may be ahead.
pub(super) fn sessions_end(context: &CallContext<'_>) -> UnixTime {
    let leeway = signer(context.api.settings).map_or(0, |section| section.issuer.rules.leeway);
    clock::now().plus(1).plus(leeway.into())
}

/// Revokes the sessions of a user on all nodes, because their claims about the user have become
/// wrong.
///
/// The revocation covers every issuer that has signed sessions: sessions of a former signing
/// section are accepted as long as that section is configured. It also applies if the API itself
/// requires no token, since other routes verify the sessions too.
pub(super) async fn end_sessions(
    context: &CallContext<'_>,
    username: &str,
    end: UnixTime,
) -> Result<(), ApiError> {
    let issuers = signers(context).await?;
    let sources = context.api.authenticator.keys.all();
    for issuer in issuers {
        let source = sources.iter().find(|source| *source.section().issuer.name == *issuer);
        let record = RevocationRecord {
            subject: Some(username.to_owned()),
            issued_before: Some(end.0),
            // The configured session lifetime may have changed since, so the section's limit.
            until: source.and_then(|source| last_expiry(&source.section().issuer.rules, end)),
            issuer: Some(issuer),
            ..RevocationRecord::default()
        };
        let revocation = record.into_revocation().map_err(ApiError::Unavailable)?;
        context.api.revocations.revoke(RevocationEntry::Proven(revocation)).await?;
    }
    Ok(())
}

/// Returns every issuer that has signed tokens here: the present one, and those of former signing
/// sections.
pub(super) async fn signers(context: &CallContext<'_>) -> Result<BTreeSet<String>, ApiError> {
    let mut issuers = context.users.store.signers().await?;
    issuers.extend(signer(context.api.settings).map(|section| section.issuer.name.to_string()));
    Ok(issuers)
}

/// Returns when the last token issued before a time expires; `None` without a limit.
fn last_expiry(rules: &Rules, issued_before: UnixTime) -> Option<u64> {
    rules
        .max_lifetime
        .map(|lifetime| issued_before.plus(lifetime.into()).plus(rules.leeway.into()).0)
}

fn no_such_user(username: &str) -> ApiError {
    ApiError::not_found(format!("User with name {username} does not exist."))
}
