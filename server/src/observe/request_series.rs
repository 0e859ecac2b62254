//! [`RequestSeries`]: counters of requests and connections with the labels of Orchestrate's
//! metrics, for `orchestrate_names` of `[metrics]`.
//!
//! Unlike [`Metrics`](super::metrics::Metrics), requests are counted by listener, method and, by a
//! further option, tenant. Only the combinations that occur take memory, in a table of fixed size
//! for each thread. Combinations beyond it are counted together.

mod labels;
mod table;
mod tenant_counts;
mod tenants;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use countersign_front::TlsParameters;
use http::StatusCode;

pub use self::{
    labels::{RequestLabels, SeriesKey, TlsLabels},
    table::LATENCY_BOUNDS,
    tenant_counts::TenantCount,
};
use self::{
    table::{Series, SeriesTable},
    tenants::{OTHER_TENANTS, TenantLabels},
};
use super::{metrics::current_shard, settings::MetricsSettings};
use crate::base::tenant_label::TenantLabel;

/// The counters of all threads.
///
/// # Synchronization
/// All operations are relaxed: a counter orders no other access. A slot is claimed by exchanging
/// its key once, and its counters are zero before that. Usually only one thread writes to a table.
pub struct RequestSeries {
    tables: Vec<SeriesTable>,
    tenants: TenantLabels,
}

impl RequestSeries {
    /// Creates the counters of this many threads, one at least. `None` if the settings do not ask
    /// for them.
    #[must_use]
    pub fn new(threads: usize, settings: &MetricsSettings) -> Option<Self> {
        /// Room for the routes, methods and statuses of a few listeners.
        const BASE_SLOTS: usize = 1024;
        const SLOTS_PER_TENANT: usize = 16;
        let tenants = settings.orchestrate_tenants;
        let slots = (BASE_SLOTS + tenants * SLOTS_PER_TENANT).next_power_of_two();
        settings.orchestrate_names.then(|| Self {
            tables: (0..threads.max(1)).map(|_| SeriesTable::new(slots)).collect(),
            tenants: TenantLabels::new(tenants),
        })
    }

    /// Returns the label of a tenant, which is that of others if there are too many.
    #[must_use]
    pub fn tenant_label(&self, tenant: &[u8]) -> TenantLabel {
        self.tenants.label(tenant)
    }

