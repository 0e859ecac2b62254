//! Admission of the tokens of a batch.
//!
//! They are admitted one by one, in the budgets and by the rules of single ones. Only the charge
//! comes later: signatures are checked together, so each bad one costs its share of the time that
//! all checks of the batch took. A budget may be overdrawn by one batch, which is why batches are
//! short.

use countersign_engine::{Reject, SignatureCheck, UnixTime, Verified, Verifier};

use super::{Admission, origin, warn_about_unlisted_proxy};
use crate::client::ClientAddress;

/// Counts of [`Admission::verify_batch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// Number of keys that signatures were checked with.
    pub signature_checks: u32,
    /// Number of times that a source in debt was evicted to charge this one.
    pub evicted_sources: u32,
}

/// The signature checks that were admitted, by token.
#[derive(Default)]
struct AdmittedChecks {
    /// The index of each token with the name of its issuer, as an index of `issuers`.
    checks: Vec<(usize, usize)>,
    issuers: Vec<Box<str>>,
}

impl AdmittedChecks {
    fn add(&mut self, token: usize, issuer: &str) {
        let known = self.issuers.iter().position(|known| **known == *issuer);
        let index = known.unwrap_or_else(|| {
            self.issuers.push(issuer.into());
            self.issuers.len() - 1
        });
        self.checks.push((token, index));
    }
}

impl Admission {
    /// Verifies tokens within the budgets, with the results of one after the other. A token over
    /// budget is [`Reject::NotAdmitted`] and not delayed: [`verify`](Self::verify) does that.
    pub fn verify_batch<'t>(
        &self,
        client: &ClientAddress<'_>,
        verifier: &Verifier,
        (tokens, now): (&[&'t [u8]], UnixTime),
        results: &mut [Result<Verified<'t>, Reject>],
    ) -> BatchCounts {
        let (started, mut admitted) = (self.now(), AdmittedChecks::default());
        let admit = |token: usize, check: &SignatureCheck<'_>| {
            let issuer = &*check.issuer.name;
            let is_admitted =
                self.queue.borrow_mut().admit(issuer, || origin(client), self.now()).is_ok();
            if is_admitted {
                admitted.add(token, issuer);
            }
            is_admitted
        };
        verifier.verify_batch_with(tokens, now, admit, results);
        let signature_checks = u32::try_from(admitted.checks.len()).unwrap_or(u32::MAX);
        let cost = self.now().saturating_sub(started) / u64::from(signature_checks.max(1));
        let is_bad = |token: usize| {
            matches!(results.get(token), Some(Err(Reject::Signature | Reject::NotAdmitted)))
        };
        let mut evicted_sources = 0;
        for (_, issuer) in admitted.checks.iter().filter(|(token, _)| is_bad(*token)) {
            warn_about_unlisted_proxy(client);
            let budgets = &mut self.queue.borrow_mut().budgets;
            budgets.select(&admitted.issuers[*issuer]);
            evicted_sources += u32::from(budgets.charge(origin(client), cost, self.now()));
        }
        BatchCounts { signature_checks, evicted_sources }
    }
}
