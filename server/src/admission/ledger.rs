//! The budgets together: who may have a signature checked, and who pays for it.

use std::{collections::HashMap, time::Duration};

use super::{
    Budget, BudgetExceeded,
    bucket::{Bucket, Nanos},
    source::{Source, SourceTable},
};
use crate::config::SignatureLimits;

/// What every budget has left. It has no clock of its own.
pub(super) struct Budgets {
    limits: SignatureLimits,
    core: Bucket,
    /// Those that had bad signatures; as many as are configured at most.
    issuers: HashMap<Box<str>, Bucket>,
    sources: SourceTable,
    /// The latest moment at which any bucket will be full again.
    all_full_at: Bucket,
    /// The issuer asked for last, kept here since whoever asks may not keep it.
    last_issuer: String,
}

impl Budgets {
    pub(super) fn new(limits: SignatureLimits) -> Self {
        Self {
            limits,
            core: Bucket::default(),
            issuers: HashMap::new(),
            sources: SourceTable::new(limits.sources),
            all_full_at: Bucket::default(),
            last_issuer: String::new(),
        }
    }

    /// Whether a signature in the name of `issuer` may be checked.
    pub(super) fn admit(
        &mut self,
        issuer: &str,
        source: impl FnOnce() -> Source,
        now: Nanos,
    ) -> Result<(), BudgetExceeded> {
        self.last_issuer.clear();
        self.last_issuer.push_str(issuer);
        if self.all_full_at.wait(now) == 0 {
            return Ok(());
        }
        let issuer = self.issuers.get(issuer).copied().unwrap_or_default();
        // The closest first: whoever is the cause is told so.
        for (budget, bucket) in [
            (Budget::Source, self.sources.get(source())),
            (Budget::Issuer, issuer),
            (Budget::Core, self.core),
        ] {
            let wait = bucket.wait(now);
            if wait > 0 {
                return Err(BudgetExceeded {
                    budget,
                    retry_after: Duration::from_nanos(wait).as_secs() + 1,
                });
            }
        }
        Ok(())
    }

    /// Charges the bad signature that was asked for last. Whether another source,
    /// that still owed something, had to be forgotten for this one.
    pub(super) fn charge(&mut self, source: Source, cost: Nanos, now: Nanos) -> bool {
        // What takes longer was interrupted by the system.
        let cost = cost.min(MAX_CHARGE);
        if let Some(share) = self.limits.core {
            self.core.charge(share, cost, now);
        }
        let issuer = self.limits.issuer.map(|share| {
            let bucket = match self.issuers.get_mut(self.last_issuer.as_str()) {
                Some(bucket) => bucket,
                None => self.issuers.entry(self.last_issuer.as_str().into()).or_default(),
            };
            bucket.charge(share, cost, now);
            *bucket
        });
        let (of_source, forgotten) = match self.limits.source {
            Some(share) => self.sources.charge(source, share, cost, now),
            None => (Bucket::default(), false),
        };
        self.all_full_at =
            self.all_full_at.max(self.core).max(issuer.unwrap_or_default()).max(of_source);
        forgotten
    }
}

/// The most that one signature is charged. An 8192-bit RSA key, the dearest there
/// is, takes a third of it.
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

    /// Bad signatures of a millisecond each, one after the other, until one is not
    /// admitted: how many were, and what was spent.
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
    fn a_source_that_has_spent_its_budget_is_alone_in_that() {
        let mut budgets = Budgets::new(limits(50, 50, 5));
        let (admitted, exceeded) = flood(&mut budgets, "a", source(1), SECOND);
        // Five percent of two seconds, and the one that overdraws it.
        assert_eq!((admitted, exceeded.budget, exceeded.retry_after), (101, Budget::Source, 1));
        assert_eq!(
            budgets.admit("b", || source(1), SECOND).map_err(|spent| spent.budget),
            Err(Budget::Source)
        );
        assert_eq!(budgets.admit("a", || source(2), SECOND), Ok(()));
    }

    #[test]
    fn an_issuer_that_is_abused_is_alone_in_that_whoever_abuses_it() {
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
    fn the_core_is_the_last_resort() {
        let mut budgets = Budgets::new(limits(10, 100, 100));
        let (admitted, exceeded) = flood(&mut budgets, "a", source(1), SECOND);
        assert_eq!((admitted, exceeded.budget), (201, Budget::Core));
        assert_eq!(
            budgets.admit("b", || source(2), SECOND).map_err(|spent| spent.budget),
            Err(Budget::Core)
        );
    }

    #[test]
    fn a_budget_comes_back_with_time_and_says_when() {
        let mut budgets = Budgets::new(limits(1, 100, 100));
        let (_, exceeded) = flood(&mut budgets, "a", source(1), SECOND);
        assert_eq!(
            budgets.admit("a", || source(1), SECOND + exceeded.retry_after * SECOND),
            Ok(())
        );
        let (admitted, _) = flood(&mut budgets, "a", source(1), 100 * SECOND);
        assert_eq!(admitted, 21, "and no more than at the start, however long it was quiet");
    }

    #[test]
    fn what_is_off_is_never_spent() {
        let mut budgets =
            Budgets::new(SignatureLimits { core: None, issuer: None, source: None, sources: 64 });
        for _ in 0..10_000 {
            assert_eq!(budgets.admit("a", || source(1), SECOND), Ok(()));
            budgets.charge(source(1), MS, SECOND);
        }
    }

    #[test]
    fn an_interrupted_check_is_not_charged_as_if_it_had_run_all_the_time() {
        let mut budgets = Budgets::new(limits(100, 100, 1));
        budgets.charge(source(1), 3600 * SECOND, SECOND);
        assert_eq!(
            budgets.admit("a", || source(1), SECOND),
            Ok(()),
            "one bad signature spends no budget"
        );
    }

    #[test]
    fn nobody_is_looked_for_while_every_budget_lasts() {
        let mut budgets = Budgets::new(limits(50, 50, 5));
        budgets.charge(source(1), MS, SECOND);
        assert_eq!(budgets.admit("a", || panic!("the address was asked for"), SECOND), Ok(()));
    }
}
