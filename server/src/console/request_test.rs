//! "As which request?": what a listener, or the API, would decide about a request.
//!
//! Nothing is decided: neither the cache of tokens nor the log of the policy engine has the test.

use std::sync::{Arc, OnceLock};

use countersign_engine::{Presentation, Verified};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::{
    ConsoleContext, configuration::linked, loaded_config::DecidingListener, request::FormFields,
};
use crate::{
    auth::profile::Profile,
    authorization::{
        PreparedAccess, ProxiedRequest,
        explanation::{DecidingFact, MET, NOT_MET},
        policy::explainer::{ExplainedRule, PolicyExplainer, PolicyExplanation},
        preview::{PreviewBearer, PreviewVerdict, RequestPreview, SupposedClaims},
    },
    base::{background_pool::BackgroundPool, clock},
    tenancy::request_tenant::RequestTenant,
};

/// A request that is tested.
pub(super) struct TestedRequest<'f> {
    /// The name of a listener, or [`API`].
    place: &'f str,
    method: &'f str,
    /// Its path and query.
    target: &'f str,
    environment: &'f str,
    tenant: &'f str,
}

/// The bearer of a [`TestedRequest`].
#[derive(Clone, Copy)]
pub(super) enum TestedBearer<'b> {
    /// The request has no token.
    NoToken,
    /// A token.
    Token(&'b str),
    /// Claims without a token.
    Claims(&'b Map<String, Value>),
}

/// In place of a listener: the API of this server.
const API: &str = "";
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// Most evaluations of parts of an access policy for one explanation.
const MAX_EVALUATIONS: usize = 500;
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-inmanta-tid");

impl<'f> TestedRequest<'f> {
    /// Reads the fields of a form.
    pub(super) fn of(form: &'f FormFields) -> Self {
        Self {
            place: form.get("place"),
            method: form.get("method"),
            target: form.get("target").trim(),
            environment: form.get("environment").trim(),
            tenant: form.get("tenant").trim(),
        }
    }

    /// Whether the form names a request.
    pub(super) fn is_given(&self) -> bool {
        !self.target.is_empty()
    }

    /// Returns the fields of a form.
    pub(super) fn fields(&self, context: &ConsoleContext<'_>) -> Markup {
        let listeners = &context.settings.loaded.listeners;
        let api = context.api.settings.authorization_provider.name();
        html! {
            div.filters {
                label {
                    "Checked by "
                    select name="place" {
                        option value=(API) selected[self.place == API] {
                            "the API of this server, by " (api)
                        }
                        @for one in listeners {
                            option value=(one.name) selected[self.place == one.name] {
                                "listener " (one.name) ", by " (one.access.provider.name())
                            }
                        }
                    }
                }
                label {
                    "Method "
                    select name="method" {
                        @for one in METHODS { option selected[one == self.method] { (one) } }
                    }
                }
                label {
                    "Path and query "
                    input name="target" value=(self.target) placeholder="/api/v2/environment"
                        autocomplete="off" spellcheck="false" autocapitalize="none";
                }
                label {
                    "Environment, if any "
                    input name="environment" value=(self.environment) autocomplete="off"
                        spellcheck="false" autocapitalize="none";
                }
                @if context.api.auth.tenancy.is_some() {
                    label {
                        "X-Tenant-ID, if any "
                        input name="tenant" value=(self.tenant) autocomplete="off"
                            spellcheck="false" autocapitalize="none";
                    }
                }
            }
        }
    }

    /// Returns what would be decided, and why.
    pub(super) async fn result(
        &self,
        context: &ConsoleContext<'_>,
        bearer: TestedBearer<'_>,
    ) -> Markup {
        let preview = match self.preview(context, bearer) {
            Ok(preview) => preview,
            Err(mistake) => {
                return html! { p.refusal role="alert" { "✗ " (mistake) } };
            }
        };
        let explained = match &preview.policy_input {
            Some(input) => Some(explain(context, input.clone()).await),
            None => None,
        };
        html! {
            section.issuer {
                h2 { "This request" }
                (verdict(&preview.verdict))
                dl.facts { @for one in &preview.facts { (fact(one)) } }
                @match &explained {
                    None => {},
                    Some(Ok(explanation)) => (policy_rules(explanation)),
                    Some(Err(reason)) => p.refusal {
                        "✗ The policy cannot be explained: " (reason)
                    },
                }
                @if let Some(input) = &preview.policy_input {
                    details {
                        summary { "Input of the policy" }
                        pre { (format!("{input:#}")) }
                    }
                }
            }
        }
    }

    fn preview(
        &self,
        context: &ConsoleContext<'_>,
        bearer: TestedBearer<'_>,
    ) -> Result<RequestPreview, String> {
        if Method::from_bytes(self.method.as_bytes()).is_err() {
            return Err("The method is not one of HTTP.".into());
        }
        if !self.target.starts_with('/') {
            return Err("A path starts with a slash.".into());
        }
        let listeners = &context.settings.loaded.listeners;
        let listener = listeners.iter().find(|one| one.name == self.place);
        if listener.is_none() && self.place != API {
            return Err("This listener has been removed.".into());
        }
        let mut headers = HeaderMap::new();
        if !self.environment.is_empty() {
            let value = HeaderValue::from_str(self.environment);
            headers.insert(ENVIRONMENT, value.map_err(|_| "The environment is not an id.")?);
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
    context: &'t ConsoleContext<'t>,
    listener: Option<&'t DecidingListener>,
    request: ProxiedRequest<'t>,
    tenant: &'t str,
}

impl RequestTest<'_> {
    fn decide(&self, bearer: &PreviewBearer<'_>) -> RequestPreview {
        let authorization = &self.context.api.auth.authorization;
        match self.listener {
            Some(_) if self.allows_everything() => {
                let reason = "multi-tenancy is off: every request is allowed";
                let verdict = PreviewVerdict::Allowed(reason.into());
                RequestPreview { facts: Vec::new(), verdict, policy_input: None }
            }
            Some(listener) => authorization.preview(&listener.access, &self.request, bearer),
            None => {
                let provider = self.context.api.settings.authorization_provider;
                authorization.preview_api(provider, &self.request, bearer)
            }
        }
    }

    /// Whether the listener has the `orchestrate` surface, and multi-tenancy is off.
    fn allows_everything(&self) -> bool {
        let tenancy = self.context.api.auth.tenancy.as_ref();
        self.listener.is_some_and(|listener| listener.profile == Profile::Orchestrate)
            && tenancy.is_some_and(|tenancy| !tenancy.verifies)
    }

    fn decide_token(&self, token: &[u8]) -> RequestPreview {
        let without_token = self.decide(&PreviewBearer::NoToken);
        if self.looks_at_no_token(&without_token) {
            return without_token;
        }
        let (authenticator, now) = (self.context.api.authenticator, clock::now());
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
        let tenancy = self.context.api.auth.tenancy.as_ref();
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
        let auth = self.context.api.auth;
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
async fn explain(context: &ConsoleContext<'_>, input: Value) -> Result<PolicyExplanation, String> {
    static POOL: OnceLock<Option<BackgroundPool<()>>> = OnceLock::new();
    const MAX_WAITING: usize = 4;
    const BUSY: &str = "too many others are being explained";
    let authorization = &context.api.auth.authorization;
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

fn verdict(verdict: &PreviewVerdict) -> Markup {
    let (state, text, reason) = match verdict {
        PreviewVerdict::Allowed(reason) => ("good", "✓ allowed", reason),
        PreviewVerdict::Denied(reason) => ("bad", "✗ denied", reason),
        PreviewVerdict::Undecided(reason) => ("warning", "! not decided", reason),
    };
    html! { p.state.sentence data-state=(state) { (text) ": " (reason) } }
}

fn fact(DecidingFact { label, text }: &DecidingFact) -> Markup {
    let (state, sign) = match *label {
        MET => ("good", "✓ "),
        NOT_MET => ("bad", "✗ "),
        _ => ("", ""),
    };
    html! {
        dt { (label) }
        dd.state data-state=(state) { (sign) (linked(text)) }
    }
}

fn policy_rules(explanation: &PolicyExplanation) -> Markup {
    html! {
        @if !explanation.is_known_endpoint {
            p { "! The endpoint is not in " code { "data.endpoints" } "." }
        }
        table {
            thead { tr { th { "Rule" } th { "State" } th { "What it lacks" } } }
            tbody { @for rule in &explanation.rules { (policy_rule(rule)) } }
        }
        @if explanation.is_cut_off { p.empty { "Further rules were not examined." } }
        @if !explanation.prints.is_empty() {
            h2 { "The policy prints" }
            pre { @for line in &explanation.prints { (line) "\n" } }
        }
    }
}

fn policy_rule(rule: &ExplainedRule) -> Markup {
    let ExplainedRule { line, comment, failure } = rule;
    html! {
        tr {
            td data-label="Rule" { "line " (line) ": " (comment) }
            td data-label="State" {
                @match failure {
                    None => span.state data-state="good" { "✓ holds" },
                    Some(_) => span.state data-state="bad" { "✗ does not hold" },
                }
            }
            td data-label="What it lacks" {
                @if let Some((line, expression)) = failure {
                    "line " (line) ": " code { (expression) }
                }
            }
        }
    }
}
