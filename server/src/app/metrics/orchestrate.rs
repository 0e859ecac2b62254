//! Metrics of requests and connections with the names and labels of Orchestrate, for
//! `orchestrate_names`.
//!
//! Their meaning is ours: a `service` is a route, and an open connection a request in progress, as
//! in Orchestrate. Its metrics about backends that it calls have no counterpart.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::{Labels, counters, gauges};
use crate::{
    app::App,
    config::{Listener, Settings},
    observe::request_series::{LATENCY_BOUNDS, RequestLabels, SeriesKey, SeriesTotals},
};

/// In place of a label of combinations that are counted together, and of every tenant without one.
const SEVERAL: &str = "_";
/// The name of the main listener in Orchestrate. That of its metrics is ours, too.
const MAIN_ENTRYPOINT: &str = "app";

/// Registers the metrics, if the settings ask for them.
pub(super) fn register(registry: &mut Registry, app: &Arc<App>) {
    let Some(series) = app.authenticator.metrics.series() else { return };
    let (totals, settings) = (series.totals(), app.settings_arc());
    let is_ready = app.is_ready();
    let scrape = Arc::new(SeriesScrape { totals, settings, is_ready });
    let http = Box::new(HttpCollector(Arc::clone(&scrape)));
    registry.sub_registry_with_prefix("orchestrate_http").register_collector(http);
    let tcp = Box::new(TcpCollector(scrape));
    registry.sub_registry_with_prefix("tcp").register_collector(tcp);
}

/// The values of one scrape.
struct SeriesScrape {
    totals: Vec<SeriesTotals>,
    settings: Arc<Settings>,
    is_ready: bool,
}

/// Collector of requests.
struct HttpCollector(Arc<SeriesScrape>);

/// Collector of connections.
struct TcpCollector(Arc<SeriesScrape>);

impl fmt::Debug for HttpCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpCollector")
    }
}

impl fmt::Debug for TcpCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TcpCollector")
    }
}

impl Collector for HttpCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode_requests(&mut encoder)?;
        self.0.encode_requests_over_tls(&mut encoder)?;
        self.0.encode_latency(&mut encoder)?;
        self.0.encode_open_requests(&mut encoder)?;
        self.0.encode_up(&mut encoder)
    }
}

impl Collector for TcpCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode_connections(&mut encoder)
    }
}

/// A series of responses, with its status.
type ResponseSeries<'s> = (&'s SeriesTotals, Option<RequestLabels>, String);

