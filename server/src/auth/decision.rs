//! The authorization decision on a request that a proxy checks.

use std::ops::Deref;

use countersign_engine::{Identity, Verified};
use countersign_front::{Fields, Step};
use http::{Response, StatusCode};

use super::{
    Authenticator, Caller, PendingVerification, Rejection,
    credential::Credential,
    profile::{Profile, Style, with_challenge},
    settings::AuthSettings,
};
use crate::{
    base::{
        clock,
        outcome::Outcome,
        reply::{Body, Reply, empty, no_store},
    },
    client::RequestDescription,
};

/// The decision on a request, independent of the protocol of the check.
pub enum AuthDecision<'t> {
    /// The request is allowed: its token is valid.
    Allowed(Verified<'t>),
    /// The request is allowed without a token: it is a CORS preflight, which a browser sends
    /// without a credential.
    Preflight,
    /// The request is refused, with this response for the client. It has no body.
    Refused(Reply),
}

impl<'t> AuthDecision<'t> {
    /// The identity of the caller, if the request is allowed because of a token.
    #[must_use]
    pub fn caller(&self) -> Option<Identity<'_>> {
        match self {
            Self::Allowed(verified) => Some(verified.identity()),
            Self::Preflight | Self::Refused(_) => None,
        }
    }

    /// The outcome of an allowed request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Preflight => Outcome::Preflight,
            Self::Allowed(_) | Self::Refused(_) => Outcome::Verified,
        }
    }
}

/// A decision that waits for the keys of an issuer, or for the turn of a signature check.
pub struct PendingDecision<'a> {
    caller: Caller<'a, 'static>,
    profile: Profile,
    verification: PendingVerification<'a>,
    token: Vec<u8>,
}

/// Finds the credential of a request and verifies it. Counts the outcome. `describe` is called only
/// if more than a token in a header matters.
pub fn decide<'a, 't>(
    authenticator: &Authenticator,
    settings: &AuthSettings,
    profile: Profile,
    caller: &Caller<'a, '_>,
    fields: &'t impl Fields,
    (allows_preflights, describe): (bool, impl Fn() -> RequestDescription<'t>),
) -> Step<AuthDecision<'t>, PendingDecision<'a>> {
    let refused = |outcome, response| {
        Step::Done(AuthDecision::Refused(counted(authenticator, outcome, response)))
    };
    let challenges = &settings.challenges;
    let token = match settings.credentials.of_check(fields, &describe) {
        Credential::Token(token) => token,
        Credential::None if allows_preflights && describe().is_allowed_preflight() => {
            authenticator.metrics.count(Outcome::Preflight);
            return Step::Done(AuthDecision::Preflight);
        }
        Credential::None => {
            return refused(Outcome::NoToken, profile.challenge(Style::Bare, challenges));
        }
        Credential::Conflict => {
            return refused(Outcome::Conflict, profile.conflict(Style::Bare, challenges));
        }
        // Another token would not help, so this is not 401.
        Credential::CrossSite => {
            let response = with_challenge(empty(StatusCode::FORBIDDEN), challenges.cross_site());
            return refused(Outcome::CrossSite, response);
        }
    };
    match authenticator.try_verify(caller, token) {
        Step::Done(result) => Step::Done(conclude(authenticator, settings, profile, result, token)),
        Step::Wait(verification) => {
            let (caller, token) = (caller.resolved(), token.to_vec());
            Step::Wait(PendingDecision { caller, profile, verification, token })
        }
    }
}

impl PendingDecision<'_> {
    /// Returns the memory that it holds, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.token.len()
    }

    /// Waits, decides, and returns the decision as rendered by `render`. `settings` is
    /// called after the wait, so that a reload in between takes effect.
    pub async fn finish<S: Deref<Target: AsRef<AuthSettings>>>(
        self,
        authenticator: &Authenticator,
        settings: impl FnOnce() -> S,
        render: impl FnOnce(&AuthSettings, AuthDecision<'_>) -> Reply,
    ) -> Reply {
        let Self { caller, profile, verification, token } = self;
        let result = authenticator.verify_after(&caller, verification, &token).await;
        let settings = settings();
        let settings = (*settings).as_ref();
        render(settings, conclude(authenticator, settings, profile, result, &token))
    }
}

fn conclude<'t>(
    authenticator: &Authenticator,
    settings: &AuthSettings,
    profile: Profile,
    result: Result<Verified<'t>, Rejection>,
    token: &[u8],
) -> AuthDecision<'t> {
    let rejection = match result {
        Ok(verified) => match profile.check(&verified, clock::now, &authenticator.keys) {
            Ok(()) => {
                authenticator.metrics.count(Outcome::Verified);
                return AuthDecision::Allowed(verified);
            }
            Err(reject) => reject.into(),
        },
        Err(rejection) => rejection,
    };
    let outcome = rejection.outcome();
    let refusal = authenticator.refusal(rejection, token);
    let (challenges, status) = (&settings.challenges, settings.rejected_token_status);
    let response = profile.refuse(Style::Bare, challenges, &refusal, status);
    AuthDecision::Refused(counted(authenticator, outcome, response))
}

fn counted(authenticator: &Authenticator, outcome: Outcome, response: Response<Body>) -> Reply {
    authenticator.metrics.count(outcome);
    Reply::with_outcome(outcome, no_store(response))
}
