//! Token verification with admission control and key refetches.

use std::sync::Arc;

use countersign_engine::{KeySet, Presentation, Reject, Verified, Verifier};
use countersign_front::Step;

use super::profile::Refusal;
use crate::{
    admission::{Admission, Attempt, BudgetExceeded, CheckTurn, DelayedCheck},
    base::{clock, outcome::Outcome},
    client::{ClientAddress, ClientCertificate},
    keys::{IssuerKeys, KeyRefetch, KeySources},
    observe::metrics::{MetricEvent, Metrics},
};

/// Verifies tokens within the budgets of [`Admission`]. A token with
/// an unknown key is verified again after a refetch of its issuer's keys, and one over budget when
/// it is its turn.
pub struct Authenticator {
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// The keys of the issuers.
    pub keys: Arc<KeySources>,
    /// Counters of outcomes and events.
    pub metrics: Arc<Metrics>,
}

/// The caller that presents a token.
#[derive(Clone, Copy)]
pub struct Caller<'a, 'r> {
    /// The admission budgets of the worker that serves the connection.
    pub admission: &'a Admission,
    /// The address of the client.
    pub client: ClientAddress<'r>,
    /// The certificate of the client.
    pub certificate: ClientCertificate<'r>,
    /// Whether its token may lack the username that its issuer requires.
    pub username_optional: bool,
}

impl<'a> Caller<'a, '_> {
    /// Returns a copy that outlives the request.
    #[must_use]
    pub fn resolved(&self) -> Caller<'a, 'static> {
        Caller {
            admission: self.admission,
            client: self.client.resolved(),
            certificate: self.certificate.resolved(),
            username_optional: self.username_optional,
        }
    }
}

/// A verification that has to wait.
pub enum PendingVerification<'a> {
    /// For a refetch of its issuer's keys.
    Keys(KeyRefetch),
    /// For the turn of its signature check.
    Turn(Box<DelayedCheck<'a>>),
}

/// The rejection of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub reject: Reject,
    /// The budget that is exceeded, if the reason is [`Reject::NotAdmitted`].
    pub exceeded: Option<BudgetExceeded>,
}

impl Rejection {
    /// Returns the outcome that metrics count.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        Outcome::Rejected(self.reject)
    }
}

/// The result of a verification, or the check that waits for its turn.
type Verification<'t, 'a> = Step<Result<Verified<'t>, Rejection>, Box<DelayedCheck<'a>>>;

impl Authenticator {
    /// Verifies a token as of now. Waits for its turn if a budget is exceeded, and if its key is
    /// unknown, for a refetch of its issuer's keys.
    ///
    /// # Errors
    /// The [`Rejection`] of the token.
    pub async fn verify<'t>(
        &self,
        caller: &Caller<'_, '_>,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Rejection> {
        match self.try_verify(caller, token) {
            Step::Done(result) => result,
            Step::Wait(pending) => self.verify_after(caller, pending, token).await,
        }
    }

    /// Verifies a token with the known keys and within the budgets, or returns what to wait for.
    pub fn try_verify<'a, 't>(
        &self,
        caller: &Caller<'a, '_>,
        token: &'t [u8],
    ) -> Step<Result<Verified<'t>, Rejection>, PendingVerification<'a>> {
        let result = self.verify_now(caller, token, None);
        if is_kid_unknown(&result)
            && let Some(refetch) = self.refetch(token)
        {
            return Step::Wait(PendingVerification::Keys(refetch));
        }
        // The key may have arrived in the meantime.
        let result =
            if is_kid_unknown(&result) { self.verify_now(caller, token, None) } else { result };
        match result {
            Step::Done(result) => Step::Done(result),
            Step::Wait(check) => Step::Wait(PendingVerification::Turn(check)),
        }
    }

