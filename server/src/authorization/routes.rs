//! Rules for requests by method and path: `[route_<name>]` and `open_paths`.
//!
//! The first rule that matches a request decides about it. The rules are compiled when the
//! configuration is read, and the conditions on tokens are evaluated when a token is verified
//! ([`TokenConditions`]), so that a decision about a cached token allocates nothing and reads no
//! claim.

mod claims;
mod open_paths;
mod pattern;
mod rule;
mod settings;
mod trie;

use std::fmt;

use countersign_engine::{TokenConditions, Verified};

pub use self::{
    open_paths::OpenPaths,
    pattern::RoutePattern,
    rule::{RequirementKind, RouteRequirement, RouteRule},
};
use self::{
    pattern::MethodNames,
    rule::RuleKind,
    trie::{FoundRules, RouteTrie},
};
use super::{
    request_path::{AmbiguousPath, ENCODED_SLASH, EncodedSlash, canonical},
    spelling::folded,
};
use crate::tenancy::identity::TenantIdentity;

/// All rules, in their order.
#[derive(Debug)]
pub struct RouteTable {
    rules: Vec<RouteRule>,
    trie: RouteTrie,
    /// The patterns with folded literals, if any is not ASCII.
    folded: Option<RouteTrie>,
    conditions: TokenConditions,
    /// Whether requests that match no rule are allowed with any valid token.
    allows_others: bool,
    encoded_slash: EncodedSlash,
}

/// The rule that decides about a request.
#[derive(Clone, Copy, Debug)]
pub enum RouteMatch<'t> {
    /// The request is denied, with any token and without one.
    Denied(RouteDenial<'t>),
    /// The request is allowed, and its token is not looked at.
    Public(&'t RouteRule),
    /// The token decides.
    Token(TokenRoute<'t>),
}

/// A route for which the token decides.
#[derive(Clone, Copy, Debug)]
pub struct TokenRoute<'t> {
    table: &'t RouteTable,
    /// `None` if no rule matches, and every valid token is allowed.
    rule: Option<&'t RouteRule>,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug)]
pub struct RouteDenial<'t> {
    /// The rule that denies it, if one does.
    pub rule: Option<&'t RouteRule>,
    /// The reason.
    pub reason: DenialReason<'t>,
}

/// The reason of a [`RouteDenial`].
#[derive(Clone, Copy, Debug)]
pub enum DenialReason<'t> {
    /// Applications may read the path in different ways.
    AmbiguousPath(AmbiguousPath),
    /// The rule would match if the application ignores letters' case or a slash at the end of the
    /// path, or decodes an encoded slash. The rules after it, which match in any case, do not
    /// decide.
    SimilarPath,
    /// The rule denies every request.
    DenyRule,
    /// No rule matches.
    NoRule,
    /// The token, or the tenant of the request, does not meet a requirement of the rule.
    Requirement(&'t RouteRequirement),
}

impl Default for RouteTable {
    /// No rules: every request is denied.
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            trie: RouteTrie::new(MethodNames::default(), []),
            folded: None,
            conditions: TokenConditions::default(),
            allows_others: false,
            encoded_slash: EncodedSlash::Ambiguous,
        }
    }
}

