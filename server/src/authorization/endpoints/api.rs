//! The endpoints of the Inmanta API that this server implements. Its router is this table, so no
//! call of the API lacks an entry.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::base::{
    claims::ClientType::{self, Api, Compiler},
    route::ENVIRONMENT_HEADER,
};

/// The operation of an [`ApiEndpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiOperation {
    /// Reports that the server is alive.
    Health,
    /// Logs a user in.
    Login,
    /// Extends a login session.
    RenewLogin,
    /// Ends a login session, or all of the user.
    Logout,
    /// Lists the users.
    ListUsers,
    /// Adds a user.
    AddUser,
    /// Removes a user.
    DeleteUser,
    /// Changes a password.
    SetPassword,
    /// Returns the user of the session.
    CurrentUser,
    /// Grants or revokes administrator rights.
    SetAdmin,
    /// Lists the roles.
    ListRoles,
    /// Adds a role.
    AddRole,
    /// Removes a role.
    DeleteRole,
    /// Lists the roles of a user.
    ListAssignments,
    /// Assigns a role to a user.
    AssignRole,
    /// Removes a role assignment.
    UnassignRole,
    /// Issues a token.
    CreateToken,
    /// Issues a token, version 1 of the call.
    CreateTokenV1,
    /// Lists the tokens of an environment.
    ListTokens,
    /// Revokes a token.
    RevokeToken,
    /// Lists the environments.
    ListEnvironments,
    /// Returns one environment.
    GetEnvironment,
    /// Adds an environment.
    CreateEnvironment,
    /// Removes an environment.
    DeleteEnvironment,
}

impl ApiOperation {
    /// Returns the name of the function of the Inmanta server, which its errors of arguments
    /// contain.
    #[must_use]
    pub const fn function(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Login => "login",
            Self::RenewLogin => "login_renew",
            // Not a call of the Inmanta server.
            Self::Logout => "logout",
            Self::ListUsers => "list_users",
            Self::AddUser => "add_user",
            Self::DeleteUser => "delete_user",
            Self::SetPassword => "set_password",
            Self::CurrentUser => "get_current_user",
            Self::SetAdmin => "set_is_admin",
            Self::ListRoles => "list_roles",
            Self::AddRole => "create_role",
            Self::DeleteRole => "delete_role",
            Self::ListAssignments => "list_roles_for_user",
            Self::AssignRole => "assign_role",
            Self::UnassignRole => "unassign_role",
            Self::CreateToken => "environment_create_token",
            Self::CreateTokenV1 => "create_token",
            Self::ListTokens => "environment_token_list",
            Self::RevokeToken => "environment_token_revoke",
            Self::ListEnvironments => "environment_list",
            Self::GetEnvironment => "environment_get",
            Self::CreateEnvironment => "environment_create",
            Self::DeleteEnvironment => "environment_delete",
        }
    }

    /// Whether it changes what users may do.
    #[must_use]
    pub const fn changes_rights(self) -> bool {
        matches!(
            self,
            Self::DeleteUser
                | Self::SetAdmin
                | Self::DeleteRole
                | Self::AssignRole
                | Self::UnassignRole
        )
    }
}

/// An endpoint of the API.
#[derive(Debug)]
pub struct ApiEndpoint {
    /// Its method.
    pub method: &'static str,
    /// Its path, with `<name>` for a segment that is an argument.
    pub path: &'static str,
    /// Its operation.
    pub operation: ApiOperation,
    /// The label that access policies use.
    pub label: &'static str,
    /// The client types that may call it.
    pub client_types: &'static [ClientType],
    /// The argument that names its environment, if it has one.
    pub environment: Option<&'static str>,
    /// Whether it only reads.
    pub read_only: bool,
    /// A flag among its arguments, and its default.
    pub flag: Option<(&'static str, bool)>,
    /// Whether it requires a token.
    pub needs_token: bool,
    /// Whether it administers: changes users, roles, environments or tokens for others than its
    /// caller. Only tokens of sections that may administer are accepted then.
    pub administers: bool,
}

const fn endpoint(
    method: &'static str,
    path: &'static str,
    operation: ApiOperation,
    label: &'static str,
) -> ApiEndpoint {
    let read_only = matches!(method.as_bytes(), b"GET");
    ApiEndpoint {
        method,
        path,
        operation,
        label,
        client_types: &[Api],
        environment: None,
        read_only,
        flag: None,
        needs_token: true,
        administers: !read_only,
    }
}

impl ApiEndpoint {
    const fn in_environment(self, environment: &'static str) -> Self {
        Self { environment: Some(environment), ..self }
    }

    const fn with_flag(self, name: &'static str, default: bool) -> Self {
        Self { flag: Some((name, default)), ..self }
    }

    /// Returns the id in the endpoint table.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Returns the properties as an endpoint file has them.
    #[must_use]
    pub fn properties(&self) -> Value {
        let client_types: Vec<_> = self.client_types.iter().map(|one| one.name()).collect();
        let mut properties = json!({
            "auth_label": self.label,
            "client_types": client_types,
            "environment_param": self.environment,
            "read_only": self.read_only,
        });
        if let Some((name, default)) = self.flag {
            let flag = json!({"in": "body", "type": "boolean", "default": default});
            properties["parameters"] = json!({name: flag});
        }
        properties
    }

