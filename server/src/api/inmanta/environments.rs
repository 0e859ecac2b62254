//! Environment endpoints. An environment is stored as far as tokens and roles are scoped to it, and
//! consoles show it. What it contains belongs to the orchestrator.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Response;
use serde_json::{Value, json};

use super::{
    CallContext, enveloped, environment_settings, error::ApiError, ok_empty,
    request::EnvironmentRequest, tokens::random_uuid, users::signers,
};
use crate::{
    base::reply::Body,
    revocation::{RevocationEntry, record::RevocationRecord},
    store::{
        Store, StoreError,
        environments::{Environment, EnvironmentChanges},
    },
};

pub(super) async fn respond(
    context: &CallContext<'_>,
    request: EnvironmentRequest,
) -> Result<Response<Body>, ApiError> {
    let store = &context.users.store;
    match request {
        EnvironmentRequest::List { details } => {
            let all = store.environments(details).await?;
            let all = all.iter().map(environment_json);
            let named = |one| if context.is_v1 { v1_json(one) } else { one };
            Ok(enveloped(context, "environments", &all.map(named).collect()))
        }
        EnvironmentRequest::Get { id, details } => match store.environment(&id).await? {
            Some(environment) => Ok(single(context, &shown(environment, details))),
            None => Err(unknown_id()),
        },
        EnvironmentRequest::Create { id, wanted } => create(context, id, wanted).await,
        EnvironmentRequest::Modify { id, changes } => modify(context, &id, changes).await,
        EnvironmentRequest::Delete { id } => delete(context, &id).await,
        EnvironmentRequest::Settings => Ok(environment_settings::respond(context.is_v1)),
    }
}

async fn create(
    context: &CallContext<'_>,
    id: Option<String>,
    wanted: EnvironmentChanges,
) -> Result<Response<Body>, ApiError> {
    let store = &context.users.store;
    let environment = Environment {
        id: id.map_or_else(|| random_uuid().map(|id| id.to_string()), Ok)?,
        name: wanted.name,
        // A required argument.
        project_id: wanted.project_id.unwrap_or_default(),
        repo_url: wanted.repo_url.clone().unwrap_or_default(),
        repo_branch: wanted.repo_branch.clone().unwrap_or_default(),
        description: wanted.description.unwrap_or_default(),
        icon: wanted.icon.unwrap_or_default(),
    };
    let Environment { id, name, project_id, .. } = &environment;
    refuse_taken_name(store, name, project_id, None).await?;
    if wanted.repo_url.is_some() != wanted.repo_branch.is_some() {
        return Err(ApiError::request("Repository and branch should be set together."));
    }
    if store.project(project_id).await?.is_none() {
        return Err(unknown_project());
    }
    check_details(Some(&environment.icon), Some(&environment.description))?;
    match store.add_environment(environment.clone()).await {
        Ok(()) => Ok(single(context, &environment)),
        Err(StoreError::ForeignKeyViolation) => Err(unknown_project()),
        Err(StoreError::AlreadyExists) => {
            // The name may have been taken since it was checked.
            refuse_taken_name(store, name, project_id, None).await?;
            Err(ApiError::Conflict(format!(
                "The id {id} is that of another environment, or was that of a deleted one."
            )))
        }
        Err(error) => Err(error.into()),
    }
}

async fn modify(
    context: &CallContext<'_>,
    id: &str,
    changes: EnvironmentChanges,
) -> Result<Response<Body>, ApiError> {
    let store = &context.users.store;
    let before = store.environment(id).await?.ok_or_else(unknown_id)?;
    let project_id = changes.project_id.as_deref().unwrap_or(&before.project_id);
    let unknown_project =
        || ApiError::request(format!("Project with id={project_id} doesn't exist"));
    refuse_taken_name(store, &changes.name, project_id, Some(id)).await?;
    if store.project(project_id).await?.is_none() {
        return Err(unknown_project());
    }
    check_details(changes.icon.as_deref(), changes.description.as_deref())?;
    match store.change_environment(id, changes.clone()).await {
        Ok(_) => match store.environment(id).await? {
            Some(environment) => Ok(single(context, &environment)),
            None => Err(unknown_id()),
        },
        Err(StoreError::ForeignKeyViolation) => Err(unknown_project()),
        Err(StoreError::AlreadyExists) => Err(taken_name(&changes.name, project_id)),
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
        Err(ApiError::not_found("The environment with given id does not exist."))
    }
}

/// Refuses a name that another environment of the project has.
async fn refuse_taken_name(
    store: &Store,
    name: &str,
    project_id: &str,
    except: Option<&str>,
) -> Result<(), ApiError> {
    match store.environment_named(project_id, name).await? {
        Some(id) if Some(id.as_str()) != except => Err(taken_name(name, project_id)),
        _ => Ok(()),
    }
}

/// Checks icon and description of an environment.
fn check_details(icon: Option<&str>, description: Option<&str>) -> Result<(), ApiError> {
    const MAX_DESCRIPTION_CHARS: usize = 255;
    const MAX_ICON_CHARS: usize = 65535;
    const ICON_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/svg+xml"];
    let icon = icon.filter(|icon| !icon.is_empty());
    if let Some(icon) = icon {
        let image = icon.split_once(";base64,").filter(|(kind, _)| ICON_TYPES.contains(kind));
        let (_, image) = image.filter(|(_, image)| !image.is_empty()).ok_or_else(|| {
            ApiError::request("The value supplied for the icon parameter is invalid")
        })?;
        if STANDARD.decode(image).is_err() {
            return Err(ApiError::request("The icon is not a valid base64 encoded string"));
        }
    }
    let is_long = |text: Option<&str>, limit| text.is_some_and(|text| text.chars().count() > limit);
    if is_long(icon, MAX_ICON_CHARS) || is_long(description, MAX_DESCRIPTION_CHARS) {
        return Err(ApiError::request(
            "Maximum size of the icon data url or the description exceeded",
        ));
    }
    Ok(())
}

/// Returns an environment without icon and description, unless `details` is set.
fn shown(environment: Environment, details: bool) -> Environment {
    if details {
        return environment;
    }
    Environment { description: String::new(), icon: String::new(), ..environment }
}

/// Returns an environment in the JSON form of version 2.
pub(super) fn environment_json(environment: &Environment) -> Value {
    json!({
        "id": environment.id,
        "name": environment.name,
        "project_id": environment.project_id,
        "repo_url": environment.repo_url,
        "repo_branch": environment.repo_branch,
        "settings": environment_settings::values(),
        "halted": false,
        "is_marked_for_deletion": false,
        "description": environment.description,
        "icon": environment.icon,
    })
}

/// Returns an environment in the JSON form of version 1, where its project has another name.
fn v1_json(mut environment: Value) -> Value {
    if let Some(members) = environment.as_object_mut()
        && let Some(project) = members.shift_remove("project_id")
    {
        members.insert("project".into(), project);
    }
    environment
}

fn single(context: &CallContext<'_>, environment: &Environment) -> Response<Body> {
    let environment = environment_json(environment);
    let environment = if context.is_v1 { v1_json(environment) } else { environment };
    enveloped(context, "environment", &environment)
}

fn unknown_id() -> ApiError {
    ApiError::not_found("The environment id does not exist.")
}

fn unknown_project() -> ApiError {
    ApiError::not_found("The project id for the environment does not exist.")
}

fn taken_name(name: &str, project_id: &str) -> ApiError {
    ApiError::request(format!(
        "Project with id={project_id} already has an environment with name {name}"
    ))
}
