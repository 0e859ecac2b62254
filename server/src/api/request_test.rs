//! Tests of requests: what a listener, or the API, would decide about one, and why.
//!
//! Nothing is decided: neither the cache of tokens nor the log of the policy engine has the test.

pub(super) mod own_call;

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use countersign_engine::{ClientTypes, Presentation, Reject, Verified};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use self::own_call::RequiredRight;
use super::{ApiContext, inmanta::MACHINE_IDENTITY, settings::DecidingListener};
use crate::{
    auth::profile::Profile,
    authorization::{
        PreparedAccess, ProxiedRequest,
        explanation::DecidingFact,
        policy::explainer::{PolicyExplainer, PolicyExplanation},
        preview::{PreviewBearer, PreviewVerdict, RequestPreview},
        supposed_claims::{ClaimMistake, SupposedClaims},
    },
    base::{background_pool::BackgroundPool, claims::CLIENT_TYPES_CLAIM, clock},
    identities::settings::is_access_token,
    tenancy::request_tenant::RequestTenant,
};

/// A request that is tested.
#[derive(Clone, Copy)]
pub(crate) struct TestedRequest<'r> {
    /// The name of a listener, or [`API_PLACE`].
    pub(crate) place: &'r str,
    /// Its method.
    pub(crate) method: &'r str,
    /// Its path and query.
    pub(crate) target: &'r str,
    /// The environment in its header; empty for none.
    pub(crate) environment: &'r str,
    /// The tenant in its header; empty for none.
    pub(crate) tenant: &'r str,
}

/// The bearer of a [`TestedRequest`].
#[derive(Clone, Copy)]
pub(crate) enum TestedBearer<'b> {
    /// The request has no token.
    NoToken,
    /// A token.
    Token(&'b str),
    /// Claims without a token.
    Claims(&'b Map<String, Value>),
}

/// What would be decided about a [`TestedRequest`], and why.
pub(crate) struct TestResult {
    /// The decision and its facts.
    pub(crate) preview: RequestPreview,
    /// The rules of the access policy, if that decides; or why they cannot be explained.
    pub(crate) explanation: Option<Result<PolicyExplanation, String>>,
}

/// A mistake in a [`TestedRequest`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestMistake {
    /// Which part of the request it is in.
    pub(crate) part: RequestPart,
    /// The mistake in a sentence.
    pub(crate) text: &'static str,
}

/// A part of a [`TestedRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestPart {
    Place,
    Method,
    Target,
    Environment,
    /// The client types in the claims; with an index, one in a list.
    ClientTypes(Option<usize>),
    /// The environment in the claims.
    TokenEnvironment,
}

/// In place of a listener: the API of this server.
pub(crate) const API_PLACE: &str = "";
/// Most evaluations of parts of an access policy for one explanation.
const MAX_EVALUATIONS: usize = 500;
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-inmanta-tid");

impl TestedRequest<'_> {
    /// Returns what would be decided, and why.
    ///
    /// # Errors
    /// It could not be a request.
    pub(crate) async fn result(
        &self,
        context: &ApiContext<'_>,
        bearer: TestedBearer<'_>,
    ) -> Result<TestResult, RequestMistake> {
        let preview = self.preview(context, bearer)?;
        let explanation = match &preview.policy_input {
            Some(input) => Some(explain(context, input.clone()).await),
            None => None,
        };
        Ok(TestResult { preview, explanation })
    }

    fn preview(
        &self,
        context: &ApiContext<'_>,
        bearer: TestedBearer<'_>,
    ) -> Result<RequestPreview, RequestMistake> {
        let mistake = |part, text| RequestMistake { part, text };
        if Method::from_bytes(self.method.as_bytes()).is_err() {
            return Err(mistake(RequestPart::Method, "The method is not one of HTTP."));
        }
        if !self.target.starts_with('/') {
            return Err(mistake(RequestPart::Target, "A path starts with a slash."));
        }
        if self.target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            let text = "A target has no spaces or control characters: encode them.";
            return Err(mistake(RequestPart::Target, text));
        }
        let listener = context.settings.deciding.iter().find(|one| one.name == self.place);
        if listener.is_none() && self.place != API_PLACE {
            return Err(mistake(RequestPart::Place, "No listener of this name checks requests."));
        }
        let mut headers = HeaderMap::new();
        let mut environment = Cow::Borrowed(self.environment.trim_ascii());
        if environment.is_empty() && listener.is_none() {
            environment = own_call::environment_argument(self.target).unwrap_or_default();
        }
        if !environment.is_empty() {
            let value = HeaderValue::from_str(&environment);
            let not_an_id = |_| mistake(RequestPart::Environment, "The environment is not an id.");
            headers.insert(ENVIRONMENT, value.map_err(not_an_id)?);
        }
        let request =
            ProxiedRequest { method: self.method, target: self.target, headers: &headers };
        let right = match listener {
            Some(_) => None,
            None => RequiredRight::of(context, self.method, self.target),
        };
        let test = RequestTest { context, listener, right, request, tenant: self.tenant };
        Ok(match bearer {
            TestedBearer::NoToken => test.decide(&PreviewBearer::NoToken),
            TestedBearer::Claims(claims) => {
                let rule = client_type_rule(context);
                let absent = rule.and_then(|rule| rule.when_absent.as_deref());
                test.decide_claims(&supposed(claims, absent)?, rule)
            }
            TestedBearer::Token(token) => test.decide_token(token.as_bytes()),
        })
    }
}

