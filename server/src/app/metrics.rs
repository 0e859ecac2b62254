//! `/metrics`, in the Prometheus text format.

/// Requests with the names and labels of Orchestrate.
mod orchestrate;
/// The process, its files and its database.
mod process;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use countersign_engine::{CacheStatistics, Reject};
use http::{Response, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::App;
use crate::{
    base::{
        clock,
        outcome::Outcome,
        reply::{Body, empty, typed},
        route::Route,
    },
    feed::figures::FeedClosure,
    keys::{IssuerKeys, Progress},
    observe::metrics::{
        Budget, Latency, LoginOutcome, MetricEvent, RequestProtocol, STATUSES, bucket_bound,
    },
};

/// Returns all metrics.
pub(super) fn respond(app: &Arc<App>) -> Response<Body> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match encode(app) {
        Ok(text) => typed(StatusCode::OK, OPEN_METRICS, text),
        Err(fmt::Error) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn encode(app: &Arc<App>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::ProcessCollector));
    let own = registry.sub_registry_with_prefix("countersign");
    own.register_collector(Box::new(Scrape(Arc::clone(app))));
    orchestrate::register(&mut registry, app);
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// Collector that encodes the counters of [`App`] on each scrape.
struct Scrape(Arc<App>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_build(&mut encoder)?;
        self.encode_certificates(&mut encoder)?;
        self.encode_reloads(&mut encoder)?;
        self.encode_database(&mut encoder)?;
        self.encode_requests(&mut encoder)?;
        self.encode_latency(&mut encoder)?;
        self.encode_connections(&mut encoder)?;
        self.encode_request_memory(&mut encoder)?;
        self.encode_outcomes(&mut encoder)?;
        self.encode_cache(&mut encoder)?;
        self.encode_admission(&mut encoder)?;
        self.encode_issuers(&mut encoder)?;
        self.encode_revocations(&mut encoder)?;
        self.encode_feed(&mut encoder)?;
        self.encode_logins(&mut encoder)?;
        self.encode_audit(&mut encoder)
    }
}

