//! `/keys` on the operations listener: state of the keys of each issuer.

use std::sync::Arc;

use countersign_engine::{KeySet, rotation::WithdrawalReason};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::IssuerKeys;
use crate::base::{
    clock,
    reply::{Body, json, no_store},
};

/// Lists every issuer with its keys, by `kid` and algorithm, those that cannot be used, and the
/// state of its fetches.
pub fn respond(in_use: &[(Arc<IssuerKeys>, Option<Arc<KeySet>>)]) -> Response<Body> {
    let issuers: Value =
        in_use.iter().map(|(source, keys)| describe(source, keys.as_deref())).collect();
    no_store(json(StatusCode::OK, &json!({ "issuers": issuers })))
}

fn describe(source: &IssuerKeys, keys: Option<&KeySet>) -> Value {
    let (section, progress) = (source.section(), source.progress());
    let ago = |at: countersign_engine::UnixTime| clock::now().0.saturating_sub(at.0);
    let skipped = keys.map_or(&[][..], KeySet::skipped);
    let keys: Value = keys
        .into_iter()
        .flat_map(KeySet::iter)
        .map(|key| json!({ "kid": key.kid(), "alg": key.algorithm().name() }))
        .collect();
    let skipped: Value = skipped
        .iter()
        .map(|key| json!({ "index": key.index, "kid": key.kid, "reason": key.error.to_string() }))
        .collect();
    let mut described = json!({
        "section": section.section(),
        "issuer": section.issuer.name,
        "keys": keys,
        "skipped": skipped,
    });
    if let (Some(renewed), Some(members)) = (source.renewed(), described.as_object_mut()) {
        let fetches: Map<_, _> = source
            .fetches()
            .map(|(cause, count)| (cause.name().to_owned(), count.into()))
            .collect();
        let failure = progress
            .last_failure
            .as_ref()
            .map(|(at, error)| json!({ "at": at.0, "seconds_ago": ago(*at), "reason": error.code, "text": error.text }));
        let renewal = json!({
            "source": renewed.location.to_string(),
            "last_success": progress.last_success.map(|at| at.0),
            "seconds_since_success": progress.last_success.map(ago),
            "last_failure": failure,
            "failing": progress.state.is_failing,
            "failures": progress.failures,
            "withdrawn": progress.withdrawn.map(WithdrawalReason::name),
            "fetching": progress.state.fetching,
            "fetches": fetches,
            "unknown_kids": source.unknown_kids(),
            "undecided_kids": source.undecided_kids(),
        });
        members.extend(renewal.as_object().cloned().unwrap_or_default());
    }
    described
}
