//! Role endpoints: roles, and their assignments to users in environments.

use http::Response;
use serde_json::json;

use super::{
    CallContext, data,
    error::{ApiError, ChangeRefusal},
    ok_empty,
    request::RoleRequest,
    users::{end_sessions, sessions_end},
};
use crate::{base::reply::Body, store::StoreError};

pub(super) async fn respond(
    context: &CallContext<'_>,
    request: RoleRequest,
) -> Result<Response<Body>, ApiError> {
    let store = &context.users.store;
    match request {
        RoleRequest::List => Ok(data(&json!(store.roles().await?))),
        RoleRequest::Add { name } => match store.add_role(&name).await {
            Ok(()) => Ok(ok_empty()),
            Err(StoreError::AlreadyExists) => {
                let text = format!("Role {name} already exists.");
                Err(ApiError::refused(ChangeRefusal::Conflict, text))
            }
            Err(error) => Err(error.into()),
        },
        RoleRequest::Delete { name } => match store.delete_role(&name).await {
            Ok(true) => Ok(ok_empty()),
            Ok(false) => {
                let text = format!("Role {name} doesn't exist.");
                Err(ApiError::refused(ChangeRefusal::Missing, text))
            }
            Err(StoreError::ForeignKeyViolation) => {
                let text =
                    format!("Role {name} cannot be delete because it's still assigned to a user.");
                Err(ApiError::refused(ChangeRefusal::Conflict, text))
            }
            Err(error) => Err(error.into()),
        },
        RoleRequest::Assignments { username } => {
            Ok(data(&json!({ "assignments": store.roles_of(&username).await? })))
        }
        RoleRequest::Assign { username, environment, role } => {
            match store.assign_role(&username, &environment, &role).await {
                Ok(()) => Ok(ok_empty()),
                Err(StoreError::ForeignKeyViolation) => {
                    let text = format!(
                        "Cannot assign role {role} to user {username}. Role {role}, environment \
                         {environment} or user {username} doesn't exist."
                    );
                    Err(ApiError::refused(ChangeRefusal::Missing, text))
                }
                Err(error) => Err(error.into()),
            }
        }
        RoleRequest::Unassign { username, environment, role } => {
            unassign(context, &username, &environment, &role).await
        }
    }
}

/// Removes a role assignment, and ends the user's sessions.
///
/// No session may keep the role, neither an existing one nor one issued concurrently. Sessions
/// are therefore ended before and after the removal. They are ended first, so that after a
/// failure the assignment still exists and the client can retry.
async fn unassign(
    context: &CallContext<'_>,
    username: &str,
    environment: &str,
    role: &str,
) -> Result<Response<Body>, ApiError> {
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
        return Ok(ok_empty());
    }
    // The request may be the retry of one that failed half-way.
    if store.user(username).await?.is_some_and(|user| user.sessions_since.0 != 0) {
        end_sessions_of(context, username).await?;
    }
    let text =
        format!("Role {role} (environment={environment}) is not assigned to user {username}");
    Err(ApiError::refused(ChangeRefusal::Missing, text))
}

async fn end_sessions_of(context: &CallContext<'_>, username: &str) -> Result<(), ApiError> {
    let end = sessions_end(context);
    if context.users.store.end_sessions(username, end).await? {
        end_sessions(context, username, end).await?;
    }
    Ok(())
}