impl SeriesScrape {
    /// Returns the series of responses. Those that are counted together have no labels.
    fn responses(&self) -> impl Iterator<Item = ResponseSeries<'_>> {
        self.totals.iter().filter_map(|total| match total.key {
            Some(SeriesKey::Responses { labels, status, .. }) => {
                Some((total, Some(labels), status.to_string()))
            }
            None => Some((total, None, SEVERAL.into())),
            _ => None,
        })
    }

    /// Returns the labels of a request, without its status.
    fn labels<'s>(
        &'s self,
        total: &'s SeriesTotals,
        labels: Option<RequestLabels>,
    ) -> Labels<'s, 5> {
        let entrypoint = labels.map_or(SEVERAL, |labels| self.entrypoint(labels.listener));
        [
            ("tenant_id", &total.tenant),
            ("entrypoint", entrypoint),
            ("protocol", "http"),
            ("service", labels.map_or(SEVERAL, |labels| labels.route.name())),
            ("method", labels.map_or(SEVERAL, |labels| labels.method())),
        ]
    }

    /// Returns the name of a listener as a label.
    fn entrypoint(&self, listener: u8) -> &str {
        let listener = self.settings.listeners.get(usize::from(listener));
        listener.map_or(SEVERAL, |listener| entrypoint(&self.settings, listener))
    }

    fn encode_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Requests answered, with the labels of Orchestrate";
        let mut family = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (total, labels, code) in self.responses() {
            let labels = with_code(self.labels(total, labels), &code);
            ConstCounter::new(total.count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_requests_over_tls(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        let help = "Requests answered over TLS, with the labels of Orchestrate";
        let mut family =
            encoder.encode_descriptor("requests_tls", help, None, MetricType::Counter)?;
        for total in &self.totals {
            let Some(SeriesKey::OverTls { listener, route, tls, .. }) = total.key else { continue };
            let labels = [
                ("tenant_id", &*total.tenant),
                ("entrypoint", self.entrypoint(listener)),
                ("service", route.name()),
                ("tls_version", tls.version()),
                ("tls_cipher", &tls.cipher_suite()),
            ];
            ConstCounter::new(total.count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_latency(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help =
            "Time from the end of a request's head to its answer, with the labels of Orchestrate";
        let (unit, kind) = (Unit::Seconds, MetricType::Histogram);
        let mut family = encoder.encode_descriptor("requests_latency", help, Some(&unit), kind)?;
        for (total, labels, code) in self.responses() {
            let labels = with_code(self.labels(total, labels), &code);
            encode_times(family.encode_family(&labels)?, total)?;
        }
        Ok(())
    }

    /// Requests that are answered at once are never seen in progress.
    fn encode_open_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let open = self.totals.iter().filter_map(|total| match total.key {
            Some(SeriesKey::InProgress(labels)) => {
                // A request may be seen as ended before it is seen as begun.
                let open = total.count.cast_signed().max(0);
                Some((self.labels(total, Some(labels)), open))
            }
            _ => None,
        });
        let help = "Requests in progress, with the labels of Orchestrate";
        gauges(encoder, "open_connections", help, open)
    }

    /// The server of a listener is this one.
    fn encode_up(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "1 if this server is ready, by listener";
        let mut family = encoder.encode_descriptor("server_up", help, None, MetricType::Gauge)?;
        for listener in &self.settings.listeners {
            let Some(address) = listener.address() else { continue };
            let labels = [
                ("tenant_id", SEVERAL),
                ("entrypoint", entrypoint(&self.settings, listener)),
                ("service", "countersign"),
                ("url", &format!("{}://{address}", listener.scheme())),
            ];
            let up = ConstGauge::new(i64::from(self.is_ready));
            up.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Encodes the connections over TCP and Unix sockets.
    fn encode_connections(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let connections = self.totals.iter().filter_map(|total| match total.key {
            Some(SeriesKey::Connections { listener }) => {
                Some(([("entrypoint", self.entrypoint(listener))], total))
            }
            _ => None,
        });
        let of = connections.clone().map(|(labels, total)| (labels, total.count));
        counters(encoder, "accepted_conns", "Connections accepted, by listener", of)?;
        let of = connections.clone().map(|(labels, total)| (labels, total.observed()));
        counters(encoder, "closed_conns", "Connections closed, by listener", of)?;
        let of = connections
            .clone()
            .map(|(labels, total)| (labels, total.count.saturating_sub(total.observed())));
        gauges(encoder, "open_conns", "Connections open, by listener", of)?;
        let (unit, kind) = (Unit::Seconds, MetricType::Histogram);
        let help = "Duration of connections that were closed, by listener";
        let name = "open_conns_duration";
        let mut family = encoder.encode_descriptor(name, help, Some(&unit), kind)?;
        for (labels, total) in connections {
            encode_times(family.encode_family(&labels)?, total)?;
        }
        Ok(())
    }
}

/// Returns the name of a listener as a label. The main one has that of Orchestrate, unless another
/// one is named so.
fn entrypoint<'s>(settings: &'s Settings, listener: &'s Listener) -> &'s str {
    let is_main = settings.listeners.first().is_some_and(|main| main.name == listener.name);
    if is_main && settings.listener(MAIN_ENTRYPOINT).is_none() {
        MAIN_ENTRYPOINT
    } else {
        &listener.name
    }
}

fn with_code<'s>(labels: Labels<'s, 5>, code: &'s str) -> Labels<'s, 6> {
    let [tenant, entrypoint, protocol, service, method] = labels;
    [tenant, entrypoint, protocol, service, method, ("code", code)]
}

fn encode_times(mut encoder: MetricEncoder<'_>, total: &SeriesTotals) -> Result<(), fmt::Error> {
    let bounds = LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(total.buckets).collect();
    let sum = total.total.as_secs_f64();
    encoder.encode_histogram::<[(&str, &str); 0]>(sum, total.observed(), &buckets, None)
}
