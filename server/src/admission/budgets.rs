//! Signature budgets of one worker: when a signature check is admitted, and what a bad one costs.
//!
//! The core's budget is a limit. The shares of issuers and sources only divide it: they are
//! enforced while little of it is left, so that no time of the core stays unused because of them.
//! Without a budget for the core, the shares are limits themselves.

use std::{cell::Cell, collections::HashMap, rc::Rc, time::Duration};

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
    /// Issuers with bad or waiting signatures; at most the configured ones.
    issuers: HashMap<Box<str>, IssuerBucket>,
    sources: SourceLimiter,
    /// The bucket of all unlisted proxies together.
    unlisted_proxies: Bucket,
    /// The bucket of a share that is full last. While it is not empty, no other one is.
    all_full_at: Bucket,
    /// The issuer passed to the last call of [`Budgets::select`], which [`Budgets::charge`]
    /// charges. Kept here because the caller's reference does not live that long.
    last_issuer: String,
}

/// The bucket of one issuer, shared with the checks that wait for it.
pub(super) type IssuerBucket = Rc<Cell<Bucket>>;

/// The origin of a token, to which its bad signature is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckOrigin {
    /// The client.
    Source(Source),
    /// One of the peers that look like a proxy missing in `trusted_proxies`. Each stands for many
    /// clients, so together they have the share of an issuer.
    UnlistedProxies,
}

impl Budgets {
    pub(super) fn new(limits: SignatureLimits) -> Self {
        Self {
            limits,
            core: Bucket::default(),
            issuers: HashMap::new(),
            sources: SourceLimiter::new(limits.sources, BURST),
            unlisted_proxies: Bucket::default(),
            all_full_at: Bucket::default(),
            last_issuer: String::new(),
        }
    }

    /// Selects the issuer that the next bad signature is charged to.
    pub(super) fn select(&mut self, issuer: &str) {
        self.last_issuer.clear();
        self.last_issuer.push_str(issuer);
    }

    /// Returns the bucket of the selected issuer.
    pub(super) fn issuer(&mut self) -> IssuerBucket {
        match self.issuers.get(self.last_issuer.as_str()) {
            Some(bucket) => Rc::clone(bucket),
            None => Rc::clone(self.issuers.entry(self.last_issuer.as_str().into()).or_default()),
        }
    }

    /// Returns the time until shares are not enforced.
    pub(super) fn time_to_plenty(&self, now: Nanos) -> Nanos {
        match self.limits.core {
            Some(_) => self.core.wait(BURST - RESERVE, now),
            None => self.all_full_at.wait(BURST, now),
        }
    }

    /// Returns the time until a check is admitted, zero if it is now.
    pub(super) fn wait(&self, issuer: Bucket, origin: CheckOrigin, now: Nanos) -> Nanos {
        let shares = self.origin(origin).max(issuer).wait(BURST, now);
        self.core.wait(BURST, now).max(shares.min(self.time_to_plenty(now)))
    }

    /// Returns the error of a check that is not admitted. It names the budget with the largest
    /// debt.
    pub(super) fn exceeded(
        &self,
        issuer: Bucket,
        origin: CheckOrigin,
        now: Nanos,
    ) -> BudgetExceeded {
        let buckets = [
            (self.core, Budget::Core),
            (issuer, Budget::Issuer),
            (self.origin(origin), Budget::Source),
        ];
        // Of equal debts that of the narrowest budget, which is the last.
        let largest = buckets.into_iter().max_by_key(|(bucket, _)| *bucket);
        let wait = Duration::from_nanos(self.wait(issuer, origin, now));
        BudgetExceeded {
            budget: largest.map_or(Budget::Core, |(_, budget)| budget),
            retry_after: wait.as_secs() + 1,
        }
    }

    /// Charges the bad signature of the selected issuer. Returns whether the table evicted another
    /// source that was still in debt.
    pub(super) fn charge(&mut self, origin: CheckOrigin, cost: Nanos, now: Nanos) -> bool {
        if let Some(share) = self.limits.core {
            let cost = share.time_to_earn(cost.min(MAX_CORE_CHARGE));
            self.core.charge(bounded(self.core, cost, now), now);
        }
        // A longer check was interrupted by the operating system's scheduler, which is not the
        // fault of its source. The time of the core is gone nevertheless.
        let cost = cost.min(MAX_CHARGE);
        if let Some(share) = self.limits.issuer {
            let issuer = self.issuer();
            let mut bucket = issuer.get();
            bucket.charge(bounded(bucket, share.time_to_earn(cost), now), now);
            issuer.set(bucket);
            self.all_full_at = self.all_full_at.max(bucket);
        }
        let share = match origin {
            CheckOrigin::Source(_) => self.limits.source,
            CheckOrigin::UnlistedProxies => self.limits.issuer,
        };
        let Some(share) = share else { return false };
        let cost = bounded(self.origin(origin), share.time_to_earn(cost), now);
        let (bucket, evicted) = match origin {
            CheckOrigin::Source(source) => self.sources.charge(source, cost, now),
            CheckOrigin::UnlistedProxies => {
                self.unlisted_proxies.charge(cost, now);
                (self.unlisted_proxies, false)
            }
        };
        self.all_full_at = self.all_full_at.max(bucket);
        evicted
    }

    /// Returns the bucket of an origin.
    pub(super) fn origin(&self, origin: CheckOrigin) -> Bucket {
        match origin {
            CheckOrigin::Source(source) => self.sources.bucket(source),
            CheckOrigin::UnlistedProxies => self.unlisted_proxies,
        }
    }
}

/// Returns as much of `cost` as keeps the debt of a bucket bounded.
fn bounded(bucket: Bucket, cost: Nanos, now: Nanos) -> Nanos {
    cost.min((BURST + MAX_DEBT).saturating_sub(bucket.debt(now)))
}

/// Capacity of a budget, as the time in which its share of a core earns it. Short, because nothing
/// else of the worker runs while a flood uses up the capacity of the core.
const BURST: Nanos = 200_000_000;
/// The part of the core's budget, as such a time, that is reserved for those within their shares.
const RESERVE: Nanos = BURST / 4;
/// Maximum debt of a bucket beyond its capacity, as such a time: shorter than the longest wait, so
/// that the first in the queue is always served. What a source used while shares were not enforced
/// does not block it afterwards.
const MAX_DEBT: Nanos = 40_000_000;
/// Upper bound of the charge for one signature to a share. An 8192-bit RSA key, the most expensive
/// one accepted, takes a third of it.
const MAX_CHARGE: Nanos = 1_000_000;
/// Upper bound of the charge for one signature to the core.
const MAX_CORE_CHARGE: Nanos = 20_000_000;

#[cfg(test)]
mod tests;
