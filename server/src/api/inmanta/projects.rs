//! Project endpoints. Projects group environments.

use http::Response;
use serde_json::{Value, json};

use super::{
    CallContext, enveloped, environments::environment_json, error::ApiError, ok_empty,
    request::ProjectRequest, tokens::random_uuid,
};
use crate::{
    base::{clock, reply::Body},
    identities::revocation::of_issued_by,
    store::{
        StoreError,
        environments::Environment,
        identity_projects::{MembershipsOf, ProjectMembership},
        projects::Project,
    },
};

pub(super) async fn respond(
    context: &CallContext<'_>,
    request: ProjectRequest,
) -> Result<Response<Body>, ApiError> {
    let store = &context.users.store;
    match request {
        ProjectRequest::List { details } => {
            let (projects, environments) =
                (store.projects().await?, store.environments(details).await?);
            let all = projects.iter().map(|one| project_json(context, one, &environments));
            Ok(enveloped(context, "projects", &all.collect()))
        }
        ProjectRequest::Get { id, details } => match store.project(&id).await? {
            Some(project) => single(context, &project, details).await,
            None => Err(unknown_id()),
        },
        ProjectRequest::Create { name, id } => create(context, name, id).await,
        ProjectRequest::Rename { id, name } => rename(context, id, name).await,
        ProjectRequest::Delete { id } => delete(context, &id).await,
    }
}

async fn create(
    context: &CallContext<'_>,
    name: String,
    id: Option<String>,
) -> Result<Response<Body>, ApiError> {
    let id = id.map_or_else(|| random_uuid().map(|id| id.to_string()), Ok)?;
    let project = Project { id, name };
    match context.users.store.add_project(project.clone()).await {
        Ok(()) => single(context, &project, false).await,
        Err(StoreError::AlreadyExists) => match context.users.store.project(&project.id).await? {
            Some(Project { id, .. }) => {
                Err(ApiError::Conflict(format!("A project with id {id} already exists.")))
            }
            None => Err(taken_name(&project.name)),
        },
        Err(error) => Err(error.into()),
    }
}

async fn rename(
    context: &CallContext<'_>,
    id: String,
    name: String,
) -> Result<Response<Body>, ApiError> {
    match context.users.store.rename_project(&id, &name).await {
        Ok(true) => single(context, &Project { id, name }, false).await,
        Ok(false) => Err(unknown_id()),
        Err(StoreError::AlreadyExists) => Err(taken_name(&name)),
        Err(error) => Err(error.into()),
    }
}

async fn delete(context: &CallContext<'_>, id: &str) -> Result<Response<Body>, ApiError> {
    let store = &context.users.store;
    let members = store.project_memberships(MembershipsOf::Project(id.to_owned())).await?;
    match store.delete_project(id).await {
        Ok(true) => {
            end_tokens(context, &members).await?;
            Ok(ok_empty())
        }
        Ok(false) => Err(unknown_id()),
        Err(StoreError::ForeignKeyViolation) => {
            let all = store.environments(false).await?;
            let pairs = of_project(&all, id).map(|one| format!("('{}', '{}')", one.name, one.id));
            Err(ApiError::Conflict(format!(
                "Cannot remove the project `{id}` because it still contains some environments: {}",
                pairs.collect::<Vec<_>>().join(",")
            )))
        }
        Err(error) => Err(error.into()),
    }
}

/// Revokes the access tokens of the members of a project that was deleted: they contain roles in
/// it.
async fn end_tokens(
    context: &CallContext<'_>,
    members: &[ProjectMembership],
) -> Result<(), ApiError> {
    let Some(settings) = &context.api.settings.identities else { return Ok(()) };
    for member in members {
        let revocations = of_issued_by(settings, &member.identity, clock::now());
        context.api.revocations.revoke_all(revocations).await?;
    }
    Ok(())
}

async fn single(
    context: &CallContext<'_>,
    project: &Project,
    details: bool,
) -> Result<Response<Body>, ApiError> {
    let environments = context.users.store.environments(details).await?;
    let project = project_json(context, project, &environments);
    Ok(enveloped(context, "project", &project))
}

/// Returns a project in JSON, with its environments among `all`; in version 1 with their ids.
fn project_json(context: &CallContext<'_>, project: &Project, all: &[Environment]) -> Value {
    let environments = of_project(all, &project.id).map(|one| {
        if context.is_v1 { Value::String(one.id.clone()) } else { environment_json(one) }
    });
    let environments: Value = environments.collect();
    json!({ "id": project.id, "name": project.name, "environments": environments })
}

fn of_project<'a>(all: &'a [Environment], id: &str) -> impl Iterator<Item = &'a Environment> {
    all.iter().filter(move |one| one.project_id == id)
}

fn unknown_id() -> ApiError {
    ApiError::not_found("The project with given id does not exist.")
}

fn taken_name(name: &str) -> ApiError {
    ApiError::Conflict(format!("A project with name {name} already exists."))
}
