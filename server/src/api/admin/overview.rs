//! The figures of the overview: requests, latency, refusals, admission, and the keys of issuers.

use countersign_engine::{KeySet, UnixTime};
use http::StatusCode;
use serde_json::{Value, json};

use super::{AdminCall, Answer};
use crate::{
    base::{clock, outcome::Outcome, reply},
    keys::{IssuerKeys, issuer_status::IssuerStatus},
    observe::{
        figures::{RequestCounts, SampleInterval},
        metrics::{Budget, RequestProtocol},
    },
};

/// Returns the figures of now.
pub(super) fn get(call: &AdminCall<'_>) -> Answer {
    let (figures, now) = (call.context.figures, clock::now());
    let mut in_use = call.context.authenticator.keys_in_use();
    in_use.sort_by(|(one, _), (other, _)| one.section().section().cmp(other.section().section()));
    let issuers = in_use.iter().map(|(source, keys)| issuer_json(source, keys.as_deref(), now));
    let overview = json!({
        "recent": figures.recent().as_ref().map(figures_json),
        "current": figures.current().as_ref().map(figures_json),
        "issuers": issuers.collect::<Value>(),
    });
    Ok(reply::json(StatusCode::OK, &overview))
}

fn figures_json(interval: &SampleInterval) -> Value {
    let counts = &interval.counts;
    let (hits, tokens) = counts.cache();
    let refusals = counts.reasons().into_iter().map(refusal_json);
    json!({
        "seconds": interval.seconds().round() as u64,
        "requests": counts.requests,
        "refused": counts.refusals(),
        "refusals": refusals.collect::<Value>(),
        "tokens": tokens,
        "cache_hits": hits,
        "p50_micros": micros(counts.quantile(0.5)),
        "p99_micros": micros(counts.quantile(0.99)),
        "protocols": protocols_json(counts),
        "delayed_checks": counts.delayed,
        "refused_checks": refused_checks_json(counts),
    })
}

fn refusal_json((reason, requests): (Outcome, u64)) -> Value {
    json!({ "code": reason.name(), "reason": reason.words(), "requests": requests })
}

fn protocols_json(counts: &RequestCounts) -> Value {
    let used = RequestProtocol::ALL.into_iter().filter(|one| counts.responses_over(*one) > 0);
    let protocols = used.map(|version| {
        json!({
            "version": version.name(),
            "requests": counts.responses_over(version),
            "p50_micros": micros(counts.quantile_over(version, 0.5)),
            "p99_micros": micros(counts.quantile_over(version, 0.99)),
        })
    });
    protocols.collect()
}

fn refused_checks_json(counts: &RequestCounts) -> Value {
    let refused = Budget::ALL.into_iter().zip(counts.not_admitted).filter(|(_, count)| *count > 0);
    refused.map(|(budget, count)| json!({ "budget": budget.name(), "checks": count })).collect()
}

/// Returns seconds in whole microseconds, rounded up: it is a bound.
fn micros(seconds: Option<f64>) -> Option<u64> {
    seconds.map(|seconds| (seconds * 1e6).ceil() as u64)
}

fn issuer_json(source: &IssuerKeys, keys: Option<&KeySet>, now: UnixTime) -> Value {
    let status = IssuerStatus::of(source, keys);
    json!({
        "section": source.section().section(),
        "state": status.state.name(),
        "is_good": status.state.is_good(),
        "keys": keys.map_or(0, |keys| keys.iter().count()),
        "skipped_keys": keys.map_or(0, |keys| keys.skipped().len()),
        "age": status.last_success.map(|at| now.0.saturating_sub(at.0)),
        "next_fetch": status.next_fetch.map(|wait| wait.as_secs()),
        "is_fetching": status.is_fetching,
    })
}
