//! The table of endpoints.

use super::{
    ApiArgument, ApiEndpoint, ApiOperation,
    argument::{flag, optional, required, text, text_or},
    endpoint,
};
use crate::{
    authorization::endpoints::ParameterType::{Array, Boolean, Integer, String as Text, Uuid},
    base::{
        claims::ClientType::{Agent, Api, Compiler},
        route::ENVIRONMENT_HEADER,
    },
};

const PASSWORD_ARGUMENTS: &[ApiArgument] = &[text("password"), optional("current_password", Text)];
const ASSIGNMENT: &[ApiArgument] = &[required("environment", Uuid), text("role")];
const PROJECT_ARGUMENTS: &[ApiArgument] = &[text("name"), optional("project_id", Uuid)];
const DETAILS: &[ApiArgument] = &[flag("details", false)];
const PROJECT_DETAILS: &[ApiArgument] = &[flag("environment_details", false)];

/// All endpoints.
pub const ENDPOINTS: &[ApiEndpoint] = &[
    ApiEndpoint {
        needs_token: false,
        ..endpoint("GET", "/api/v2/health", ApiOperation::Health, "status.read")
    },
    endpoint("GET", "/api/v1/serverstatus", ApiOperation::ServerStatus, "status.read"),
    endpoint("GET", "/api/v2/docs", ApiOperation::Docs, "docs.read").with(&[
        text_or("format", "swagger"),
        optional("token", Text),
        optional("swagger_description", Text),
    ]),
    ApiEndpoint {
        needs_token: false,
        administers: false,
        ..endpoint("POST", "/api/v2/login", ApiOperation::Login, "user.read")
            .with(&[text("username"), text("password")])
    },
    ApiEndpoint {
        read_only: true,
        administers: false,
        ..endpoint("POST", "/api/v2/login/renew", ApiOperation::RenewLogin, "user.read")
    },
    ApiEndpoint {
        read_only: true,
        administers: false,
        ..endpoint("POST", "/api/v2/logout", ApiOperation::Logout, "user.read")
            .with(&[flag("all", false)])
    },
    endpoint("GET", "/api/v2/user", ApiOperation::ListUsers, "role-assignment.read"),
    endpoint("POST", "/api/v2/user", ApiOperation::AddUser, "user.write")
        .with(&[text("username"), text("password")]),
    endpoint("DELETE", "/api/v2/user/<username>", ApiOperation::DeleteUser, "user.write"),
    endpoint(
        "PATCH",
        "/api/v2/user/<username>/password",
        ApiOperation::SetPassword,
        "user.change-password",
    )
    .with(PASSWORD_ARGUMENTS),
    endpoint("GET", "/api/v2/current_user", ApiOperation::CurrentUser, "user.read"),
    endpoint("PATCH", "/api/v2/is_admin", ApiOperation::SetAdmin, "role.is-admin")
        .with(&[text("username"), required("is_admin", Boolean)]),
    endpoint("GET", "/api/v2/role", ApiOperation::ListRoles, "role.read"),
    endpoint("POST", "/api/v2/role", ApiOperation::AddRole, "role.write").with(&[text("name")]),
    endpoint("DELETE", "/api/v2/role", ApiOperation::DeleteRole, "role.write")
        .with(&[text("name")]),
    endpoint(
        "GET",
        "/api/v2/role_assignment/<username>",
        ApiOperation::ListAssignments,
        "role-assignment.read",
    ),
    endpoint(
        "POST",
        "/api/v2/role_assignment/<username>",
        ApiOperation::AssignRole,
        "role-assignment.write",
    )
    .with(ASSIGNMENT),
    endpoint(
        "DELETE",
        "/api/v2/role_assignment/<username>",
        ApiOperation::UnassignRole,
        "role-assignment.write",
    )
    .with(ASSIGNMENT),
    endpoint("POST", "/api/v1/environment_auth", ApiOperation::CreateToken, "token")
        .in_environment(ENVIRONMENT_HEADER)
        .for_clients(&[Api, Compiler])
        .with(&[required("client_types", Array), flag("idempotent", false)]),
    endpoint("POST", "/api/v2/environment_auth", ApiOperation::CreateToken, "token")
        .in_environment(ENVIRONMENT_HEADER)
        .for_clients(&[Api, Compiler])
        .with(&[
            required("client_types", Array),
            flag("idempotent", false),
            optional("expire", Integer),
        ]),
    endpoint("GET", "/api/v2/environment_auth", ApiOperation::ListTokens, "token")
        .in_environment(ENVIRONMENT_HEADER),
    endpoint("DELETE", "/api/v2/environment_auth/<jti>", ApiOperation::RevokeToken, "token")
        .in_environment(ENVIRONMENT_HEADER),
    endpoint("GET", "/api/v1/project", ApiOperation::ListProjects, "project.read"),
    endpoint("PUT", "/api/v1/project", ApiOperation::CreateProject, "project.create")
        .with(PROJECT_ARGUMENTS),
    endpoint("GET", "/api/v1/project/<id>", ApiOperation::GetProject, "project.read"),
    endpoint("POST", "/api/v1/project/<id>", ApiOperation::ModifyProject, "project.modify")
        .with(&[text("name")]),
    endpoint("DELETE", "/api/v1/project/<id>", ApiOperation::DeleteProject, "project.delete"),
    endpoint("GET", "/api/v2/project", ApiOperation::ListProjects, "project.read")
        .with(PROJECT_DETAILS),
    endpoint("PUT", "/api/v2/project", ApiOperation::CreateProject, "project.create")
        .with(PROJECT_ARGUMENTS),
    endpoint("GET", "/api/v2/project/<id>", ApiOperation::GetProject, "project.read")
        .with(PROJECT_DETAILS),
    endpoint("POST", "/api/v2/project/<id>", ApiOperation::ModifyProject, "project.modify")
        .with(&[text("name")]),
    endpoint("DELETE", "/api/v2/project/<id>", ApiOperation::DeleteProject, "project.delete"),
    endpoint("GET", "/api/v1/environment", ApiOperation::ListEnvironments, "environment.read"),
    endpoint("PUT", "/api/v1/environment", ApiOperation::CreateEnvironment, "environment.create")
        .in_environment("environment_id")
        .with(&[
            required("project_id", Uuid),
            text("name"),
            optional("repository", Text),
            optional("branch", Text),
            optional("environment_id", Uuid),
        ]),
    endpoint(
        "POST",
        "/api/v1/environment/<id>",
        ApiOperation::ModifyEnvironment,
        "environment.modify",
    )
    .in_environment("id")
    .with(&[text("name"), optional("repository", Text), optional("branch", Text)]),
    endpoint(
        "DELETE",
        "/api/v1/environment/<id>",
        ApiOperation::DeleteEnvironment,
        "environment.delete",
    )
    .in_environment("id"),
    endpoint("GET", "/api/v2/environment", ApiOperation::ListEnvironments, "environment.read")
        .with(DETAILS),
    endpoint("GET", "/api/v2/environment/<id>", ApiOperation::GetEnvironment, "environment.read")
        .in_environment("id")
        .with(DETAILS),
    endpoint("PUT", "/api/v2/environment", ApiOperation::CreateEnvironment, "environment.create")
        .with(&[
            required("project_id", Uuid),
            text("name"),
            optional("repository", Text),
            optional("branch", Text),
            optional("environment_id", Uuid),
            text_or("description", ""),
            text_or("icon", ""),
        ]),
    endpoint(
        "POST",
        "/api/v2/environment/<id>",
        ApiOperation::ModifyEnvironment,
        "environment.modify",
    )
    .in_environment("id")
    .with(&[
        text("name"),
        optional("repository", Text),
        optional("branch", Text),
        optional("project_id", Uuid),
        optional("description", Text),
        optional("icon", Text),
    ]),
    endpoint(
        "DELETE",
        "/api/v2/environment/<id>",
        ApiOperation::DeleteEnvironment,
        "environment.delete",
    )
    .in_environment("id"),
    endpoint(
        "GET",
        "/api/v1/environment_settings",
        ApiOperation::ListSettings,
        "environment.setting.read",
    )
    .in_environment(ENVIRONMENT_HEADER)
    .for_clients(&[Api, Agent, Compiler]),
    endpoint(
        "GET",
        "/api/v2/environment_settings",
        ApiOperation::ListSettings,
        "environment.setting.read",
    )
    .in_environment(ENVIRONMENT_HEADER)
    .for_clients(&[Api, Agent, Compiler]),
];
