//! The last refused requests, equal ones in one row. No part of a token is kept.

use http::StatusCode;
use serde_json::{Value, json};

use super::{AdminCall, Answer, time};
use crate::{
    base::reply,
    observe::{access_log::client_text, refused_requests::ListedRefusal},
};

/// Returns the last refused requests.
pub(super) fn list(call: &AdminCall<'_>) -> Answer {
    let refused = call.context.authenticator.metrics.refused.list();
    let items = refused.iter().map(shown).collect::<Value>();
    Ok(reply::json(StatusCode::OK, &json!({ "items": items })))
}

fn shown(one: &ListedRefusal) -> Value {
    let ListedRefusal { at, count, reason, client, method, path, section } = one;
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    json!({
        "at": time(*at),
        "count": count,
        "code": reason.name(),
        "reason": reason.words(),
        "client": client_text(*client),
        "method": known(method),
        "path": known(path),
        "section": known(section),
    })
}
