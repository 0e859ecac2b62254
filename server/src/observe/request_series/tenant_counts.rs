//! Requests by tenant, for operators.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{RequestSeries, SeriesKey};

/// Number of requests of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantCount {
    /// All requests.
    pub all: u64,
    /// Those with a status of 400 or more.
    pub refused: u64,
}

impl RequestSeries {
    /// Returns the requests since the start by tenant, the most first.
    #[must_use]
    pub fn tenant_counts(&self) -> Vec<(String, TenantCount)> {
        let mut counts = BTreeMap::<String, TenantCount>::new();
        for totals in self.totals() {
            let Some(SeriesKey::Responses { status, .. }) = totals.key else { continue };
            let count = counts.entry(totals.tenant).or_default();
            count.all += totals.count;
            count.refused += if status >= 400 { totals.count } else { 0 };
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(count.all));
        counts
    }
}
