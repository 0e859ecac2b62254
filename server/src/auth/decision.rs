//! The authorization decision on a request that a proxy checks.

mod tenant;

use std::ops::{
    ControlFlow::{self, Break, Continue},
    Deref,
};

use countersign_engine::Verified;
use countersign_front::{Fields, Step};
use http::{Response, StatusCode};

use self::tenant::KeptImpersonation;
use super::{
    Authenticator, Caller, PendingVerification, Rejection,
    credential::{self, Credential},
    profile::{Profile, Style, with_challenge},
    settings::AuthSettings,
};
use crate::{
    authorization::{Denial, KeptRequest, ListenerAccess, PreparedAccess, ProxiedRequest},
    base::{
        clock,
        outcome::Outcome,
        reply::{Body, Reply, empty, no_store},
        tenant_label::TenantLabel,
    },
    client::{RequestDescription, original_request::OriginalRequest},
    identities::settings::is_access_token,
    observe::metrics::Metrics,
    tenancy::identity::TenantIdentity,
};

/// The decision on a request, independent of the protocol of the check.
pub enum AuthDecision<'t> {
    /// The request is allowed: its token is valid.
    Allowed(Verified<'t>),
    /// The request is allowed without a token, for the reason that the outcome names.
    WithoutToken(Outcome),
    /// The request is allowed, and acts for a tenant.
    OfTenant {
        /// Its token, if that is its credential.
        verified: Option<Verified<'t>>,
        /// The reason.
        outcome: Outcome,
        /// The tenant.
        identity: TenantIdentity,
    },
    /// The request is refused, with this response for the client. It has no body.
    Refused(Reply),
}

impl<'t> AuthDecision<'t> {
    /// The token because of which the request is allowed.
    #[must_use]
    pub fn verified(&self) -> Option<&Verified<'t>> {
        match self {
            Self::Allowed(verified) => Some(verified),
            Self::OfTenant { verified, .. } => verified.as_ref(),
            Self::WithoutToken(_) | Self::Refused(_) => None,
        }
    }

    /// The tenant that the request acts for, on the `orchestrate` surface.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantIdentity> {
        match self {
            Self::OfTenant { identity, .. } => Some(identity),
            Self::Allowed(_) | Self::WithoutToken(_) | Self::Refused(_) => None,
        }
    }

    /// Returns the tenant as a label of metrics.
    #[must_use]
    pub fn tenant_label(&self, metrics: &Metrics) -> TenantLabel {
        let series = metrics.series().zip(self.tenant());
        series.map(|(series, of)| series.tenant_label(of.tenant())).unwrap_or_default()
    }

    /// The outcome of an allowed request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::WithoutToken(outcome) | Self::OfTenant { outcome, .. } => *outcome,
            Self::Allowed(_) | Self::Refused(_) => Outcome::Verified,
        }
    }
}

/// The settings of a listener that decide about its requests.
#[derive(Clone, Copy)]
pub struct ListenerRules<'s> {
    /// The form of refusals.
    pub profile: Profile,
    /// Whether CORS preflights are allowed without a token.
    pub allows_preflights: bool,
    /// Who may make requests; `None` if every verified token allows every request.
    pub access: Option<&'s ListenerAccess>,
}

/// The settings in force.
pub trait DecisionSettings {
    /// Returns the settings of all listeners.
    fn auth(&self) -> &AuthSettings;

    /// Returns those of one listener.
    fn rules(&self, listener: usize) -> ListenerRules<'_>;
}

/// A decision that waits for the keys of an issuer, or for the turn of a signature check.
pub struct PendingDecision<'a> {
    caller: Caller<'a, 'static>,
    listener: usize,
    verification: PendingVerification<'a>,
    token: Vec<u8>,
    /// The checked request, if authorization needs it and a trusted proxy describes it.
    request: Option<Box<KeptRequest>>,
    /// The names that the request asks for, on the `orchestrate` surface.
    asked: Option<Box<KeptImpersonation>>,
}

