//! The decision about a verified token and the request that a call describes: that of `/auth` at
//! the same listener.

use countersign_engine::{Reject, Verified};
use http::{HeaderValue, StatusCode, header};

use crate::{
    auth::{
        Authenticator, ListenerRules,
        profile::{Profile, with_challenge},
        settings::AuthSettings,
    },
    authorization::{Denial, KeptRequest, PreparedAccess, ProxiedRequest},
    base::{
        clock,
        outcome::Outcome,
        reply::{Reply, problem},
    },
    tenancy::{
        identity::TenantIdentity, refusal::TenancyRefusal, request_headers::TenancyHeaders,
        request_tenant::RequestTenant, settings::TenancySettings, tenant::TenantAccess,
        token_claim::StaleClaimsError,
    },
};

/// The settings under which a call is decided.
pub(super) struct VerifyContext<'s> {
    pub(super) authenticator: &'s Authenticator,
    pub(super) settings: &'s AuthSettings,
    pub(super) rules: ListenerRules<'s>,
}

/// The reason why a verified token is refused.
pub(super) enum VerifyRefusal<'s> {
    /// The surface demands more of a token than its issuer.
    Rejected(Reject),
    /// The token does not allow the request.
    Denied(Denial<'s>),
    /// The token, or a header of the request, names a tenant or user that is not acceptable.
    Tenancy(TenancyRefusal),
    /// The request has an API key, which decides before the token.
    KeyDecides,
    /// The settings are being reloaded.
    Reloading,
}

impl From<TenancyRefusal> for VerifyRefusal<'_> {
    fn from(refusal: TenancyRefusal) -> Self {
        Self::Tenancy(refusal)
    }
}

impl From<StaleClaimsError> for VerifyRefusal<'_> {
    fn from(StaleClaimsError: StaleClaimsError) -> Self {
        Self::Reloading
    }
}

impl<'s> VerifyContext<'s> {
    /// Decides about a token, and about the request if there is one. Returns the tenant that the
    /// request acts for, on the `orchestrate` surface.
    pub(super) fn decide(
        &self,
        verified: &Verified<'_>,
        request: Option<&KeptRequest>,
    ) -> Result<Option<TenantIdentity>, VerifyRefusal<'s>> {
        let request = request.map(KeptRequest::as_request);
        let prepare = |access| self.settings.authorization.prepare(access, request.as_ref());
        let prepared = self.rules.access.filter(|_| request.is_some()).map(prepare);
        let prepared = (prepared.as_ref(), request.as_ref());
        if self.rules.profile != Profile::Orchestrate {
            self.authorize(verified, prepared, None)?;
            return Ok(None);
        }
        let Some(tenancy) = &self.settings.tenancy else { return Err(VerifyRefusal::Reloading) };
        let keys = &self.authenticator.keys;
        self.rules.profile.check(verified, clock::now, keys).map_err(VerifyRefusal::Rejected)?;
        self.decide_tenant(tenancy, verified, prepared).map(Some)
    }

    fn decide_tenant(
        &self,
        tenancy: &TenancySettings,
        verified: &Verified<'_>,
        prepared: (Option<&PreparedAccess<'s>>, Option<&ProxiedRequest<'_>>),
    ) -> Result<TenantIdentity, VerifyRefusal<'s>> {
        if !tenancy.verifies || prepared.0.is_some_and(PreparedAccess::is_public) {
            return Ok(TenantIdentity::new(&TenantAccess::PUBLIC));
        }
        let headers =
            prepared.1.map(|request| TenancyHeaders::read(request.headers)).transpose()?;
        if headers.as_ref().is_some_and(|of| of.api_key.is_some()) && !tenancy.keys.is_empty() {
            return Err(VerifyRefusal::KeyDecides);
        }
        let asked = headers.map(|headers| headers.asked).unwrap_or_default();
        let credential = tenancy.credential(verified)??;
        let identity = TenantIdentity::new(&TenantAccess::of(credential, asked)?);
        self.authorize(verified, prepared, Some(RequestTenant { credential, acting: &identity }))?;
        Ok(identity)
    }

    fn authorize(
        &self,
        verified: &Verified<'_>,
        (prepared, request): (Option<&PreparedAccess<'s>>, Option<&ProxiedRequest<'_>>),
        tenant: Option<RequestTenant<'_>>,
    ) -> Result<(), VerifyRefusal<'s>> {
        let Some(prepared) = prepared else { return Ok(()) };
        let authorization = &self.settings.authorization;
        let authorized = authorization.authorize(prepared, verified, request, tenant);
        authorized.map_err(VerifyRefusal::Denied)
    }

    /// Returns the problem document of a refusal.
    pub(super) fn problem(&self, refusal: VerifyRefusal<'_>, token: &[u8]) -> Reply {
        let challenges = &self.settings.challenges;
        let (outcome, response) = match refusal {
            VerifyRefusal::Rejected(reject) => return self.refused(reject.into(), token),
            VerifyRefusal::Denied(denial) => {
                let response = problem(StatusCode::FORBIDDEN, "denied", &denial.to_string());
                let challenge = denial.required_scopes();
                let challenge = challenge.map(|scopes| challenges.insufficient_scope(scopes));
                let response = match challenge {
                    Some(challenge) => with_challenge(response, challenge),
                    None => response,
                };
                (denial.outcome(), response)
            }
            VerifyRefusal::Tenancy(refusal) => {
                let (code, detail) = (refusal.problem_code(), refusal.to_string());
                let response = problem(StatusCode::UNAUTHORIZED, code, &detail);
                let challenge = challenges.of_tenancy(&refusal);
                (refusal.outcome(), with_challenge(response, challenge))
            }
            VerifyRefusal::KeyDecides => {
                let detail = "the request has an API key, which decides before the token: send the \
                              check to /auth";
                let response = problem(StatusCode::BAD_REQUEST, "credential_conflict", detail);
                (Outcome::Conflict, response)
            }
            VerifyRefusal::Reloading => {
                let detail = "the configuration is being reloaded: repeat the call";
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "reloading", detail);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                (Outcome::Tenant, response)
            }
        };
        Reply::with_outcome(outcome, response)
    }
}
