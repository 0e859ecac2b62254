//! What a call asks for, its arguments read.

use super::{arguments::Arguments, fault::Fault};
use crate::{authorization::endpoints::Operation, config::ClientType};

/// What is asked for. Not `Debug`: there are passwords in it.
pub(super) enum Asked {
    Nothing,
    Login { username: String, password: String },
    RenewLogin,
    Users(OfUsers),
    Roles(OfRoles),
    Tokens(OfTokens),
    Environments(OfEnvironments),
}

pub(super) enum OfUsers {
    List,
    Add { username: String, password: String },
    Delete { username: String },
    SetPassword { username: String, password: String, current: Option<String> },
    SetAdmin { username: String, is_admin: bool },
    Current,
}

pub(super) enum OfRoles {
    List,
    Add { name: String },
    Delete { name: String },
    Of { username: String },
    Assign { username: String, environment: String, role: String },
    Unassign { username: String, environment: String, role: String },
}

pub(super) enum OfTokens {
    Create { environment: String, wanted: WantedToken, is_v1: bool },
    List { environment: String },
    Revoke { environment: String, jti: String },
}

/// What a token is to be.
pub(super) struct WantedToken {
    pub(super) client_types: Vec<ClientType>,
    pub(super) is_idempotent: bool,
    /// In seconds, more than none.
    pub(super) expire: Option<u64>,
}

pub(super) enum OfEnvironments {
    List,
    Get { id: String },
    Create { name: String, id: Option<String>, project_id: Option<String> },
    Delete { id: String },
}

impl Asked {
    /// What an operation is asked to do, in this environment if it is about one.
    pub(super) fn read(
        operation: Operation,
        environment: Option<String>,
        arguments: &mut Arguments,
    ) -> Result<Self, Fault> {
        let environment = environment.unwrap_or_default();
        Ok(match operation {
            Operation::Health => Self::Nothing,
            Operation::Login => Self::Login {
                username: arguments.text("username")?,
                password: arguments.text("password")?,
            },
            Operation::RenewLogin => Self::RenewLogin,
            Operation::ListUsers => Self::Users(OfUsers::List),
            Operation::AddUser => {
                let (username, password) =
                    (arguments.name("username")?, arguments.text("password")?);
                Self::Users(OfUsers::Add { username, password })
            }
            Operation::DeleteUser => {
                Self::Users(OfUsers::Delete { username: arguments.in_path("username")? })
            }
            Operation::SetPassword => Self::Users(OfUsers::SetPassword {
                username: arguments.in_path("username")?,
                password: arguments.text("password")?,
                current: arguments.optional_text("current_password")?,
            }),
            Operation::CurrentUser => Self::Users(OfUsers::Current),
            Operation::SetAdmin => {
                let username = arguments.text("username")?;
                let is_admin = arguments
                    .flag("is_admin")?
                    .ok_or_else(|| Fault::request("the argument is_admin is missing"))?;
                Self::Users(OfUsers::SetAdmin { username, is_admin })
            }
            Operation::ListRoles => Self::Roles(OfRoles::List),
            Operation::AddRole => Self::Roles(OfRoles::Add { name: arguments.some_name("name")? }),
            Operation::DeleteRole => Self::Roles(OfRoles::Delete { name: arguments.text("name")? }),
            Operation::ListAssignments => {
                Self::Roles(OfRoles::Of { username: arguments.in_path("username")? })
            }
            Operation::AssignRole => {
                let (username, environment, role) = assignment(arguments)?;
                Self::Roles(OfRoles::Assign { username, environment, role })
            }
            Operation::UnassignRole => {
                let (username, environment, role) = assignment(arguments)?;
                Self::Roles(OfRoles::Unassign { username, environment, role })
            }
            Operation::CreateToken | Operation::CreateTokenV1 => {
                let is_v1 = operation == Operation::CreateTokenV1;
                Self::Tokens(OfTokens::Create {
                    environment,
                    wanted: wanted_token(arguments, is_v1)?,
                    is_v1,
                })
            }
            Operation::ListTokens => Self::Tokens(OfTokens::List { environment }),
            Operation::RevokeToken => {
                Self::Tokens(OfTokens::Revoke { environment, jti: arguments.in_path("jti")? })
            }
            Operation::ListEnvironments => Self::Environments(OfEnvironments::List),
            Operation::GetEnvironment => {
                Self::Environments(OfEnvironments::Get { id: environment })
            }
            Operation::CreateEnvironment => Self::Environments(OfEnvironments::Create {
                name: arguments.some_name("name")?,
                id: arguments.optional_uuid("environment_id")?,
                project_id: arguments.optional_uuid("project_id")?,
            }),
            Operation::DeleteEnvironment => {
                Self::Environments(OfEnvironments::Delete { id: environment })
            }
        })
    }
}

fn assignment(arguments: &mut Arguments) -> Result<(String, String, String), Fault> {
    Ok((arguments.in_path("username")?, arguments.uuid("environment")?, arguments.text("role")?))
}

/// The first version of the call had tokens that were the same each time, unless told
/// otherwise, and none that expired on demand.
fn wanted_token(arguments: &mut Arguments, is_v1: bool) -> Result<WantedToken, Fault> {
    let client_type = |name: String| name.parse::<ClientType>().map_err(Fault::Request);
    let client_types = arguments
        .texts("client_types")?
        .into_iter()
        .map(client_type)
        .collect::<Result<Vec<_>, _>>()?;
    if client_types.is_empty() {
        return Err(Fault::request(
            "client_types is empty: a token without one could make no call",
        ));
    }
    let is_idempotent = arguments.flag("idempotent")?.unwrap_or(is_v1);
    let expire = if is_v1 { None } else { arguments.whole_number("expire")? };
    let expire = match expire {
        None => None,
        Some(_) if is_idempotent => {
            return Err(Fault::request("a token that is idempotent cannot expire"));
        }
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds @ 1..) => Some(seconds.into()),
            _ => return Err(Fault::request("expire is in seconds, from 1 to 4294967295")),
        },
    };
    Ok(WantedToken { client_types, is_idempotent, expire })
}
