//! Roles, and who has them where.

use http::Response;
use serde_json::json;

use super::{
    Context, data, done,
    fault::Fault,
    request::OfRoles,
    users::{end_of_sessions, end_sessions},
};
use crate::{http::Body, store::StoreFault};

pub(super) async fn answer(context: &Context<'_>, asked: OfRoles) -> Result<Response<Body>, Fault> {
    let store = &context.users.store;
    match asked {
        OfRoles::List => Ok(data(&json!(store.roles().await?))),
        OfRoles::Add { name } => match store.add_role(&name).await {
            Ok(()) => Ok(done()),
            Err(StoreFault::Exists) => Err(Fault::request(format!("Role {name} already exists."))),
            Err(fault) => Err(fault.into()),
        },
        OfRoles::Delete { name } => match store.delete_role(&name).await {
            Ok(true) => Ok(done()),
            Ok(false) => Err(Fault::request(format!("Role {name} doesn't exist."))),
            Err(StoreFault::Reference) => Err(Fault::request(format!(
                "Role {name} cannot be delete because it's still assigned to a user."
            ))),
            Err(fault) => Err(fault.into()),
        },
        OfRoles::Of { username } => {
            Ok(data(&json!({ "assignments": store.roles_of(&username).await? })))
        }
        OfRoles::Assign { username, environment, role } => {
            match store.assign_role(&username, &environment, &role).await {
                Ok(()) => Ok(done()),
                Err(StoreFault::Reference) => Err(Fault::request(format!(
                    "Cannot assign role {role} to user {username}. Role {role}, environment {environment} or user {username} doesn't \
                 exist."
                ))),
                Err(fault) => Err(fault.into()),
            }
        }
        OfRoles::Unassign { username, environment, role } => {
            unassign(context, &username, &environment, &role).await
        }
    }
}

/// Takes a role from somebody who has it. A session must not outlive it: neither one that
/// they have, nor one that is begun while this is done. They end first, so that the role is
/// still there for whoever asks again if that fails.
async fn unassign(
    context: &Context<'_>,
    username: &str,
    environment: &str,
    role: &str,
) -> Result<Response<Body>, Fault> {
    let store = &context.users.store;
    let roles = store.roles_of(username).await?;
    let mut was_assigned =
        roles.get(environment).is_some_and(|roles| roles.iter().any(|one| one == role));
    if was_assigned {
        end_sessions_of(context, username).await?;
        was_assigned = store.unassign_role(username, environment, role).await?;
        end_sessions_of(context, username).await?;
    }
    if was_assigned {
        return Ok(done());
    }
    // Whoever asks a second time may do so because the first time failed half-way.
    if store.user(username).await?.is_some_and(|user| user.sessions_since.0 != 0) {
        end_sessions_of(context, username).await?;
    }
    Err(Fault::request(format!(
        "Role {role} (environment={environment}) is not assigned to user {username}"
    )))
}

async fn end_sessions_of(context: &Context<'_>, username: &str) -> Result<(), Fault> {
    let end = end_of_sessions(context);
    match context.users.store.end_sessions(username, end).await? {
        true => end_sessions(context, username, end).await,
        false => Ok(()),
    }
}
