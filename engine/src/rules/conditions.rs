//! Conditions that an authorizer asks about: evaluated once for each token, and stored as bits
//! beside the result of its verification.

use core::fmt;
use std::{borrow::Cow, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};

use super::constraint::{self, Constraint};
use crate::{
    claim_path::ClaimPath, issuer::IssuerConfig, limits::MAX_CONDITIONS, token::ClaimNodes,
};

/// A condition on a token. It does not decide whether the token is valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TokenCondition {
    /// A condition on one claim.
    Claim(Constraint),
    /// The claim is this string, a list with it, or an object with a member of this name.
    Role {
        /// The claim.
        claim: ClaimPath,
        /// The name of the role.
        role: Box<str>,
    },
    /// The token grants this scope.
    Scope(Box<str>),
    /// The token has this client type, which may be the default of its issuer.
    ClientType(Box<str>),
    /// The token is of the issuer with this [`IssuerConfig::section`].
    Issuer(Box<str>),
}

/// A list of [`TokenCondition`]s, at most [`MAX_CONDITIONS`].
///
/// It has a fingerprint of its contents, because the rules of an issuer and the authorizer that
/// asks about them are replaced one after the other: bits of another list are not used.
#[derive(Clone, Debug)]
pub struct TokenConditions {
    list: Arc<[TokenCondition]>,
    fingerprint: [u8; 16],
}

/// Which conditions a token meets. See [`Verified::conditions`](crate::Verified::conditions).
pub struct MetConditions<'v>(pub(crate) Cow<'v, [u64]>);

/// There are more than [`MAX_CONDITIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyConditionsError;

impl fmt::Display for TooManyConditionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {MAX_CONDITIONS} conditions: evaluating them takes too long")
    }
}

impl core::error::Error for TooManyConditionsError {}

impl Default for TokenConditions {
    /// No conditions.
    fn default() -> Self {
        Self { list: Arc::default(), fingerprint: [0; 16] }
    }
}

impl PartialEq for TokenConditions {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for TokenConditions {}

impl TokenConditions {
    /// Creates a list. The index of a condition in it identifies the condition.
    ///
    /// # Errors
    /// [`TooManyConditionsError`].
    pub fn new(list: Vec<TokenCondition>) -> Result<Self, TooManyConditionsError> {
        if list.len() > MAX_CONDITIONS {
            return Err(TooManyConditionsError);
        }
        if list.is_empty() {
            return Ok(Self::default());
        }
        // `Debug` quotes and escapes every text, so two lists never have the same form.
        let hash = digest(&SHA256, format!("{list:?}").as_bytes());
        let fingerprint = hash.as_ref().first_chunk().copied().unwrap_or_default();
        Ok(Self { list: list.into(), fingerprint })
    }

    /// Returns the conditions.
    #[must_use]
    pub fn list(&self) -> &[TokenCondition] {
        &self.list
    }

    /// Writes a bit for each condition. `client_types` are those of the token, joined by commas.
    pub(crate) fn evaluate(
        &self,
        issuer: &IssuerConfig,
        claims: &ClaimNodes<'_, '_>,
        client_types: &str,
        words: &mut Vec<u64>,
    ) {
        words.clear();
        let withheld = &issuer.rules.withheld_claims;
        let is_withheld = |claim: &ClaimPath| withheld.iter().any(|name| claim.starts_at(name));
        let holds = |condition: &TokenCondition| match condition {
            TokenCondition::Claim(constraint) => {
                !is_withheld(constraint.claim()) && constraint.holds(claims)
            }
            TokenCondition::Role { claim, role } => {
                !is_withheld(claim) && constraint::has_role(claim.find(claims), role)
            }
            TokenCondition::Scope(scope) => constraint::grants(claims, scope),
            TokenCondition::ClientType(name) => {
                client_types.split(',').any(|client_type| *client_type == **name)
            }
            TokenCondition::Issuer(section) => *issuer.section == **section,
        };
        words.extend(self.list.chunks(64).map(|conditions| {
            conditions.iter().rev().fold(0, |word, one| word << 1 | u64::from(holds(one)))
        }));
    }
}

impl MetConditions<'_> {
    /// Whether the token meets the condition at this index. False beyond the list.
    #[inline]
    #[must_use]
    pub fn meets(&self, index: usize) -> bool {
        let word = self.0.get(index / 64).copied().unwrap_or(0);
        let bit = u32::try_from(index % 64).unwrap_or(0);
        word.wrapping_shr(bit) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, token::JsonBuffers};

