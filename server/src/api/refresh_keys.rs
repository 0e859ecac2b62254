//! `POST /keys/refresh`: a client of `[api_clients]` has the keys of one section, or of all,
//! fetched now.
//!
//! The response comes after a fetch that began after the request, and has its result. Requests
//! within a second share a fetch, so that they cannot put more load on a provider.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::revoke::{ClientCredentials, OAuthError, authenticate, read_parameters};
use crate::{
    api::{ApiContext, audited::AuditedCall},
    audit::{AuditOperation, AuditTarget},
    auth::Caller,
    base::{
        clock::Stopwatch,
        redacted::shown,
        reply::{Body, json},
    },
    keys::RequestedFetch,
};

/// Longest wait for the fetches.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches keys, and returns 200 with the results.
pub async fn respond(
    context: &ApiContext<'_>,
    caller: &Caller<'_, '_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Response<Body> {
    let mut audited = AuditedCall::new(context.audit, Some(AuditOperation::RefreshKeys), caller);
    let response = match refresh(context, headers, body, &mut audited).await {
        Ok(sections) => json(StatusCode::OK, &json!({ "sections": sections })),
        Err(error) => error.into_response(),
    };
    audited.finish(response, None).await
}

/// Parameters of a request. serde rejects repeated and unknown ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshParameters {
    section: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
}

async fn refresh(
    context: &ApiContext<'_>,
    headers: &HeaderMap,
    body: &[u8],
    audited: &mut AuditedCall<'_>,
) -> Result<Vec<Value>, OAuthError> {
    let RefreshParameters { section, client_id, client_secret } = read_parameters(body)?;
    let credentials = ClientCredentials { id: client_id, secret: client_secret };
    let client = authenticate(&context.auth.api_clients, headers, credentials)?;
    audited.set_client(&client);
    // An empty parameter counts as omitted (RFC 6749 section 3.1).
    let section = section.filter(|section| !section.is_empty());
    let fetches = request_fetches(context, section.as_deref())?;
    let detail = section.map_or_else(|| "all sections".into(), |name| format!("section {name}"));
    audited.set_target((AuditTarget::default(), Some(detail.clone())));
    tracing::info!(client, "keys are fetched on request: {detail}");
    Ok(results(fetches).await)
}

/// Waits for fetches, and returns the result of each.
pub(super) async fn results(fetches: Vec<RequestedFetch>) -> Vec<Value> {
    let (mut results, started) = (Vec::new(), Stopwatch::start());
    for fetch in fetches {
        results.push(result(fetch, TIMEOUT.saturating_sub(started.elapsed())).await);
    }
    results
}

fn request_fetches(
    context: &ApiContext<'_>,
    section: Option<&str>,
) -> Result<Vec<RequestedFetch>, OAuthError> {
    let keys = &context.authenticator.keys;
    let Some(section) = section else { return Ok(keys.request_fetches()) };
    let sources = keys.all();
    let source = sources.iter().find(|source| source.section().section() == section);
    let source = source.ok_or_else(|| {
        let known: Vec<_> = sources.iter().map(|source| source.section().section()).collect();
        let known = known.join(", ");
        OAuthError::Request(format!("no section is named {}: choose from {known}", shown(section)))
    })?;
    let fetch = source.request_fetch().ok_or_else(|| {
        OAuthError::Request(format!("{section} has static keys, which are never fetched"))
    })?;
    Ok(vec![fetch])
}

async fn result(fetch: RequestedFetch, limit: Duration) -> Value {
    let section = fetch.section().to_owned();
    match fetch.ended(limit).await {
        None => json!({ "section": section, "result": "running" }),
        Some(Ok(())) => json!({ "section": section, "result": "confirmed" }),
        Some(Err(error)) => json!({
            "section": section, "result": "failed", "reason": error.code, "text": error.text,
        }),
    }
}
