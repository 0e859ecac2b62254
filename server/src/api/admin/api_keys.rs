//! The API keys of multi-tenancy, by name. Their values are not known: only hashes are stored.

use serde_json::{Value, json};

use super::{AdminCall, Answer, page::ListPage};
use crate::tenancy::api_keys::ListedKey;

/// Returns a [`ListPage`] of the keys.
pub(super) fn list(call: &AdminCall<'_>) -> Answer {
    let page = ListPage::of(call)?;
    let tenancy = call.context.auth.tenancy.iter();
    let keys = tenancy.flat_map(|tenancy| tenancy.keys.list()).enumerate();
    // Two keys may have the same name.
    let items = keys.map(|(index, key)| (format!("{}\0{index:09}", key.name), shown(&key)));
    let mut items: Vec<_> = items.collect();
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(page.of_all(call, items))
}

fn shown(ListedKey { name, id, sources }: &ListedKey<'_>) -> Value {
    json!({ "name": name, "id": id, "sources": sources })
}
