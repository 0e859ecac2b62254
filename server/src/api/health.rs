//! Liveness and readiness probes.

use std::sync::Arc;

use countersign_engine::KeySet;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::ApiContext;
use crate::{
    base::{
        reply::{Body, json, no_store},
        route::Serves,
    },
    revocation::RevocationStatus,
};

/// `GET /healthz` and `/live`: the process is alive.
#[must_use]
pub fn live() -> Response<Body> {
    no_store(json(StatusCode::OK, &json!({ "live": true })))
}

/// `GET /readyz` and `/ready`: the server is ready, that is, a first key fetch has ended for every
/// issuer and all revocations are known. Where operators ask, the body lists the issuers with their
/// number of keys; to others it names nothing of the configuration.
#[must_use]
pub fn ready(context: &ApiContext<'_>, is_ready: bool, serves: Serves) -> Response<Body> {
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if serves != Serves::Operations {
        return no_store(json(status, &json!({ "ready": is_ready })));
    }
    let keys = |keys: Option<&Arc<KeySet>>| keys.map_or(0, |keys| keys.len());
    let issuers: Value = context
        .authenticator
        .keys_in_use()
        .iter()
        .map(|(source, of)| json!({ "section": source.section().section(), "keys": keys(of.as_ref()) }))
        .collect();
    let RevocationStatus { count, error, .. } = context.revocations.status();
    let revocations =
        json!({ "known": context.revocations.is_ready(), "count": count, "fault": error });
    no_store(json(
        status,
        &json!({ "ready": is_ready, "issuers": issuers, "revocations": revocations }),
    ))
}
