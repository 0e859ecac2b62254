//! Requests by tenant, for operators.

use std::{cmp::Reverse, collections::BTreeMap};

use percent_encoding::percent_decode_str;

use super::{RequestSeries, SeriesKey};
use crate::base::route::Route;

/// Number of requests of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantCount {
    /// All requests.
    pub all: u64,
    /// Those with a status of 400 or more.
    pub refused: u64,
}

impl RequestSeries {
    /// Returns the checks of requests since the start by tenant, the most first. Tenants have the
    /// names of their tokens: labels of metrics are encoded as identity headers are.
    #[must_use]
    pub fn tenant_counts(&self) -> Vec<(String, TenantCount)> {
        let mut counts = BTreeMap::<String, TenantCount>::new();
        for totals in self.totals() {
            let Some(SeriesKey::Responses { labels, status, .. }) = totals.key else { continue };
            // Other requests, such as those of the console, have no tenant.
            if !matches!(labels.route, Route::Auth | Route::Check | Route::Verify) {
                continue;
            }
            let name = percent_decode_str(&totals.tenant).decode_utf8_lossy();
            let count = counts.entry(name.into_owned()).or_default();
            count.all += totals.count;
            count.refused += if status >= 400 { totals.count } else { 0 };
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(count.all));
        counts
    }
}
