//! Which API calls are recorded in the audit log, and what they are applied to.

use super::request::{
    ApiRequest, EnvironmentRequest, ProjectRequest, RoleRequest, TokenApiRequest, UserRequest,
};
use crate::{
    audit::{AuditOperation, AuditTarget},
    authorization::endpoints::api::ApiOperation,
};

/// Returns the recorded operation of a call; `None` for one that only reads.
pub(super) const fn operation(operation: ApiOperation) -> Option<AuditOperation> {
    Some(match operation {
        ApiOperation::Login => AuditOperation::Login,
        ApiOperation::Logout => AuditOperation::Logout,
        ApiOperation::AddUser => AuditOperation::AddUser,
        ApiOperation::DeleteUser => AuditOperation::DeleteUser,
        ApiOperation::SetPassword => AuditOperation::SetPassword,
        ApiOperation::SetAdmin => AuditOperation::SetAdmin,
        ApiOperation::AddRole => AuditOperation::AddRole,
        ApiOperation::DeleteRole => AuditOperation::DeleteRole,
        ApiOperation::AssignRole => AuditOperation::AssignRole,
        ApiOperation::UnassignRole => AuditOperation::UnassignRole,
        ApiOperation::CreateToken => AuditOperation::CreateToken,
        ApiOperation::RevokeToken => AuditOperation::RevokeToken,
        ApiOperation::CreateProject => AuditOperation::CreateProject,
        ApiOperation::ModifyProject => AuditOperation::ModifyProject,
        ApiOperation::DeleteProject => AuditOperation::DeleteProject,
        ApiOperation::ModifyEnvironment => AuditOperation::ModifyEnvironment,
        ApiOperation::CreateEnvironment => AuditOperation::CreateEnvironment,
        ApiOperation::DeleteEnvironment => AuditOperation::DeleteEnvironment,
        // A renewal continues a login that is recorded.
        ApiOperation::RenewLogin
        | ApiOperation::Health
        | ApiOperation::ListUsers
        | ApiOperation::CurrentUser
        | ApiOperation::ListRoles
        | ApiOperation::ListAssignments
        | ApiOperation::ListTokens
        | ApiOperation::ListProjects
        | ApiOperation::GetProject
        | ApiOperation::ListEnvironments
        | ApiOperation::GetEnvironment
        | ApiOperation::ListSettings
        | ApiOperation::ServerStatus
        | ApiOperation::Docs => return None,
    })
}

/// Returns what a call is applied to, and further facts. Neither has a secret.
pub(super) fn target(request: &ApiRequest) -> (AuditTarget, Option<String>) {
    let mut target = AuditTarget::default();
    let mut detail = None;
    match request {
        ApiRequest::Login { username, .. }
        | ApiRequest::Users(
            UserRequest::Add { username, .. }
            | UserRequest::Delete { username }
            | UserRequest::SetPassword { username, .. },
        ) => target.user = Some(username.clone()),
        ApiRequest::Users(UserRequest::SetAdmin { username, is_admin }) => {
            target.user = Some(username.clone());
            detail = Some(if *is_admin { "grant" } else { "withdraw" }.to_owned());
        }
        ApiRequest::Roles(RoleRequest::Add { name } | RoleRequest::Delete { name }) => {
            target.role = Some(name.clone());
        }
        ApiRequest::Roles(
            RoleRequest::Assign { username, environment, role }
            | RoleRequest::Unassign { username, environment, role },
        ) => {
            target.user = Some(username.clone());
            target.environment = Some(environment.clone());
            target.role = Some(role.clone());
        }
        ApiRequest::Tokens(TokenApiRequest::Create { environment, wanted, .. }) => {
            target.environment = Some(environment.clone());
            let types: Vec<_> = wanted.client_types.iter().map(|one| one.name()).collect();
            detail = Some(types.join(","));
        }
        ApiRequest::Tokens(TokenApiRequest::Revoke { environment, jti }) => {
            target.environment = Some(environment.clone());
            target.token = Some(jti.clone());
        }
        ApiRequest::Projects(ProjectRequest::Create { name, id }) => {
            target.project = Some(id.as_ref().unwrap_or(name).clone());
            detail = id.as_ref().map(|_| name.clone());
        }
        ApiRequest::Projects(ProjectRequest::Rename { id, name }) => {
            target.project = Some(id.clone());
            detail = Some(name.clone());
        }
        ApiRequest::Projects(ProjectRequest::Delete { id }) => target.project = Some(id.clone()),
        ApiRequest::Environments(EnvironmentRequest::Create { id, wanted }) => {
            target.environment = Some(id.as_ref().unwrap_or(&wanted.name).clone());
            target.project.clone_from(&wanted.project_id);
            detail = id.as_ref().map(|_| wanted.name.clone());
        }
        ApiRequest::Environments(EnvironmentRequest::Modify { id, changes }) => {
            target.environment = Some(id.clone());
            target.project.clone_from(&changes.project_id);
            detail = Some(changes.name.clone());
        }
        ApiRequest::Environments(EnvironmentRequest::Delete { id }) => {
            target.environment = Some(id.clone());
        }
        ApiRequest::Logout { all } => detail = all.then(|| "all".to_owned()),
        ApiRequest::Nothing
        | ApiRequest::RenewLogin
        | ApiRequest::Users(UserRequest::List | UserRequest::Current)
        | ApiRequest::Roles(RoleRequest::List | RoleRequest::Assignments { .. })
        | ApiRequest::Tokens(TokenApiRequest::List { .. })
        | ApiRequest::Projects(ProjectRequest::List { .. } | ProjectRequest::Get { .. })
        | ApiRequest::Environments(
            EnvironmentRequest::List { .. }
            | EnvironmentRequest::Get { .. }
            | EnvironmentRequest::Settings,
        )
        | ApiRequest::ServerStatus
        | ApiRequest::Docs { .. } => {}
    }
    (target, detail)
}
