//! Environment endpoints. Only id, name and project are stored here, to which tokens and roles
//! are scoped; the contents of environments belong to the orchestrator.

use http::Response;
use serde_json::{Value, json};

use super::{
    CallContext, data, error::ApiError, ok_empty, request::EnvironmentRequest, tokens::random_uuid,
    users::signers,
};
use crate::{
    base::reply::Body,
    revocation::{RevocationEntry, record::RevocationRecord},
    store::{StoreError, environments::Environment},
};

pub(super) async fn respond(
    context: &CallContext<'_>,
    request: EnvironmentRequest,
) -> Result<Response<Body>, ApiError> {
    let store = &context.users.store;
    match request {
        EnvironmentRequest::List => {
            Ok(data(&store.environments().await?.iter().map(environment_json).collect()))
        }
        EnvironmentRequest::Get { id } => match store.environment(&id).await? {
            Some(environment) => Ok(data(&environment_json(&environment))),
            None => Err(no_such_environment(&id)),
        },
        EnvironmentRequest::Create { name, id, project_id } => {
            create(context, name, id, project_id).await
        }
        EnvironmentRequest::Delete { id } => delete(context, &id).await,
    }
}

async fn create(
    context: &CallContext<'_>,
    name: String,
    id: Option<String>,
    project_id: Option<String>,
) -> Result<Response<Body>, ApiError> {
    /// Project of environments that are created without one.
    const NO_PROJECT: &str = "00000000-0000-0000-0000-000000000000";
    let id = id.map_or_else(|| random_uuid().map(|id| id.to_string()), Ok)?;
    let environment =
        Environment { id, name, project_id: project_id.unwrap_or_else(|| NO_PROJECT.into()) };
    match context.users.store.add_environment(environment.clone()).await {
        Ok(()) => Ok(data(&environment_json(&environment))),
        Err(StoreError::AlreadyExists) => {
            let Environment { id, name, project_id } = environment;
            Err(ApiError::Conflict(format!(
                "An environment with id {id}, or with name {name} in project {project_id}, already \
                 exists, or the id was that of a deleted environment."
            )))
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes an environment. Every token scoped to it is revoked first, whether it is registered or
/// was signed on the command line. Its id is not used again, so the revocation has no end.
async fn delete(context: &CallContext<'_>, id: &str) -> Result<Response<Body>, ApiError> {
    for issuer in signers(context).await? {
        let record = RevocationRecord {
            issuer: Some(issuer),
            environment: Some(id.to_owned()),
            ..RevocationRecord::default()
        };
        let revocation = record.into_revocation().map_err(ApiError::Unavailable)?;
        context.api.revocations.revoke(RevocationEntry::Proven(revocation)).await?;
    }
    if context.users.store.delete_environment(id).await? {
        Ok(ok_empty())
    } else {
        Err(no_such_environment(id))
    }
}

fn environment_json(environment: &Environment) -> Value {
    json!({ "id": environment.id, "name": environment.name, "project_id": environment.project_id })
}

fn no_such_environment(id: &str) -> ApiError {
    ApiError::not_found(format!("The environment with id {id} does not exist."))
}
