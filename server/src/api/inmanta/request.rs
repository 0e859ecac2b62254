//! Typed requests: an operation of the API with its parsed arguments.

use super::{arguments::CallArguments, docs::DocsFormat, error::ApiError};
use crate::{
    authorization::endpoints::api::{ApiEndpoint, ApiOperation, ArgumentDefault},
    base::claims::ClientType,
    store::environments::EnvironmentChanges,
};

/// A parsed request. Not `Debug`: it contains passwords.
pub(super) enum ApiRequest {
    Nothing,
    Login { username: String, password: String },
    RenewLogin,
    Logout { all: bool },
    Users(UserRequest),
    Roles(RoleRequest),
    Tokens(TokenApiRequest),
    Projects(ProjectRequest),
    Environments(EnvironmentRequest),
    ServerStatus,
    Docs { format: DocsFormat, description: Option<String> },
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

pub(super) enum ProjectRequest {
    /// With the icons and descriptions of environments, if `details` is set.
    List {
        details: bool,
    },
    Get {
        id: String,
        details: bool,
    },
    Create {
        name: String,
        id: Option<String>,
    },
    Rename {
        id: String,
        name: String,
    },
    Delete {
        id: String,
    },
}

pub(super) enum EnvironmentRequest {
    /// With icons and descriptions, if `details` is set.
    List {
        details: bool,
    },
    Get {
        id: String,
        details: bool,
    },
    /// With a new id, if it has none.
    Create {
        id: Option<String>,
        wanted: EnvironmentChanges,
    },
    Modify {
        id: String,
        changes: EnvironmentChanges,
    },
    Delete {
        id: String,
    },
    Settings,
}

impl ApiRequest {
    /// Whether it creates a token. Without authentication, its error has a text of its own.
    pub(super) const fn creates_token(&self) -> bool {
        matches!(self, Self::Tokens(TokenApiRequest::Create { .. }))
    }

