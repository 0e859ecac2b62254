//! Claims as text.

use serde_json::Value;

/// Returns a claim of a JSON object, for use in a header or a variable: a string as it is, and any
/// other value as JSON. `None` if the claim is missing.
pub(crate) fn claim(claims: &[u8], name: &str) -> Option<String> {
    match serde_json::from_slice(claims).ok()? {
        Value::Object(mut claims) => match claims.remove(name)? {
            Value::String(text) => Some(text),
            value => Some(value.to_string()),
        },
        _ => None,
    }
}