/// Finds the credential of a request, verifies it, and authorizes the request. Counts the outcome.
/// `describe` is called only if more than a token in a header matters, and `original` only if
/// authorization needs the request.
pub fn decide<'a, 't>(
    authenticator: &Authenticator,
    settings: &impl DecisionSettings,
    listener: usize,
    caller: &Caller<'a, '_>,
    fields: &'t impl Fields,
    (describe, original): (
        impl Fn() -> RequestDescription<'t>,
        impl Fn() -> Option<OriginalRequest<'t>>,
    ),
) -> Step<AuthDecision<'t>, PendingDecision<'a>> {
    let context = DecisionContext::new(authenticator, settings, listener);
    let described = (&describe, &original);
    let decision = if context.rules.profile == Profile::Orchestrate {
        context.decide_tenant(listener, caller, fields, described)
    } else if let Some(access) = context.rules.access {
        context.decide_described(access, listener, caller, fields, described)
    } else {
        context.decide_token(listener, caller, fields, described)
    };
    match &decision {
        Step::Done(AuthDecision::Refused(reply)) => {
            let line = || original().map(|request| (request.method, request.uri));
            let token = || match context.settings.credentials.of_check(fields, &describe) {
                Credential::Token(token) => Some(token),
                _ => None,
            };
            authenticator.record_refusal(reply, &caller.client, line, token);
        }
        Step::Done(decision) => context.count_allowed(decision),
        Step::Wait(_) => {}
    }
    decision
}

impl PendingDecision<'_> {
    /// Returns the memory that it holds, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let request = self.request.as_ref().map_or(0, |request| request.held_bytes());
        let asked = self.asked.as_ref().map_or(0, |asked| asked.held_bytes());
        size_of::<Self>() + self.token.len() + request + asked
    }

    /// Returns its token.
    #[must_use]
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// Waits, decides, and returns the decision as rendered by `render`. `settings` is
    /// called after each wait, so that a reload in between takes effect.
    pub async fn finish<S: Deref<Target: DecisionSettings>>(
        self,
        authenticator: &Authenticator,
        settings: impl Fn() -> S,
        render: impl FnOnce(&AuthSettings, AuthDecision<'_>) -> Reply,
    ) -> Reply {
        let Self { caller, listener, verification, token, request, asked } = self;
        let result = authenticator.use_after(&caller, verification, &token).await;
        let mut decision = {
            let settings = settings();
            let context = DecisionContext::new(authenticator, &*settings, listener);
            context.decide_pending(result, &token, request.as_deref(), asked.as_deref())
        };
        let counted = match decision.verified() {
            Some(verified) => authenticator.count_use(verified).await,
            None => Ok(()),
        };
        let settings = settings();
        let context = DecisionContext::new(authenticator, &*settings, listener);
        if let Err(rejection) = counted {
            decision = AuthDecision::Refused(context.reject(rejection, &token));
        }
        if let AuthDecision::Refused(reply) = &decision {
            let request = request.as_ref().map(|request| request.as_request());
            let line = || request.as_ref().map(|request| (request.method, request.target));
            authenticator.record_refusal(reply, &caller.client, line, || Some(&token));
        }
        context.count_allowed(&decision);
        let tenant = decision.tenant_label(&authenticator.metrics);
        Reply { tenant, ..render(context.settings, decision) }
    }
}

/// The settings under which one request is decided.
struct DecisionContext<'s> {
    authenticator: &'s Authenticator,
    settings: &'s AuthSettings,
    rules: ListenerRules<'s>,
}

impl<'s> DecisionContext<'s> {
    fn new(
        authenticator: &'s Authenticator,
        settings: &'s (impl DecisionSettings + ?Sized),
        listener: usize,
    ) -> Self {
        Self { authenticator, settings: settings.auth(), rules: settings.rules(listener) }
    }

    /// Decides about a request by its token alone.
    #[inline]
    fn decide_token<'a, 't>(
        &self,
        listener: usize,
        caller: &Caller<'a, '_>,
        fields: &'t impl Fields,
        described: (
            &impl Fn() -> RequestDescription<'t>,
            &impl Fn() -> Option<OriginalRequest<'t>>,
        ),
    ) -> Step<AuthDecision<'t>, PendingDecision<'a>> {
        let token = match self.find_token(fields, described, None) {
            Continue(token) => token,
            Break(decision) => return Step::Done(decision),
        };
        let allow = |verified| AuthDecision::Allowed(verified);
        self.use_token(listener, caller, token, allow, || (None, None))
    }

