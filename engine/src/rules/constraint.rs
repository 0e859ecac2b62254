//! Conditions on the claims of a token, and the scopes that it grants.

use crate::{
    claim_path::ClaimPath,
    token::{ClaimNodes, Value},
};

/// A condition on one claim. A claim that is absent or of another type does not meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// The claim is exactly this string.
    Is {
        /// The claim.
        claim: ClaimPath,
        /// The required string.
        value: Box<str>,
    },
    /// The claim is a list with this string in it. `scope` and `scp` may also be a string of scopes
    /// that are separated by spaces.
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
    pub(super) fn holds(&self, claims: &ClaimNodes<'_, '_>) -> bool {
        match self {
            Self::Is { claim, value } => claim.find(claims).and_then(Value::as_str) == Some(value),
            Self::Contains { claim, value } => claim.find(claims).is_some_and(|found| {
                lists(found, value)
                    || (SCOPE_CLAIMS.contains(&claim.as_str()) && has_word(found, value))
            }),
        }
    }
}

/// Whether a token grants a scope.
pub(super) fn grants(claims: &ClaimNodes<'_, '_>, scope: &str) -> bool {
    let granted = |claim| lists(claim, scope) || has_word(claim, scope);
    SCOPE_CLAIMS.iter().filter_map(|name| claims.get(name)).any(granted)
}

fn lists(claim: Value<'_, '_>, text: &str) -> bool {
    claim.elements().is_some_and(|mut list| list.any(|one| one.as_str() == Some(text)))
}

fn has_word(claim: Value<'_, '_>, text: &str) -> bool {
    claim.as_str().is_some_and(|words| words.split(' ').any(|word| word == text))
}
