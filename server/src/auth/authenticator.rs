//! Token verification with admission control and key refetches.

use std::sync::{Arc, Once};

use countersign_engine::{
    KeySet, Presentation, Reject, UnixTime, UnknownKid, Verified, Verifier,
    rotation::WithdrawalReason,
};
use countersign_front::Step;

use super::profile::{Profile, Refusal, orchestrate};
use crate::{
    admission::{Admission, Attempt, BudgetExceeded, CheckTurn, DelayedCheck},
    audit::AuditOrigin,
    base::{clock, outcome::Outcome, reply::Reply},
    client::{ClientAddress, ClientCertificate},
    identities::{
        access_token,
        checks::{IdentityChecks, IdentityRefusal},
        settings::{is_access_token, is_limited},
    },
    keys::{
        IssuerKeys, KeySources,
        unknown_kid::{KeyRefetch, KidAnswer, UndecidedKid},
    },
    observe::metrics::{MetricEvent, Metrics},
    revocation::freshness::FollowedFreshness,
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
    /// Checks the uses of access tokens of machine identities, if the server has a database.
    pub identities: Option<Arc<IdentityChecks>>,
    /// How long keys and revocations may be relied on, if they are those of another process. No
    /// token is verified afterwards.
    pub freshness: Option<Arc<FollowedFreshness>>,
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
    /// Whether the token is presented to an API or the console, and not to be checked.
    pub is_call: bool,
}

impl<'a, 'r> Caller<'a, 'r> {
    /// Returns the caller of an API. As in the Inmanta server, a token without a username belongs
    /// to no user.
    #[must_use]
    pub const fn of_api(self) -> Self {
        Self { username_optional: true, is_call: true, ..self }
    }

    /// Returns a copy that outlives the request.
    #[must_use]
    pub fn resolved(&self) -> Caller<'a, 'static> {
        Caller {
            admission: self.admission,
            client: self.client.resolved(),
            certificate: self.certificate.resolved(),
            username_optional: self.username_optional,
            is_call: self.is_call,
        }
    }

    /// Returns where the request came from, for the audit log.
    #[must_use]
    pub fn audited_origin(&self) -> AuditOrigin {
        AuditOrigin {
            client: Some(self.client.get().to_string()),
            peer: Some(self.client.peer().to_string()),
        }
    }
}

/// A verification that has to wait. Boxed, so that others do not pay for its size.
pub enum PendingVerification<'a> {
    /// For a refetch of its issuer's keys.
    Keys(Box<KeyRefetch>),
    /// For the turn of its signature check.
    Turn(Box<DelayedCheck<'a>>),
    /// For what the database has about the use of an access token.
    Use,
}

/// The rejection of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub reject: Reject,
    /// The budget that is exceeded, if the reason is [`Reject::NotAdmitted`].
    pub exceeded: Option<BudgetExceeded>,
    /// The issuer, if the reason is [`Reject::KidUndecided`].
    pub undecided: Option<UndecidedKid>,
    /// Why a genuine access token of a machine identity may not be used. It takes precedence over
    /// `reject`.
    pub identity: Option<IdentityRefusal>,
}

impl Rejection {
    /// Returns the outcome that metrics count.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self.identity {
            Some(refusal) => refusal.outcome(),
            None => Outcome::Rejected(self.reject),
        }
    }
}

/// The result of a verification, or what it waits for.
type VerificationStep<'t, 'a> = Step<Result<Verified<'t>, Rejection>, PendingVerification<'a>>;

impl From<Reject> for Rejection {
    fn from(reject: Reject) -> Self {
        Self { reject, exceeded: None, undecided: None, identity: None }
    }
}

impl From<IdentityRefusal> for Rejection {
    fn from(refusal: IdentityRefusal) -> Self {
        let reject = match refusal {
            IdentityRefusal::Address => Reject::Constraints,
            IdentityRefusal::Exhausted | IdentityRefusal::Revoked => Reject::Revoked,
            IdentityRefusal::Unavailable => Reject::KeysUnavailable,
        };
        Self { identity: Some(refusal), ..reject.into() }
    }
}

