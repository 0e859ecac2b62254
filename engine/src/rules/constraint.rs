//! Conditions on the claims of a token, and the scopes that it grants.

use crate::{
    claim_path::ClaimPath,
    token::{ClaimNodes, Value},
};

/// A condition on one claim. A claim that is absent or of another type does not meet it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Constraint {
    /// The claim is exactly this string, or a boolean or whole number with this spelling.
    Is {
        /// The claim.
        claim: ClaimPath,
        /// The required string.
        value: Box<str>,
    },
    /// The claim is a list with this value in it, or an object with a member of this name. `scope`
    /// and `scp` may also be a string of scopes that are separated by spaces.
    Contains {
        /// The claim.
        claim: ClaimPath,
        /// The required string.
        value: Box<str>,
    },
}

/// The claims with the scopes of a token: `scope` (RFC 9068 section 2.2.3, RFC 8693 section 4.2),
/// and `scp`, as several providers call it.
const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];

impl Constraint {
    /// Returns the claim.
    #[must_use]
    pub fn claim(&self) -> &ClaimPath {
        match self {
            Self::Is { claim, .. } | Self::Contains { claim, .. } => claim,
        }
    }

    pub(super) fn holds(&self, claims: &ClaimNodes<'_, '_>) -> bool {
        match self {
            Self::Is { claim, value } => claim.find(claims).is_some_and(|found| is(found, value)),
            Self::Contains { claim, value } => claim.find(claims).is_some_and(|found| {
                contains(found, value)
                    || (SCOPE_CLAIMS.contains(&claim.as_str()) && has_word(found, value))
            }),
        }
    }
}

/// Whether a claim is a role, or contains it.
pub(super) fn has_role(claim: Option<Value<'_, '_>>, role: &str) -> bool {
    claim.is_some_and(|claim| contains(claim, role) || is(claim, role))
}

/// Whether a token grants a scope.
pub(super) fn grants(claims: &ClaimNodes<'_, '_>, scope: &str) -> bool {
    let granted = |claim| lists(claim, scope) || has_word(claim, scope);
    SCOPE_CLAIMS.iter().filter_map(|name| claims.get(name)).any(granted)
}

/// Whether a claim is a list with this text, or an object with a member of this name.
fn contains(claim: Value<'_, '_>, text: &str) -> bool {
    lists(claim, text) || claim.members().is_some_and(|members| members.get(text).is_some())
}

fn lists(claim: Value<'_, '_>, text: &str) -> bool {
    claim.elements().is_some_and(|mut list| list.any(|one| is(one, text)))
}

/// Whether a claim is this string, or has this spelling in JSON.
fn is(claim: Value<'_, '_>, text: &str) -> bool {
    match (claim.as_str(), claim.as_bool()) {
        (Some(found), _) => found == text,
        (None, Some(flag)) => text == if flag { "true" } else { "false" },
        (None, None) => {
            // One spelling for each number.
            let digits = text.strip_prefix('-').unwrap_or(text);
            let is_canonical =
                text == "0" || digits.starts_with(|first| matches!(first, '1'..='9'));
            let number = text.parse::<i128>().ok().filter(|_| is_canonical);
            number.is_some() && claim.as_integer() == number
        }
    }
}

fn has_word(claim: Value<'_, '_>, text: &str) -> bool {
    claim.as_str().is_some_and(|words| words.split(' ').any(|word| word == text))
}