    /// Verifies a token, and decides by `decide` about the request if it is accepted. `keep` is
    /// called only if it has to wait.
    #[inline]
    fn use_token<'a, 't>(
        &self,
        listener: usize,
        caller: &Caller<'a, '_>,
        token: &'t [u8],
        decide: impl FnOnce(Verified<'t>) -> AuthDecision<'t>,
        keep: impl FnOnce() -> (Option<Box<KeptRequest>>, Option<Box<KeptImpersonation>>),
    ) -> Step<AuthDecision<'t>, PendingDecision<'a>> {
        let verification = match self.authenticator.try_verify(caller, token) {
            Step::Done(Ok(verified)) if is_access_token(&verified) => {
                match self.use_access_token(caller, verified, token, decide) {
                    Some(decision) => return Step::Done(decision),
                    None => PendingVerification::Use,
                }
            }
            Step::Done(result) => {
                return Step::Done(match self.judge(result, token) {
                    Continue(verified) => decide(verified),
                    Break(reply) => AuthDecision::Refused(reply),
                });
            }
            Step::Wait(verification) => verification,
        };
        let (caller, token, (request, asked)) = (caller.resolved(), token.to_vec(), keep());
        Step::Wait(PendingDecision { caller, listener, verification, token, request, asked })
    }

    /// Decides about a request with an access token of a machine identity, and counts its use if it
    /// has a limit of them. `None` if the database has to be asked.
    ///
    /// Apart from [`use_token`](Self::use_token), so that other tokens do not pay for it.
    #[inline(never)]
    fn use_access_token<'t>(
        &self,
        caller: &Caller<'_, '_>,
        verified: Verified<'t>,
        token: &[u8],
        decide: impl FnOnce(Verified<'t>) -> AuthDecision<'t>,
    ) -> Option<AuthDecision<'t>> {
        let checked = self.authenticator.try_check_use(caller, &verified)?;
        let result = checked.map(|()| verified).map_err(Rejection::from);
        let decision = match self.judge(result, token) {
            Continue(verified) => decide(verified),
            Break(reply) => AuthDecision::Refused(reply),
        };
        let authenticator = self.authenticator;
        let is_counted =
            decision.verified().is_none_or(|verified| authenticator.try_count_use(verified));
        is_counted.then_some(decision)
    }