impl From<KidAnswer> for Rejection {
    fn from(answer: KidAnswer) -> Self {
        let reject = answer.reject();
        let undecided = match answer {
            KidAnswer::Unknown => None,
            KidAnswer::Undecided(undecided) => Some(undecided),
        };
        Self { undecided, ..reject.into() }
    }
}

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

    /// Verifies tokens at this time, with the results of [`verify`](Self::verify) for each. Tokens
    /// that would have to wait are rejected with [`Reject::KidUnknown`] or [`Reject::NotAdmitted`].
    pub fn verify_batch<'t>(
        &self,
        caller: &Caller<'_, '_>,
        tokens: &[&'t [u8]],
        now: UnixTime,
    ) -> Vec<Result<Verified<'t>, Rejection>> {
        let unknown = self.freshness.as_ref().is_some_and(|freshness| !freshness.is_current());
        let initial = if unknown { Reject::RevocationsUnavailable } else { Reject::NotAdmitted };
        let mut results: Vec<_> = tokens.iter().map(|_| Err(initial)).collect();
        if !unknown {
            let presented = (tokens, now);
            let admission = caller.admission;
            let counts =
                admission.verify_batch(&caller.client, &self.verifier, presented, &mut results);
            for _ in 0..counts.signature_checks {
                self.metrics.count_event(MetricEvent::SignatureChecked);
            }
            for _ in 0..counts.evicted_sources {
                self.metrics.count_event(MetricEvent::SourceEvicted);
            }
            for _ in results.iter().flatten().filter(|verified| verified.is_cached()) {
                self.metrics.count_event(MetricEvent::CacheHit);
            }
        }
        results.into_iter().map(|result| result.map_err(Rejection::from)).collect()
    }

    /// Verifies a token with the known keys and within the budgets, or returns what to wait for.
    pub fn try_verify<'a, 't>(
        &self,
        caller: &Caller<'a, '_>,
        token: &'t [u8],
    ) -> Step<Result<Verified<'t>, Rejection>, PendingVerification<'a>> {
        match self.verify_now(caller, token, None) {
            Ok(verification) => verification,
            Err(unknown) => self.answer_unknown(unknown, caller, token),
        }
    }

    /// Keeps a refused request for operators. `line` is its method and target, as far as they are
    /// known.
    #[cold]
    #[inline(never)]
    pub(super) fn record_refusal<'r>(
        &self,
        reply: &Reply,
        client: &ClientAddress<'_>,
        line: impl FnOnce() -> Option<(&'r str, &'r str)>,
        token: impl FnOnce() -> Option<&'r [u8]>,
    ) {
        let Some(reason) = reply.outcome else { return };
        let issuer = || token().and_then(|token| self.verifier.claimed_issuer(token));
        self.metrics.refused.record(clock::now(), (reason, client.get()), line, issuer);
    }

    /// Checks that an access token of a machine identity is used from a trusted address. `None` if
    /// the database has to be asked. The use is not [counted](Self::try_count_use).
    pub fn try_check_use(
        &self,
        caller: &Caller<'_, '_>,
        verified: &Verified<'_>,
    ) -> Option<Result<(), IdentityRefusal>> {
        let Some(checks) = &self.identities else {
            return Some(Err(IdentityRefusal::Unavailable));
        };
        let checked = checks.try_check(verified, || caller.client.get());
        if checked == Some(Err(IdentityRefusal::Address)) {
            checks.record_untrusted_use(verified, caller.audited_origin());
        }
        checked
    }

    /// Verifies a token that is used for a request, after what it has to wait for. A use of a token
    /// with a limit is not [counted](Self::count_use).
    ///
    /// # Errors
    /// The [`Rejection`] of the token.
    pub async fn use_after<'a, 't>(
        &self,
        caller: &Caller<'a, '_>,
        pending: PendingVerification<'a>,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Rejection> {
        let verified = self.verify_after(caller, pending, token).await?;
        if !is_access_token(&verified) {
            return Ok(verified);
        }
        let method = verified.claims().environment().unwrap_or_default().to_owned();
        drop(verified);
        let checks = self.identities.as_ref().ok_or(IdentityRefusal::Unavailable)?;
        if let Err(refusal) = checks.check_address(&method, caller.client.get()).await {
            if refusal == IdentityRefusal::Address
                && let Ok(verified) = self.verify(caller, token).await
            {
                checks.record_untrusted_use(&verified, caller.audited_origin());
            }
            return Err(refusal.into());
        }
        // It may have been revoked meanwhile.
        self.verify(caller, token).await
    }

    /// Counts the use of a token, if it has a limit of uses. The last step: a request that is
    /// refused for another reason does not count. Returns `false` if the database has to be asked.
    pub fn try_count_use(&self, verified: &Verified<'_>) -> bool {
        if !is_limited(verified) {
            return true;
        }
        let claims = verified.claims().json();
        let id = access_token::id_in(&claims);
        self.identities.as_ref().zip(id).is_some_and(|(checks, id)| checks.uses.try_count(id))
    }

    /// Counts the use of a token as [`try_count_use`](Self::try_count_use), after a wait.
    ///
    /// # Errors
    /// The [`Rejection`] of the token.
    pub async fn count_use(&self, verified: &Verified<'_>) -> Result<(), Rejection> {
        if !is_limited(verified) {
            return Ok(());
        }
        let claims = verified.claims().json();
        let id = access_token::id_in(&claims);
        let (checks, id) = self.identities.as_ref().zip(id).ok_or(IdentityRefusal::Unavailable)?;
        Ok(checks.count_use(id).await?)
    }

    /// Verifies a token after what it has to wait for.
    ///
    /// # Errors
    /// The [`Rejection`] of the token.
    pub async fn verify_after<'a, 't>(
        &self,
        caller: &Caller<'a, '_>,
        mut pending: PendingVerification<'a>,
        token: &'t [u8],
    ) -> Result<Verified<'t>, Rejection> {
        loop {
            let verification = match pending {
                PendingVerification::Keys(refetch) => {
                    self.resolve_after(*refetch, || self.verify_now(caller, token, None)).await?
                }
                PendingVerification::Turn(check) => {
                    let turn =
                        check.wait().await.map_err(|exceeded| self.not_admitted(exceeded))?;
                    match self.verify_now(caller, token, Some(turn)) {
                        Ok(verification) => verification,
                        // Its keys have changed in the meantime.
                        Err(unknown) => self.answer_unknown(unknown, caller, token),
                    }
                }
                PendingVerification::Use => self.try_verify(caller, token),
            };
            match verification {
                Step::Done(result) => return result,
                Step::Wait(next) => pending = next,
            }
        }
    }

    #[cold]
    fn answer_unknown<'a, 't>(
        &self,
        unknown: Box<UnknownKid>,
        caller: &Caller<'a, '_>,
        token: &'t [u8],
    ) -> VerificationStep<'t, 'a> {
        match self.try_resolve(Err(unknown), || self.verify_now(caller, token, None)) {
            Step::Done(Ok(verification)) => verification,
            Step::Done(Err(answer)) => Step::Done(Err(answer.into())),
            Step::Wait(refetch) => Step::Wait(PendingVerification::Keys(Box::new(refetch))),
        }
    }

    /// Returns the result of `verify`. If that is an unknown `kid`, waits for a refetch of the
    /// issuer's keys and calls it again.
    ///
    /// # Errors
    /// The answer to a token whose `kid` is still unknown.
    pub async fn resolve<T>(
        &self,
        verify: impl Fn() -> Result<T, Box<UnknownKid>>,
    ) -> Result<T, KidAnswer> {
        match self.try_resolve(verify(), &verify) {
            Step::Done(result) => result,
            Step::Wait(refetch) => self.resolve_after(refetch, verify).await,
        }
    }

    fn try_resolve<T>(
        &self,
        mut attempt: Result<T, Box<UnknownKid>>,
        verify: impl Fn() -> Result<T, Box<UnknownKid>>,
    ) -> Step<Result<T, KidAnswer>, KeyRefetch> {
        loop {
            let unknown = match attempt {
                Ok(result) => return Step::Done(Ok(result)),
                Err(unknown) => unknown,
            };
            match self.keys.answer(&unknown) {
                Step::Wait(refetch) => return Step::Wait(refetch),
                Step::Done(answer) if self.verifier.is_still_unknown(&unknown) => {
                    return Step::Done(Err(answer));
                }
                // Other keys have arrived in the meantime.
                Step::Done(_) => attempt = verify(),
            }
        }
    }

    async fn resolve_after<T>(
        &self,
        refetch: KeyRefetch,
        verify: impl Fn() -> Result<T, Box<UnknownKid>>,
    ) -> Result<T, KidAnswer> {
        refetch.wait(|unknown| self.verifier.is_still_unknown(unknown), verify).await
    }

    /// Verifies a token, unless its `kid` is unknown. With a turn, its signature check does not
    /// wait.
    fn verify_now<'a, 't>(
        &self,
        caller: &Caller<'a, '_>,
        token: &'t [u8],
        turn: Option<CheckTurn<'_>>,
    ) -> Result<VerificationStep<'t, 'a>, Box<UnknownKid>> {
        if self.freshness.as_ref().is_some_and(|freshness| !freshness.is_current()) {
            return Ok(Step::Done(Err(Reject::RevocationsUnavailable.into())));
        }
        let certificate = || caller.certificate.thumbprint();
        let presentation = Presentation {
            certificate: Some(&certificate),
            username_optional: caller.username_optional,
        };
        let presented = (token, clock::now());
        let verifier = &self.verifier;
        let attempt =
            caller.admission.verify(&caller.client, presentation, verifier, presented, turn);
        self.count(&attempt, caller.is_call);
        let Attempt { result, unknown_kid, delayed, .. } = attempt;
        if let Some(unknown) = unknown_kid {
            return Err(unknown);
        }
        Ok(match delayed {
            None => Step::Done(result.map_err(Rejection::from)),
            Some(Ok(check)) => Step::Wait(PendingVerification::Turn(check)),
            Some(Err(exceeded)) => Step::Done(Err(self.not_admitted(exceeded))),
        })
    }

    fn count(&self, attempt: &Attempt<'_, '_>, is_call: bool) {
        let (hit, checked) = if is_call {
            (MetricEvent::CallCacheHit, MetricEvent::CallSignatureChecked)
        } else {
            (MetricEvent::CacheHit, MetricEvent::SignatureChecked)
        };
        for _ in 0..attempt.signature_checks {
            self.metrics.count_event(checked);
        }
        if attempt.evicted_source {
            self.metrics.count_event(MetricEvent::SourceEvicted);
        }
        if attempt.delayed.is_some() {
            self.metrics.count_event(MetricEvent::CheckDelayed);
        } else if matches!(&attempt.result, Ok(verified) if verified.is_cached()) {
            self.metrics.count_event(hit);
        }
    }

    fn not_admitted(&self, exceeded: BudgetExceeded) -> Rejection {
        self.metrics.count_event(MetricEvent::NotAdmitted(exceeded.budget));
        Rejection { exceeded: Some(exceeded), ..Reject::NotAdmitted.into() }
    }

    /// Describes the rejection of a token, as far as the messages of a profile need it.
    #[must_use]
    pub fn refusal<'t>(
        &self,
        profile: Profile,
        rejection: Rejection,
        token: &'t [u8],
    ) -> Refusal<'t> {
        let Rejection { reject, exceeded, undecided, identity: _ } = rejection;
        let retry_after = undecided.as_ref().map(|undecided| undecided.retry_after);
        let issuer = match undecided {
            Some(undecided) => Some(undecided.issuer),
            None if matches!(reject, Reject::KeysUnavailable | Reject::Scope) => {
                self.verifier.claimed_issuer(token)
            }
            None => None,
        };
        let is_emptied = reject == Reject::KeysUnavailable
            && issuer.as_ref().is_some_and(|issuer| {
                self.keys.withdrawal(&issuer.name) == Some(WithdrawalReason::Emptied)
            });
        let is_skipped = reject == Reject::KeySkipped;
        let skipped = is_skipped.then(|| self.verifier.skipped_key(token)).flatten();
        let names_slash = profile == Profile::Orchestrate && reject == Reject::IssuerUnknown;
        Refusal {
            reject,
            token,
            issuer,
            exceeded,
            retry_after,
            is_emptied,
            skipped,
            differs_by_slash: names_slash && self.differs_by_slash(token),
        }
    }

    /// Whether the `iss` of a token differs from a configured issuer by a trailing slash alone.
    /// Logs it once, because the token is unverified: clients could otherwise fill the log.
    #[cold]
    fn differs_by_slash(&self, token: &[u8]) -> bool {
        let sources = self.keys.all();
        let issuers = sources.iter().map(|source| &source.section().issuer);
        let names = issuers.flat_map(|issuer| [&issuer.name].into_iter().chain(&issuer.aliases));
        let differs = orchestrate::differs_by_slash(token, names.map(|name| &**name));
        if differs {
            static REPORTED: Once = Once::new();
            REPORTED.call_once(|| {
                tracing::warn!(
                    "a token was refused because its issuer (iss) differs from a configured one \
                     only by a trailing slash: write the issuer as the provider does"
                );
            });
        }
        differs
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
