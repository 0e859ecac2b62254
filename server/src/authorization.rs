//! Authorization: whether the bearer of a verified token may make a request.
//!
//! One [`Authorization`] decides for every surface: for requests that a proxy checks, by the
//! [`AuthorizationProvider`] of the listener, and for calls of our own API, by that of `[server]`.

mod decision_cache;
mod denial;
pub mod endpoints;
pub mod explanation;
mod legacy;
pub mod policy;
pub mod preview;
mod principal;
mod proxied_request;
pub mod request_path;
pub mod routes;
pub mod settings;
mod spelling;
pub mod supposed_claims;

use countersign_front::clock::Stopwatch;
use endpoints::{
    FoundEndpoint,
    api::{ApiEndpoint, ApiOperation},
};
use policy::PolicyInput;
use serde_json::{Map, Value};

pub(crate) use self::decision_cache::invalidate_decisions;
pub use self::{
    denial::Denial,
    principal::{IssuerStanding, Principal, inmanta_claims},
    proxied_request::{KeptRequest, ListenerAccess, PreparedAccess, ProxiedRequest},
    settings::{Authorization, AuthorizationProvider},
};
use crate::{accounts::session::Session, tenancy::request_tenant::RequestTenant};

/// A call of our own API.
pub struct ApiCall<'c> {
    /// The endpoint that is called.
    pub endpoint: &'c ApiEndpoint,
    /// The environment that the call concerns.
    pub environment: Option<&'c str>,
    /// The parameters of its path and headers.
    pub parameters: Map<String, Value>,
    /// Those of its query or body. Passwords are masked.
    pub arguments: Map<String, Value>,
}

impl Authorization {
    /// Authorizes a call of our own API for the holder of `session`.
    ///
    /// # Errors
    /// The reason for the denial.
    pub fn authorize_api(
        &self,
        provider: AuthorizationProvider,
        session: &Session,
        call: ApiCall<'_>,
    ) -> Result<(), Denial<'static>> {
        let endpoint = call.endpoint;
        if endpoint.administers {
            check_administration(session, &call)?;
        }
        let is_before_policy =
            matches!(endpoint.operation, ApiOperation::Health | ApiOperation::Login);
        if provider == AuthorizationProvider::PolicyEngine && is_before_policy {
            return Ok(());
        }
        let found = self.endpoints.api_call(endpoint.id(), call.parameters, call.arguments);
        let found = found.map_err(|error| Denial::Ambiguous(error.to_string()))?;
        self.authorize_call(provider, session, &found, None)
    }

    /// Authorizes a call of an endpoint with its parameters.
    fn authorize_call(
        &self,
        provider: AuthorizationProvider,
        principal: &dyn Principal,
        call: &FoundEndpoint<'_>,
        tenant: Option<RequestTenant<'_>>,
    ) -> Result<(), Denial<'static>> {
        if is_decided_by_policy(provider, principal) {
            self.ask_policy(principal, call, tenant)
        } else {
            legacy::authorize(principal, call)
        }
    }

    /// Evaluates the policy, and writes to its log.
    fn ask_policy(
        &self,
        principal: &dyn Principal,
        call: &FoundEndpoint<'_>,
        tenant: Option<RequestTenant<'_>>,
    ) -> Result<(), Denial<'static>> {
        // A configuration that uses the policy engine without a policy is refused.
        let policy = self.policy.policy.as_ref().ok_or(Denial::Policy)?;
        let (claims, issuer) = (principal.policy_claims(), principal.standing());
        let input = PolicyInput::of_call(call, &claims, issuer, tenant);
        let started = Stopwatch::start();
        let result = policy.allows(input);
        if let Some(log) = &self.policy_log {
            log.record(self.policy.log_level, input, &result, started.elapsed());
        }
        match result {
            Ok(true) => Ok(()),
            Ok(false) => Err(Denial::Policy),
            Err(_logged) => Err(Denial::PolicyFailed),
        }
    }
}

/// Whether the policy decides about the calls of a principal. Those of agents and compilers do not
/// depend on it.
fn is_decided_by_policy(provider: AuthorizationProvider, principal: &dyn Principal) -> bool {
    let is_machine = |name: &&str| matches!(*name, "agent" | "compiler");
    provider == AuthorizationProvider::PolicyEngine
        && !principal.client_types().iter().any(is_machine)
}

/// Checks that the holder of `session` may administer, whatever the provider: a genuine token of
/// an issuer only proves who its bearer is.
fn check_administration(session: &Session, call: &ApiCall<'_>) -> Result<(), Denial<'static>> {
    if !session.may_administer && !is_own_password(session, call) {
        return Err(Denial::MayNotAdminister);
    }
    match session.environment() {
        Some(scope) if call.environment.is_some_and(|environment| environment != scope) => {
            Err(Denial::OtherEnvironment)
        }
        _ => Ok(()),
    }
}

/// Whether a session may not make any call of an endpoint, because it administers.
#[must_use]
pub fn is_barred(session: &Session, endpoint: &ApiEndpoint) -> bool {
    let is_password = endpoint.operation == ApiOperation::SetPassword;
    endpoint.administers && !session.may_administer && !(is_password && session.is_login())
}

/// Whether a user sets their own password. Only in a login session of this server: an external
/// provider may have another user of the same name.
fn is_own_password(session: &Session, call: &ApiCall<'_>) -> bool {
    let user = call.parameters.get("username").and_then(Value::as_str);
    let is_own_user = session.is_login() && user.is_some() && user == session.subject();
    is_own_user && call.endpoint.operation == ApiOperation::SetPassword
}