/// Returns the rule about the client types of tokens of this server, unless it is about another
/// claim.
fn client_type_rule<'c>(context: &ApiContext<'c>) -> Option<&'c ClientTypes> {
    let rule = &context.settings.signing.as_ref()?.issuer.rules.client_types;
    (*rule.claim == *CLIENT_TYPES_CLAIM).then_some(rule)
}

/// Reads claims that a token of this server could have.
fn supposed(
    claims: &Map<String, Value>,
    absent: Option<&str>,
) -> Result<SupposedClaims, RequestMistake> {
    SupposedClaims::read(claims, absent).map_err(|mistake| {
        let (part, text) = match mistake {
            ClaimMistake::ClientTypes(index) => (
                RequestPart::ClientTypes(index),
                "The client types are agent, compiler and api: a list, or names with commas.",
            ),
            ClaimMistake::Environment => {
                (RequestPart::TokenEnvironment, "The environment of a token is a UUID.")
            }
        };
        RequestMistake { part, text }
    })
}

/// A request at a listener, or at the API without one.
struct RequestTest<'t> {
    context: &'t ApiContext<'t>,
    listener: Option<&'t DecidingListener>,
    /// What a call of the API needs; `None` for a call that does not exist.
    right: Option<RequiredRight>,
    request: ProxiedRequest<'t>,
    tenant: &'t str,
}

