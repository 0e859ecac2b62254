//! Explanations of decisions about requests in words, for `countersign routes explain` and the
//! console.

use countersign_engine::Verified;

use super::{
    request_path::canonical,
    routes::{RouteRule, RouteTable, TokenRoute},
};
use crate::{base::printable::printable, tenancy::identity::TenantIdentity};

/// One fact that a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidingFact {
    /// What it is about, in at most nine characters.
    pub label: &'static str,
    /// The fact.
    pub text: String,
}

impl DecidingFact {
    pub(super) fn new(label: &'static str, text: impl Into<String>) -> Self {
        Self { label, text: text.into() }
    }
}

/// Returns a request, and its canonical path if that differs from the one written.
#[must_use]
pub fn request_facts(routes: &RouteTable, method: &str, path: &str) -> Vec<DecidingFact> {
    let request = format!("{} {}", printable(method), printable(path));
    let mut facts = vec![DecidingFact::new("request", request)];
    if let Ok(canonical) = canonical(path, routes.encoded_slash())
        && *canonical != *path
    {
        facts.push(DecidingFact::new("path", printable(&canonical)));
    }
    facts
}

/// Returns which rule decides, and what it allows.
#[must_use]
pub fn rule_facts(routes: &RouteTable, rule: &RouteRule) -> [DecidingFact; 2] {
    let number = routes.rules().iter().take_while(|one| one.name != rule.name).count() + 1;
    let count = routes.rules().len();
    let name = &rule.name;
    let route = format!("[{name}], {number} of {count}: {}", rule.pattern_list());
    [DecidingFact::new("route", route), DecidingFact::new("allows", rule.access())]
}

/// Returns which rule decides about a request with a token.
#[must_use]
pub fn route_facts(routes: &RouteTable, route: &TokenRoute<'_>) -> Vec<DecidingFact> {
    match route.rule() {
        Some(rule) => rule_facts(routes, rule).into(),
        None => {
            let text = "none: default = allow in [routes] takes any valid token";
            vec![DecidingFact::new("route", text)]
        }
    }
}

/// Returns each requirement of a rule, and whether a token meets it.
#[must_use]
pub fn requirement_facts(
    route: &TokenRoute<'_>,
    verified: &Verified<'_>,
    acting: Option<&TenantIdentity>,
) -> Vec<DecidingFact> {
    let explained = route.explain(verified, acting);
    let facts = explained.into_iter().map(|(requirement, is_met)| {
        let label = if is_met { MET } else { NOT_MET };
        DecidingFact::new(label, requirement.to_string())
    });
    facts.collect()
}

/// The label of a requirement that is met.
pub const MET: &str = "met";
/// The label of a requirement that is not met.
pub const NOT_MET: &str = "not met";
