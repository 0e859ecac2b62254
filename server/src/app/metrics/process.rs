//! Metrics of the process and of what it depends on: files and the database.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{Labels, Scrape, counters, gauges};
use crate::{
    observe::{process::ProcessFigures, reloads::ReloadKind},
    tls::settings::TlsFileKind,
};

impl Scrape {
    pub(super) fn encode_build(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        gauges(encoder, "build_info", "Version of the program, with the value 1", [(labels, 1)])
    }

    /// Listeners without such a file are omitted.
    pub(super) fn encode_certificates(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        let settings = self.0.settings();
        for (part, name, help) in [
            (
                TlsFileKind::Certificate,
                "certificate_expiry_timestamp_seconds",
                "When the first certificate of the listener's chain expires",
            ),
            (
                TlsFileKind::ClientAuthorities,
                "client_ca_expiry_timestamp_seconds",
                "When the first certificate of the clients' authorities expires",
            ),
            (
                TlsFileKind::Revoked,
                "client_crl_expiry_timestamp_seconds",
                "When the first revocation list of the clients' authorities expires",
            ),
        ] {
            let expiries = settings.listeners.iter().filter_map(|listener| {
                let expires_at = listener.tls.as_ref()?.expires_at(part)?;
                Some(([("listener", &*listener.name)], expires_at))
            });
            gauges(encoder, name, help, expiries)?;
        }
        Ok(())
    }

    pub(super) fn encode_reloads(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        let reloads = || ReloadKind::ALL.map(|kind| (kind.name(), self.0.reloads(kind)));
        let results = reloads().into_iter().flat_map(|(kind, results)| {
            results.counts().map(|(result, count)| ([("kind", kind), ("result", result)], count))
        });
        counters(encoder, "reloads", "Reloads of files, by result", results)?;
        let current =
            reloads().map(|(kind, results)| ([("kind", kind)], i64::from(results.is_current())));
        gauges(encoder, "reload_successful", "1 if the last reload succeeded", current)?;
        let last = reloads().map(|(kind, results)| ([("kind", kind)], results.last_success()));
        let help = "When files were last loaded successfully";
        gauges(encoder, "reload_last_success_timestamp_seconds", help, last)
    }

    /// Encodes nothing without a database in use.
    pub(super) fn encode_database(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        const NO_LABELS: Labels<'static, 0> = [];
        let Some(health) = self.0.database_health() else { return Ok(()) };
        let reachable = i64::from(health.is_reachable);
        let help = "1 if the last query was answered";
        gauges(encoder, "database_reachable", help, [(NO_LABELS, reachable)])?;
        let failed_at = health.last_failure.map(|at| (NO_LABELS, at));
        let help = "When a query last failed";
        gauges(encoder, "database_last_failure_timestamp_seconds", help, failed_at)?;
        let results = [("success", health.answered), ("failure", health.failed)];
        let results = results.map(|(result, count)| ([("result", result)], count));
        counters(encoder, "database_queries", "Queries, by result", results)?;
        let total = ConstCounter::new(health.total.as_secs_f64());
        total.encode(encoder.encode_descriptor(
            "database_query_seconds",
            "Time of all queries",
            None,
            MetricType::Counter,
        )?)
    }
}

/// Collector of the figures of the process. Their names are those of all Prometheus clients, so
/// they have no prefix.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = ProcessFigures::read();
        let mut encode = |name, help, kind, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let encoder: MetricEncoder<'_> = encoder.encode_descriptor(name, help, None, kind)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(encoder),
                _ => ConstGauge::new(value).encode(encoder),
            }
        };
        let number = |value: Option<u64>| value.map(|value| value as f64);
        encode(
            "process_cpu_seconds",
            "Processor time of the process",
            MetricType::Counter,
            figures.cpu_seconds,
        )?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", number(figures.resident_bytes)),
            ("process_virtual_memory_bytes", "Virtual memory", number(figures.virtual_bytes)),
            ("process_start_time_seconds", "Start of the process", figures.start_time),
            ("process_threads", "Threads of the process", number(figures.threads)),
            ("process_open_fds", "Open file descriptors", number(figures.open_fds)),
            ("process_max_fds", "Limit of open file descriptors", number(figures.max_fds)),
        ] {
            encode(name, help, MetricType::Gauge, value)?;
        }
        Ok(())
    }
}