    /// Verifies a token after what it has to wait for.
    ///
    /// # Errors
    /// The [`Rejection`] of the token.
    pub async fn verify_after<'a, 't>(
        &self,
        caller: &Caller<'a, '_>,
        pending: PendingVerification<'a>,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Rejection> {
        let check = match pending {
            PendingVerification::Keys(refetch) => {
                let verify = || self.verify_now(caller, token, None);
                match refetch.wait(verify, is_kid_unknown).await {
                    Step::Done(result) => return result,
                    Step::Wait(check) => check,
                }
            }
            PendingVerification::Turn(check) => check,
        };
        let turn = check.wait().await.map_err(|exceeded| self.not_admitted(exceeded))?;
        match self.verify_now(caller, token, Some(turn)) {
            Step::Done(result) => result,
            // Never: with a turn, a check is not delayed.
            Step::Wait(_) => Err(Rejection { reject: Reject::NotAdmitted, exceeded: None }),
        }
    }

    fn verify_now<'a, 't>(
        &self,
        caller: &Caller<'a, '_>,
        token: &'t [u8],
        turn: Option<CheckTurn<'_>>,
    ) -> Verification<'t, 'a> {
        let certificate = || caller.certificate.thumbprint();
        let presentation = Presentation {
            certificate: Some(&certificate),
            username_optional: caller.username_optional,
        };
        let presented = (token, clock::now());
        let verifier = &self.verifier;
        let attempt =
            caller.admission.verify(&caller.client, presentation, verifier, presented, turn);
        self.count(&attempt);
        match (attempt.delayed, attempt.result) {
            (Some(Ok(check)), _) => Step::Wait(check),
            (Some(Err(exceeded)), _) => Step::Done(Err(self.not_admitted(exceeded))),
            (None, result) => {
                Step::Done(result.map_err(|reject| Rejection { reject, exceeded: None }))
            }
        }
    }

    fn count(&self, attempt: &Attempt<'_, '_>) {
        if attempt.checked_signature {
            self.metrics.count_event(MetricEvent::SignatureChecked);
            if attempt.evicted_source {
                self.metrics.count_event(MetricEvent::SourceEvicted);
            }
        } else if attempt.delayed.is_some() {
            self.metrics.count_event(MetricEvent::CheckDelayed);
        } else if matches!(&attempt.result, Ok(verified) if verified.is_cached()) {
            self.metrics.count_event(MetricEvent::CacheHit);
        }
    }

    fn not_admitted(&self, exceeded: BudgetExceeded) -> Rejection {
        self.metrics.count_event(MetricEvent::NotAdmitted(exceeded.budget));
        Rejection { reject: Reject::NotAdmitted, exceeded: Some(exceeded) }
    }

    /// Returns the refetch to wait for before a token with an unknown key is rejected.
    pub(super) fn refetch(&self, token: &[u8]) -> Option<KeyRefetch> {
        self.keys.refetch(&self.verifier.claimed_issuer(token)?.name)
    }

    /// Describes the rejection of a token.
    #[must_use]
    pub fn refusal<'t>(&self, rejection: Rejection, token: &'t [u8]) -> Refusal<'t> {
        let Rejection { reject, exceeded } = rejection;
        let issuer = (reject == Reject::KeysUnavailable)
            .then(|| self.verifier.claimed_issuer(token))
            .flatten();
        Refusal { reject, token, issuer, exceeded }
    }

    /// Returns the keys in use of each issuer, in the order of the sections.
    #[must_use]
    pub fn keys_in_use(&self) -> Vec<(Arc<IssuerKeys>, Option<Arc<KeySet>>)> {
        let snapshot = self.verifier.snapshot();
        let keys =
            |source: &IssuerKeys| snapshot.issuer(&source.section().issuer.name)?.keys().cloned();
        self.keys.all().into_iter().map(|source| (Arc::clone(&source), keys(&source))).collect()
    }
}

fn is_kid_unknown(verification: &Verification<'_, '_>) -> bool {
    matches!(verification, Step::Done(Err(Rejection { reject: Reject::KidUnknown, .. })))
}
