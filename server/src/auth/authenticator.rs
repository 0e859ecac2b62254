//! Token verification with admission control and key refetches.

use std::sync::Arc;

use countersign_engine::{KeySet, Presentation, Reject, Verified, Verifier};
use countersign_front::Step;

use super::profile::Refusal;
use crate::{
    admission::{Admission, Attempt, BudgetExceeded},
    base::{clock, outcome::Outcome},
    client::{ClientAddress, ClientCertificate},
    keys::{IssuerKeys, KeyRefetch, KeySources},
    observe::metrics::{MetricEvent, Metrics},
};

/// Verifies tokens within the budgets of [`Admission`]. A token with
/// an unknown key is verified again after a refetch of its issuer's keys.
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

impl Authenticator {
    /// Verifies a token as of now. If its key is unknown, waits for a refetch of its issuer's keys
    /// and verifies the token again.
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
            Step::Wait(refetch) => self.verify_after(caller, refetch, token).await,
        }
    }

    /// Verifies a token with the known keys, or returns the refetch to wait for.
    pub fn try_verify<'t>(
        &self,
        caller: &Caller<'_, '_>,
        token: &'t [u8],
    ) -> Step<Result<Verified<'t>, Rejection>, KeyRefetch> {
        let result = self.verify_now(caller, token);
        if !is_kid_unknown(&result) {
            return Step::Done(result);
        }
        match self.refetch(token) {
            Some(refetch) => Step::Wait(refetch),
            // The key may have arrived in the meantime.
            None => Step::Done(self.verify_now(caller, token)),
        }
    }

    /// Verifies a token after the refetch of its issuer's keys.
    ///
    /// # Errors
    /// The [`Rejection`] of the token.
    pub async fn verify_after<'t>(
        &self,
        caller: &Caller<'_, '_>,
        refetch: KeyRefetch,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Rejection> {
        refetch.wait(|| self.verify_now(caller, token), is_kid_unknown).await
    }

    fn verify_now<'t>(
        &self,
        caller: &Caller<'_, '_>,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Rejection> {
        let certificate = || caller.certificate.thumbprint();
        let presentation = Presentation {
            certificate: Some(&certificate),
            username_optional: caller.username_optional,
        };
        let now = clock::now();
        let attempt =
            caller.admission.verify(&caller.client, presentation, &self.verifier, token, now);
        self.count(&attempt);
        attempt.result.map_err(|reject| Rejection { reject, exceeded: attempt.exceeded })
    }

    fn count(&self, attempt: &Attempt<'_>) {
        if attempt.checked_signature {
            self.metrics.count_event(MetricEvent::SignatureChecked);
            if attempt.evicted_source {
                self.metrics.count_event(MetricEvent::SourceEvicted);
            }
        } else if let Some(BudgetExceeded { budget, .. }) = attempt.exceeded {
            self.metrics.count_event(MetricEvent::NotAdmitted(budget));
        } else if matches!(&attempt.result, Ok(verified) if verified.is_cached()) {
            self.metrics.count_event(MetricEvent::CacheHit);
        }
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

fn is_kid_unknown<T>(result: &Result<T, Rejection>) -> bool {
    matches!(result, Err(Rejection { reject: Reject::KidUnknown, .. }))
}
