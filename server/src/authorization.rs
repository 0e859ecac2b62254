//! Who may make which call of the Inmanta API.

pub mod endpoints;
mod legacy;

use serde_json::Value;

use crate::{config::AuthorizationProvider, surface::inmanta::session::Session};
use endpoints::{Endpoint, Operation};

/// What is asked for.
pub struct ApiCall<'c> {
    /// The call.
    pub endpoint: &'c Endpoint,
    /// The environment that it is about.
    pub environment: Option<&'c str>,
    /// The user whom its path names.
    pub user: Option<&'c str>,
}

/// Decides whether whoever has this token may make a call.
///
/// # Errors
/// Why not, in the real system's words.
pub fn authorize(
    provider: AuthorizationProvider,
    session: &Session,
    call: &ApiCall<'_>,
) -> Result<(), String> {
    if call.endpoint.operation == Operation::Health {
        return Ok(());
    }
    match provider {
        AuthorizationProvider::PolicyEngine if session.is_user() => default_policy(session, call),
        AuthorizationProvider::Legacy | AuthorizationProvider::PolicyEngine => {
            legacy::authorize(session, call)
        }
    }
}

/// What of the default policy concerns the calls that there are: everything for
/// administrators, one's own password, and what shows nothing of an environment.
fn default_policy(session: &Session, call: &ApiCall<'_>) -> Result<(), String> {
    // By a session of ours: a provider elsewhere has users of its own, of any name.
    let is_users_own = session.is_login() && call.user.is_some() && call.user == session.subject();
    let is_own_password = is_users_own && call.endpoint.operation == Operation::SetPassword;
    let is_for_all = call.endpoint.read_only && call.endpoint.environment.is_none();
    let is_admin = session.claim(IS_ADMIN_CLAIM) == Some(&Value::Bool(true));
    match is_admin || is_own_password || is_for_all || call.endpoint.operation == Operation::Login {
        true => Ok(()),
        false => Err("Request is not allowed by the access policy.".into()),
    }
}

/// The claim that its subject may do everything.
pub const IS_ADMIN_CLAIM: &str = "urn:inmanta:is_admin";
/// The claim that says which roles its subject has, by environment.
pub const ROLES_CLAIM: &str = "urn:inmanta:roles";