impl RequestTest<'_> {
    fn decide(&self, bearer: &PreviewBearer<'_>) -> RequestPreview {
        let authorization = &self.context.auth.authorization;
        match self.listener {
            Some(_) if self.allows_everything() => {
                let reason = "multi-tenancy is off: every request is allowed";
                let verdict = PreviewVerdict::Allowed(reason.into());
                RequestPreview { facts: Vec::new(), verdict, policy_input: None }
            }
            Some(listener) => authorization.preview(&listener.access, &self.request, bearer),
            None => self.decide_own_call(bearer),
        }
    }

    fn decide_own_call(&self, bearer: &PreviewBearer<'_>) -> RequestPreview {
        let (authorization, request) = (&self.context.auth.authorization, &self.request);
        let provider = self.context.settings.authorization_provider;
        let decided = |verdict| RequestPreview::of_request(request, verdict);
        let Some(right) = &self.right else {
            let reason = "this server has no such call (404 or 405)";
            return decided(PreviewVerdict::Denied(reason.into()));
        };
        let identity = matches!(bearer, PreviewBearer::Token(one, _) if is_access_token(one));
        match right {
            RequiredRight::Nothing(reason) => decided(PreviewVerdict::Allowed((*reason).into())),
            RequiredRight::Unknown(reason) => decided(PreviewVerdict::Undecided((*reason).into())),
            RequiredRight::IdentityAdministrator if identity => {
                let reason = "the stored role of the machine identity decides: only admin may";
                decided(PreviewVerdict::Undecided(reason.into()))
            }
            RequiredRight::OwnIdentity if identity => {
                let reason = "the call is about the machine identity of the token";
                decided(PreviewVerdict::Allowed(reason.into()))
            }
            RequiredRight::OwnIdentity => {
                let reason = match bearer {
                    PreviewBearer::NoToken => "the request has no token (401)",
                    _ => "the call needs the token of a machine identity (403)",
                };
                decided(PreviewVerdict::Denied(reason.into()))
            }
            _ if identity => decided(PreviewVerdict::Denied(format!("{MACHINE_IDENTITY} (403)"))),
            RequiredRight::OwnCall => authorization.preview_api(provider, request, bearer),
            RequiredRight::OtherCall(call) => {
                let (method, target, headers) = (call.method, &*call.target, &call.headers);
                let decisive = ProxiedRequest { method, target, headers };
                authorization.preview_equivalent(provider, (request, &decisive), bearer)
            }
            RequiredRight::Administrator | RequiredRight::IdentityAdministrator => {
                authorization.preview_administrator(provider, request, bearer)
            }
        }
    }

    /// Decides about claims, which the rule of the section that signs may not allow.
    fn decide_claims(&self, claims: &SupposedClaims, rule: Option<&ClientTypes>) -> RequestPreview {
        let preview = self.decide(&PreviewBearer::Claims(claims));
        match rule.and_then(|rule| claims.rejected_by(rule)) {
            Some(reject) if !self.looks_at_no_token() => rejected_token(preview, reject),
            _ => preview,
        }
    }

    /// Whether the listener has the `orchestrate` surface, and multi-tenancy is off.
    fn allows_everything(&self) -> bool {
        let tenancy = self.context.auth.tenancy.as_ref();
        self.listener.is_some_and(|listener| listener.profile == Profile::Orchestrate)
            && tenancy.is_some_and(|tenancy| !tenancy.verifies)
    }

    fn decide_token(&self, token: &[u8]) -> RequestPreview {
        let without_token = self.decide(&PreviewBearer::NoToken);
        if self.looks_at_no_token() {
            return without_token;
        }
        let (authenticator, now) = (self.context.authenticator, clock::now());
        let profile = self.listener.map_or(Profile::Inmanta, |listener| listener.profile);
        let takes_identities = self.right.as_ref().is_some_and(RequiredRight::takes_identities);
        let verified = authenticator.verifier.verify_apart(token, now, Presentation::default());
        let verified = verified.and_then(|verified| {
            if !(takes_identities && is_access_token(&verified)) {
                profile.check(&verified, || now, &authenticator.keys)?;
            }
            Ok(verified)
        });
        match verified {
            Ok(verified) => self.decide_verified(profile, &verified),
            Err(reject) => rejected_token(without_token, reject),
        }
    }

    fn decide_verified(&self, profile: Profile, verified: &Verified<'_>) -> RequestPreview {
        let tenancy = self.context.auth.tenancy.as_ref();
        let Some(tenancy) = tenancy.filter(|_| profile == Profile::Orchestrate) else {
            return self.decide(&PreviewBearer::Token(verified, None));
        };
        let refused = |reason: String| RequestPreview {
            facts: Vec::new(),
            verdict: PreviewVerdict::Denied(format!("{reason} (401)")),
            policy_input: None,
        };
        let acting = match tenancy.acting(verified, self.tenant) {
            Ok(acting) => acting,
            Err(refusal) => return refused(refusal.to_string()),
        };
        match tenancy.credential(verified) {
            Ok(Ok(credential)) => {
                let tenant = RequestTenant { credential, acting: &acting };
                let mut preview = self.decide(&PreviewBearer::Token(verified, Some(tenant)));
                let text = acting.names().tenant.to_owned();
                preview.facts.push(DecidingFact { label: "tenant", text });
                preview
            }
            Ok(Err(refusal)) => refused(refusal.to_string()),
            Err(_) => refused("the configuration was just reloaded: try again".into()),
        }
    }

    /// Whether the decision is the same with any token. A call of the Inmanta API that needs none is
    /// refused nevertheless with one that is not accepted.
    fn looks_at_no_token(&self) -> bool {
        let auth = self.context.auth;
        match self.listener {
            Some(listener) => {
                let prepared = auth.authorization.prepare(&listener.access, Some(&self.request));
                self.allows_everything() || matches!(prepared, PreparedAccess::Public)
            }
            None => self.right.as_ref().is_none_or(RequiredRight::ignores_tokens),
        }
    }
}

/// Returns the refusal of a request because of its token.
fn rejected_token(preview: RequestPreview, reject: Reject) -> RequestPreview {
    let reason = format!("the token is refused ({}): {reject}", reject.code());
    let verdict = PreviewVerdict::Denied(reason);
    RequestPreview { verdict, policy_input: None, ..preview }
}

/// Explains the decision of the access policy about an input, in a thread of its own: each of its
/// rules is compiled several times.
async fn explain(context: &ApiContext<'_>, input: Value) -> Result<PolicyExplanation, String> {
    static POOL: OnceLock<Option<BackgroundPool<()>>> = OnceLock::new();
    const MAX_WAITING: usize = 4;
    const BUSY: &str = "too many others are being explained";
    let authorization = &context.auth.authorization;
    let policy = authorization.policy.policy.as_ref().map(Arc::clone);
    let policy = policy.ok_or_else(|| "no policy is loaded".to_owned())?;
    let endpoints = authorization.endpoints.data()["endpoints"].take();
    let pool = POOL.get_or_init(|| BackgroundPool::start("explain", 1, MAX_WAITING).ok());
    let pool = pool.as_ref().ok_or_else(|| BUSY.to_owned())?;
    let explained = pool.run(move |()| {
        let explainer = PolicyExplainer::new(policy, endpoints);
        explainer.map_err(|error| error.to_string())?.explain(&input, MAX_EVALUATIONS)
    });
    explained.await.map_err(|_| BUSY.to_owned())?
}