impl RouteTable {
    /// Finds the rule of a request. `target` is the request target as the client wrote it.
    #[must_use]
    pub fn find(&self, method: &str, target: &str) -> RouteMatch<'_> {
        let denied = |rule, reason| RouteMatch::Denied(RouteDenial { rule, reason });
        let path = match canonical(target, self.encoded_slash) {
            Ok(path) => path,
            Err(reason) => return denied(None, DenialReason::AmbiguousPath(reason)),
        };
        let FoundRules { exact, similar } = self.trie.find(method, &path);
        let similar = self.similar(method, &path, similar);
        if similar != exact {
            let rule = similar.map(|index| &self.rules[index]);
            return denied(rule, DenialReason::SimilarPath);
        }
        let Some(rule) = exact.map(|index| &self.rules[index]) else {
            return if self.allows_others {
                RouteMatch::Token(TokenRoute { table: self, rule: None })
            } else {
                denied(None, DenialReason::NoRule)
            };
        };
        match rule.kind {
            RuleKind::Public => RouteMatch::Public(rule),
            RuleKind::Deny => denied(Some(rule), DenialReason::DenyRule),
            RuleKind::Anonymous | RuleKind::Token => {
                RouteMatch::Token(TokenRoute { table: self, rule: Some(rule) })
            }
        }
    }

    /// Returns the rule that decides if the application reads the path in another way: `found`, or
    /// an earlier one that the trie does not find.
    #[inline]
    fn similar(&self, method: &str, path: &str, found: Option<usize>) -> Option<usize> {
        let has_encoded_slash =
            self.encoded_slash == EncodedSlash::Kept && path.contains(ENCODED_SLASH);
        if path.is_ascii() && self.folded.is_none() && !has_encoded_slash {
            return found;
        }
        let trie = self.folded.as_ref().unwrap_or(&self.trie);
        let of_path = |path: &str| trie.find(method, &folded(path)).similar;
        let first = [found, of_path(path)].into_iter().flatten().min();
        if !has_encoded_slash {
            return first;
        }
        let decoded = of_path(&path.replace(ENCODED_SLASH, "/"));
        if decoded.is_some_and(|index| self.rules[index].kind == RuleKind::Deny) {
            return decoded;
        }
        [first, decoded].into_iter().flatten().min()
    }

    /// Returns the rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[RouteRule] {
        &self.rules
    }

    /// Whether requests that match no rule are allowed with any valid token.
    #[must_use]
    pub fn allows_others(&self) -> bool {
        self.allows_others
    }

    /// How an encoded slash in a path is read.
    #[must_use]
    pub fn encoded_slash(&self) -> EncodedSlash {
        self.encoded_slash
    }

    /// Returns the conditions on tokens, which every issuer evaluates.
    #[must_use]
    pub fn conditions(&self) -> &TokenConditions {
        &self.conditions
    }
}

impl<'t> TokenRoute<'t> {
    /// Returns the rule. `None` if no rule matches, and every valid token is allowed.
    #[must_use]
    pub fn rule(&self) -> Option<&'t RouteRule> {
        self.rule
    }

    /// Whether a request without a token is allowed.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.rule.is_some_and(|rule| rule.kind == RuleKind::Anonymous)
    }

    /// Decides about a request with this token, which acts for a tenant if the surface knows
    /// tenants.
    ///
    /// # Errors
    /// The first requirement that the request does not meet.
    #[inline]
    pub fn authorize(
        &self,
        verified: &Verified<'_>,
        acting: Option<&TenantIdentity>,
    ) -> Result<(), RouteDenial<'t>> {
        let Some(rule) = self.rule else { return Ok(()) };
        let met = verified.conditions(&self.table.conditions);
        match rule.requirements.iter().find(|requirement| !requirement.is_met(&met, acting)) {
            None => Ok(()),
            Some(requirement) => {
                let reason = DenialReason::Requirement(requirement);
                Err(RouteDenial { rule: Some(rule), reason })
            }
        }
    }

    /// Returns each requirement of the rule, and whether a request with a token meets it.
    #[must_use]
    pub fn explain(
        &self,
        verified: &Verified<'_>,
        acting: Option<&TenantIdentity>,
    ) -> Vec<(&'t RouteRequirement, bool)> {
        let met = verified.conditions(&self.table.conditions);
        let requirements = self.rule.map(|rule| &*rule.requirements).unwrap_or_default();
        let is_met = |requirement: &RouteRequirement| requirement.is_met(&met, acting);
        requirements.iter().map(|requirement| (requirement, is_met(requirement))).collect()
    }
}

impl<'t> RouteDenial<'t> {
    /// Returns the scopes of the rule, separated by spaces, if the token lacks one of them (RFC 6750
    /// section 3.1).
    #[must_use]
    pub fn required_scopes(&self) -> Option<&'t str> {
        match self.reason {
            DenialReason::Requirement(requirement)
                if requirement.kind == RequirementKind::Scope =>
            {
                self.rule.map(|rule| &*rule.scopes)
            }
            _ => None,
        }
    }
}

impl fmt::Display for RouteDenial<'_> {
    /// Writes the reason in words, without claims of the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.rule.map(|rule| &*rule.name).unwrap_or_default();
        match self.reason {
            DenialReason::AmbiguousPath(reason) => write!(f, "the path is ambiguous: {reason}"),
            DenialReason::SimilarPath => write!(
                f,
                "the request is ambiguous: it differs from those of [{name}] only in letters' \
                 case, accents, an encoded slash, or a slash at the end"
            ),
            DenialReason::DenyRule => write!(f, "[{name}] denies every request"),
            DenialReason::NoRule => f.write_str("no route matches"),
            DenialReason::Requirement(requirement) => {
                write!(f, "[{name}] requires {requirement}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
