//! Signature budgets of one worker: admits a signature check, and charges a bad one.

use std::{collections::HashMap, time::Duration};

use super::{
    BudgetExceeded,
    bucket::{Bucket, Nanos},
    settings::SignatureLimits,
    source::{Source, SourceLimiter},
};
use crate::observe::metrics::Budget;

/// Buckets of every budget: of the core, of each issuer and of each source.
///
/// The caller passes the time; this type reads no clock.
pub(super) struct Budgets {
    limits: SignatureLimits,
    core: Bucket,
    /// Issuers with bad signatures; at most the configured ones.
    issuers: HashMap<Box<str>, Bucket>,
    sources: SourceLimiter,
    /// The bucket that is full last. While it is not empty, no other one is.
    all_full_at: Bucket,
    /// The issuer passed to the last call of [`Budgets::admit`], which [`Budgets::charge`]
    /// charges. Kept here because the caller's reference does not live that long.
    last_issuer: String,
}

impl Budgets {
    pub(super) fn new(limits: SignatureLimits) -> Self {
        Self {
            limits,
            core: Bucket::default(),
            issuers: HashMap::new(),
            sources: SourceLimiter::new(limits.sources, BURST),
            all_full_at: Bucket::default(),
            last_issuer: String::new(),
        }
    }

    /// Admits the check of one signature whose token names `issuer`.
    ///
    /// `source` is called only if a budget is empty.
    pub(super) fn admit(
        &mut self,
        issuer: &str,
        source: impl FnOnce() -> Source,
        now: Nanos,
    ) -> Result<(), BudgetExceeded> {
        self.last_issuer.clear();
        self.last_issuer.push_str(issuer);
        if self.all_full_at.wait(BURST, now) == 0 {
            return Ok(());
        }
        let issuer = self.issuers.get(issuer).copied().unwrap_or_default();
        // The narrowest budget first, so that the error names the cause.
        for (budget, wait) in [
            (Budget::Source, self.sources.wait(source(), now)),
            (Budget::Issuer, issuer.wait(BURST, now)),
            (Budget::Core, self.core.wait(BURST, now)),
        ] {
            if wait > 0 {
                return Err(BudgetExceeded {
                    budget,
                    retry_after: Duration::from_nanos(wait).as_secs() + 1,
                });
            }
        }
        Ok(())
    }

    /// Charges the bad signature that was admitted last. Returns whether the table evicted
    /// another source that was still in debt.
    pub(super) fn charge(&mut self, source: Source, cost: Nanos, now: Nanos) -> bool {
        // A longer check was interrupted by the operating system's scheduler.
        let cost = cost.min(MAX_CHARGE);
        if let Some(share) = self.limits.core {
            self.core.charge(share.time_to_earn(cost), now);
        }
        let issuer = self.limits.issuer.map(|share| {
            let bucket = match self.issuers.get_mut(self.last_issuer.as_str()) {
                Some(bucket) => bucket,
                None => self.issuers.entry(self.last_issuer.as_str().into()).or_default(),
            };
            bucket.charge(share.time_to_earn(cost), now);
            *bucket
        });
        let (source_bucket, evicted) = match self.limits.source {
            Some(share) => self.sources.charge(source, share.time_to_earn(cost), now),
            None => (Bucket::default(), false),
        };
        self.all_full_at =
            self.all_full_at.max(self.core).max(issuer.unwrap_or_default()).max(source_bucket);
        evicted
    }
}

