//! What would be decided about a request, and why. Nothing is decided, cached or logged.

use countersign_engine::Verified;
use serde_json::Value;

use super::{
    Authorization, AuthorizationProvider, Denial, ListenerAccess, Principal, ProxiedRequest,
    endpoints::{
        EnvironmentScope, FoundEndpoint,
        api::{ApiOperation, PathMatch, find_endpoint},
    },
    explanation::{DecidingFact, request_facts, requirement_facts, route_facts, rule_facts},
    is_decided_by_policy, legacy,
    policy::PolicyInput,
    principal::VerifiedPrincipal,
    request_path::canonical,
    routes::{RouteMatch, TokenRoute},
    supposed_claims::SupposedClaims,
};
use crate::{
    base::{claims::ClientType, printable::printable},
    tenancy::request_tenant::RequestTenant,
};

/// What would be decided about a request.
#[derive(Debug)]
pub struct RequestPreview {
    /// The facts that the decision depends on.
    pub facts: Vec<DecidingFact>,
    /// The decision.
    pub verdict: PreviewVerdict,
    /// The input of the access policy, if that decides.
    pub policy_input: Option<Value>,
}

/// The decision of a [`RequestPreview`], with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreviewVerdict {
    /// The request would be allowed.
    Allowed(String),
    /// It would be denied.
    Denied(String),
    /// It depends on something that is not given.
    Undecided(String),
}

