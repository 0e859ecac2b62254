//! [`ApiOperation`]: what an endpoint of the API does.

/// Defines the operations, each with the name of its function in the Inmanta server, and that of
/// version 1. The documentation of an operation is also its summary in the OpenAPI document.
macro_rules! api_operations {
    ($($(#[doc = $summary:literal])+ $operation:ident = $function:literal $(| $v1:literal)?,)+) => {
        /// The operation of an [`ApiEndpoint`](super::ApiEndpoint).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ApiOperation {
            $($(#[doc = $summary])+ $operation,)+
        }

        impl ApiOperation {
            /// Returns its summary, a sentence.
            #[must_use]
            pub fn summary(self) -> &'static str {
                match self {
                    $(Self::$operation => concat!($($summary),+).trim_start(),)+
                }
            }

            /// Returns the name of its function in the Inmanta server.
            pub(super) const fn function(self, is_v1: bool) -> &'static str {
                match self {
                    $(Self::$operation => {
                        $(if is_v1 {
                            return $v1;
                        })?
                        $function
                    })+
                }
            }
        }
    };
}

api_operations! {
    /// Reports that the server is alive.
    Health = "health",
    /// Logs a user in.
    Login = "login",
    /// Extends a login session.
    RenewLogin = "login_renew",
    /// Ends a login session, or all of the user.
    Logout = "logout",
    /// Lists the users.
    ListUsers = "list_users",
    /// Adds a user.
    AddUser = "add_user",
    /// Removes a user.
    DeleteUser = "delete_user",
    /// Changes a password.
    SetPassword = "set_password",
    /// Returns the user of the session.
    CurrentUser = "get_current_user",
    /// Grants or revokes administrator rights.
    SetAdmin = "set_is_admin",
    /// Lists the roles.
    ListRoles = "list_roles",
    /// Adds a role.
    AddRole = "create_role",
    /// Removes a role.
    DeleteRole = "delete_role",
    /// Lists the roles of a user.
    ListAssignments = "list_roles_for_user",
    /// Assigns a role to a user.
    AssignRole = "assign_role",
    /// Removes a role assignment.
    UnassignRole = "unassign_role",
    /// Issues a token.
    CreateToken = "environment_create_token" | "create_token",
    /// Lists the tokens of an environment.
    ListTokens = "environment_token_list",
    /// Revokes a token.
    RevokeToken = "environment_token_revoke",
    /// Lists the projects.
    ListProjects = "project_list" | "list_projects",
    /// Returns one project.
    GetProject = "project_get" | "get_project",
    /// Adds a project.
    CreateProject = "project_create" | "create_project",
    /// Renames a project.
    ModifyProject = "project_modify" | "modify_project",
    /// Removes a project without environments.
    DeleteProject = "project_delete" | "delete_project",
    /// Lists the environments.
    ListEnvironments = "environment_list" | "list_environments",
    /// Returns one environment.
    GetEnvironment = "environment_get",
    /// Adds an environment.
    CreateEnvironment = "environment_create" | "create_environment",
    /// Changes an environment.
    ModifyEnvironment = "environment_modify" | "modify_environment",
    /// Removes an environment.
    DeleteEnvironment = "environment_delete" | "delete_environment",
    /// Lists the settings of an environment.
    ListSettings = "environment_settings_list" | "list_settings",
    /// Returns the status of the server.
    ServerStatus = "get_server_status",
    /// Returns the OpenAPI document of the API.
    Docs = "get_api_docs",
}

impl ApiOperation {
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
