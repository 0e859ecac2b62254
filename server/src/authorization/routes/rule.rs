//! One rule: its patterns, and the requirements on tokens.

use std::fmt;

use countersign_engine::MetConditions;

use super::pattern::RoutePattern;
use crate::tenancy::{identity::TenantIdentity, tenant_set::TenantSet};

/// A rule for requests, from a section `[route_<name>]`.
#[derive(Debug)]
pub struct RouteRule {
    /// The name of its section.
    pub name: Box<str>,
    /// The requests that it is about.
    pub patterns: Box<[RoutePattern]>,
    pub(super) kind: RuleKind,
    pub(super) requirements: Box<[RouteRequirement]>,
    /// Its scopes, separated by spaces.
    pub(super) scopes: Box<str>,
}

/// How a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleKind {
    /// By the token.
    Token,
    /// By the token, if there is one.
    Anonymous,
    /// It allows every request.
    Public,
    /// It denies every request.
    Deny,
}

/// A requirement on tokens, or on the tenant of a request.
#[derive(Debug)]
pub struct RouteRequirement {
    /// The option that it comes from.
    pub kind: RequirementKind,
    pub(super) condition: RouteCondition,
    /// The requirement in words.
    pub(super) text: Box<str>,
}

/// The condition of a [`RouteRequirement`].
#[derive(Debug)]
pub(super) enum RouteCondition {
    /// Indexes in the conditions of the table, of which one must hold.
    Token(Box<[usize]>),
    /// The tenants, for one of which the request must act.
    Tenant(TenantSet),
}

/// The option that a [`RouteRequirement`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequirementKind {
    /// `scopes`.
    Scope,
    /// `roles`.
    Role,
    /// `claims`.
    Claim,
    /// `issuers`.
    Issuer,
    /// `client_types`.
    ClientType,
    /// `tenants`.
    Tenant,
}

impl RouteRule {
    /// Returns the requirements on a token.
    #[must_use]
    pub fn requirements(&self) -> &[RouteRequirement] {
        &self.requirements
    }

    /// Returns its patterns, separated by commas.
    #[must_use]
    pub fn pattern_list(&self) -> String {
        self.patterns.iter().map(RoutePattern::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Describes the requests that it allows.
    #[must_use]
    pub fn access(&self) -> String {
        let requirements: Vec<_> =
            self.requirements.iter().map(RouteRequirement::to_string).collect();
        let token = match requirements.as_slice() {
            [] => "any valid token".into(),
            requirements => format!("a token with {}", requirements.join(" and ")),
        };
        match self.kind {
            RuleKind::Token => token,
            RuleKind::Anonymous => format!("no token, or {token}"),
            RuleKind::Public => "every request".into(),
            RuleKind::Deny => "no request".into(),
        }
    }
}

impl RouteRequirement {
    /// Whether a request meets it. `acting` is its tenant, if the surface knows tenants.
    #[inline]
    pub(super) fn is_met(&self, met: &MetConditions<'_>, acting: Option<&TenantIdentity>) -> bool {
        match &self.condition {
            RouteCondition::Token(alternatives) => {
                alternatives.iter().any(|condition| met.meets(*condition))
            }
            RouteCondition::Tenant(tenants) => {
                acting.is_some_and(|acting| tenants.contains(acting))
            }
        }
    }
}

impl fmt::Display for RouteRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
