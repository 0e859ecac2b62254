//! Users.

use countersign_engine::{Rules, UnixTime};
use http::Response;
use serde_json::{Value, json};

use super::{Context, data, done, fault::Fault, request::OfUsers, signer};
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
        OfUsers::Add { username, password } => add(context, &username, &password).await,
        OfUsers::Delete { username } => delete(context, &username).await,
        OfUsers::SetPassword { username, password, current } => {
            set_password(context, &username, &password, current).await
        }
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
    let (users, roles) =
        (context.users.store.users().await?, context.users.store.roles_of_all().await?);
    let none = Roles::new();
    let shown =
        users.iter().map(|user| shown_user(user, Some(roles.get(&user.username).unwrap_or(&none))));
    Ok(data(&shown.collect()))
}

async fn add(
    context: &Context<'_>,
    username: &str,
    password: &str,
) -> Result<Response<Body>, Fault> {
    if username.is_empty() {
        return Err(Fault::request("the username cannot be an empty string"));
    }
    context.server.login.passwords.check(password).map_err(Fault::Request)?;
    let password_hash = context.users.hash(password).await?;
    let user = User::new(username, password_hash, false);
    match context.users.store.add_user(user.clone()).await {
        Ok(()) => Ok(data(&shown_user(&user, None))),
        Err(StoreFault::Exists) => {
            Err(Fault::Conflict(format!("A user with name {} already exists.", user.username)))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Removes a user. A session must not outlive them: neither one that they have, nor one
/// that is begun while this is done.
async fn delete(context: &Context<'_>, username: &str) -> Result<Response<Body>, Fault> {
    if context.users.store.user(username).await?.is_none() {
        return Err(no_such_user(username));
    }
    end_sessions(context, username, end_of_sessions(context)).await?;
    let was_there = context.users.store.delete_user(username).await?;
    end_sessions(context, username, end_of_sessions(context)).await?;
    if was_there { Ok(done()) } else { Err(no_such_user(username)) }
}

/// Changes a password: one's own against the current one; that of others ends their
/// sessions.
async fn set_password(
    context: &Context<'_>,
    username: &str,
    password: &str,
    current: Option<String>,
) -> Result<Response<Body>, Fault> {
    let is_own = context
        .session
        .is_some_and(|session| session.is_login() && session.subject() == Some(username));
    if context.users.store.user(username).await?.is_none() {
        return Err(no_such_user(username));
    }
    context.server.login.passwords.check(password).map_err(Fault::Request)?;
    if is_own {
        let current = current.ok_or_else(|| {
            Fault::request("current_password is needed to change one's own password")
        })?;
        return set_own_password(context, username, password, &current).await;
    }
    let hash = context.users.hash(password).await?;
    let end = end_of_sessions(context);
    if !context.users.store.set_password_hash(username, &hash, end).await? {
        return Err(no_such_user(username));
    }
    end_sessions(context, username, end).await?;
    Ok(done())
}

/// One's sessions go on, as that which asks is one of them.
async fn set_own_password(
    context: &Context<'_>,
    username: &str,
    password: &str,
    current: &str,
) -> Result<Response<Body>, Fault> {
    let checked = context.users.authenticate(username, current, context.source).await;
    let user = checked.map_err(|fault| match Fault::from(fault) {
        Fault::Unauthorized(_) => Fault::Unauthorized("The current password is incorrect".into()),
        fault => fault,
    })?;
    let hash = context.users.hash(password).await?;
    // Not over what somebody else has set meanwhile.
    match context.users.store.renew_password_hash(username, &user.password_hash, &hash).await? {
        true => Ok(done()),
        false => {
            Err(Fault::Conflict(format!("The password of user {username} was changed meanwhile.")))
        }
    }
}

async fn set_admin(
    context: &Context<'_>,
    username: &str,
    is_admin: bool,
) -> Result<Response<Body>, Fault> {
    let unknown = || Fault::request(format!("No user exists with username {username}."));
    if is_admin {
        return if context.users.store.make_admin(username).await? {
            Ok(done())
        } else {
            Err(unknown())
        };
    }
    let before = context.users.store.user(username).await?.ok_or_else(unknown)?;
    // Whoever asks a second time may do so because the first time failed half-way.
    if before.is_admin || before.sessions_since.0 != 0 {
        let end = end_of_sessions(context);
        if !context.users.store.unmake_admin(username, end).await? {
            return Err(unknown());
        }
        end_sessions(context, username, end).await?;
    }
    Ok(done())
}

fn current(context: &Context<'_>) -> Result<Response<Body>, Fault> {
    let username = context.session.and_then(|session| session.username());
    let username = username
        .ok_or_else(|| Fault::not_found("No current user found, probably an API token is used."))?;
    Ok(data(&json!({ "username": username })))
}

/// The moment up to which sessions end that are ended now. The second that is running is
/// meant as a whole, and another node's clock may be a little ahead.
pub(super) fn end_of_sessions(context: &Context<'_>) -> UnixTime {
    let leeway = signer(context.server).map_or(0, |section| section.issuer.rules.leeway);
    clock::now().plus(1).plus(leeway.into())
}

/// Revokes the sessions that a user has, everywhere: what they say of the user is true no
/// longer. Those who verify do so whether the API asks for tokens or not. Sessions that were
/// begun before another section signed are accepted as long as theirs is configured.
pub(super) async fn end_sessions(
    context: &Context<'_>,
    username: &str,
    end: UnixTime,
) -> Result<(), Fault> {
    let mut issuers = context.users.store.signers().await?;
    issuers.extend(signer(context.server).map(|section| section.issuer.name.to_string()));
    let sources = context.app.keys.all();
    for issuer in issuers {
        let source = sources.iter().find(|source| *source.section().issuer.name == *issuer);
        let record = Record {
            subject: Some(username.to_owned()),
            issued_before: Some(end.0),
            // How long sessions were to last when they were begun is not known any more.
            until: source.and_then(|source| last_end(&source.section().issuer.rules, end)),
            issuer: Some(issuer),
            ..Record::default()
        };
        let revocation = record.meaning().map_err(Fault::Unavailable)?;
        context.app.revocations.revoke(Entry::Proven(revocation)).await?;
    }
    Ok(())
}

/// When the last token has died that was issued before a moment, if any ever does.
fn last_end(rules: &Rules, issued_before: UnixTime) -> Option<u64> {
    rules.max_lifetime.map(|most| issued_before.plus(most.into()).plus(rules.leeway.into()).0)
}

fn no_such_user(username: &str) -> Fault {
    Fault::not_found(format!("User with name {username} does not exist."))
}