    /// Returns the bits of these conditions on a token of the section `s`.
    fn evaluate(list: Vec<TokenCondition>, claims: &str, withheld: &[&str]) -> Vec<bool> {
        let mut issuer = IssuerConfig::new("https://idp/", "us", [Algorithm::Hs256]);
        issuer.section = "s".into();
        issuer.rules.withheld_claims = withheld.iter().map(|name| Box::from(*name)).collect();
        let mut buffers = JsonBuffers::with_capacity(512);
        let document = buffers.parse(claims.as_bytes()).unwrap();
        let (count, mut words) = (list.len(), vec![7; 3]);
        let conditions = TokenConditions::new(list).unwrap();
        conditions.evaluate(&issuer, &ClaimNodes::find(&document), "api,agent", &mut words);
        assert_eq!(words.len(), count.div_ceil(64));
        let met = MetConditions(Cow::Owned(words));
        assert!(!met.meets(count) && !met.meets(usize::MAX), "false beyond the list");
        (0..count).map(|index| met.meets(index)).collect()
    }

    fn role(claim: &str, role: &str) -> TokenCondition {
        TokenCondition::Role { claim: claim.into(), role: role.into() }
    }

    fn is(claim: &str, value: &str) -> TokenCondition {
        TokenCondition::Claim(Constraint::Is { claim: claim.into(), value: value.into() })
    }

    #[test]
    fn every_kind_of_condition_is_evaluated() {
        let claims = r#"{"scope":"a b","one":"x","realm":{"roles":["x","y"]},"by":{"x":1},"n":7}"#;
        let scope = |name: &str| TokenCondition::Scope(name.into());
        let client_type = |name: &str| TokenCondition::ClientType(name.into());
        let issuer = |name: &str| TokenCondition::Issuer(name.into());
        let conditions = [
            (scope("a"), true),
            (scope("a b"), false),
            (scope("c"), false),
            (role("one", "x"), true),
            (role("realm.roles", "y"), true),
            (role("by", "x"), true),
            (role("realm.roles", "z"), false),
            (role("missing", "x"), false),
            (is("n", "7"), true),
            (is("n", "8"), false),
            (client_type("agent"), true),
            (client_type("compiler"), false),
            (issuer("s"), true),
            (issuer("t"), false),
        ];
        let (list, expected): (Vec<_>, Vec<_>) = conditions.into_iter().unzip();
        assert_eq!(evaluate(list, claims, &[]), expected);
    }

    #[test]
    fn conditions_beyond_a_word_have_their_own_bits() {
        let list: Vec<_> = (0..150).map(|number| is("n", &number.to_string())).collect();
        for number in [0, 1, 63, 64, 127, 128, 149] {
            let met = evaluate(list.clone(), &format!(r#"{{"n":{number}}}"#), &[]);
            let expected: Vec<_> = (0..150).map(|index| index == number).collect();
            assert_eq!(met, expected, "{number}");
        }
    }

    #[test]
    fn withheld_claim_meets_no_condition() {
        let claims = r#"{"urn:x:roles":{"e":["admin"]},"urn:x:rolesbook":"y","roles":["admin"]}"#;
        let list = || {
            vec![
                role("urn:x:roles", "e"),
                role("urn:x:roles.e", "admin"),
                role("/urn:x:roles/e", "admin"),
                is("/urn:x:roles/e/0", "admin"),
                is("urn:x:rolesbook", "y"),
                role("roles", "admin"),
            ]
        };
        assert_eq!(evaluate(list(), claims, &[]), [true; 6]);
        let withheld = [false, false, false, false, true, true];
        assert_eq!(evaluate(list(), claims, &["urn:x:roles"]), withheld);
    }

    #[test]
    fn number_of_conditions_is_bounded() {
        let list = |count| vec![is("a", "b"); count];
        assert!(TokenConditions::new(list(MAX_CONDITIONS)).is_ok());
        assert_eq!(
            TokenConditions::new(list(MAX_CONDITIONS + 1)).err(),
            Some(TooManyConditionsError)
        );
    }

    #[test]
    fn lists_with_other_contents_differ() {
        let lists = [
            vec![],
            vec![is("a", "b")],
            vec![is("a", "b"), is("a", "b")],
            vec![is("a", "b\")), Claim(")],
            vec![role("a", "b")],
        ];
        for (index, one) in lists.iter().enumerate() {
            for (other_index, other) in lists.iter().enumerate() {
                let [one, other] = [one, other].map(|list| TokenConditions::new(list.clone()));
                assert_eq!(one.unwrap() == other.unwrap(), index == other_index);
            }
        }
    }
}
