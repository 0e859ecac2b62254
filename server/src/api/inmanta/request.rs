//! Typed requests: an operation of the API with its parsed arguments.

use super::{arguments::CallArguments, error::ApiError};
use crate::{authorization::endpoints::api::ApiOperation, base::claims::ClientType};

/// A parsed request. Not `Debug`: it contains passwords.
pub(super) enum ApiRequest {
    Nothing,
    Login { username: String, password: String },
    RenewLogin,
    Logout { all: bool },
    Users(UserRequest),
    Roles(RoleRequest),
    Tokens(TokenApiRequest),
    Environments(EnvironmentRequest),
}

pub(super) enum UserRequest {
    List,
    Add { username: String, password: String },
    Delete { username: String },
    SetPassword { username: String, password: String, current: Option<String> },
    SetAdmin { username: String, is_admin: bool },
    Current,
}

pub(super) enum RoleRequest {
    List,
    Add { name: String },
    Delete { name: String },
    Assignments { username: String },
    Assign { username: String, environment: String, role: String },
    Unassign { username: String, environment: String, role: String },
}

pub(super) enum TokenApiRequest {
    Create { environment: String, wanted: TokenOptions, is_v1: bool },
    List { environment: String },
    Revoke { environment: String, jti: String },
}

/// Options of a new token.
pub(super) struct TokenOptions {
    pub(super) client_types: Vec<ClientType>,
    pub(super) is_idempotent: bool,
    /// Lifetime in seconds, of any value.
    pub(super) expire: Option<i64>,
}

pub(super) enum EnvironmentRequest {
    List,
    Get { id: String },
    Create { name: String, id: Option<String>, project_id: Option<String> },
    Delete { id: String },
}

impl ApiRequest {
    /// Whether it creates a token. Without authentication, its error has a text of its own.
    pub(super) const fn creates_token(&self) -> bool {
        matches!(self, Self::Tokens(TokenApiRequest::Create { .. }))
    }

    /// Reads the arguments of `operation`, in `environment` if it has one.
    pub(super) fn read(
        operation: ApiOperation,
        environment: Option<String>,
        arguments: &mut CallArguments,
    ) -> Result<Self, ApiError> {
        let environment = environment.unwrap_or_default();
        Ok(match operation {
            ApiOperation::Health => Self::Nothing,
            ApiOperation::Login => {
                arguments.require(&["username", "password"])?;
                Self::Login {
                    username: arguments.text("username")?,
                    password: arguments.text("password")?,
                }
            }
            ApiOperation::RenewLogin => Self::RenewLogin,
            ApiOperation::Logout => Self::Logout { all: arguments.switch("all")? },
            ApiOperation::ListUsers => Self::Users(UserRequest::List),
            ApiOperation::AddUser => {
                arguments.require(&["username", "password"])?;
                let (username, password) =
                    (arguments.name("username")?, arguments.text("password")?);
                Self::Users(UserRequest::Add { username, password })
            }
            ApiOperation::DeleteUser => Self::Users(UserRequest::Delete {
                username: arguments.required_path_argument("username")?,
            }),
            ApiOperation::SetPassword => Self::Users(UserRequest::SetPassword {
                username: arguments.required_path_argument("username")?,
                password: arguments.text("password")?,
                current: arguments.optional_text("current_password")?,
            }),
            ApiOperation::CurrentUser => Self::Users(UserRequest::Current),
            ApiOperation::SetAdmin => {
                arguments.require(&["username", "is_admin"])?;
                let username = arguments.text("username")?;
                let is_admin = arguments.flag("is_admin")?.unwrap_or_default();
                Self::Users(UserRequest::SetAdmin { username, is_admin })
            }
            ApiOperation::ListRoles => Self::Roles(RoleRequest::List),
            ApiOperation::AddRole => {
                Self::Roles(RoleRequest::Add { name: arguments.nonempty_name("name")? })
            }
            ApiOperation::DeleteRole => {
                Self::Roles(RoleRequest::Delete { name: arguments.text("name")? })
            }
            ApiOperation::ListAssignments => Self::Roles(RoleRequest::Assignments {
                username: arguments.required_path_argument("username")?,
            }),
            ApiOperation::AssignRole => {
                let (username, environment, role) = assignment(arguments)?;
                Self::Roles(RoleRequest::Assign { username, environment, role })
            }
            ApiOperation::UnassignRole => {
                let (username, environment, role) = assignment(arguments)?;
                Self::Roles(RoleRequest::Unassign { username, environment, role })
            }
            ApiOperation::CreateToken | ApiOperation::CreateTokenV1 => {
                let is_v1 = operation == ApiOperation::CreateTokenV1;
                Self::Tokens(TokenApiRequest::Create {
                    environment,
                    wanted: wanted_token(arguments, is_v1)?,
                    is_v1,
                })
            }
            ApiOperation::ListTokens => Self::Tokens(TokenApiRequest::List { environment }),
            ApiOperation::RevokeToken => Self::Tokens(TokenApiRequest::Revoke {
                environment,
                jti: arguments.path_uuid("jti")?,
            }),
            ApiOperation::ListEnvironments => Self::Environments(EnvironmentRequest::List),
            ApiOperation::GetEnvironment => {
                Self::Environments(EnvironmentRequest::Get { id: environment })
            }
            ApiOperation::CreateEnvironment => Self::Environments(EnvironmentRequest::Create {
                name: arguments.nonempty_name("name")?,
                id: arguments.optional_uuid("environment_id")?,
                project_id: arguments.optional_uuid("project_id")?,
            }),
            ApiOperation::DeleteEnvironment => {
                Self::Environments(EnvironmentRequest::Delete { id: environment })
            }
        })
    }
}

fn assignment(arguments: &mut CallArguments) -> Result<(String, String, String), ApiError> {
    arguments.require(&["environment", "role"])?;
    Ok((
        arguments.required_path_argument("username")?,
        arguments.uuid("environment")?,
        arguments.text("role")?,
    ))
}

/// Reads the options of a new token. Version 1 of the call has no `expire`.
fn wanted_token(arguments: &mut CallArguments, is_v1: bool) -> Result<TokenOptions, ApiError> {
    let client_type = |name: String| name.parse::<ClientType>().map_err(ApiError::Request);
    let client_types = arguments
        .texts("client_types")?
        .into_iter()
        .map(client_type)
        .collect::<Result<Vec<_>, _>>()?;
    if client_types.is_empty() {
        return Err(ApiError::request(
            "client_types is empty: a token without one could make no call",
        ));
    }
    let is_idempotent = arguments.flag("idempotent")?.unwrap_or(false);
    let expire = if is_v1 { None } else { arguments.whole_number("expire")? };
    Ok(TokenOptions { client_types, is_idempotent, expire })
}
