//! Issuers: the state of their keys, and fetches on request.

use countersign_engine::KeySet;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{AdminCall, Answer, error::AdminError, optional_time, page::ListPage, time};
use crate::{
    api::{audited::AuditedCall, refresh_keys},
    audit::AuditTarget,
    base::reply::{self, Body},
    keys::{IssuerKeys, RequestedFetch},
};

/// Returns a [`ListPage`] of the issuers.
pub(super) fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let mut in_use = call.context.authenticator.keys_in_use();
    in_use.sort_by(|(one, _), (other, _)| one.section().section().cmp(other.section().section()));
    let items = in_use.iter().map(|(source, keys)| {
        (source.section().section().to_owned(), describe(source, keys.as_deref()))
    });
    Ok(page.of_all(call, items))
}

/// Returns an issuer.
pub(super) fn get(call: &AdminCall<'_>) -> Answer {
    let section = call.path_parameter("section");
    let in_use = call.context.authenticator.keys_in_use();
    let found = in_use.iter().find(|(source, _)| source.section().section() == section);
    let (source, keys) = found.ok_or_else(missing)?;
    Ok(call.representation(StatusCode::OK, &describe(source, keys.as_deref()).into()))
}

/// Fetches the keys of an issuer.
pub(super) async fn refresh(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    let section = call.path_parameter("section");
    let sources = call.context.authenticator.keys.all();
    let source = sources.iter().find(|source| source.section().section() == section);
    let source = source.ok_or_else(missing)?;
    if source.renewed().is_none() {
        return Err(AdminError::conflict("it has static keys, which are never fetched"));
    }
    begin(format!("section {section}"), audited).await?;
    Ok(results(source.request_fetch().into_iter().collect()).await)
}

/// Fetches the keys of all issuers.
pub(super) async fn refresh_all(call: &AdminCall<'_>, audited: &mut AuditedCall<'_>) -> Answer {
    begin("all sections".into(), audited).await?;
    Ok(results(call.context.authenticator.keys.request_fetches()).await)
}

async fn begin(detail: String, audited: &mut AuditedCall<'_>) -> Result<(), AdminError> {
    audited.set_target((AuditTarget::default(), Some(detail)));
    Ok(audited.begin().await?)
}

async fn results(fetches: Vec<RequestedFetch>) -> Response<Body> {
    let items = refresh_keys::results(fetches).await;
    reply::json(StatusCode::OK, &json!({ "items": items }))
}

fn missing() -> AdminError {
    AdminError::not_found("no issuer has a section of this name")
}

fn describe(source: &IssuerKeys, keys: Option<&KeySet>) -> Value {
    let (section, progress) = (source.section(), source.progress());
    let in_use = keys.into_iter().flat_map(KeySet::iter);
    let in_use = in_use.map(|key| json!({ "kid": key.kid(), "alg": key.algorithm().name() }));
    let skipped = keys.map_or(&[][..], KeySet::skipped).iter();
    let skipped = skipped.map(|key| json!({ "kid": key.kid, "reason": key.error.to_string() }));
    let failure = progress
        .last_failure
        .as_ref()
        .map(|(at, error)| json!({ "at": time(*at), "reason": error.code, "text": error.text }));
    json!({
        "section": section.section(),
        "issuer": section.issuer.name,
        "keys": in_use.collect::<Value>(),
        "skipped": skipped.collect::<Value>(),
        "source": source.renewed().map(|keys| keys.location.to_string()),
        "last_success": optional_time(progress.last_success),
        "last_failure": failure,
        "is_failing": progress.state.is_failing,
    })
}
