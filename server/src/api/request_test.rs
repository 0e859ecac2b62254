//! Tests of requests: what a listener, or the API, would decide about one, and why.
//!
//! Nothing is decided: neither the cache of tokens nor the log of the policy engine has the test.

use std::sync::{Arc, OnceLock};

use countersign_engine::{Presentation, Verified};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use super::{ApiContext, settings::DecidingListener};
use crate::{
    auth::profile::Profile,
    authorization::{
        PreparedAccess, ProxiedRequest,
        explanation::DecidingFact,
        policy::explainer::{PolicyExplainer, PolicyExplanation},
        preview::{PreviewBearer, PreviewVerdict, RequestPreview, SupposedClaims},
    },
    base::{background_pool::BackgroundPool, clock},
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
        let listener = context.settings.deciding.iter().find(|one| one.name == self.place);
        if listener.is_none() && self.place != API_PLACE {
            return Err(mistake(RequestPart::Place, "No listener of this name checks requests."));
        }
        let mut headers = HeaderMap::new();
        if !self.environment.is_empty() {
            let value = HeaderValue::from_str(self.environment);
            let not_an_id = |_| mistake(RequestPart::Environment, "The environment is not an id.");
            headers.insert(ENVIRONMENT, value.map_err(not_an_id)?);
        }
        let request =
            ProxiedRequest { method: self.method, target: self.target, headers: &headers };
        let test = RequestTest { context, listener, request, tenant: self.tenant };
        Ok(match bearer {
            TestedBearer::NoToken => test.decide(&PreviewBearer::NoToken),
            TestedBearer::Claims(claims) => {
                test.decide(&PreviewBearer::Claims(&SupposedClaims::new(claims.clone())))
            }
            TestedBearer::Token(token) => test.decide_token(token.as_bytes()),
        })
    }
}

/// A request at a listener, or at the API without one.
struct RequestTest<'t> {
    context: &'t ApiContext<'t>,
    listener: Option<&'t DecidingListener>,
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
            None => {
                let provider = self.context.settings.authorization_provider;
                authorization.preview_api(provider, &self.request, bearer)
            }
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
        if self.looks_at_no_token(&without_token) {
            return without_token;
        }
        let (authenticator, now) = (self.context.authenticator, clock::now());
        let profile = self.listener.map_or(Profile::Inmanta, |listener| listener.profile);
        let verified =
            authenticator.verifier.verify_apart(token, now, Presentation::default()).and_then(
                |verified| profile.check(&verified, || now, &authenticator.keys).map(|()| verified),
            );
        match verified {
            Ok(verified) => self.decide_verified(profile, &verified),
            Err(reject) => {
                let reason = format!("the token is refused ({}): {reject}", reject.code());
                RequestPreview { verdict: PreviewVerdict::Denied(reason), ..without_token }
            }
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

    /// Whether the request is allowed whatever token it has.
    fn looks_at_no_token(&self, without_token: &RequestPreview) -> bool {
        let auth = self.context.auth;
        match self.listener {
            Some(listener) => {
                let prepared = auth.authorization.prepare(&listener.access, Some(&self.request));
                self.allows_everything() || matches!(prepared, PreparedAccess::Public)
            }
            None => matches!(without_token.verdict, PreviewVerdict::Allowed(_)),
        }
    }
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