    /// Reads the arguments of a call of `endpoint`, in `environment` if it has one.
    pub(super) fn read(
        endpoint: &ApiEndpoint,
        environment: Option<String>,
        arguments: &mut CallArguments,
    ) -> Result<Self, ApiError> {
        let environment = environment.unwrap_or_default();
        Ok(match endpoint.operation {
            ApiOperation::Health => Self::Nothing,
            ApiOperation::Login => Self::Login {
                username: arguments.text("username")?,
                password: arguments.text("password")?,
            },
            ApiOperation::RenewLogin => Self::RenewLogin,
            ApiOperation::Logout => Self::Logout { all: arguments.flag("all")?.unwrap_or(false) },
            ApiOperation::ListUsers => Self::Users(UserRequest::List),
            ApiOperation::AddUser => {
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
            ApiOperation::CreateToken => {
                let is_v1 = endpoint.is_v1();
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
            ApiOperation::ListProjects => {
                Self::Projects(ProjectRequest::List { details: details(endpoint, arguments)? })
            }
            ApiOperation::GetProject => Self::Projects(ProjectRequest::Get {
                id: arguments.path_uuid("id")?,
                details: details(endpoint, arguments)?,
            }),
            ApiOperation::CreateProject => Self::Projects(ProjectRequest::Create {
                name: arguments.nonempty_name("name")?,
                id: arguments.optional_uuid("project_id")?,
            }),
            ApiOperation::ModifyProject => Self::Projects(ProjectRequest::Rename {
                id: arguments.path_uuid("id")?,
                name: arguments.nonempty_name("name")?,
            }),
            ApiOperation::DeleteProject => {
                Self::Projects(ProjectRequest::Delete { id: arguments.path_uuid("id")? })
            }
            ApiOperation::ListEnvironments => Self::Environments(EnvironmentRequest::List {
                details: details(endpoint, arguments)?,
            }),
            ApiOperation::GetEnvironment => Self::Environments(EnvironmentRequest::Get {
                id: environment,
                details: details(endpoint, arguments)?,
            }),
            ApiOperation::CreateEnvironment => Self::Environments(EnvironmentRequest::Create {
                wanted: environment_changes(endpoint, arguments)?,
                id: arguments.optional_uuid("environment_id")?,
            }),
            ApiOperation::ModifyEnvironment => Self::Environments(EnvironmentRequest::Modify {
                id: environment,
                changes: environment_changes(endpoint, arguments)?,
            }),
            ApiOperation::DeleteEnvironment => {
                Self::Environments(EnvironmentRequest::Delete { id: environment })
            }
            ApiOperation::ListSettings => Self::Environments(EnvironmentRequest::Settings),
            ApiOperation::ServerStatus => Self::ServerStatus,
            ApiOperation::Docs => {
                // The token has authenticated the caller.
                arguments.optional_text("token")?;
                Self::Docs {
                    format: DocsFormat::read(arguments)?,
                    description: arguments.optional_text("swagger_description")?,
                }
            }
        })
    }
}

/// Reads the flag for details. Without one, environments have none.
fn details(endpoint: &ApiEndpoint, arguments: &mut CallArguments) -> Result<bool, ApiError> {
    let flag = endpoint.arguments.iter().find(|argument| argument.name.ends_with("details"));
    Ok(flag.map(|flag| arguments.flag(flag.name)).transpose()?.flatten().unwrap_or(false))
}

/// Reads the members of an environment, as far as the call has them.
fn environment_changes(
    endpoint: &ApiEndpoint,
    arguments: &mut CallArguments,
) -> Result<EnvironmentChanges, ApiError> {
    let trimmed = |text: String| text.trim().to_owned();
    let mut changes = EnvironmentChanges {
        name: arguments.nonempty_name("name")?,
        repo_url: arguments.optional_text("repository")?.map(trimmed),
        repo_branch: arguments.optional_text("branch")?.map(trimmed),
        ..EnvironmentChanges::default()
    };
    changes.project_id = match endpoint.argument("project_id").map(|argument| argument.default) {
        Some(ArgumentDefault::Required) => Some(arguments.uuid("project_id")?),
        Some(_) => arguments.optional_uuid("project_id")?,
        None => None,
    };
    if endpoint.argument("description").is_some() {
        changes.description = arguments.optional_text("description")?;
        changes.icon = arguments.optional_text("icon")?;
    }
    Ok(changes)
}

fn assignment(arguments: &mut CallArguments) -> Result<(String, String, String), ApiError> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::authorization::endpoints::{
        ParameterType,
        api::{ApiArgument, ENDPOINTS, PathMatch, find_endpoint},
    };

    const ID: &str = "11111111-1111-1111-1111-111111111111";

    fn value(argument: &ApiArgument) -> Value {
        match argument.kind {
            ParameterType::String => argument.default.value().unwrap_or(Value::Null),
            ParameterType::Uuid => ID.into(),
            ParameterType::Boolean => false.into(),
            ParameterType::Integer => 5.into(),
            ParameterType::Array => json!(["api"]),
            other => panic!("{other:?}"),
        }
    }

    /// Reads a call with these arguments.
    fn read(endpoint: &ApiEndpoint, arguments: &Map<String, Value>) -> Result<(), ApiError> {
        let path = endpoint.path.split('/');
        let path = path.map(|segment| if segment.starts_with('<') { ID } else { segment });
        let path = path.collect::<Vec<_>>().join("/");
        let PathMatch::Endpoint(_, of_path) = find_endpoint(endpoint.method, &path) else {
            panic!("{path}");
        };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (target, body) = if endpoint.takes_query() {
            let pairs = arguments.iter().map(|(name, value)| format!("{name}={}", text(value)));
            (format!("{path}?{}", pairs.collect::<Vec<_>>().join("&")), Bytes::new())
        } else {
            (path, Bytes::from(Value::Object(arguments.clone()).to_string()))
        };
        let request = http::Request::builder()
            .method(endpoint.method)
            .uri(target)
            .header("x-inmanta-tid", ID)
            .body(body)
            .unwrap();
        let mut arguments = CallArguments::read(endpoint, of_path, &request)?;
        let environment = endpoint.environment.map(|_| ID.to_owned());
        let _request = ApiRequest::read(endpoint, environment, &mut arguments)?;
        arguments.finish()
    }

    #[test]
    fn calls_take_exactly_the_arguments_of_the_table() {
        for endpoint in ENDPOINTS {
            let all = endpoint.arguments.iter().map(|argument| {
                let value = match value(argument) {
                    Value::Null if endpoint.takes_query() => "x".into(),
                    Value::Null if argument.default == ArgumentDefault::Required => "x".into(),
                    value => value,
                };
                (argument.name.to_owned(), value)
            });
            let all: Map<_, _> = all.collect();
            let is_ok = |arguments: &Map<_, _>| read(endpoint, arguments).is_ok();
            assert!(is_ok(&all), "{} with all", endpoint.id());
            for argument in endpoint.arguments {
                let mut others = all.clone();
                others.remove(argument.name);
                let is_optional = argument.default != ArgumentDefault::Required;
                let call = format!("{} without {}", endpoint.id(), argument.name);
                assert_eq!(is_ok(&others), is_optional, "{call}");
            }
            let mut more = all;
            more.insert("undeclared".into(), "x".into());
            assert!(!is_ok(&more), "{} with another", endpoint.id());
        }
    }
}
