//! Liveness and readiness probes.

use std::sync::Arc;

use countersign_engine::KeySet;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::ApiContext;
use crate::{
    base::reply::{Body, json, no_store},
    revocation::RevocationStatus,
};

/// `GET /healthz` and `/live`: the process is alive.
#[must_use]
pub fn live() -> Response<Body> {
    no_store(json(StatusCode::OK, &json!({ "live": true })))
}

/// `GET /readyz` and `/ready`: the server is ready, that is, a first key fetch has ended for every
/// issuer and all revocations are known. The body lists the issuers with their
/// number of keys.
#[must_use]
pub fn ready(context: &ApiContext<'_>, is_ready: bool) -> Response<Body> {
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
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
