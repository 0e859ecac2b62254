//! Users.

use http::Response;
use serde_json::{Value, json};

use super::{Context, data, done, fault::Fault, request::OfUsers};
use crate::{
    clock,
    http::Body,
    revocation::{Entry, record::Record},
    store::{
        StoreFault,
        users::{Roles, User},
    },
};

pub(super) async fn answer(context: &Context<'_>, asked: OfUsers) -> Result<Response<Body>, Fault> {
    match asked {
        OfUsers::List => list(context).await,
        OfUsers::Add { username, password } => add(context, username, &password).await,
        OfUsers::Delete { username } => delete(context, &username).await,
        OfUsers::SetPassword { username, password, current } => set_password(context, &username, &password, current).await,
        OfUsers::SetAdmin { username, is_admin } => set_admin(context, &username, is_admin).await,
        OfUsers::Current => current(context),
    }
}

/// A user as the API shows them: with their roles, where all are listed.
pub(super) fn shown_user(user: &User, roles: Option<&Roles>) -> Value {
    let mut shown = json!({ "username": user.username, "auth_method": user.auth_method, "is_admin": user.is_admin });
    if let Some(roles) = roles {
        shown["roles"] = json!(roles);
    }
    shown
}

async fn list(context: &Context<'_>) -> Result<Response<Body>, Fault> {
    let (users, roles) = (context.users.store.users().await?, context.users.store.roles_of_all().await?);
    let none = Roles::new();
    let shown = users.iter().map(|user| shown_user(user, Some(roles.get(&user.username).unwrap_or(&none))));
    Ok(data(&shown.collect()))
}

async fn add(context: &Context<'_>, username: String, password: &str) -> Result<Response<Body>, Fault> {
    if username.is_empty() {
        return Err(Fault::request("the username cannot be an empty string"));
    }
    context.server.login.passwords.check(password).map_err(Fault::Request)?;
    let password_hash = context.users.hash(password).await?;
    let user = User { username, password_hash, auth_method: "database".into(), is_admin: false };
    match context.users.store.add_user(user.clone()).await {
        Ok(()) => Ok(data(&shown_user(&user, None))),
        Err(StoreFault::Exists) => Err(Fault::Conflict(format!("A user with name {} already exists.", user.username))),
        Err(fault) => Err(fault.into()),
    }
}

async fn delete(context: &Context<'_>, username: &str) -> Result<Response<Body>, Fault> {
    if context.users.store.user(username).await?.is_none() {
        return Err(no_such_user(username));
    }
    // A session must not outlive its user, nor a user the answer.
    end_sessions(context, username).await?;
    if !context.users.store.delete_user(username).await? {
        return Err(no_such_user(username));
    }
    // Nor one that was begun meanwhile.
    end_sessions(context, username).await?;
    Ok(done())
}

/// Changes a password: one's own against the current one; that of others ends their
/// sessions.
async fn set_password(
    context: &Context<'_>,
    username: &str,
    password: &str,
    current: Option<String>,
) -> Result<Response<Body>, Fault> {
    let is_own = context.session.is_some_and(|session| session.is_login() && session.subject() == Some(username));
    if context.users.store.user(username).await?.is_none() {
        return Err(no_such_user(username));
    }
    context.server.login.passwords.check(password).map_err(Fault::Request)?;
    if is_own {
        let current = current.ok_or_else(|| Fault::request("current_password is needed to change one's own password"))?;
        let checked = context.users.authenticate(username, &current, context.source).await;
        checked.map_err(|fault| match Fault::from(fault) {
            Fault::Unauthorized(_) => Fault::Unauthorized("The current password is incorrect".into()),
            fault => fault,
        })?;
    }
    let hash = context.users.hash(password).await?;
    if !context.users.store.set_password_hash(username, &hash).await? {
        return Err(no_such_user(username));
    }
    if !is_own {
        end_sessions(context, username).await?;
    }
    Ok(done())
}

async fn set_admin(context: &Context<'_>, username: &str, is_admin: bool) -> Result<Response<Body>, Fault> {
    let unknown = || Fault::request(format!("No user exists with username {username}."));
    let before = context.users.store.user(username).await?.ok_or_else(unknown)?;
    if !context.users.store.set_admin(username, is_admin).await? {
        return Err(unknown());
    }
    if before.is_admin && !is_admin {
        end_sessions(context, username).await?;
    }
    Ok(done())
}

fn current(context: &Context<'_>) -> Result<Response<Body>, Fault> {
    let username = context.session.and_then(|session| session.username());
    let username = username.ok_or_else(|| Fault::not_found("No current user found, probably an API token is used."))?;
    Ok(data(&json!({ "username": username })))
}

/// Revokes the sessions that a user has, everywhere: what they say of the user is true no
/// longer.
pub(super) async fn end_sessions(context: &Context<'_>, username: &str) -> Result<(), Fault> {
    /// Sessions were perhaps configured to last longer once.
    const LONG: u64 = 30 * 86_400;
    let Ok(section) = context.signer() else { return Ok(()) };
    let now = clock::now();
    let longest = u64::from(context.server.login.session).max(section.expire).max(LONG);
    let may_last_for_ever = context.server.login.session == 0 && section.expire == 0;
    let record = Record {
        issuer: Some(section.issuer.name.to_string()),
        subject: Some(username.to_owned()),
        // The second that is running is meant as a whole.
        issued_before: Some(now.plus(1).0),
        until: (!may_last_for_ever).then(|| now.plus(longest).0),
        ..Record::default()
    };
    let revocation = record.meaning().map_err(Fault::Unavailable)?;
    Ok(context.app.revocations.revoke(Entry::Proven(revocation)).await?)
}

fn no_such_user(username: &str) -> Fault {
    Fault::not_found(format!("User with name {username} does not exist."))
}
