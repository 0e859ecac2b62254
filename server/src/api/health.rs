//! Liveness and readiness probes.

use std::sync::Arc;

use countersign_engine::KeySet;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::ApiContext;
use crate::{
    base::{
        reply::{Body, json, no_store, typed},
        route::Serves,
    },
    revocation::RevocationStatus,
};

/// `GET /healthz` and `/live`: the process is alive.
#[must_use]
pub fn live(form: ProbeForm) -> Response<Body> {
    no_store(match form {
        ProbeForm::Orchestrate => typed(StatusCode::OK, "text/plain", "OK"),
        ProbeForm::Operations | ProbeForm::Public => json(StatusCode::OK, &json!({ "live": true })),
    })
}

/// The form of the answers to probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeForm {
    /// Ours, with nothing of the configuration.
    Public,
    /// Ours, for operators: with issuers and revocations.
    Operations,
    /// That of Orchestrate, for operators.
    Orchestrate,
}

impl ProbeForm {
    /// Returns the form of a listener. Operators have that of Orchestrate if any listener has its
    /// surface, as their probes and dashboards were written for it.
    #[must_use]
    pub fn of(serves: Serves, has_tenants: bool) -> Self {
        match serves {
            Serves::Everything | Serves::Auth => Self::Public,
            Serves::Operations if has_tenants => Self::Orchestrate,
            Serves::Operations => Self::Operations,
        }
    }
}

/// `GET /readyz` and `/ready`: the server is ready, that is, a first key fetch has ended for every
/// issuer and all revocations are known. Where operators ask, the body lists the issuers with their
/// number of keys; to others it names nothing of the configuration.
#[must_use]
pub fn ready(context: &ApiContext<'_>, is_ready: bool, form: ProbeForm) -> Response<Body> {
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if form == ProbeForm::Public {
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

/// `GET /ready` in the form of Orchestrate: an empty object, or, with the query `full=1`, the
/// result of each check: `OK`, or the reason of its failure.
#[must_use]
pub fn ready_checks(context: &ApiContext<'_>, is_stopping: bool, query: &str) -> Response<Body> {
    let server = is_stopping.then(|| "the server is stopping".to_owned());
    let missing = context.authenticator.keys.unfetched_sections();
    let issuers = (!missing.is_empty())
        .then(|| format!("no key fetch has ended yet for {}", missing.join(", ")));
    let revocations = (!context.revocations.is_ready()).then(|| {
        let error = context.revocations.status().error;
        error.unwrap_or_else(|| "the revocations are not loaded".into())
    });
    let checks = [("server", server), ("issuers", issuers), ("revocations", revocations)];
    let is_ready = checks.iter().all(|(_, failure)| failure.is_none());
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut results = Map::new();
    if query.split('&').any(|parameter| parameter == "full=1") {
        let texts = checks.map(|(name, failure)| (name, failure.unwrap_or_else(|| "OK".into())));
        results.extend(texts.map(|(name, text)| (name.to_owned(), text.into())));
    }
    no_store(json(status, &results.into()))
}
