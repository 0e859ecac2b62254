//! Users.

use countersign_engine::{Rules, UnixTime};
use http::Response;
use serde_json::{Value, json};

use super::{CallContext, data, fault::ApiError, ok_empty, request::UserRequest, signer};
use crate::{
    clock,
    http::Body,
    revocation::{RevocationEntry, record::RevocationRecord},
    store::{
        StoreError,
        users::{Roles, User},
    },
};

pub(super) async fn answer(
    context: &CallContext<'_>,
    asked: UserRequest,
) -> Result<Response<Body>, ApiError> {
    match asked {
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

/// A user as the API shows them: with their roles, where all are listed.
pub(super) fn user_json(user: &User, roles: Option<&Roles>) -> Value {
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
    if username.is_empty() {
        return Err(ApiError::request("the username cannot be an empty string"));
    }
    context.server.login.passwords.check(password).map_err(ApiError::Request)?;
    let password_hash = context.users.hash(password).await?;
    let user = User::new(username, password_hash, false);
    match context.users.store.add_user(user.clone()).await {
        Ok(()) => Ok(data(&user_json(&user, None))),
        Err(StoreError::AlreadyExists) => {
            Err(ApiError::Conflict(format!("A user with name {} already exists.", user.username)))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Removes a user. A session must not outlive them: neither one that they have, nor one
/// that is begun while this is done.
async fn delete(context: &CallContext<'_>, username: &str) -> Result<Response<Body>, ApiError> {
    if context.users.store.user(username).await?.is_none() {
        return Err(no_such_user(username));
    }
    end_sessions(context, username, sessions_end(context)).await?;
    let was_there = context.users.store.delete_user(username).await?;
    end_sessions(context, username, sessions_end(context)).await?;
    if was_there { Ok(ok_empty()) } else { Err(no_such_user(username)) }
}

/// Changes a password: one's own against the current one; that of others ends their
/// sessions.
async fn set_password(
    context: &CallContext<'_>,
    username: &str,
    password: &str,
    current: Option<String>,
) -> Result<Response<Body>, ApiError> {
    let is_own = context
        .session
        .is_some_and(|session| session.is_login() && session.subject() == Some(username));
    if context.users.store.user(username).await?.is_none() {
        return Err(no_such_user(username));
    }
    context.server.login.passwords.check(password).map_err(ApiError::Request)?;
    if is_own {
        let current = current.ok_or_else(|| {
            ApiError::request("current_password is needed to change one's own password")
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

/// One's sessions go on, as that which asks is one of them.
async fn set_own_password(
    context: &CallContext<'_>,
    username: &str,
    password: &str,
    current: &str,
) -> Result<Response<Body>, ApiError> {
    let checked = context.users.authenticate(username, current, context.source).await;
    let user = checked.map_err(|fault| match ApiError::from(fault) {
        ApiError::Unauthorized(_) => {
            ApiError::Unauthorized("The current password is incorrect".into())
        }
        fault => fault,
    })?;
    let hash = context.users.hash(password).await?;
    // Not over what somebody else has set meanwhile.
    match context.users.store.renew_password_hash(username, &user.password_hash, &hash).await? {
        true => Ok(ok_empty()),
        false => Err(ApiError::Conflict(format!(
            "The password of user {username} was changed meanwhile."
        ))),
    }
}

async fn set_admin(
    context: &CallContext<'_>,
    username: &str,
    is_admin: bool,
) -> Result<Response<Body>, ApiError> {
    let unknown = || ApiError::request(format!("No user exists with username {username}."));
    if is_admin {
        return if context.users.store.grant_admin(username).await? {
            Ok(ok_empty())
        } else {
            Err(unknown())
        };
    }
    let before = context.users.store.user(username).await?.ok_or_else(unknown)?;
    // Whoever asks a second time may do so because the first time failed half-way.
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

/// The moment up to which sessions end that are ended now. The second that is running is
/// meant as a whole, and another node's clock may be a little ahead.
pub(super) fn sessions_end(context: &CallContext<'_>) -> UnixTime {
    let leeway = signer(context.server).map_or(0, |section| section.issuer.rules.leeway);
    clock::now().plus(1).plus(leeway.into())
}

/// Revokes the sessions that a user has, everywhere: what they say of the user is true no
/// longer. Those who verify do so whether the API asks for tokens or not. Sessions that were
/// begun before another section signed are accepted as long as theirs is configured.
pub(super) async fn end_sessions(
    context: &CallContext<'_>,
    username: &str,
    end: UnixTime,
) -> Result<(), ApiError> {
    let mut issuers = context.users.store.signers().await?;
    issuers.extend(signer(context.server).map(|section| section.issuer.name.to_string()));
    let sources = context.app.keys.all();
    for issuer in issuers {
        let source = sources.iter().find(|source| *source.section().issuer.name == *issuer);
        let record = RevocationRecord {
            subject: Some(username.to_owned()),
            issued_before: Some(end.0),
            // How long sessions were to last when they were begun is not known any more.
            until: source.and_then(|source| last_expiry(&source.section().issuer.rules, end)),
            issuer: Some(issuer),
            ..RevocationRecord::default()
        };
        let revocation = record.into_revocation().map_err(ApiError::Unavailable)?;
        context.app.revocations.revoke(RevocationEntry::Proven(revocation)).await?;
    }
    Ok(())
}

/// When the last token has died that was issued before a moment, if any ever does.
fn last_expiry(rules: &Rules, issued_before: UnixTime) -> Option<u64> {
    rules.max_lifetime.map(|most| issued_before.plus(most.into()).plus(rules.leeway.into()).0)
}

fn no_such_user(username: &str) -> ApiError {
    ApiError::not_found(format!("User with name {username} does not exist."))
}
