//! Access to requests that a proxy checks.

use countersign_engine::Verified;
use countersign_front::Fields;
use http::{HeaderMap, HeaderValue};

use super::{
    Authorization, AuthorizationProvider, Denial, IssuerStanding,
    principal::VerifiedPrincipal,
    request_path::canonical,
    routes::{OpenPaths, RouteMatch, TokenRoute},
};
use crate::tenancy::request_tenant::RequestTenant;

/// The request that a client sent to a proxy, as a trusted proxy describes it.
#[derive(Clone, Copy)]
pub struct ProxiedRequest<'r> {
    /// The method.
    pub method: &'r str,
    /// The request target, as the client wrote it.
    pub target: &'r str,
    /// The header lines.
    pub headers: &'r dyn Fields,
}

/// A [`ProxiedRequest`] that outlives its check, with the headers that are parameters.
pub struct KeptRequest {
    method: String,
    target: String,
    headers: HeaderMap,
}

impl KeptRequest {
    /// Keeps a request.
    #[must_use]
    pub fn new(authorization: &Authorization, request: &ProxiedRequest<'_>) -> Self {
        let mut headers = HeaderMap::new();
        for name in authorization.endpoints.headers() {
            request.headers.each_line(name, &mut |line| {
                if let Ok(value) = HeaderValue::from_bytes(line) {
                    headers.append(name, value);
                }
            });
        }
        Self { method: request.method.into(), target: request.target.into(), headers }
    }

    /// Keeps a request with these parts.
    #[must_use]
    pub const fn of_parts(method: String, target: String, headers: HeaderMap) -> Self {
        Self { method, target, headers }
    }

    /// Returns the request.
    #[must_use]
    pub fn as_request(&self) -> ProxiedRequest<'_> {
        ProxiedRequest { method: &self.method, target: &self.target, headers: &self.headers }
    }

    /// Returns the memory that it holds, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let lines = self.headers.values().map(HeaderValue::len).sum::<usize>();
        size_of::<Self>() + self.method.len() + self.target.len() + lines
    }
}

/// Who may make the requests of a listener.
#[derive(Clone, Debug)]
pub struct ListenerAccess {
    /// The provider that decides.
    pub provider: AuthorizationProvider,
    /// The requests that need no token, whatever the provider.
    pub open_paths: OpenPaths,
}

/// The decision about a request as far as it needs no token.
pub enum PreparedAccess<'s> {
    /// The request needs no token, and no token is looked at.
    Public,
    /// Every verified token allows it.
    Verified,
    /// The token decides, by a rule.
    Route(TokenRoute<'s>),
    /// The provider decides, by its endpoint.
    Endpoint(AuthorizationProvider),
    /// No token allows it.
    Denied(Denial<'s>),
}

impl PreparedAccess<'_> {
    /// Whether the request needs no token, and no token is looked at.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }

    /// Whether the request is allowed without a token.
    #[must_use]
    pub fn allows_anonymous(&self) -> bool {
        matches!(self, Self::Route(route) if route.is_anonymous())
    }
}

impl Authorization {
    /// Decides about a request as far as possible without a token. `request` is `None` if no
    /// trusted proxy describes it.
    #[must_use]
    pub fn prepare<'s>(
        &'s self,
        access: &'s ListenerAccess,
        request: Option<&ProxiedRequest<'_>>,
    ) -> PreparedAccess<'s> {
        let Some(&ProxiedRequest { method, target, .. }) = request else {
            return match access.provider {
                AuthorizationProvider::None => PreparedAccess::Verified,
                _ => PreparedAccess::Denied(Denial::Undescribed),
            };
        };
        if access.open_paths.contains(method, target) {
            return PreparedAccess::Public;
        }
        match access.provider {
            AuthorizationProvider::None => PreparedAccess::Verified,
            AuthorizationProvider::Routes => match self.routes.find(method, target) {
                RouteMatch::Public(_) => PreparedAccess::Public,
                RouteMatch::Token(route) => PreparedAccess::Route(route),
                RouteMatch::Denied(denial) => PreparedAccess::Denied(Denial::Route(denial)),
            },
            provider => PreparedAccess::Endpoint(provider),
        }
    }

    /// Decides whether the bearer of a verified token may make a request, which acts for a tenant
    /// on the `orchestrate` surface.
    ///
    /// # Errors
    /// The reason for the denial.
    pub fn authorize<'s>(
        &'s self,
        prepared: &PreparedAccess<'s>,
        verified: &Verified<'_>,
        request: Option<&ProxiedRequest<'_>>,
        tenant: Option<RequestTenant<'_>>,
    ) -> Result<(), Denial<'s>> {
        match prepared {
            PreparedAccess::Denied(denial) => Err(denial.clone()),
            PreparedAccess::Public | PreparedAccess::Verified => Ok(()),
            PreparedAccess::Route(route) => {
                let acting = tenant.map(|tenant| tenant.acting);
                route.authorize(verified, acting).map_err(Denial::Route)
            }
            PreparedAccess::Endpoint(provider) => {
                let request = request.ok_or(Denial::Undescribed)?;
                self.authorize_endpoint(*provider, verified, request, tenant)
            }
        }
    }

    fn authorize_endpoint(
        &self,
        provider: AuthorizationProvider,
        verified: &Verified<'_>,
        request: &ProxiedRequest<'_>,
        tenant: Option<RequestTenant<'_>>,
    ) -> Result<(), Denial<'static>> {
        let Some(cache) = self
            .decisions
            .as_ref()
            .filter(|_| provider == AuthorizationProvider::PolicyEngine && verified.is_cached())
        else {
            return self.decide(provider, verified, request, tenant);
        };
        let acting = tenant.map(|tenant| tenant.acting);
        let hash = cache.hash(verified, request, self.endpoints.headers(), acting);
        if let Some(is_allowed) = cache.get(hash).filter(|_| !self.policy.logs_requests()) {
            return if is_allowed { Ok(()) } else { Err(Denial::Policy) };
        }
        let decision = self.decide(provider, verified, request, tenant);
        // Time and memory of an evaluation also depend on the load of the machine.
        if !matches!(decision, Err(Denial::PolicyFailed)) {
            cache.insert(hash, decision.is_ok());
        }
        decision
    }

    fn decide(
        &self,
        provider: AuthorizationProvider,
        verified: &Verified<'_>,
        request: &ProxiedRequest<'_>,
        tenant: Option<RequestTenant<'_>>,
    ) -> Result<(), Denial<'static>> {
        let path = canonical(request.target, self.routes.encoded_slash());
        let path = path.map_err(|reason| Denial::Ambiguous(reason.to_string()))?;
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let found = self.endpoints.find(request.method, &path, query, request.headers);
        let found = found.map_err(|error| Denial::Ambiguous(error.to_string()))?;
        let principal = VerifiedPrincipal { verified, standing: self.standing(verified) };
        self.authorize_call(provider, &principal, &found, tenant)
    }

    /// Returns the standing of the issuer of a token.
    pub(super) fn standing<'v>(&self, verified: &'v Verified<'_>) -> IssuerStanding<'v> {
        let issuer = verified.issuer();
        IssuerStanding {
            section: &issuer.section,
            is_own: self.own_issuer.as_deref() == Some(&*issuer.name),
            administers: self.may_administer(&issuer.name),
        }
    }
}
