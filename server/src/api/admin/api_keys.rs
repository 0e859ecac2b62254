//! The API keys of multi-tenancy, by name. Their values are not known: only hashes are stored.

use serde_json::json;

use super::{AdminCall, Answer, page::ListPage};

/// Returns a [`ListPage`] of the keys.
pub(super) fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let keys = call.context.auth.api_key_ids();
    let items = keys.into_iter().map(|(name, id)| {
        let id = Some(id).filter(|id| !id.is_empty());
        (name.clone(), json!({ "name": name, "id": id }))
    });
    Ok(page.of_all(call, items))
}