/// Capacity of a budget, as the time in which its share of a core earns it.
const BURST: Nanos = 2_000_000_000;
/// Upper bound of the charge for one signature. An 8192-bit RSA key, the most expensive one
/// accepted, takes a third of it.
const MAX_CHARGE: Nanos = 1_000_000;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::admission::Share;

    const MS: Nanos = 1_000_000;
    const SECOND: Nanos = 1000 * MS;

    fn limits(core: u8, issuer: u8, source: u8) -> SignatureLimits {
        SignatureLimits {
            core: Share::new(core),
            issuer: Share::new(issuer),
            source: Share::new(source),
            sources: 64,
        }
    }

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    /// Charges bad signatures of 1 ms each until one is not admitted. Returns how many were
    /// admitted, and the exceeded budget.
    fn flood(
        budgets: &mut Budgets,
        issuer: &str,
        from: Source,
        now: Nanos,
    ) -> (u32, BudgetExceeded) {
        for admitted in 0..100_000 {
            match budgets.admit(issuer, || from, now) {
                Ok(()) => {
                    budgets.charge(from, MS, now);
                }
                Err(exceeded) => return (admitted, exceeded),
            }
        }
        panic!("everything was admitted");
    }

    #[test]
    fn exceeded_source_does_not_affect_other_sources() {
        let mut budgets = Budgets::new(limits(50, 50, 5));
        let (admitted, exceeded) = flood(&mut budgets, "a", source(1), SECOND);
        // 5 % of two seconds, and the signature that overdraws the budget.
        assert_eq!((admitted, exceeded.budget, exceeded.retry_after), (101, Budget::Source, 1));
        assert_eq!(
            budgets.admit("b", || source(1), SECOND).map_err(|spent| spent.budget),
            Err(Budget::Source)
        );
        assert_eq!(budgets.admit("a", || source(2), SECOND), Ok(()));
    }

    #[test]
    fn exceeded_issuer_does_not_affect_other_issuers() {
        let mut budgets = Budgets::new(limits(50, 10, 5));
        let mut last = None;
        for from in 1..=3 {
            last = Some(flood(&mut budgets, "a", source(from), SECOND).1.budget);
        }
        assert_eq!(last, Some(Budget::Issuer));
        assert_eq!(
            budgets.admit("a", || source(9), SECOND).map_err(|spent| spent.budget),
            Err(Budget::Issuer)
        );
        assert_eq!(budgets.admit("b", || source(9), SECOND), Ok(()));
    }

    #[test]
    fn core_budget_limits_all_issuers_and_sources() {
        let mut budgets = Budgets::new(limits(10, 100, 100));
        let (admitted, exceeded) = flood(&mut budgets, "a", source(1), SECOND);
        assert_eq!((admitted, exceeded.budget), (201, Budget::Core));
        assert_eq!(
            budgets.admit("b", || source(2), SECOND).map_err(|spent| spent.budget),
            Err(Budget::Core)
        );
    }

    #[test]
    fn budget_recovers_after_retry_after() {
        let mut budgets = Budgets::new(limits(1, 100, 100));
        let (_, exceeded) = flood(&mut budgets, "a", source(1), SECOND);
        assert_eq!(
            budgets.admit("a", || source(1), SECOND + exceeded.retry_after * SECOND),
            Ok(())
        );
        let (admitted, _) = flood(&mut budgets, "a", source(1), 100 * SECOND);
        assert_eq!(admitted, 21, "an idle budget does not exceed its burst");
    }

    #[test]
    fn disabled_budgets_are_never_exceeded() {
        let mut budgets =
            Budgets::new(SignatureLimits { core: None, issuer: None, source: None, sources: 64 });
        for _ in 0..10_000 {
            assert_eq!(budgets.admit("a", || source(1), SECOND), Ok(()));
            budgets.charge(source(1), MS, SECOND);
        }
    }

    #[test]
    fn charge_for_one_signature_is_bounded() {
        let mut budgets = Budgets::new(limits(100, 100, 1));
        budgets.charge(source(1), 3600 * SECOND, SECOND);
        assert_eq!(
            budgets.admit("a", || source(1), SECOND),
            Ok(()),
            "one bad signature does not use up a budget"
        );
    }

    #[test]
    fn source_is_not_looked_up_while_budgets_last() {
        let mut budgets = Budgets::new(limits(50, 50, 5));
        budgets.charge(source(1), MS, SECOND);
        assert_eq!(budgets.admit("a", || panic!("the source was looked up"), SECOND), Ok(()));
    }
}