impl Scrape {
    /// Statuses that never occurred are omitted.
    fn encode_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "requests",
            "Requests answered",
            None,
            MetricType::Counter,
        )?;
        let metrics = &self.0.authenticator.metrics;
        let statuses: Vec<_> =
            STATUSES.iter().map(ToString::to_string).chain(["other".into()]).collect();
        for route in Route::ALL {
            for protocol in RequestProtocol::ALL {
                for (status, count) in statuses.iter().zip(metrics.responses(protocol, route)) {
                    if count > 0 {
                        let labels = [
                            ("route", route.name()),
                            ("status", &**status),
                            ("http_version", protocol.name()),
                        ];
                        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn encode_latency(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Time from the end of a request's head to its answer";
        let unit = Unit::Seconds;
        let mut family = encoder.encode_descriptor(
            "request_duration",
            help,
            Some(&unit),
            MetricType::Histogram,
        )?;
        for route in Route::ALL {
            let Latency { buckets, total } = self.0.authenticator.metrics.latency(route);
            let count = buckets.iter().sum();
            if count > 0 {
                let buckets: Vec<_> = buckets
                    .iter()
                    .enumerate()
                    .map(|(index, count)| (bucket_bound(index), *count))
                    .collect();
                let labels = [("route", route.name())];
                family.encode_family(&labels)?.encode_histogram::<[(&str, &str); 0]>(
                    total.as_secs_f64(),
                    count,
                    &buckets,
                    None,
                )?;
            }
        }
        Ok(())
    }

    fn encode_connections(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let loads = self.0.connections.per_worker();
        let loads: Vec<_> =
            loads.iter().enumerate().map(|(worker, open)| (worker.to_string(), *open)).collect();
        let open = loads.iter().map(|(worker, open)| ([("worker", worker.as_str())], *open));
        gauges(encoder, "connections", "Connections open", open)?;
        let refused = ConstCounter::new(self.0.connections.refused());
        let help = "Connections refused at the connection limit";
        refused.encode(encoder.encode_descriptor(
            "connections_refused",
            help,
            None,
            MetricType::Counter,
        )?)
    }

    fn encode_request_memory(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Memory held by requests that wait for their body or response";
        let held = u64::try_from(self.0.request_memory.held()).unwrap_or(u64::MAX);
        let unit = Unit::Bytes;
        ConstGauge::new(held).encode(encoder.encode_descriptor(
            "request_memory",
            help,
            Some(&unit),
            MetricType::Gauge,
        )?)
    }

    fn encode_outcomes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.0.authenticator.metrics;
        let help = "Requests to verifying routes by outcome";
        let mut family =
            encoder.encode_descriptor("verifications", help, None, MetricType::Counter)?;
        let plain = [
            ("verified", Outcome::Verified),
            ("no_token", Outcome::NoToken),
            ("conflict", Outcome::Conflict),
            ("cross_site", Outcome::CrossSite),
            ("preflight", Outcome::Preflight),
            ("public", Outcome::Public),
            ("anonymous", Outcome::Anonymous),
            ("denied", Outcome::Denied),
            ("undescribed", Outcome::Undescribed),
            ("api_key", Outcome::ApiKey),
            ("wrong_api_key", Outcome::WrongKey),
            ("tenant", Outcome::Tenant),
            ("untrusted_address", Outcome::UntrustedAddress),
            ("uses_exhausted", Outcome::UsesExhausted),
            ("method_deleted", Outcome::MethodDeleted),
            ("uses_unavailable", Outcome::UsesUnavailable),
        ];
        let outcomes = plain.into_iter().map(|(name, outcome)| (name, "", outcome));
        let rejects = Reject::ALL
            .iter()
            .map(|reject| ("rejected", reject.code(), Outcome::Rejected(*reject)));
        for (name, code, outcome) in outcomes.chain(rejects) {
            let labels = [("outcome", name), ("code", code)];
            ConstCounter::new(metrics.total(outcome)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Encodes nothing if no cache is configured.
    fn encode_cache(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(CacheStatistics { accepted, refused }) =
            self.0.authenticator.verifier.cache_statistics()
        else {
            return Ok(());
        };
        let parts = [([("part", "accepted")], accepted), ([("part", "refused")], refused)];
        gauges(
            encoder,
            "cache_tokens",
            "Tokens in the cache",
            parts.map(|(label, part)| (label, part.entries)),
        )?;
        let evicted = parts.map(|(label, part)| (label, part.evicted));
        counters(encoder, "cache_evicted", "Tokens evicted from the cache", evicted)?;
        let skipped = parts.map(|(label, part)| (label, part.skipped));
        counters(
            encoder,
            "cache_skipped",
            "Tokens not cached, because another thread was writing to the same index",
            skipped,
        )
    }

    fn encode_admission(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.0.authenticator.metrics;
        let total =
            |[one, other]: [MetricEvent; 2]| metrics.event_count(one) + metrics.event_count(other);
        for (count, name, help) in [
            (
                total([MetricEvent::CacheHit, MetricEvent::CallCacheHit]),
                "remembered_verifications",
                "Tokens verified from the cache",
            ),
            (
                total([MetricEvent::SignatureChecked, MetricEvent::CallSignatureChecked]),
                "cold_verifications",
                "Signatures checked",
            ),
            (
                metrics.event_count(MetricEvent::CheckDelayed),
                "delayed_verifications",
                "Signature checks that waited for their budget",
            ),
            (
                metrics.event_count(MetricEvent::SourceEvicted),
                "sources_forgotten",
                "Sources of bad signatures evicted for others",
            ),
            (
                metrics.event_count(MetricEvent::AbuseClose),
                "connections_cut_off",
                "Connections closed for abuse",
            ),
            (
                metrics.event_count(MetricEvent::ReconnectDelayed),
                "connections_held_up",
                "New connections delayed after abuse closes of their address",
            ),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let budgets = Budget::ALL.map(|budget| {
            ([("budget", budget.name())], metrics.event_count(MetricEvent::NotAdmitted(budget)))
        });
        counters(encoder, "not_admitted", "Signatures not checked, by the exceeded budget", budgets)
    }

    /// All families have the issuer section as label. Static keys have only their number.
    fn encode_issuers(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let in_use = self.0.authenticator.keys_in_use();
        let counts = in_use
            .iter()
            .map(|(source, keys)| (section(source), keys.as_ref().map_or(0, |keys| keys.len())));
        gauges(encoder, "issuer_keys", "Usable keys", counts)?;
        let signing = in_use.iter().map(|(source, _)| source).filter(|one| one.section().sign);
        let is_known = u8::from(self.0.signing_key.is_known());
        let is_known = signing.map(|source| (section(source), is_known));
        let help = "1 unless the key in force is not configured here";
        gauges(encoder, "signing_key_known", help, is_known)?;
        // Loaded once, so that the values of one issuer are consistent.
        let renewed =
            in_use.iter().map(|(source, _)| source).filter(|source| source.renewed().is_some());
        let renewed: Vec<_> = renewed.map(|source| (source, source.progress())).collect();
        let at = |moment: fn(&Progress) -> Option<u64>| {
            renewed
                .iter()
                .filter_map(move |(source, progress)| Some((section(source), moment(progress)?)))
        };
        let success = |progress: &Progress| progress.last_success.map(|at| at.0);
        gauges(
            encoder,
            "issuer_keys_last_success_timestamp_seconds",
            "When keys were last confirmed",
            at(success),
        )?;
        let failure = |progress: &Progress| progress.last_failure.as_ref().map(|(at, _)| at.0);
        gauges(
            encoder,
            "issuer_keys_last_failure_timestamp_seconds",
            "When a key fetch last failed",
            at(failure),
        )?;
        let age = |progress: &Progress| {
            progress.last_success.map(|at| clock::now().0.saturating_sub(at.0))
        };
        gauges(
            encoder,
            "issuer_keys_staleness_seconds",
            "How long ago keys were last confirmed",
            at(age),
        )?;
        let failing = renewed.iter().filter(|(_, progress)| progress.state.is_failing).filter_map(
            |(source, progress)| {
                let (_, error) = progress.last_failure.as_ref()?;
                Some(([("section", source.section().section()), ("reason", error.code)], 1))
            },
        );
        gauges(encoder, "issuer_keys_failing", "1 while key fetches fail, by reason", failing)?;

        let failures =
            renewed.iter().map(|(source, progress)| (section(source), progress.failures));
        counters(
            encoder,
            "issuer_keys_fetch_failures",
            "Key fetches without usable keys",
            failures,
        )?;
        let fetches = renewed.iter().flat_map(|(source, _)| {
            source.fetches().map(|(cause, count)| {
                ([("section", source.section().section()), ("cause", cause.name())], count)
            })
        });
        counters(encoder, "issuer_keys_fetches", "Key fetches started, by cause", fetches)?;
        let unknown = renewed.iter().map(|(source, _)| (section(source), source.unknown_kids()));
        counters(encoder, "issuer_unknown_kids", "Tokens with an unknown kid", unknown)?;
        let undecided =
            renewed.iter().map(|(source, _)| (section(source), source.undecided_kids()));
        let help = "Tokens with an unknown kid while the keys cannot be fetched, answered with 503";
        counters(encoder, "issuer_undecided_kids", help, undecided)
    }

    fn encode_revocations(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.0.revocations.status();
        let known = usize::from(self.0.revocations.is_ready());
        let unexpected = self.0.unexpected_databases.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("revocations", "Revocations in force", status.count),
            ("revocations_capacity", "Limit of revocations", status.capacity),
            ("revocations_known", "1 if all stored revocations are known", known),
            ("databases_unexpected", "Databases that lack what was known", unexpected),
            ("revocations_store_replaced", "Times that the store was replaced", status.replaced),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        // Absent until the store has been read.
        let Some(staleness) = status.staleness() else { return Ok(()) };
        let (name, help) = ("revocations_staleness_seconds", "How long ago they were last read");
        let gauge = ConstGauge::new(staleness.as_secs_f64());
        gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    /// Zero without a feed.
    fn encode_feed(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let publisher = self.0.feed_publisher.get();
        let clients = publisher.map_or(0, |publisher| publisher.figures.clients());
        let generation = publisher.map_or(0, |publisher| publisher.generation());
        let help = "Number of changes of keys and revocations in the feed";
        for (name, help, value) in [
            ("feed_clients", "Tiers that follow the feed", u64::try_from(clients)),
            ("feed_generation", help, Ok(generation)),
        ] {
            let gauge = ConstGauge::new(value.unwrap_or(u64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let requests = publisher.map_or(0, |publisher| publisher.figures.requests());
        let help = "Requests of tiers to fetch keys for an unknown kid";
        let requests = ConstCounter::new(requests);
        let counter = MetricType::Counter;
        requests.encode(encoder.encode_descriptor("feed_requests", help, None, counter)?)?;
        let closures = FeedClosure::ALL.map(|closure| {
            let count = publisher.map_or(0, |publisher| publisher.figures.closures(closure));
            ([("reason", closure.name())], count)
        });
        counters(encoder, "feed_disconnected", "Clients of the feed disconnected", closures)
    }

    /// Encodes nothing without a database of users.
    fn encode_logins(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(users) = &self.0.users else { return Ok(()) };
        let logins = |event: fn(LoginOutcome) -> MetricEvent| {
            LoginOutcome::ALL.map(|outcome| {
                let count = self.0.authenticator.metrics.event_count(event(outcome));
                ([("outcome", outcome.name())], count)
            })
        };
        counters(encoder, "logins", "Logins of users, by outcome", logins(MetricEvent::Login))?;
        let help = "Logins of machine identities, by outcome";
        counters(encoder, "identity_logins", help, logins(MetricEvent::IdentityLogin))?;
        let waiting = ConstGauge::new(i64::try_from(users.waiting()).unwrap_or(i64::MAX));
        waiting.encode(encoder.encode_descriptor(
            "passwords_waiting",
            "Passwords in the hashing queue",
            None,
            MetricType::Gauge,
        )?)
    }

    fn encode_audit(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, event) in [
            ("audit_omitted", "Refusals left out of the audit log", MetricEvent::AuditOmitted),
            ("audit_lost", "Audit events that could not be stored", MetricEvent::AuditLost),
        ] {
            let count = ConstCounter::new(self.0.authenticator.metrics.event_count(event));
            count.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

fn section(source: &IssuerKeys) -> Labels<'_, 1> {
    [("section", source.section().section())]
}

fn gauges<'l, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<'l, N>, impl TryInto<i64>)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value.try_into().unwrap_or(i64::MAX))
            .encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counters<'l, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
