//! Counters, kept per thread and summed when somebody looks, and logs.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use countersign_engine::Reject;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

use crate::app::App;

/// What a request to a verifying route ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token was verified.
    Verified,
    /// A token was refused.
    Rejected(Reject),
    /// No token came.
    NoToken,
    /// The credential header came twice.
    Conflict,
}

const REJECTS: usize = Reject::ALL.len();
const VERIFIED: usize = REJECTS;
const NO_TOKEN: usize = REJECTS + 1;
const CONFLICT: usize = REJECTS + 2;
const SLOTS: usize = REJECTS + 3;

impl Outcome {
    fn slot(self) -> usize {
        match self {
            Self::Rejected(reject) => Reject::ALL.iter().position(|one| *one == reject).unwrap_or(0),
            Self::Verified => VERIFIED,
            Self::NoToken => NO_TOKEN,
            Self::Conflict => CONFLICT,
        }
    }
}

/// One thread's counters, on cache lines of their own.
#[repr(align(128))]
struct Shard([AtomicU64; SLOTS]);

/// The counters of all threads.
///
/// # Synchronization
/// Every thread adds to its own shard, relaxed: a count orders nothing else, and
/// a scrape may see one thread's latest request and not yet another's.
pub struct Metrics(Vec<Shard>);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

impl Metrics {
    pub(crate) fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| Shard([const { AtomicU64::new(0) }; SLOTS])).collect())
    }

    /// Makes the calling thread count in shard `index`.
    pub fn use_shard(index: usize) {
        SHARD.set(index);
    }

    /// Counts one request to a verifying route.
    pub fn count(&self, outcome: Outcome) {
        let shard = &self.0[SHARD.get() % self.0.len()];
        shard.0[outcome.slot()].fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, slot: usize) -> u64 {
        self.0.iter().map(|shard| shard.0[slot].load(Ordering::Relaxed)).sum()
    }
}

/// The metrics of `app` in the Prometheus text format.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub fn encode(app: &Arc<App>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("countersign");
    registry.register_collector(Box::new(Scrape(Arc::clone(app))));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

struct Scrape(Arc<App>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.0.metrics;
        let mut family =
            encoder.encode_descriptor("verifications", "Requests to verifying routes by outcome", None, MetricType::Counter)?;
        for (outcome, slot) in [("verified", VERIFIED), ("no_token", NO_TOKEN), ("conflict", CONFLICT)] {
            let labels = [("outcome", outcome), ("code", "")];
            ConstCounter::new(metrics.sum(slot)).encode(family.encode_family(&labels)?)?;
        }
        for (slot, reject) in Reject::ALL.iter().enumerate() {
            let labels = [("outcome", "rejected"), ("code", reject.code())];
            ConstCounter::new(metrics.sum(slot)).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("issuer_keys", "Usable keys by issuer section", None, MetricType::Gauge)?;
        for issuer in self.0.verifier.snapshot().issuers() {
            let keys = issuer.keys().map_or(0, countersign_engine::KeySet::len);
            let labels = [("section", &*issuer.config().section)];
            ConstGauge::new(i64::try_from(keys).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Starts logging to standard error: lines for people on a terminal, JSON
/// otherwise. `COUNTERSIGN_LOG` filters, as in `debug` or `countersign_server=trace`.
pub fn start_logging() {
    use std::io::IsTerminal as _;
    let filter = EnvFilter::try_from_env("COUNTERSIGN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).init();
    }
}
