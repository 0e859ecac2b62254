//! The audience of a token.

use crate::{
    claim_path::ClaimPath,
    reject::Reject,
    token::{ClaimNodes, Value},
};

/// The audiences that a token may be for (RFC 7519 section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudienceRule {
    /// The claim with the audience; `None` for `aud`.
    pub claim: Option<ClaimPath>,
    /// The accepted audiences.
    pub accepted: Box<[Box<str>]>,
    /// Whether a token must name all of them, not only one.
    pub all: bool,
    /// Whether a token without the claim is refused. A claim that is present is always checked.
    pub required: bool,
}

impl AudienceRule {
    /// Creates the rule that `aud` names this audience.
    #[must_use]
    pub fn new(audience: &str) -> Self {
        Self { claim: None, accepted: [audience.into()].into(), all: false, required: true }
    }

    /// Creates the rule that accepts tokens for every application, and without `aud`. A claim that
    /// is present must be well-formed.
    #[must_use]
    pub fn unchecked() -> Self {
        Self { claim: None, accepted: Box::default(), all: true, required: false }
    }

    /// Whether this is the rule [`unchecked`](Self::unchecked), and not one whose audience is
    /// missing by accident.
    pub(crate) fn is_unchecked(&self) -> bool {
        *self == Self::unchecked()
    }

    pub(super) fn check(&self, claims: &ClaimNodes<'_, '_>) -> Result<(), Reject> {
        let claim = match &self.claim {
            None => claims.audience,
            Some(path) => path.find(claims),
        };
        match claim.filter(|claim| !claim.is_null()) {
            Some(claim) => self.check_claim(claim),
            None if self.required => Err(Reject::AudienceMissing),
            None => Ok(()),
        }
    }

    fn check_claim(&self, claim: Value<'_, '_>) -> Result<(), Reject> {
        if let Some(audience) = claim.as_str() {
            let is_missing = audience.is_empty();
            return if is_missing {
                Err(Reject::AudienceMissing)
            } else {
                self.require(|one| one == audience)
            };
        }
        let mut is_empty = true;
        for audience in claim.elements().ok_or(Reject::AudienceFormat)? {
            is_empty = false;
            audience.as_str().ok_or(Reject::AudienceFormat)?;
        }
        if is_empty {
            return Err(Reject::AudienceMissing);
        }
        self.require(|one| {
            claim.elements().is_some_and(|mut list| list.any(|each| each.as_str() == Some(one)))
        })
    }

    fn require(&self, named: impl Fn(&str) -> bool) -> Result<(), Reject> {
        let mut accepted = self.accepted.iter().map(|one| named(one));
        let matches =
            if self.all { accepted.all(|named| named) } else { accepted.any(|named| named) };
        if matches { Ok(()) } else { Err(Reject::Audience) }
    }
}