    /// Decides about a request whose verification had to wait.
    fn decide_pending<'t>(
        &self,
        result: Result<Verified<'t>, Rejection>,
        token: &[u8],
        request: Option<&KeptRequest>,
        asked: Option<&KeptImpersonation>,
    ) -> AuthDecision<'t> {
        match (self.judge(result, token), self.rules.access) {
            (Break(reply), _) => AuthDecision::Refused(reply),
            (Continue(verified), _) if self.rules.profile == Profile::Orchestrate => {
                self.authorize_pending(verified, request, asked)
            }
            (Continue(verified), None) => AuthDecision::Allowed(verified),
            (Continue(verified), Some(access)) => {
                let request = request.map(KeptRequest::as_request);
                let prepared = self.settings.authorization.prepare(access, request.as_ref());
                self.authorize(verified, &prepared, request.as_ref())
            }
        }
    }

    /// Decides about a request that has to be described.
    #[inline(never)]
    fn decide_described<'a, 't>(
        &self,
        access: &'s ListenerAccess,
        listener: usize,
        caller: &Caller<'a, '_>,
        fields: &'t impl Fields,
        (describe, original): (
            &impl Fn() -> RequestDescription<'t>,
            &impl Fn() -> Option<OriginalRequest<'t>>,
        ),
    ) -> Step<AuthDecision<'t>, PendingDecision<'a>> {
        let authorization = &self.settings.authorization;
        let described = original();
        let request = described.as_ref().map(|request| proxied(request, fields));
        let prepared = authorization.prepare(access, request.as_ref());
        let token = match self.find_token(fields, (describe, original), Some(&prepared)) {
            Continue(token) => token,
            Break(decision) => return Step::Done(decision),
        };
        let decide = |verified| self.authorize(verified, &prepared, request.as_ref());
        let keep = |request: &_| Box::new(KeptRequest::new(authorization, request));
        let keep = || (request.as_ref().map(keep), None);
        self.use_token(listener, caller, token, decide, keep)
    }

    /// Returns the token of a request, or else the decision on a request without one.
    fn find_token<'t>(
        &self,
        fields: &'t impl Fields,
        (describe, original): (
            &impl Fn() -> RequestDescription<'t>,
            &impl Fn() -> Option<OriginalRequest<'t>>,
        ),
        access: Option<&PreparedAccess<'_>>,
    ) -> ControlFlow<AuthDecision<'t>, &'t [u8]> {
        let (challenges, profile) = (&self.settings.challenges, self.rules.profile);
        if access.is_some_and(PreparedAccess::is_public) {
            return Break(AuthDecision::WithoutToken(Outcome::Public));
        }
        let (outcome, response) = match self.settings.credentials.of_check(fields, describe) {
            Credential::Token(token) => return Continue(token),
            Credential::None => {
                if self.rules.allows_preflights && describe().is_allowed_preflight() {
                    return Break(AuthDecision::WithoutToken(Outcome::Preflight));
                }
                if profile == Profile::Inmanta
                    && let Some(token) = original().and_then(documentation_token)
                {
                    return Continue(token);
                }
                // A credential that is malformed, or of another scheme, is not the absence of one.
                if access.is_some_and(PreparedAccess::allows_anonymous)
                    && !self.settings.credentials.has_any(fields)
                {
                    return Break(AuthDecision::WithoutToken(Outcome::Anonymous));
                }
                (Outcome::NoToken, profile.challenge(self.style(), challenges))
            }
            Credential::Conflict => (Outcome::Conflict, profile.conflict(self.style(), challenges)),
            // Another token would not help, so this is not 401.
            Credential::CrossSite => {
                let response =
                    with_challenge(empty(StatusCode::FORBIDDEN), challenges.cross_site());
                (Outcome::CrossSite, response)
            }
        };
        Break(AuthDecision::Refused(self.refused(outcome, response)))
    }

    /// Returns the token if it is accepted, or else the refusal of it.
    #[inline]
    fn judge<'t>(
        &self,
        result: Result<Verified<'t>, Rejection>,
        token: &[u8],
    ) -> ControlFlow<Reply, Verified<'t>> {
        let rejection = match result {
            Ok(verified) => {
                let keys = &self.authenticator.keys;
                match self.rules.profile.check(&verified, clock::now, keys) {
                    Ok(()) => return Continue(verified),
                    Err(reject) => reject.into(),
                }
            }
            Err(rejection) => rejection,
        };
        Break(self.reject(rejection, token))
    }

    fn reject(&self, rejection: Rejection, token: &[u8]) -> Reply {
        let outcome = rejection.outcome();
        if let Some(refusal) = rejection.identity {
            return self.refused(
                outcome,
                self.rules.profile.refuse_use(refusal, &self.settings.challenges),
            );
        }
        let refusal = self.authenticator.refusal(self.rules.profile, rejection, token);
        let (challenges, status) = (&self.settings.challenges, self.settings.rejected_token_status);
        let response = self.rules.profile.refuse(self.style(), challenges, &refusal, status);
        self.refused(outcome, response)
    }

    /// Whether refusals have a body. Most proxies discard it.
    fn style(&self) -> Style {
        let is_orchestrate = self.rules.profile == Profile::Orchestrate;
        let tenancy = self.settings.tenancy.as_ref().filter(|_| is_orchestrate);
        if tenancy.is_some_and(|tenancy| tenancy.error_body) { Style::Body } else { Style::Bare }
    }

    /// Counts the outcome of a request that is allowed. Refusals are counted as they are made.
    #[inline]
    fn count_allowed(&self, decision: &AuthDecision<'_>) {
        if !matches!(decision, AuthDecision::Refused(_)) {
            self.authenticator.metrics.count_check(decision.outcome());
        }
    }

    fn authorize<'t>(
        &self,
        verified: Verified<'t>,
        prepared: &PreparedAccess<'_>,
        request: Option<&ProxiedRequest<'_>>,
    ) -> AuthDecision<'t> {
        match self.settings.authorization.authorize(prepared, &verified, request, None) {
            Ok(()) => AuthDecision::Allowed(verified),
            Err(denial) => AuthDecision::Refused(self.denied(&denial)),
        }
    }

    /// Returns the response to a request that its verified token does not allow.
    #[cold]
    fn denied(&self, denial: &Denial<'_>) -> Reply {
        tracing::debug!("request denied: {denial}");
        let mut response = empty(StatusCode::FORBIDDEN);
        if let Some(scopes) = denial.required_scopes() {
            let challenge = self.settings.challenges.insufficient_scope(scopes);
            response = with_challenge(response, challenge);
        }
        self.refused(denial.outcome(), response)
    }

    fn refused(&self, outcome: Outcome, response: Response<Body>) -> Reply {
        self.authenticator.metrics.count_check(outcome);
        Reply::with_outcome(outcome, no_store(response))
    }
}

fn proxied<'r>(original: &OriginalRequest<'r>, headers: &'r dyn Fields) -> ProxiedRequest<'r> {
    ProxiedRequest { method: original.method, target: original.uri, headers }
}

/// Returns the token in the query of a request for the documentation of the Inmanta API, which a
/// browser opens by a link.
fn documentation_token(original: OriginalRequest<'_>) -> Option<&[u8]> {
    let query = original.uri.strip_prefix("/api/v2/docs?").filter(|_| original.method == "GET")?;
    match credential::in_query(query)? {
        Credential::Token(token) => Some(token),
        _ => None,
    }
}
