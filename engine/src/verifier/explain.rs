//! All checks of one token, for people who look into a refusal.

use std::sync::Arc;

use super::{FoundIssuer, PresentedToken, Verification, Verifier, issuer};
use crate::{
    issuer::{IssuerConfig, TokenIssuer},
    presentation::Presentation,
    reject::Reject,
    revocation::RevocationSubject,
    rules::{self, AuthenticToken, ClaimCheck},
    time::UnixTime,
    token::{ClaimNodes, Scratch, Value, with_scratch},
};

/// The result of every check of a token, also of those after the first that fails.
///
/// For display only: unless [`authenticity`](Self::authenticity) is `Ok`, anyone may have written
/// the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
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
    ) -> Result<Explanation, Reject> {
        let snapshot = self.current.load();
        let presented = PresentedToken { token, now, presentation };
        let verification = Verification {
            snapshot: &snapshot,
            revocations: &self.revocations,
            cache: None,
            presented: &presented,
            signer: None,
        };
        with_scratch(|scratch| verification.explain(scratch))
    }
}

impl Verification<'_> {
    fn explain(&self, scratch: &mut Scratch) -> Result<Explanation, Reject> {
        let Scratch { jws, claims, name, subject, token_id, .. } = scratch;
        let PresentedToken { token, now, presentation } = self.presented;
        let jws = jws.decode(token)?;
        let document =
            claims.parse(jws.payload).map_err(|error| error.reject(Reject::ClaimsJson))?;
        let claims = ClaimNodes::find(&document);
        let FoundIssuer { issuer, tenant, .. } = issuer(self.snapshot, &claims)?;
        let (config, rules) = (issuer.config(), &issuer.config().rules);
        let authenticated = self.authenticate(issuer, &jws, |_| true);
        let named = rules.find(&claims);
        let authentic = AuthenticToken {
            token_type: jws.header.token_type,
            tenant,
            claims: &claims,
            named: &named,
            now: *now,
            presentation,
        };
        let checks =
            ClaimCheck::ALL.map(|check| (check, rules.check_one(check, &authentic))).into();
        let key = authenticated.as_ref().ok().and_then(|(key, _)| key.kid());
        let revocation = self.revocations.check(
            &RevocationSubject {
                issuer: TokenIssuer { config, tenant },
                kid: key.or(jws.header.key.kid),
                token_id: rules.read_id(claims.token_id, token_id),
                subject: rules.read_id(claims.subject, subject),
                environment: named.environment.and_then(Value::as_str),
                issued_at: rules::time(claims.issued_at, Reject::IssuedAtFormat).unwrap_or(None),
                signing_input: jws.signing_input,
            },
            name,
        );
        Ok(Explanation {
            issuer: Arc::clone(config),
            authenticity: authenticated.map(drop),
            checks,
            revocation,
        })
    }
}
