//! Liveness and readiness probes.

use std::sync::Arc;

use countersign_engine::KeySet;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    app::App,
    http::{Body, json, no_store},
    revocation::RevocationStatus,
};

/// `GET /healthz` and `/live`: the process is alive.
pub(super) fn live() -> Response<Body> {
    no_store(json(StatusCode::OK, &json!({ "live": true })))
}

/// `GET /readyz` and `/ready`: [`App::is_ready`], that is, a first key fetch has ended for
/// every issuer and all revocations are known. The body lists the issuers with their number of
/// keys.
pub(super) fn ready(app: &App) -> Response<Body> {
    let ready = app.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let keys = |keys: Option<&Arc<KeySet>>| keys.map_or(0, |keys| keys.len());
    let issuers: Value = app
        .keys_in_use()
        .iter()
        .map(|(source, of)| json!({ "section": source.section().section(), "keys": keys(of.as_ref()) }))
        .collect();
    let RevocationStatus { count, error, .. } = app.revocations.status();
    let revocations =
        json!({ "known": app.revocations.is_ready(), "count": count, "fault": error });
    no_store(json(
        status,
        &json!({ "ready": ready, "issuers": issuers, "revocations": revocations }),
    ))
}
