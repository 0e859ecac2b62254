//! Pages of lists, with a cursor: the key of the last item of a page. Items are in the order of
//! their keys, so that no insertion or deletion shifts a page.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{AdminCall, error::AdminError, query::whole_number};
use crate::base::{
    reply::{Body, json},
    secret_hash::hash,
};

/// Items of a page, unless the query has `limit`.
pub(super) const DEFAULT_LIMIT: u64 = 50;
/// Most items of a page.
pub(super) const MAX_LIMIT: u64 = 200;
/// Name of the parameter with the number of items.
pub(super) const LIMIT: &str = "limit";
/// Name of the parameter with the cursor.
pub(super) const AFTER: &str = "after";

/// The part of a list that a call asks for.
#[derive(Debug)]
pub(super) struct ListPage {
    /// Most items of the page.
    pub(super) limit: usize,
    /// The key after which it begins, if it is not the first page.
    pub(super) after: Option<String>,
}

impl ListPage {
    /// Reads the page from the query of an [`AdminCall`].
    ///
    /// # Errors
    /// [`LIMIT`] is not within its bounds, or [`AFTER`] is not a cursor of this API.
    pub(super) fn of(call: &AdminCall<'_>) -> Result<Self, AdminError> {
        let limit = call.query.get(LIMIT).map_or(Ok(DEFAULT_LIMIT), |text| {
            let number = whole_number(text).filter(|limit| (1..=MAX_LIMIT).contains(limit));
            number.ok_or_else(|| {
                AdminError::parameter(LIMIT, &format!("expected a number from 1 to {MAX_LIMIT}"))
            })
        })?;
        let invalid = || AdminError::parameter(AFTER, "expected the cursor of a page before");
        let decoded = call.query.get(AFTER).map(|text| key_of(call.encoded_path, text));
        let after = decoded.map(|key| key.ok_or_else(invalid)).transpose()?;
        Ok(Self { limit: usize::try_from(limit).unwrap_or_default(), after })
    }

    /// Returns the key after which the page begins, as a number; `None` for the first page.
    ///
    /// # Errors
    /// It is not the cursor of a list whose keys are numbers.
    pub(super) fn after_number(&self) -> Result<Option<i64>, AdminError> {
        let invalid = |_| AdminError::parameter(AFTER, "expected the cursor of a page before");
        self.after.as_ref().map(|key| key.parse().map_err(invalid)).transpose()
    }

    /// Returns the page of a whole list, whose items have keys in ascending order.
    pub(super) fn of_all(
        self,
        call: &AdminCall<'_>,
        items: impl IntoIterator<Item = (String, Value)>,
    ) -> Response<Body> {
        let is_after = |key: &str| self.after.as_ref().is_none_or(|after| key > after.as_str());
        let rest = items.into_iter().filter(|(key, _)| is_after(key));
        let items = rest.take(self.limit + 1).collect();
        self.of_rest(call, items)
    }

    /// Returns the page of the items from its begin, of which one more than its limit is enough.
    pub(super) fn of_rest(
        self,
        call: &AdminCall<'_>,
        mut items: Vec<(String, Value)>,
    ) -> Response<Body> {
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let last = items.last().filter(|_| has_more).map(|(key, _)| next(call, key));
        let items: Value = items.into_iter().map(|(_, item)| item).collect();
        json(StatusCode::OK, &json!({ "items": items, "next": last }))
    }
}

/// Returns the cursor of a list after a key. It begins with a mark of the list, so that a cursor of
/// another list is noticed. Neither is a secret.
fn cursor_after(path: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode([&mark_of(path)[..], key.as_bytes()].concat())
}

/// Returns the key in a cursor of a list; `None` if it is not one of this list.
fn key_of(path: &str, cursor: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let key = bytes.strip_prefix(&mark_of(path))?;
    String::from_utf8(key.to_vec()).ok()
}

fn mark_of(path: &str) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = hash(path.as_bytes());
    [a, b, c, d, e, f]
}

/// Returns the address of the page after the item with a key.
fn next(call: &AdminCall<'_>, key: &str) -> String {
    let cursor = cursor_after(call.encoded_path, key);
    let others = call.query.iter().filter(|(name, _)| *name != AFTER);
    let query: Vec<_> = others.chain([(AFTER, &*cursor)]).collect();
    let query = serde_urlencoded::to_string(query).unwrap_or_default();
    format!("{}?{query}", call.encoded_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_of_one_list() {
        let (users, roles) = ("/v1/admin/users", "/v1/admin/roles");
        let cursor = cursor_after(users, "b\0\u{e9}");
        assert_eq!(key_of(users, &cursor).as_deref(), Some("b\0\u{e9}"));
        assert_eq!(key_of(roles, &cursor), None);
        for malformed in ["", "!", "eA", &cursor[..5], &format!("{cursor}="), "_____w"] {
            assert_eq!(key_of(users, malformed), None, "{malformed}");
        }
    }
}
