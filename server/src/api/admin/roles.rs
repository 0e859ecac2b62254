//! Roles, and their assignments to users in environments.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    AdminCall, Answer, entity_tag::TaggedResource, error::AdminError, no_content, page::ListPage,
    segment, users, with_location,
};
use crate::api::audited::AuditedCall;

/// Path of the calls about roles that do the same.
const ROLE_PATH: &str = "/api/v2/role";

/// Returns a [`ListPage`] of the roles.
pub(super) async fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let mut roles = call.users.store.roles().await?;
    roles.sort();
    let items = roles.into_iter().map(|name| (name.clone(), role_json(&name)));
    Ok(page.of_all(call, items))
}

/// Returns a role.
pub(super) async fn get(call: &AdminCall<'_>) -> Answer {
    let role = current(call, call.path_parameter("role")).await?;
    Ok(call.representation(StatusCode::OK, &role))
}

/// Adds a role.
pub(super) async fn add(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let name = call.body.text("name");
    let inner = AdminCall::inner(Method::POST, ROLE_PATH.into(), json!({ "name": name }));
    let authorized = inner.authorize(&call.context, call.session, audited).await?;
    authorized.execute(&call.context, call.caller, call.session, audited).await?;
    let location = format!("/v1/admin/roles/{}", segment(name));
    Ok(with_location(call.representation(StatusCode::CREATED, &role_json(name).into()), &location))
}

/// Deletes a role.
pub(super) async fn delete(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let name = call.path_parameter("role");
    let query = serde_urlencoded::to_string([("name", name)]).unwrap_or_default();
    let inner = AdminCall::inner(Method::DELETE, format!("{ROLE_PATH}?{query}"), Value::Null);
    call.change(inner, current(call, name), audited).await?;
    Ok(no_content())
}

/// Returns a [`ListPage`] of the assignments in an environment.
pub(super) async fn list_assignments(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let environment = call.path_parameter("environment");
    require_environment(call, environment).await?;
    let all = call.users.store.roles_of_all().await?;
    let of_environment = all.iter().filter_map(|(user, roles)| {
        let roles = roles.get(environment)?;
        Some(roles.iter().map(move |role| {
            (format!("{user}\0{role}"), json!({ "username": user, "role": role }))
        }))
    });
    let mut items: Vec<_> = of_environment.flatten().collect();
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(page.of_all(call, items))
}

/// Assigns a role.
pub(super) async fn assign(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let (environment, role) = (call.path_parameter("environment"), call.path_parameter("role"));
    let body = json!({ "environment": environment, "role": role });
    let inner = AdminCall::inner(Method::POST, assignment_path(call), body);
    call.change(inner, assignable(call), audited).await?;
    Ok(no_content())
}

/// Removes an assignment.
pub(super) async fn unassign(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let (environment, role) = (call.path_parameter("environment"), call.path_parameter("role"));
    let query = [("environment", environment), ("role", role)];
    let query = serde_urlencoded::to_string(query).unwrap_or_default();
    let target = format!("{}?{query}", assignment_path(call));
    let inner = AdminCall::inner(Method::DELETE, target, Value::Null);
    call.change(inner, assigned(call), audited).await?;
    Ok(no_content())
}

fn assignment_path(call: &AdminCall<'_>) -> String {
    format!("/api/v2/role_assignment/{}", segment(call.path_parameter("username")))
}

/// Returns the user of a new assignment, whose parts all exist.
async fn assignable(call: &AdminCall<'_>) -> Result<TaggedResource, AdminError> {
    let user = users::current(call, call.path_parameter("username")).await?;
    require_environment(call, call.path_parameter("environment")).await?;
    current(call, call.path_parameter("role")).await?;
    Ok(user)
}

/// Returns the user of an assignment that exists.
async fn assigned(call: &AdminCall<'_>) -> Result<TaggedResource, AdminError> {
    let user = users::current(call, call.path_parameter("username")).await?;
    let (environment, role) = (call.path_parameter("environment"), call.path_parameter("role"));
    let roles = user.shown["roles"][environment].as_array().into_iter().flatten();
    if roles.into_iter().any(|one| one == role) {
        return Ok(user);
    }
    Err(AdminError::not_found("the role is not assigned to the user in this environment"))
}

async fn current(call: &AdminCall<'_>, name: &str) -> Result<TaggedResource, AdminError> {
    let exists = call.users.store.roles().await?.iter().any(|role| role == name);
    exists
        .then(|| role_json(name).into())
        .ok_or_else(|| AdminError::not_found("no role has this name"))
}

async fn require_environment(call: &AdminCall<'_>, id: &str) -> Result<(), AdminError> {
    let found = call.users.store.environment(id).await?;
    found.map(drop).ok_or_else(|| AdminError::not_found("no environment has this id"))
}

fn role_json(name: &str) -> Value {
    json!({ "name": name })
}