/// The bearer of the request.
#[derive(Clone, Copy)]
pub enum PreviewBearer<'p> {
    /// The request has no token.
    NoToken,
    /// A verified token, and its tenant if the surface knows tenants.
    Token(&'p Verified<'p>, Option<RequestTenant<'p>>),
    /// Claims without a token.
    Claims(&'p SupposedClaims),
}

impl RequestPreview {
    fn new(facts: Vec<DecidingFact>, verdict: PreviewVerdict) -> Self {
        Self { facts, verdict, policy_input: None }
    }

    fn allowed(facts: Vec<DecidingFact>, reason: impl Into<String>) -> Self {
        Self::new(facts, PreviewVerdict::Allowed(reason.into()))
    }

    fn denied(facts: Vec<DecidingFact>, reason: impl Into<String>) -> Self {
        Self::new(facts, PreviewVerdict::Denied(reason.into()))
    }

    /// Returns a decision that depends on the call alone.
    #[must_use]
    pub fn of_request(request: &ProxiedRequest<'_>, verdict: PreviewVerdict) -> Self {
        Self::new(vec![written_request(request)], verdict)
    }

    /// Returns the decision about another request, which needs a right that this call decides.
    fn because_of(self, request: &ProxiedRequest<'_>, right: &str) -> Self {
        let needs = DecidingFact::new("needs", right);
        let others = self.facts.into_iter().filter(|fact| fact.label != "request");
        let facts = [written_request(request), needs].into_iter().chain(others).collect();
        Self { facts, ..self }
    }

    fn decided(facts: Vec<DecidingFact>, decision: Result<(), String>) -> Self {
        match decision {
            Ok(()) => Self::allowed(facts, "the token allows the request"),
            Err(reason) => Self::denied(facts, reason),
        }
    }
}

fn written_request(request: &ProxiedRequest<'_>) -> DecidingFact {
    let (method, target) = (printable(request.method), printable(request.target));
    DecidingFact::new("request", format!("{method} {target}"))
}

const NO_TOKEN: &str = "the request has no token (401)";
/// The call whose callers are administrators.
const ADMINISTRATOR_CALL: (&str, &str) = ("PATCH", "/api/v2/is_admin");

impl Authorization {
    /// Returns what would be decided about a request that a proxy checks at a listener.
    #[must_use]
    pub fn preview(
        &self,
        access: &ListenerAccess,
        request: &ProxiedRequest<'_>,
        bearer: &PreviewBearer<'_>,
    ) -> RequestPreview {
        let facts = request_facts(&self.routes, request.method, request.target);
        if access.open_paths.contains(request.method, request.target) {
            let reason = "open_paths of the listener have it, and no token is looked at";
            return RequestPreview::allowed(facts, reason);
        }
        match access.provider {
            AuthorizationProvider::None => match bearer {
                PreviewBearer::NoToken => RequestPreview::denied(facts, NO_TOKEN),
                _ => {
                    let reason = "authorization = none: every verified token allows every request";
                    RequestPreview::allowed(facts, reason)
                }
            },
            AuthorizationProvider::Routes => self.preview_route(facts, request, bearer),
            provider => self.preview_endpoint(facts, provider, request, bearer),
        }
    }

    /// Returns what would be decided about a call of the API of this server, but for arguments in
    /// a body.
    #[must_use]
    pub fn preview_api(
        &self,
        provider: AuthorizationProvider,
        request: &ProxiedRequest<'_>,
        bearer: &PreviewBearer<'_>,
    ) -> RequestPreview {
        let facts = request_facts(&self.routes, request.method, request.target);
        let path = request.target.split('?').next().unwrap_or_default();
        let PathMatch::Endpoint(endpoint, _) = find_endpoint(request.method, path) else {
            return RequestPreview::denied(facts, "the API has no such call (404 or 405)");
        };
        let is_before_policy =
            matches!(endpoint.operation, ApiOperation::Health | ApiOperation::Login);
        let is_decided_without_token = match bearer {
            PreviewBearer::NoToken => is_before_policy || !endpoint.needs_token,
            // A token that the request has nevertheless must be one that may make the call.
            _ => is_before_policy && provider == AuthorizationProvider::PolicyEngine,
        };
        if is_decided_without_token {
            return RequestPreview::allowed(facts, "the call needs no token");
        }
        let administers = match bearer {
            PreviewBearer::NoToken => return RequestPreview::denied(facts, NO_TOKEN),
            PreviewBearer::Token(verified, _) => self.standing(verified).administers,
            PreviewBearer::Claims(claims) => claims.standing().administers,
        };
        if endpoint.administers && !administers {
            return RequestPreview::denied(facts, Denial::MayNotAdminister.to_string());
        }
        self.preview_endpoint(facts, provider, request, bearer)
    }

    /// Returns what would be decided about a call that needs the right to make another one,
    /// `decisive`, of the Inmanta API.
    #[must_use]
    pub fn preview_equivalent(
        &self,
        provider: AuthorizationProvider,
        (request, decisive): (&ProxiedRequest<'_>, &ProxiedRequest<'_>),
        bearer: &PreviewBearer<'_>,
    ) -> RequestPreview {
        let right = format!("the right to call {} {}", decisive.method, printable(decisive.target));
        self.preview_api(provider, decisive, bearer).because_of(request, &right)
    }

    /// Returns what would be decided about a call that only administrators may make.
    #[must_use]
    pub fn preview_administrator(
        &self,
        provider: AuthorizationProvider,
        request: &ProxiedRequest<'_>,
        bearer: &PreviewBearer<'_>,
    ) -> RequestPreview {
        let (method, target) = ADMINISTRATOR_CALL;
        let right = format!("an administrator, who may call {method} {target}");
        let decisive = ProxiedRequest { method, target, headers: request.headers };
        let preview = self.preview_api(provider, &decisive, bearer);
        if matches!(preview.verdict, PreviewVerdict::Allowed(_)) && !self.is_unscoped_api(bearer) {
            let reason = "an administrator has the client type api, and no environment (403)";
            let verdict = PreviewVerdict::Denied(reason.into());
            return RequestPreview { verdict, ..preview }.because_of(request, &right);
        }
        preview.because_of(request, &right)
    }

    /// Whether a bearer has the client type of consoles and command lines, and no environment.
    fn is_unscoped_api(&self, bearer: &PreviewBearer<'_>) -> bool {
        let is_unscoped_api = |principal: &dyn Principal| {
            principal.environment().is_none()
                && principal.client_types().contains(&ClientType::Api.name())
        };
        match bearer {
            PreviewBearer::NoToken => false,
            PreviewBearer::Claims(claims) => is_unscoped_api(*claims),
            PreviewBearer::Token(verified, _) => {
                let standing = self.standing(verified);
                is_unscoped_api(&VerifiedPrincipal { verified, standing })
            }
        }
    }

    fn preview_route(
        &self,
        mut facts: Vec<DecidingFact>,
        request: &ProxiedRequest<'_>,
        bearer: &PreviewBearer<'_>,
    ) -> RequestPreview {
        match self.routes.find(request.method, request.target) {
            RouteMatch::Denied(denial) => {
                facts.extend(denial.rule.iter().flat_map(|rule| rule_facts(&self.routes, rule)));
                RequestPreview::denied(facts, format!("with any token: {denial}"))
            }
            RouteMatch::Public(rule) => {
                facts.extend(rule_facts(&self.routes, rule));
                let reason = "the route is public, and no token is looked at";
                RequestPreview::allowed(facts, reason)
            }
            RouteMatch::Token(route) => {
                facts.extend(route_facts(&self.routes, &route));
                preview_token(facts, &route, bearer)
            }
        }
    }

    fn preview_endpoint(
        &self,
        mut facts: Vec<DecidingFact>,
        provider: AuthorizationProvider,
        request: &ProxiedRequest<'_>,
        bearer: &PreviewBearer<'_>,
    ) -> RequestPreview {
        let path = match canonical(request.target, self.routes.encoded_slash()) {
            Ok(path) => path,
            Err(reason) => {
                let denial = Denial::Ambiguous(reason.to_string());
                return RequestPreview::denied(facts, denial.to_string());
            }
        };
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let found = match self.endpoints.find(request.method, &path, query, request.headers) {
            Ok(found) => found,
            Err(error) => {
                let denial = Denial::Ambiguous(error.to_string());
                return RequestPreview::denied(facts, denial.to_string());
            }
        };
        facts.extend(endpoint_facts(&found));
        match bearer {
            PreviewBearer::NoToken => RequestPreview::denied(facts, NO_TOKEN),
            PreviewBearer::Token(verified, tenant) => {
                let principal = VerifiedPrincipal { verified, standing: self.standing(verified) };
                self.preview_call(facts, provider, &principal, &found, *tenant)
            }
            PreviewBearer::Claims(claims) => {
                self.preview_call(facts, provider, *claims, &found, None)
            }
        }
    }

    fn preview_call(
        &self,
        mut facts: Vec<DecidingFact>,
        provider: AuthorizationProvider,
        principal: &dyn Principal,
        call: &FoundEndpoint<'_>,
        tenant: Option<RequestTenant<'_>>,
    ) -> RequestPreview {
        facts.extend(principal_facts(principal));
        let policy = self.policy.policy.as_ref();
        let policy = policy.filter(|_| is_decided_by_policy(provider, principal));
        let Some(policy) = policy else {
            facts.push(DecidingFact::new("by", "client types and environment (legacy)"));
            let decision = legacy::authorize(principal, call).map_err(|denial| denial.to_string());
            return RequestPreview::decided(facts, decision);
        };
        facts.push(DecidingFact::new("by", format!("the access policy {}", policy.path())));
        let (claims, issuer) = (principal.policy_claims(), principal.standing());
        let input = PolicyInput::of_call(call, &claims, issuer, tenant);
        let decision = match policy.allows(input) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Denial::Policy.to_string()),
            Err(error) => Err(format!("the access policy failed: {error}")),
        };
        let preview = RequestPreview::decided(facts, decision);
        RequestPreview { policy_input: Some(input.to_json()), ..preview }
    }
}

