//! All checks of one token, for people who look into a refusal.

use std::sync::Arc;

use super::{
    DueCheck, FoundIssuer, PresentedToken, UncachedVerification, Verifier, issuer,
    revocation_subject,
};
use crate::{
    issuer::{IssuerConfig, TokenIssuer},
    presentation::Presentation,
    reject::Reject,
    rules::ClaimCheck,
    time::UnixTime,
    token::{ClaimNodes, Scratch, with_scratch},
};

/// The result of every check of a token, also of those after the first that fails.
///
/// For display only: unless [`authenticity`](Self::authenticity) is `Ok`, the author of the token
/// is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenExplanation {
    /// The configured issuer that the token names.
    pub issuer: Arc<IssuerConfig>,
    /// Whether a key of the issuer has made the signature.
    pub authenticity: Result<(), Reject>,
    /// The checks of the claims, in the order in which they are made.
    pub checks: Vec<(ClaimCheck, Result<(), Reject>)>,
    /// Whether the token was revoked.
    pub revocation: Result<(), Reject>,
}

impl Verifier {
    /// Makes all checks of a token at the time `now`, without the cache.
    ///
    /// # Errors
    /// The [`Reject`] of a token that cannot be read, or names no configured issuer.
    pub fn explain(
        &self,
        token: &[u8],
        now: UnixTime,
        presentation: Presentation<'_>,
    ) -> Result<TokenExplanation, Reject> {
        let snapshot = self.current.load();
        let presented = PresentedToken { token, now, presentation };
        let verification = UncachedVerification {
            snapshot: &snapshot,
            revocations: &self.revocations,
            cache: None,
            presented: &presented,
            signer: None,
        };
        with_scratch(|scratch| verification.explain(scratch))
    }
}

impl UncachedVerification<'_, '_> {
    fn explain(&self, scratch: &mut Scratch) -> Result<TokenExplanation, Reject> {
        let Scratch { jws, claims, name, subject, token_id, .. } = scratch;
        let jws = jws.decode(self.presented.token)?;
        let document =
            claims.parse(jws.payload).map_err(|error| error.reject(Reject::ClaimsJson))?;
        let claims = ClaimNodes::find(&document);
        let FoundIssuer { issuer, tenant, .. } = issuer(self.snapshot, &claims)?;
        let (config, rules) = (issuer.config(), &issuer.config().rules);
        let check = |due: DueCheck<'_, '_>| due.verify_if(|_| true);
        let authenticated = self.authenticate(issuer, &jws, check);
        let named = rules.find(&claims);
        let authentic = self.presented.authentic(&jws, tenant, (&claims, &named));
        let checks =
            ClaimCheck::ALL.map(|check| (check, rules.check_one(check, &authentic))).into();
        let kid = authenticated.as_ref().ok().and_then(|(key, _)| key.kid());
        let token_issuer = TokenIssuer { config, tenant };
        let ids = (subject, token_id);
        let revocation_subject =
            revocation_subject(token_issuer, kid, &jws, (&claims, &named), ids);
        Ok(TokenExplanation {
            issuer: Arc::clone(config),
            authenticity: authenticated.map(drop),
            checks,
            revocation: self.revocations.check(&revocation_subject, name),
        })
    }
}