    /// Counts a response, and its latency from the end of the request's head.
    pub fn count(
        &self,
        (labels, tls): (RequestLabels, Option<TlsParameters>),
        tenant: TenantLabel,
        status: StatusCode,
        took: Duration,
    ) {
        let table = self.table();
        let key = SeriesKey::Responses { labels, tenant, status: status.as_u16() };
        let series = table.series(key.packed());
        series.count.fetch_add(1, Ordering::Relaxed);
        series.observe(took);
        if let Some(tls) = tls {
            let RequestLabels { listener, route, .. } = labels;
            let key = SeriesKey::OverTls { listener, route, tenant, tls: tls.into() };
            if let Some(series) = table.slot(key.packed()) {
                series.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts a request as in progress until the returned guard is dropped.
    #[must_use]
    pub fn open(&self, labels: RequestLabels, tls: Option<TlsParameters>) -> OpenRequest<'_> {
        let series = self.table().slot(SeriesKey::InProgress(labels).packed());
        let open = series.map(|series| &series.count);
        if let Some(open) = open {
            open.fetch_add(1, Ordering::Relaxed);
        }
        OpenRequest { labels, tls, open }
    }

    /// Counts a connection as opened.
    pub fn connection_opened(&self, listener: usize) {
        if let Some(series) = self.connections(listener) {
            series.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a connection as closed.
    pub fn connection_closed(&self, listener: usize, open_for: Duration) {
        if let Some(series) = self.connections(listener) {
            series.observe(open_for);
        }
    }

    fn connections(&self, listener: usize) -> Option<&Series> {
        self.table().slot(SeriesKey::of_connections(listener).packed())
    }

    fn table(&self) -> &SeriesTable {
        &self.tables[current_shard() % self.tables.len()]
    }

    /// Returns the totals of all combinations of labels that occurred, in a fixed order.
    #[must_use]
    pub fn totals(&self) -> Vec<SeriesTotals> {
        let names = self.tenants.names();
        let mut totals: BTreeMap<u64, SeriesTotals> = BTreeMap::new();
        for (word, series) in self.tables.iter().flat_map(SeriesTable::used) {
            let total = totals.entry(word).or_insert_with(|| {
                let key = SeriesKey::unpacked(word);
                let tenant = key.and_then(|key| names.get(&key.tenant()));
                SeriesTotals::new(key, tenant.map_or(OTHER_TENANTS, String::as_str))
            });
            total.add(series);
        }
        totals.into_values().collect()
    }
}

impl Series {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = LATENCY_BOUNDS.iter().take_while(|bound| seconds > **bound).count();
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Guard that counts a request as in progress until it is dropped.
pub struct OpenRequest<'m> {
    /// The labels of the request.
    pub labels: RequestLabels,
    /// TLS of its connection.
    pub tls: Option<TlsParameters>,
    /// Its counter; `None` if the table has no room for it.
    open: Option<&'m AtomicU64>,
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.open {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The sums of one combination of labels over all threads.
#[derive(Debug)]
pub struct SeriesTotals {
    /// The labels; `None` for responses that are counted together.
    pub key: Option<SeriesKey>,
    /// The tenant.
    pub tenant: String,
    /// Number of requests, or of connections that were opened.
    pub count: u64,
    /// Number of times up to each of [`LATENCY_BOUNDS`] and over the one before it; the last has no
    /// bound.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// Sum of all times.
    pub total: Duration,
}

impl SeriesTotals {
    fn new(key: Option<SeriesKey>, tenant: &str) -> Self {
        let (buckets, total) = (Default::default(), Duration::ZERO);
        Self { key, tenant: tenant.into(), count: 0, buckets, total }
    }

    fn add(&mut self, series: &Series) {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Requests in progress: one may be seen as ended before it is seen as begun.
        self.count = self.count.wrapping_add(value(&series.count));
        self.buckets.iter_mut().zip(&series.buckets).for_each(|(to, count)| *to += value(count));
        self.total += Duration::from_nanos(value(&series.nanos));
    }

    /// Returns the number of times in the histogram.
    #[must_use]
    pub fn observed(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use countersign_front::Peer;

    use super::*;
    use crate::base::route::Route;

    fn series(orchestrate_tenants: usize) -> RequestSeries {
        let settings = MetricsSettings { orchestrate_names: true, orchestrate_tenants };
        RequestSeries::new(2, &settings).unwrap()
    }

    fn labels(method: &str) -> RequestLabels {
        let peer =
            Peer { address: Ipv4Addr::LOCALHOST.into(), listener: 1, certificates: &[], tls: None };
        RequestLabels::new(&peer, Route::Auth, method)
    }

    #[test]
    fn series_are_counted_by_their_labels() {
        let series = series(0);
        let took = Duration::from_millis(5);
        for (method, status) in [("GET", 200), ("GET", 200), ("GET", 401), ("BREW", 200)] {
            let status = StatusCode::from_u16(status).unwrap();
            series.count((labels(method), None), TenantLabel::default(), status, took);
        }
        let open = series.open(labels("GET"), None);
        let count = |key| {
            let totals = series.totals();
            let total = totals.iter().find(|total| total.key == Some(key)).unwrap();
            (total.count, total.buckets[0])
        };
        let responses = |method, status| {
            let tenant = TenantLabel::default();
            SeriesKey::Responses { labels: labels(method), tenant, status }
        };
        assert_eq!(count(responses("GET", 200)), (2, 2));
        assert_eq!(count(responses("GET", 401)), (1, 1));
        assert_eq!(count(responses("EXTENSION_METHOD", 200)), (1, 1));
        assert_eq!(count(SeriesKey::InProgress(labels("GET"))), (1, 0));
        drop(open);
        assert_eq!(count(SeriesKey::InProgress(labels("GET"))), (0, 0));
    }

    #[test]
    fn tenants_have_series_of_their_own() {
        let series = series(1);
        for name in ["a", "b", "a"] {
            let tenant = series.tenant_label(name.as_bytes());
            series.count((labels("GET"), None), tenant, StatusCode::OK, Duration::ZERO);
        }
        let totals = series.totals();
        let counts: Vec<_> = totals.iter().map(|one| (&*one.tenant, one.count)).collect();
        assert_eq!(counts, [("_", 1), ("a", 2)]);
    }

    #[test]
    fn connections_are_opened_and_closed() {
        let series = series(0);
        series.connection_opened(7);
        series.connection_opened(7);
        series.connection_closed(7, Duration::from_secs(60));
        let totals = series.totals();
        assert_eq!((totals[0].count, totals[0].observed()), (2, 1));
        assert_eq!(totals[0].buckets[LATENCY_BOUNDS.len()], 1);
        assert_eq!(totals[0].key.unwrap().listener(), 7);
    }
}