    const fn also_for_compilers(self) -> Self {
        Self { client_types: &[Api, Compiler], ..self }
    }
}

/// All endpoints.
pub const ENDPOINTS: &[ApiEndpoint] = &[
    ApiEndpoint {
        needs_token: false,
        ..endpoint("GET", "/api/v2/health", ApiOperation::Health, "status.read")
    },
    ApiEndpoint {
        needs_token: false,
        administers: false,
        ..endpoint("POST", "/api/v2/login", ApiOperation::Login, "user.read")
    },
    ApiEndpoint {
        read_only: true,
        administers: false,
        ..endpoint("POST", "/api/v2/login/renew", ApiOperation::RenewLogin, "user.read")
    },
    ApiEndpoint {
        read_only: true,
        administers: false,
        flag: Some(("all", false)),
        ..endpoint("POST", "/api/v2/logout", ApiOperation::Logout, "user.read")
    },
    endpoint("GET", "/api/v2/user", ApiOperation::ListUsers, "role-assignment.read"),
    endpoint("POST", "/api/v2/user", ApiOperation::AddUser, "user.write"),
    endpoint("DELETE", "/api/v2/user/<username>", ApiOperation::DeleteUser, "user.write"),
    endpoint(
        "PATCH",
        "/api/v2/user/<username>/password",
        ApiOperation::SetPassword,
        "user.change-password",
    ),
    endpoint("GET", "/api/v2/current_user", ApiOperation::CurrentUser, "user.read"),
    endpoint("PATCH", "/api/v2/is_admin", ApiOperation::SetAdmin, "role.is-admin"),
    endpoint("GET", "/api/v2/role", ApiOperation::ListRoles, "role.read"),
    endpoint("POST", "/api/v2/role", ApiOperation::AddRole, "role.write"),
    endpoint("DELETE", "/api/v2/role", ApiOperation::DeleteRole, "role.write"),
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
    ),
    endpoint(
        "DELETE",
        "/api/v2/role_assignment/<username>",
        ApiOperation::UnassignRole,
        "role-assignment.write",
    ),
    endpoint("POST", "/api/v1/environment_auth", ApiOperation::CreateTokenV1, "token")
        .in_environment(ENVIRONMENT_HEADER)
        .also_for_compilers()
        .with_flag("idempotent", false),
    endpoint("POST", "/api/v2/environment_auth", ApiOperation::CreateToken, "token")
        .in_environment(ENVIRONMENT_HEADER)
        .also_for_compilers()
        .with_flag("idempotent", false),
    endpoint("GET", "/api/v2/environment_auth", ApiOperation::ListTokens, "token")
        .in_environment(ENVIRONMENT_HEADER),
    endpoint("DELETE", "/api/v2/environment_auth/<jti>", ApiOperation::RevokeToken, "token")
        .in_environment(ENVIRONMENT_HEADER),
    endpoint("GET", "/api/v2/environment", ApiOperation::ListEnvironments, "environment.read"),
    endpoint("GET", "/api/v2/environment/<id>", ApiOperation::GetEnvironment, "environment.read")
        .in_environment("id"),
    endpoint("PUT", "/api/v2/environment", ApiOperation::CreateEnvironment, "environment.create"),
    endpoint(
        "DELETE",
        "/api/v2/environment/<id>",
        ApiOperation::DeleteEnvironment,
        "environment.delete",
    )
    .in_environment("id"),
];

/// Result of [`find_endpoint`].
pub enum PathMatch {
    /// An endpoint, and the arguments in the path.
    Endpoint(&'static ApiEndpoint, Vec<(&'static str, String)>),
    /// Endpoints of this path exist, but only for these other methods.
    OtherMethods(Vec<&'static str>),
    /// No endpoint has this path.
    NotFound,
}

/// Finds the endpoint of a method and a path. HEAD finds the endpoint of GET.
#[must_use]
pub fn find_endpoint(method: &str, path: &str) -> PathMatch {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut other_methods = Vec::new();
    for endpoint in ENDPOINTS {
        match arguments(endpoint.path, path) {
            Some(arguments) if endpoint.method == method => {
                return PathMatch::Endpoint(endpoint, arguments);
            }
            Some(_) => other_methods.push(endpoint.method),
            None => {}
        }
    }
    if other_methods.is_empty() {
        PathMatch::NotFound
    } else {
        PathMatch::OtherMethods(other_methods)
    }
}

/// Returns the arguments in `path` if it matches `pattern`.
fn arguments(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut arguments = Vec::new();
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(arguments),
            (Some(expected), Some(segment)) => match expected
                .strip_prefix('<')
                .and_then(|name| name.strip_suffix('>'))
            {
                Some(name) if !segment.is_empty() => {
                    arguments
                        .push((name, percent_decode_str(segment).decode_utf8().ok()?.into_owned()));
                }
                None if expected == segment => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_are_decoded_once() {
        let found = |method: &str, path: &str| match find_endpoint(method, path) {
            PathMatch::Endpoint(endpoint, arguments) => Some((endpoint.operation, arguments)),
            _ => None,
        };
        let bob = vec![("username", "b/o%b".to_owned())];
        assert_eq!(
            found("PATCH", "/api/v2/user/b%2Fo%25b/password"),
            Some((ApiOperation::SetPassword, bob))
        );
        assert_eq!(found("GET", "/api/v2/role"), Some((ApiOperation::ListRoles, vec![])));
        for (method, path) in [
            ("GET", "/api/v2/role/"),
            ("GET", "/api/v2/Role"),
            ("DELETE", "/api/v2/user/"),
            ("DELETE", "/api/v2/user/a/b"),
            ("DELETE", "/api/v2/user/%ff"),
            ("GET", "/api/v1/user"),
        ] {
            assert!(found(method, path).is_none(), "{method} {path}");
        }
        assert!(
            matches!(find_endpoint("PUT", "/api/v2/role"), PathMatch::OtherMethods(other_methods) if other_methods == ["GET", "POST", "DELETE"])
        );
    }
}
