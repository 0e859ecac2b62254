//! `/metrics`, in the Prometheus text format.

use std::{fmt, sync::Arc};

use countersign_engine::{KeySet, Reject};
use http::{Response, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    app::App,
    http::{Body, empty, typed},
    metrics::Outcome,
};

/// Everything counted so far.
pub(super) fn answer(app: &Arc<App>) -> Response<Body> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match encode(app) {
        Ok(text) => typed(StatusCode::OK, OPEN_METRICS, text),
        Err(fmt::Error) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn encode(app: &Arc<App>) -> Result<String, fmt::Error> {
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
        let help = "Requests to verifying routes by outcome";
        let mut family = encoder.encode_descriptor("verifications", help, None, MetricType::Counter)?;
        let plain = [("verified", Outcome::Verified), ("no_token", Outcome::NoToken), ("conflict", Outcome::Conflict)];
        let outcomes = plain.into_iter().map(|(name, outcome)| (name, "", outcome));
        let rejects = Reject::ALL.iter().map(|reject| ("rejected", reject.code(), Outcome::Rejected(*reject)));
        for (name, code, outcome) in outcomes.chain(rejects) {
            let labels = [("outcome", name), ("code", code)];
            ConstCounter::new(metrics.total(outcome)).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("issuer_keys", "Usable keys by issuer section", None, MetricType::Gauge)?;
        for issuer in self.0.verifier.snapshot().issuers() {
            let keys = issuer.keys().map_or(0, KeySet::len);
            let labels = [("section", &*issuer.config().section)];
            ConstGauge::new(i64::try_from(keys).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
