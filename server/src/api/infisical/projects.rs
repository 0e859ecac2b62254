//! Calls about projects: their roles, and the identities that are their members.

use std::collections::HashSet;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::{
    InfisicalContext, InfisicalError, Operation,
    body::BodyReader,
    identities::{find, methods_of},
    new_id, ok,
    organizations::{NewRole, built_in_roles, roles_json, unknown_project},
    role_changes::{change_roles, check_size, roles_of},
    shown_time,
};
use crate::{
    audit::AuditTarget,
    base::{clock, reply::Body},
    identities::roles::{IdentityRoles, NO_ACCESS},
    store::{
        StoreError,
        custom_roles::RoleScope,
        identity_projects::{MembershipsOf, ProjectMembership},
        machine_identities::MachineIdentity,
        projects::Project,
    },
};

/// A call about a project.
pub(super) struct ProjectCall<'r> {
    project: &'r str,
    request: ProjectMethod<'r>,
}

enum ProjectMethod<'r> {
    ListRoles,
    CreateRole(NewRole),
    ListMembers,
    AddMember(&'r str, Vec<String>),
    ModifyMember(&'r str, Vec<String>),
    GetMember(&'r str),
    RemoveMember(&'r str),
}

impl<'r> ProjectCall<'r> {
    pub(super) fn read(
        operation: Operation,
        ids: &[&'r str],
        body: &Bytes,
    ) -> Result<Self, InfisicalError> {
        let id = |nth: usize| ids.get(nth).copied().unwrap_or_default();
        let request = match operation {
            Operation::ListProjectRoles => ProjectMethod::ListRoles,
            Operation::CreateProjectRole => ProjectMethod::CreateRole(NewRole::read(body)?),
            Operation::AddMember => ProjectMethod::AddMember(id(1), read_roles(body)?),
            Operation::ModifyMember => ProjectMethod::ModifyMember(id(1), read_roles(body)?),
            Operation::GetMember => ProjectMethod::GetMember(id(1)),
            Operation::RemoveMember => ProjectMethod::RemoveMember(id(1)),
            _ => ProjectMethod::ListMembers,
        };
        Ok(Self { project: id(0), request })
    }

    pub(super) fn audit_target(&self) -> (AuditTarget, Option<String>) {
        let project = Some(self.project.to_owned());
        let mut target = AuditTarget { project, ..AuditTarget::default() };
        match &self.request {
            ProjectMethod::CreateRole(role) => target.role = Some(role.slug.clone()),
            ProjectMethod::AddMember(id, roles) | ProjectMethod::ModifyMember(id, roles) => {
                (target.user, target.role) = (Some((*id).to_owned()), Some(roles.join(",")));
            }
            ProjectMethod::RemoveMember(id) => target.user = Some((*id).to_owned()),
            ProjectMethod::ListRoles | ProjectMethod::ListMembers | ProjectMethod::GetMember(_) => {
            }
        }
        (target, None)
    }

    pub(super) async fn execute(
        self,
        context: &InfisicalContext<'_>,
    ) -> Result<Response<Body>, InfisicalError> {
        let project = context.users.store.project(self.project).await?;
        let project = project.ok_or_else(|| unknown_project(self.project))?;
        match self.request {
            ProjectMethod::ListRoles => {
                let shown = roles_json(context, RoleScope::Project, &project.id).await?;
                Ok(ok(&json!({ "roles": shown })))
            }
            ProjectMethod::CreateRole(role) => {
                role.add(context, (RoleScope::Project, &project.id)).await
            }
            ProjectMethod::ListMembers => list(context, &project).await,
            ProjectMethod::AddMember(id, roles) => add(context, &project, id, roles).await,
            ProjectMethod::ModifyMember(id, roles) => modify(context, &project, id, roles).await,
            ProjectMethod::GetMember(id) => get(context, &project, id).await,
            ProjectMethod::RemoveMember(id) => remove(context, &project, id).await,
        }
    }
}

/// Reads the roles of a member: one, or a list of objects. Roles for a limited time are refused,
/// because they would last.
fn read_roles(body: &[u8]) -> Result<Vec<String>, InfisicalError> {
    let mut reader = BodyReader::parse(body)?;
    let one = reader.optional_text("role");
    let mut roles = match reader.objects("roles", "role") {
        Some(roles) => roles,
        None => vec![one.unwrap_or_else(|| NO_ACCESS.into())],
    };
    let mut known = HashSet::new();
    roles.retain(|role| known.insert(role.clone()));
    if roles.is_empty() || roles.iter().any(String::is_empty) {
        reader.report("roles", "Array must contain at least 1 element(s)");
    }
    let is_temporary = |role: &Value| role.get("isTemporary") == Some(&Value::Bool(true));
    let given = reader.value("roles").and_then(Value::as_array);
    if given.is_some_and(|roles| roles.iter().any(is_temporary)) {
        reader.report("roles", "Temporary roles are not supported");
    }
    reader.finish()?;
    Ok(roles)
}

async fn list(
    context: &InfisicalContext<'_>,
    project: &Project,
) -> Result<Response<Body>, InfisicalError> {
    let store = &context.users.store;
    let of = MembershipsOf::Project(project.id.clone());
    let mut shown = Vec::new();
    for membership in store.project_memberships(of).await? {
        if let Some(identity) = store.machine_identity(&membership.identity).await? {
            let methods = methods_of(context, &identity.id).await?;
            shown.push(membership_json(&membership, (&identity, &methods), project));
        }
    }
    Ok(ok(&json!({ "identityMemberships": shown, "totalCount": shown.len() })))
}

async fn add(
    context: &InfisicalContext<'_>,
    project: &Project,
    id: &str,
    roles: Vec<String>,
) -> Result<Response<Body>, InfisicalError> {
    find(context, id).await?;
    check_roles(context, project, &roles).await?;
    let mut after = roles_of(context, id).await?;
    after.projects.insert(project.id.clone(), roles.clone());
    check_size(&after)?;
    let now = clock::now();
    let membership = ProjectMembership {
        id: new_id()?,
        identity: id.to_owned(),
        project: project.id.clone(),
        roles,
        created_at: now,
        updated_at: now,
    };
    match context.users.store.add_project_membership(membership.clone()).await {
        Ok(()) => shown(context, project, &membership).await,
        Err(StoreError::AlreadyExists) => Err(InfisicalError::bad_request(format!(
            "Identity with ID {id} already exists in project with ID {}",
            project.id
        ))),
        // The identity or the project was deleted meanwhile.
        Err(StoreError::ForeignKeyViolation) => {
            find(context, id).await?;
            Err(unknown_project(&project.id))
        }
        Err(error) => Err(error.into()),
    }
}

async fn modify(
    context: &InfisicalContext<'_>,
    project: &Project,
    id: &str,
    roles: Vec<String>,
) -> Result<Response<Body>, InfisicalError> {
    check_roles(context, project, &roles).await?;
    change_membership(context, project, id, Some(&roles)).await?;
    let membership = find_membership(context, project, id).await?;
    Ok(ok(&json!({ "roles": assigned_json(&membership) })))
}

async fn get(
    context: &InfisicalContext<'_>,
    project: &Project,
    id: &str,
) -> Result<Response<Body>, InfisicalError> {
    let membership = find_membership(context, project, id).await?;
    shown(context, project, &membership).await
}

async fn remove(
    context: &InfisicalContext<'_>,
    project: &Project,
    id: &str,
) -> Result<Response<Body>, InfisicalError> {
    let membership = find_membership(context, project, id).await?;
    let response = shown(context, project, &membership).await?;
    change_membership(context, project, id, None).await?;
    Ok(response)
}

/// Returns the response that shows a membership.
async fn shown(
    context: &InfisicalContext<'_>,
    project: &Project,
    membership: &ProjectMembership,
) -> Result<Response<Body>, InfisicalError> {
    let identity = find(context, &membership.identity).await?;
    let methods = methods_of(context, &membership.identity).await?;
    let shown = membership_json(membership, (&identity, &methods), project);
    Ok(ok(&json!({ "identityMembership": shown })))
}

/// Changes the roles of a member, or removes it, by [`change_roles`].
async fn change_membership(
    context: &InfisicalContext<'_>,
    project: &Project,
    id: &str,
    roles: Option<&[String]>,
) -> Result<(), InfisicalError> {
    let store = &context.users.store;
    let edit = |after: &mut IdentityRoles| {
        if after.projects.remove(&project.id).is_none() {
            return Err(missing(id, project));
        }
        after.projects.extend(roles.map(|roles| (project.id.clone(), roles.to_vec())));
        Ok(())
    };
    let change = async |before: &IdentityRoles| {
        let former = before.projects.get(&project.id).map(Vec::as_slice).unwrap_or_default();
        match roles {
            Some(roles) => {
                store.set_project_roles(id, &project.id, (former, roles), clock::now()).await
            }
            None => store.delete_project_membership(id, &project.id, former).await,
        }
    };
    change_roles(context, id, edit, change).await
}

async fn find_membership(
    context: &InfisicalContext<'_>,
    project: &Project,
    id: &str,
) -> Result<ProjectMembership, InfisicalError> {
    let found = context.users.store.project_membership(id, &project.id).await?;
    found.ok_or_else(|| missing(id, project))
}

async fn check_roles(
    context: &InfisicalContext<'_>,
    project: &Project,
    roles: &[String],
) -> Result<(), InfisicalError> {
    let custom = context.users.store.custom_roles(RoleScope::Project, &project.id).await?;
    let is_known = |role: &str| {
        built_in_roles(RoleScope::Project).contains(&role)
            || custom.iter().any(|one| one.slug == role)
    };
    match roles.iter().find(|role| !is_known(role)) {
        Some(role) => Err(InfisicalError::not_found(format!("Role with slug {role} not found"))),
        None => Ok(()),
    }
}

fn missing(id: &str, project: &Project) -> InfisicalError {
    let message = format!("Identity with ID {id} is not a member of project {}", project.id);
    InfisicalError::not_found(message)
}

/// Returns a membership as Infisical shows it.
pub(super) fn membership_json(
    membership: &ProjectMembership,
    (identity, methods): (&MachineIdentity, &[String]),
    project: &Project,
) -> Value {
    json!({
        "id": membership.id,
        "identityId": membership.identity,
        "projectId": membership.project,
        "createdAt": shown_time(membership.created_at),
        "updatedAt": shown_time(membership.updated_at),
        "roles": assigned_json(membership),
        "identity": { "id": identity.id, "name": identity.name, "authMethods": methods },
        "project": { "id": project.id, "name": project.name },
    })
}

fn assigned_json(membership: &ProjectMembership) -> Value {
    let built_in = built_in_roles(RoleScope::Project);
    let roles = membership.roles.iter().enumerate().map(|(nth, role)| {
        let is_custom = !built_in.contains(&role.as_str());
        json!({
            "id": format!("{}-{nth}", membership.id),
            "role": if is_custom { "custom" } else { role.as_str() },
            "customRoleSlug": is_custom.then_some(role),
            "isTemporary": false,
        })
    });
    roles.collect()
}