fn preview_token(
    mut facts: Vec<DecidingFact>,
    route: &TokenRoute<'_>,
    bearer: &PreviewBearer<'_>,
) -> RequestPreview {
    match bearer {
        PreviewBearer::NoToken if route.is_anonymous() => {
            RequestPreview::allowed(facts, "the route needs no token")
        }
        PreviewBearer::NoToken => RequestPreview::denied(facts, NO_TOKEN),
        PreviewBearer::Claims(_) => {
            let reason = "rules by route are evaluated for tokens only: paste one";
            RequestPreview::new(facts, PreviewVerdict::Undecided(reason.into()))
        }
        PreviewBearer::Token(verified, tenant) => {
            let acting = tenant.map(|tenant| tenant.acting);
            facts.extend(requirement_facts(route, verified, acting));
            match route.authorize(verified, acting) {
                Ok(()) => RequestPreview::allowed(facts, "the token meets every requirement"),
                Err(denial) => RequestPreview::denied(facts, format!("{denial} (403)")),
            }
        }
    }
}

fn endpoint_facts(found: &FoundEndpoint<'_>) -> Vec<DecidingFact> {
    let id = printable(&found.id);
    let Some(endpoint) = found.endpoint else {
        return vec![DecidingFact::new("endpoint", format!("{id}, which is not in the table"))];
    };
    let mut facts = vec![DecidingFact::new("endpoint", id)];
    if !found.parameters.is_empty() {
        let parameters = Value::Object(found.parameters.clone()).to_string();
        facts.push(DecidingFact::new("arguments", printable(&parameters)));
    }
    let types: Vec<_> = endpoint.client_types.iter().map(ClientType::to_string).collect();
    facts.push(DecidingFact::new("takes", format!("client types {}", types.join(", "))));
    let scope = match &endpoint.environment {
        EnvironmentScope::Global => "no environment".into(),
        EnvironmentScope::Any => "any environment".into(),
        EnvironmentScope::Parameter(name) => format!("the environment in {name}"),
    };
    facts.push(DecidingFact::new("concerns", scope));
    facts
}

fn principal_facts(principal: &dyn Principal) -> [DecidingFact; 1] {
    let types = principal.client_types().join(", ");
    let types = match &*types {
        "" => "no client type".into(),
        types => format!("client types {}", printable(types)),
    };
    let scope = match principal.environment() {
        Some(environment) => format!(", for the environment {}", printable(environment)),
        None => ", for every environment".into(),
    };
    [DecidingFact::new("bearer", types + &scope)]
}
