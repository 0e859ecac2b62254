//! Authorization of calls of the Inmanta API: [`authorize`] decides whether a
//! [`Session`] may make an [`ApiCall`].

pub mod endpoints;
mod legacy;

use endpoints::{Endpoint, Operation};

use crate::{accounts::session::Session, base::redacted::shown, config::reader::SectionReader};

/// Authorization of calls of the Inmanta API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationProvider {
    /// By client types and environments of tokens.
    Legacy,
    /// By a policy for users. Other callers as with [`Legacy`](Self::Legacy).
    PolicyEngine,
}

impl AuthorizationProvider {
    /// Reads `authorization_provider` of `[server]`.
    pub(crate) fn read(server: &mut SectionReader<'_>) -> Self {
        let name = server.text_or_default("authorization_provider");
        match name.to_lowercase().as_str() {
            "legacy" => Self::Legacy,
            "policy-engine" => Self::PolicyEngine,
            _ => {
                let text = format!(
                    "Invalid value for config option server.authorization-provider: {}. Valid \
                     values: legacy or policy-engine",
                    shown(name)
                );
                server.error("authorization_provider", text, "");
                Self::Legacy
            }
        }
    }
}

/// A call to authorize.
pub struct ApiCall<'c> {
    /// The endpoint it is made to.
    pub endpoint: &'c Endpoint,
    /// The environment that the call concerns.
    pub environment: Option<&'c str>,
    /// The username in its path.
    pub user: Option<&'c str>,
}

/// Authorizes `call` for the holder of `session`.
///
/// # Errors
/// The reason for the refusal, in the Inmanta server's words.
pub fn authorize(
    provider: AuthorizationProvider,
    session: &Session,
    call: &ApiCall<'_>,
) -> Result<(), String> {
    if call.endpoint.operation == Operation::Health {
        return Ok(());
    }
    if call.endpoint.administers {
        administers(session, call)?;
    }
    match provider {
        AuthorizationProvider::PolicyEngine if session.is_user() => default_policy(session, call),
        AuthorizationProvider::Legacy | AuthorizationProvider::PolicyEngine => {
            legacy::authorize(session, call)
        }
    }
}

/// Checks that the holder of `session` may administer, whatever the provider: a genuine token of
/// an issuer only proves who its bearer is.
fn administers(session: &Session, call: &ApiCall<'_>) -> Result<(), String> {
    if !session.may_administer && !is_own_password(session, call) {
        return Err(MAY_NOT_ADMINISTER.into());
    }
    match session.environment() {
        Some(scope) if call.environment.is_some_and(|environment| environment != scope) => {
            Err(WRONG_ENVIRONMENT.into())
        }
        _ => Ok(()),
    }
}

/// Whether a session may not make any call of an endpoint, because it administers.
#[must_use]
pub fn is_barred(session: &Session, endpoint: &Endpoint) -> bool {
    let is_password = endpoint.operation == Operation::SetPassword;
    endpoint.administers && !session.may_administer && !(is_password && session.is_login())
}

/// Refusal of a caller whose issuer may not administer.
pub const MAY_NOT_ADMINISTER: &str =
    "The issuer of the authorization token may not administer this server.";

const WRONG_ENVIRONMENT: &str =
    "The authorization token is not valid for the requested environment.";

/// Whether a user sets their own password. Only in a login session of this server: an external
/// provider may have another user of the same name.
fn is_own_password(session: &Session, call: &ApiCall<'_>) -> bool {
    let is_own_user = session.is_login() && call.user.is_some() && call.user == session.subject();
    is_own_user && call.endpoint.operation == Operation::SetPassword
}

/// The part of Inmanta's default policy that applies to these endpoints. Administrators may
/// make every call. Every user may change their own password, log in, and make read-only calls
/// outside environments.
fn default_policy(session: &Session, call: &ApiCall<'_>) -> Result<(), String> {
    let is_public = call.endpoint.read_only && call.endpoint.environment.is_none();
    let is_login = call.endpoint.operation == Operation::Login;
    if session.is_admin() || is_own_password(session, call) || is_public || is_login {
        Ok(())
    } else {
        Err("Request is not allowed by the access policy.".into())
    }
}
