//! Decisions on the `orchestrate` surface: an API key or a token, and the tenant that the request
//! acts for.

use std::ops::ControlFlow::{Break, Continue};

use countersign_engine::Verified;
use countersign_front::{Fields, Step};
use http::{HeaderValue, StatusCode, header};

use super::{AuthDecision, Caller, DecisionContext, PendingDecision, proxied, with_challenge};
use crate::{
    authorization::{KeptRequest, PreparedAccess, ProxiedRequest},
    base::{outcome::Outcome, reply::empty},
    client::{RequestDescription, original_request::OriginalRequest},
    tenancy::{
        identity::TenantIdentity,
        refusal::TenancyRefusal,
        request_headers::TenancyHeaders,
        request_tenant::RequestTenant,
        settings::TenancySettings,
        tenant::{TenantAccess, TenantCredential, TenantImpersonation},
    },
};

/// An [`TenantImpersonation`] that outlives the request.
pub(super) struct KeptImpersonation {
    tenant: Box<[u8]>,
    user: Box<[u8]>,
}

impl KeptImpersonation {
    fn new(asked: TenantImpersonation<'_>) -> Self {
        Self { tenant: asked.tenant.into(), user: asked.user.into() }
    }

    fn get(&self) -> TenantImpersonation<'_> {
        TenantImpersonation { tenant: &self.tenant, user: &self.user }
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.tenant.len() + self.user.len()
    }
}

impl DecisionContext<'_> {
    /// Decides about a request: the API key first, then the token. A credential that is absent is
    /// passed over, and a wrong one ends the request.
    #[inline(never)]
    pub(super) fn decide_tenant<'a, 't>(
        &self,
        listener: usize,
        caller: &Caller<'a, '_>,
        fields: &'t impl Fields,
        (describe, original): (
            &impl Fn() -> RequestDescription<'t>,
            &impl Fn() -> Option<OriginalRequest<'t>>,
        ),
    ) -> Step<AuthDecision<'t>, PendingDecision<'a>> {
        let Some(tenancy) = &self.settings.tenancy else {
            return Step::Done(self.undecided());
        };
        if !tenancy.verifies {
            return Step::Done(self.of_tenant(None, Outcome::Public, &TenantAccess::PUBLIC));
        }
        let authorization = &self.settings.authorization;
        let described = self.rules.access.and_then(|_| original());
        let request = described.as_ref().map(|request| proxied(request, fields));
        let prepare = |access| authorization.prepare(access, request.as_ref());
        let prepared = self.rules.access.map(prepare);
        if prepared.as_ref().is_some_and(PreparedAccess::is_public) {
            return Step::Done(self.of_tenant(None, Outcome::Public, &TenantAccess::PUBLIC));
        }
        let TenancyHeaders { api_key, asked } = match TenancyHeaders::read(fields) {
            Ok(headers) => headers,
            Err(refusal) => return Step::Done(self.refuse(tenancy, &refusal)),
        };
        if let Some(key) = api_key.filter(|_| !tenancy.keys.is_empty()) {
            return Step::Done(self.decide_key(tenancy, key, caller, asked));
        }
        let token = match self.find_token(fields, (describe, original), prepared.as_ref()) {
            Continue(token) => token,
            Break(AuthDecision::WithoutToken(outcome)) => {
                let identity = TenantIdentity::new(&TenantAccess::PUBLIC);
                return Step::Done(AuthDecision::OfTenant { verified: None, outcome, identity });
            }
            Break(decision) => return Step::Done(decision),
        };
        let access = (prepared.as_ref(), request.as_ref());
        let decide = |verified| self.authorize_tenant(tenancy, verified, access, asked);
        let keep_request = |request: &_| Box::new(KeptRequest::new(authorization, request));
        let keep_asked = || Some(Box::new(KeptImpersonation::new(asked)));
        let keep = || (request.as_ref().map(keep_request), keep_asked());
        self.use_token(listener, caller, token, decide, keep)
    }

    /// Decides about a request with an API key. It gives access to everything, so no rule of
    /// authorization is asked.
    fn decide_key<'t>(
        &self,
        tenancy: &TenancySettings,
        key: &[u8],
        caller: &Caller<'_, '_>,
        asked: TenantImpersonation<'_>,
    ) -> AuthDecision<'t> {
        if tenancy.keys.find(key, || caller.client.get()).is_none() {
            return self.refuse(tenancy, &TenancyRefusal::WrongKey);
        }
        match TenantAccess::of(TenantCredential::ApiKey, asked) {
            Ok(access) => self.of_tenant(None, Outcome::ApiKey, &access),
            Err(refusal) => self.refuse(tenancy, &refusal),
        }
    }

    /// Decides about a request whose token was verified after a wait. The settings may have been
    /// reloaded since.
    pub(super) fn authorize_pending<'t>(
        &self,
        verified: Verified<'t>,
        request: Option<&KeptRequest>,
        asked: Option<&KeptImpersonation>,
    ) -> AuthDecision<'t> {
        let (Some(tenancy), Some(asked)) = (&self.settings.tenancy, asked) else {
            return self.undecided();
        };
        let request = request.map(KeptRequest::as_request);
        let authorization = &self.settings.authorization;
        let prepare = |access| authorization.prepare(access, request.as_ref());
        let prepared = self.rules.access.map(prepare);
        let access = (prepared.as_ref(), request.as_ref());
        self.authorize_tenant(tenancy, verified, access, asked.get())
    }

    /// Decides about a request with a verified token.
    fn authorize_tenant<'t>(
        &self,
        tenancy: &TenancySettings,
        verified: Verified<'t>,
        (prepared, request): (Option<&PreparedAccess<'_>>, Option<&ProxiedRequest<'_>>),
        asked: TenantImpersonation<'_>,
    ) -> AuthDecision<'t> {
        let Ok(credential) = tenancy.credential(&verified) else { return self.undecided() };
        let acting = |credential| Ok((credential, TenantAccess::of(credential, asked)?));
        let (credential, identity) = match credential.and_then(acting) {
            Ok((credential, access)) => (credential, TenantIdentity::new(&access)),
            Err(refusal) => return self.refuse(tenancy, &refusal),
        };
        let tenant = Some(RequestTenant { credential, acting: &identity });
        let authorization = &self.settings.authorization;
        if let Some(prepared) = prepared
            && let Err(denial) = authorization.authorize(prepared, &verified, request, tenant)
        {
            return AuthDecision::Refused(self.denied(&denial));
        }
        let (verified, outcome) = (Some(verified), Outcome::Verified);
        AuthDecision::OfTenant { verified, outcome, identity }
    }

    fn of_tenant<'t>(
        &self,
        verified: Option<Verified<'t>>,
        outcome: Outcome,
        access: &TenantAccess<'_>,
    ) -> AuthDecision<'t> {
        AuthDecision::OfTenant { verified, outcome, identity: TenantIdentity::new(access) }
    }

    #[cold]
    fn refuse<'t>(&self, tenancy: &TenancySettings, refusal: &TenancyRefusal) -> AuthDecision<'t> {
        tracing::debug!("request refused: {refusal}");
        let response = refusal.response(tenancy.error_body);
        let challenge = self.settings.challenges.of_tenancy(refusal);
        AuthDecision::Refused(self.refused(refusal.outcome(), with_challenge(response, challenge)))
    }

    /// Returns the response to a request that meets a reload of the settings: it can be decided a
    /// moment later.
    #[cold]
    fn undecided<'t>(&self) -> AuthDecision<'t> {
        let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        AuthDecision::Refused(self.refused(Outcome::Tenant, response))
    }
}
